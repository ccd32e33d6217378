"""Which trajectories some runs need, longest first. Nothing here touches files or processes."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fashion_cnn.architecture import multiply_adds, parameter_count
from fashion_cnn.config import TRAINING_IMAGES, RunConfig, check_seed, hash_of, nearest
from fashion_cnn.sample import epoch_images, epoch_steps
from fashion_cnn.study import AD_HOC, Study, StudyError, changes

if TYPE_CHECKING:
    from fashion_cnn.running.results import RunResult

SMOKE_EPOCHS = 2
SMOKE_IMAGES = (512, 256)  # training and test images of a smoke run
CALLBACK_EPOCHS = 10  # for estimates only: how long a run is expected to be that stops at a loss (the post's took 7)
RunKey = tuple[str, str, int, str]  # study, arm, seed, config_sha256


@dataclass(frozen=True)
class Run:
    """A config and a seed, as an arm of a study."""

    study: Study
    arm: str
    seed: int
    config: RunConfig

    def key(self) -> RunKey:
        """What distinguishes it from any other run."""
        return self.study.name, self.arm, self.seed, self.config.sha256()


@dataclass(frozen=True)
class PlannedTrajectory:
    """One training and the runs that are cut from it."""

    runs: tuple[Run, ...]
    images: int = TRAINING_IMAGES
    """How many training images there are: a smoke run has few."""

    @property
    def seed(self) -> int:
        """Of all its runs."""
        return self.runs[0].seed

    @property
    def config(self) -> RunConfig:
        """Of its longest run."""
        return max((run.config for run in self.runs), key=expected_epochs)

    @property
    def arms(self) -> tuple[str, ...]:
        """Of its runs, in order."""
        return tuple(run.arm for run in self.runs)

    @property
    def epochs(self) -> int:
        """How many epochs it is expected to need."""
        return max(expected_epochs(run.config) for run in self.runs)

    @property
    def steps(self) -> int:
        """How many training steps these are."""
        return self.epochs * epoch_steps(self.config, self.images)

    @property
    def whole_epochs(self) -> float:
        """How many epochs of all training images these are: what a bar shows, because an epoch of fewer is shorter."""
        return self.epochs * whole_epoch(self.config)

    @property
    def state_bytes(self) -> int:
        """What the weights after each epoch take on the disk, until they are cleaned away: float32."""
        return 4 * self.epochs * parameter_count(self.config)

    @property
    def work(self) -> float:
        """How much work it is, for putting the longest first: multiply-adds and steps, weighed."""
        return self.epochs * epoch_work(self.config, self.images)


@dataclass(frozen=True)
class Plan:
    """What is to be done."""

    trajectories: tuple[PlannedTrajectory, ...]
    """Longest first."""
    recorded: tuple[Run, ...]
    """What is recorded already."""
    results: Mapping[RunKey, RunResult] = field(default_factory=dict)
    """What came of those."""

    @property
    def runs(self) -> tuple[Run, ...]:
        """What is to be recorded."""
        return tuple(run for trajectory in self.trajectories for run in trajectory.runs)


def select_runs(
    studies: Sequence[Study], *, arms: Sequence[str] = (), seeds: Iterable[int] = (0,), smoke: bool = False
) -> list[Run]:
    """The runs of some studies: by study, arm, then seed.

    Args:
        studies: in order.
        arms: names of arms to keep; none keeps all.
        seeds: one run each.
        smoke: cut every run to at most two epochs.

    Raises:
        StudyError: an arm that none of the studies has; tells the nearest one.
        ConfigError: a seed out of range.
    """
    known = list(dict.fromkeys(arm for study in studies for arm in study.arms))
    for arm in arms:
        if arm not in known:
            raise StudyError(f"there is no arm {arm!r}{nearest(arm, known)}; there are: {', '.join(known)}")
    seeds = [check_seed(seed) for seed in seeds]
    return [
        Run(study, arm, seed, smoke_config(config) if smoke else config)
        for study in studies
        for arm, config in study.arms.items()
        for seed in seeds
        if not arms or arm in arms
    ]


def smoke_config(config: RunConfig) -> RunConfig:
    """The same config for at most two epochs."""
    return replace(config, epochs=min(config.epochs, SMOKE_EPOCHS))


def plan(
    runs: Sequence[Run],
    recorded: Collection[RunKey] = (),
    *,
    reuse: bool = True,
    images: int = TRAINING_IMAGES,
) -> Plan:
    """The trajectories that some runs need, longest first, minus what is recorded.

    Args:
        runs: wanted.
        recorded: keys of runs with a complete record under the same data, code and environment.
        reuse: whether runs share trajectories and recorded runs are skipped; without, each is trained alone.
        images: how many training images there are.
    """
    skipped = [run for run in runs if reuse and run.key() in recorded]
    wanted = [run for run in runs if not (reuse and run.key() in recorded)]
    groups: dict[object, list[Run]] = {}
    for index, run in enumerate(wanted):
        shared = (hash_of(run.config.training_settings()), run.seed)
        groups.setdefault(shared if reuse else index, []).append(run)
    trajectories = [PlannedTrajectory(tuple(group), images) for group in groups.values()]
    return Plan(tuple(sorted(trajectories, key=lambda one: -one.work)), tuple(skipped))


def expected_epochs(config: RunConfig) -> int:
    """How many epochs a run is expected to need; an assumption where it stops at a loss."""
    return config.epochs if config.callback_loss is None else min(config.epochs, CALLBACK_EPOCHS)


def whole_epoch(config: RunConfig) -> float:
    """How many epochs of all training images an epoch is, by its images: less than 1 with fewer, 2 with mirror ones."""
    return epoch_images(config) / TRAINING_IMAGES


def epoch_work(config: RunConfig, images: int = TRAINING_IMAGES) -> float:
    """An epoch's work with so many training images, in no unit of its own: comparable between configs only."""
    # A step is taken to cost as much as 12 million multiply-adds before it computes anything: rough, for ordering and
    # estimates only, which can be off by a factor of two and more for the smallest networks.
    passed, steps = epoch_images(config, images), epoch_steps(config, images)
    return (passed * multiply_adds(config) + steps * 12_000_000) / 1e9


def rerun_command(run: Run, *, smoke: bool) -> str:
    """The command that makes a run again."""
    if run.study.name == AD_HOC:
        settings = [f"--{name.replace('_', '-')} {value}" for name, value in changes(run.config).items()]
        words = ["fashion-cnn train", f"--name {shlex.quote(run.arm)}", *settings, f"--seed {run.seed}"]
    else:
        words = ["fashion-cnn run", run.study.name, f"--arms {shlex.quote(run.arm)}", f"--first-seed {run.seed}"]
    return " ".join([*words, *(["--smoke"] if smoke else [])])
