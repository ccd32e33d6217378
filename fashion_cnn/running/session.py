"""What all runs of one call share: data, code, environment, store; and from them the plan."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from fashion_cnn.config import RunConfig
from fashion_cnn.data import Dataset, find, load_dataset
from fashion_cnn.environment import REPOSITORY, code_files, files_sha256
from fashion_cnn.events import Identity
from fashion_cnn.running.executor import Executor, LocalExecutor, Place
from fashion_cnn.running.plan import SMOKE_IMAGES, Plan, Run, RunKey, epoch_work, plan, select_runs
from fashion_cnn.store.address import Address, resolve
from fashion_cnn.store.entries import RunEntry
from fashion_cnn.store.files import TrajectoryError
from fashion_cnn.store.tracking import Store
from fashion_cnn.store.trajectories import Trajectory, trajectories
from fashion_cnn.study import Study

# Where nothing was measured yet: seconds per unit of `epoch_work`, of a 2.6 GHz AVX-512 server core.
SECONDS_PER_WORK = 0.07
BYTES_PER_RUN = 3_000_000  # artifacts and model, about; the state beside them is of the same size
RESULT_METRICS = ("loss", "accuracy", "test_loss", "test_accuracy")


class SessionError(ValueError):
    """Runs cannot be made as asked: one line that says why."""


@dataclass(frozen=True)
class Options:
    """How runs are made; nothing here changes what comes out."""

    workers: int | None = None
    """Trajectories at a time; None is as many as the cores carry."""
    smoke: bool = False
    reuse: bool = True
    data_dir: str | None = None
    tracking_uri: str | None = None
    device: str = "cpu"
    executor: str = "local"
    """`local` or `ray`."""
    address: str | None = None
    """Of the Ray cluster."""


@dataclass(frozen=True)
class Result:
    """A line of the closing table."""

    study: str
    arm: str
    seed: int
    status: str
    """As the run ended, or `recorded` where it was before."""
    epochs: int
    seconds: float
    """Of training, whoever trained it."""
    metrics: Mapping[str, float]
    """Those of the last epoch; empty where there is none."""


@dataclass(frozen=True)
class Outcome:
    """What came of a call."""

    results: tuple[Result, ...]
    """A line a run, the skipped ones too, in the order of the plan's studies and arms."""
    made: int
    """Runs made, well or not."""
    failed: int
    """Those of them that did not finish."""
    seconds: float
    """Wall time of it all."""
    unsent: int
    """Runs of which the store lacks something."""
    trouble: str | None
    """Why, as far as it is known."""


def result_of(record: RunEntry, trajectory: Trajectory) -> Result:
    """What came of a run, from its trajectory's folder."""
    lines = trajectory.epochs()[: record.cut]
    return Result(
        record.study,
        record.arm,
        record.seed,
        record.status,
        len(lines),
        sum(line.metrics["epoch_seconds"] for line in lines),
        {name: lines[-1].metrics[name] for name in RESULT_METRICS} if lines else {},
    )


class Session:
    """One call of `run`: the data, environment and store that all its runs share."""

    def __init__(self, options: Options) -> None:
        """Look at data, code, environment, store and cluster; nothing is written but an empty store.

        Raises:
            DataError, StoreError, SessionError, EnvironmentFault, ExecutorError: these cannot be used.
        """
        if options.executor == "local" and options.address is not None:
            raise SessionError("an address names a Ray cluster: it goes with --executor ray")
        if options.executor == "ray" and options.device != "cpu":
            raise SessionError(f"device is {options.device}; with --executor ray only cpu is allowed")
        if options.workers is not None and options.workers < 1:
            raise SessionError(f"workers is {options.workers}; allowed: a whole number of at least 1")
        if options.device == "gpu" and (options.workers or 1) != 1:
            raise SessionError(f"workers is {options.workers}; with --device gpu only 1 is allowed")
        self.options = options
        self.data: Dataset = load_dataset(options.data_dir)
        folder = find(options.data_dir)
        assert folder is not None
        self.data_dir = folder
        self.images: tuple[int, int] | None = None
        if options.smoke:
            train, test = len(self.data.train_labels), len(self.data.test_labels)
            self.images = (min(SMOKE_IMAGES[0], train), min(SMOKE_IMAGES[1], test))
            self.data = self.data.first(*self.images)
        self.smoke = options.smoke or self.data.made_up
        self.code_files = code_files()
        self.code_sha256 = files_sha256(self.code_files)
        self.address: Address = resolve(options.tracking_uri, REPOSITORY)
        self.executor: Executor[Any] = self._executor()
        """Whoever made the session stops it."""
        self.store = Store(self.address)
        self.recorded: Mapping[RunKey, Result] = {}
        if options.executor == "ray" and self.address.uri.startswith("sqlite:"):
            self._check_alone()

    def _executor(self) -> Executor[Any]:
        if self.options.executor == "local":
            return LocalExecutor(self.options.device)
        from fashion_cnn.running.cluster import RayExecutor

        return RayExecutor(self.options.address, self.data_dir)

    def _check_alone(self) -> None:
        """Raises a SessionError where more than one machine would be for a store that is for one."""
        nodes = sum(len(place.machines) for place in self.executor.places(threads=1))
        if nodes > 1:
            self.executor.stop()
            raise SessionError(
                f"the store {self.address.name} is a SQLite file, which is for one machine; a cluster of {nodes} nodes "
                "needs a tracking server: name one with --tracking-uri (README: A team's server)"
            )

    def identity(self, place: Place) -> Identity:
        """The hashes that a trajectory would be trained under now at this place."""
        return Identity(self.data.sha256, self.code_sha256, place.environment_sha256)

    def plan(self, studies: Sequence[Study], arms: Sequence[str], seeds: Sequence[int]) -> Plan:
        """What these studies still need.

        Raises:
            StudyError: an unknown arm.
            ExecutorError: more threads than any machine has.
        """
        runs = select_runs(studies, arms=arms, seeds=seeds, smoke=self.options.smoke)
        self.recorded = self._recorded(runs)
        return plan(runs, self.recorded, reuse=self.options.reuse)

    def _recorded(self, runs: Sequence[Run]) -> Mapping[RunKey, Result]:
        """What came of those runs that are recorded under the present hashes, in the store or only in a folder.

        A record of any environment that there is a place of will do.
        """
        found: dict[tuple[str, ...], Result] = {}
        for trajectory in trajectories(self.address.trajectories):
            try:
                identity = asdict(trajectory.header.identity).values()
                for record in self.store.unsent(trajectory):
                    if record.status == "finished":
                        key = (record.study, record.arm, str(record.seed), record.run_config().sha256())
                        found[(*key, str(record.smoke).lower(), *identity)] = result_of(record, trajectory)
            except (TrajectoryError, OSError) as error:  # of this one alone
                print(f"what it holds is left out: {error}", file=sys.stderr)
        frame = self.store.runs(sorted({run.study.name for run in runs}))
        named = ("study", "arm", "seed", "config_sha256", "smoke", "data_sha256", "code_sha256", "environment_sha256")
        for row in frame[(frame["status"] == "FINISHED") & frame["published"].isna()].to_dict("records"):
            found[tuple(str(row[name]) for name in named)] = Result(
                row["study"],
                row["arm"],
                int(row["seed"]),
                "recorded",
                int(row["epochs_trained"]),
                row["fit_seconds"],
                {name: row[name] for name in RESULT_METRICS},
            )
        wanted = {}
        for run in runs:
            study, arm, seed, config = run.key()
            for place in self.executor.places(run.config.threads):
                hashes = asdict(self.identity(place)).values()
                result = found.get((study, arm, str(seed), config, str(self.smoke).lower(), *hashes))
                if result is not None:
                    wanted[run.key()] = result
        return wanted

    def seconds_per_work(self) -> tuple[float, bool]:
        """Seconds for a unit of `epoch_work`, and whether they were measured where the next would be."""
        measured = []
        here = [place.environment for place in self.executor.places(threads=1)]
        for trajectory in trajectories(self.address.trajectories):
            with suppress(TrajectoryError, OSError, TypeError, ValueError):  # told when the plan was made
                header = trajectory.header
                if header.images is None and {**header.environment, "threads": 1} in here:
                    work = epoch_work(RunConfig(**header.settings))
                    measured += [line.metrics["epoch_seconds"] / work for line in trajectory.epochs()]
        return (statistics.median(measured), True) if measured else (SECONDS_PER_WORK, False)

    def workers(self, todo: Plan) -> int:
        """How many trajectories are trained at a time."""
        threads = max((run.config.threads for run in todo.runs), default=1)
        return self.options.workers or sum(place.workers for place in self.executor.places(threads))
