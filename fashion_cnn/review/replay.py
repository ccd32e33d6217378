"""Recompute recorded runs in fresh processes, without reuse, and compare them state by state.

Everything that is trained is told by the record alone. Nothing is written, neither to the store nor to a trajectory.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fashion_cnn.config import RunConfig, hash_of
from fashion_cnn.data import FASHION_MNIST, MADE_UP_LABEL, DataError, Dataset, find, load, load_dataset
from fashion_cnn.environment import (
    PACKAGE,
    EnvironmentFault,
    code_files,
    files_sha256,
    fingerprint,
    fingerprint_sha256,
    sources,
)
from fashion_cnn.events import EpochDone, Event, Failed, Identity, Job, Started
from fashion_cnn.evidence.consistency import contradictions, first_images_sha256
from fashion_cnn.evidence.record import BASIS, RULES, TEXTS, Record, is_published, missing, rules_of
from fashion_cnn.review.comparison import (
    QUANTITIES,
    Change,
    Comparison,
    Difference,
    Epoch,
    changes,
    differences,
    intervals,
    source_diff,
)
from fashion_cnn.running.executor import Ended, LocalExecutor, Worker, default_workers
from fashion_cnn.running.plan import epoch_work, expected_epochs
from fashion_cnn.running.progress import TrainingProgress
from fashion_cnn.signals import stoppable
from fashion_cnn.store.tracking import Store

POLL = 0.5  # seconds
SMOKE_RULES = tuple(rule for rule in RULES if rule.field not in ("row.smoke", "row.data_sha256"))


class ReplayError(ValueError):
    """A run cannot be replayed: one line that says why and what can."""


@dataclass(frozen=True)
class Options:
    """How records are replayed."""

    epochs: int | None = None
    """The first epochs only; None is all."""
    threads: int | None = None
    """Of each training; None is as recorded."""
    workers: int | None = None
    """Trainings at a time; None is as many as the cores carry."""
    data_dir: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a call."""

    comparisons: tuple[Comparison, ...]
    """One a run, in the order of the rows."""
    left_out: tuple[tuple[str, str], ...]
    """The ids of runs that cannot be replayed, and why."""
    trainings: int
    """Runs of one trajectory share one."""


def records_of(store: Store, rows: Sequence[Mapping[str, Any]], *, whole: bool = True) -> Iterator[Record]:
    """The records of some rows of `Store.runs`, in their order; arguments and errors are those of `Store.record`."""
    epochs = store.epochs([str(row["run_id"]) for row in rows])
    by_run = {str(run_id): part.to_dict("records") for run_id, part in epochs.groupby("run_id", sort=False)}
    yield from store.records(rows, by_run, whole=whole)


def replay(store: Store, rows: Sequence[Mapping[str, Any]], options: Options) -> Outcome:
    """Recompute recorded runs and compare.

    A record that contradicts itself is not trained. A training that differs in the same environment ends there: no
    later state can be the same. In another environment it goes on, because its last epoch is what can still be judged.

    Args:
        store: is only read.
        rows: of `Store.runs`.
        options: how.

    Raises:
        ReplayError, DataError: these runs cannot be replayed with this machine's threads or data.
        StoreError: the store does not answer.
        Stopped: by a signal; the workers have ended.
    """
    cores = len(os.sched_getaffinity(0))
    if options.threads is not None and options.threads > cores:
        raise ReplayError(f"threads is {options.threads}, but this machine has {cores}; allowed: 1 to {cores}")
    done: dict[str, Comparison] = {}
    sound: list[Record] = []
    left_out = []
    for record in records_of(store, rows):
        run_id = str(record.row["run_id"])
        if found := contradictions(record):
            done[run_id] = replace(_blank(record, options), contradictions=tuple(found))
        elif reason := _not_replayable(record):
            left_out.append((run_id, reason))
        else:
            kept = {name: record.artifacts[name] for name in (*TEXTS, "code.diff") if name in record.artifacts}
            sound.append(replace(record, artifacts=kept, whole=False))  # figures and models of a study take space
    trainings: list[_Training] = []
    if sound:
        with tempfile.TemporaryDirectory() as aside:
            here = _Here(options, cores, *_load(options.data_dir, Path(aside)))
            trainings = _grouped([here.case(record) for record in sound])
            _Replaying(trainings, options.workers, str(here.folder), Path(aside)).run()
    for training in trainings:
        for case in training.cases:
            done[str(case.record.row["run_id"])] = _judged(store, case, training)
    compared = tuple(done[run_id] for row in rows if (run_id := str(row["run_id"])) in done)
    return Outcome(compared, tuple(left_out), len(trainings))


# -- what a record says --------------------------------------------------------------------------------------------


def _not_replayable(record: Record) -> str:
    """Why a record does not say enough to be replayed, or nothing."""
    row, states = record.row, record.states()
    run = f"run {row['run_id']}"
    if "trajectory.json" not in record.artifacts:
        ended = str(row.get("status")).lower()
        return f"{run} ({ended}) has no trajectory.json, so there is nothing to compare; finished runs have one"
    if not states or any(name not in state for state in states for name in ("epoch", *QUANTITIES)):
        return f"the trajectory.json of {run} lacks epochs or quantities; fashion-cnn check names what is missing"
    if [state["epoch"] for state in states] != list(range(1, len(states) + 1)):
        return f"the epochs in the trajectory.json of {run} are not 1 to {len(states)}"
    if not str(row.get("seed")).isdecimal():
        return f"{run} has no seed; fashion-cnn check names what else is missing"
    return ""


def _blank(record: Record, options: Options) -> Comparison:
    run_id, study, arm, seed = (str(record.row.get(name)) for name in ("run_id", "study", "arm", "seed"))
    recorded = len(record.states())
    return Comparison(run_id, study, arm, seed, min(recorded, options.epochs or recorded), recorded)


def _images(trajectory: Mapping[str, Any]) -> tuple[int, int] | None:
    match trajectory.get("images"):
        case [int(train), int(test)]:
            return train, test
    return None


# -- this machine --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Case:
    """A recorded run that is to be trained again."""

    record: Record
    config: RunConfig
    """As it is trained here: with threads that this machine has, and no more epochs than asked."""
    seed: int
    images: tuple[int, int] | None
    device: str
    identity: Identity
    """What the worker must find here."""
    comparison: Comparison
    """All that can be said before training."""

    def judge(self, replayed: Sequence[Epoch]) -> tuple[bool, list[Difference]]:
        """Whether the replayed epochs settle the answer, and how they differ."""
        found = differences(self.record.states(), replayed)
        cut = self.config.cut([epoch["loss"] for epoch in replayed])
        return cut is not None or bool(found and not self.comparison.environment), found


@dataclass
class _Here:
    """The data, code and environment of this machine, against those of records."""

    options: Options
    cores: int
    data: Dataset
    folder: Path
    code: Mapping[str, str] = field(default_factory=code_files)

    def case(self, record: Record) -> _Case:
        """What is to be trained for a record, and in what it is another than recorded."""
        config, trajectory = record.config(), record.json("trajectory.json")
        assert config is not None
        threads = self.options.threads or min(config.threads, self.cores)
        epochs = min(config.epochs, self.options.epochs or config.epochs)
        environment, device, notes = _recorded_environment(record, threads)
        images = _images(trajectory)
        if images is not None:
            images = min(images[0], len(self.data.train_labels)), min(images[1], len(self.data.test_labels))
        data = self.data.first(*images) if images else self.data
        code, diff = self._code(record, trajectory)
        if code and not diff:
            notes.append(f"the code that was recorded is not at hand here: commit {record.row.get('git_commit')}")
        if config.threads > self.cores and self.options.threads is None:
            notes.append(f"recorded with {config.threads} threads; this machine has {self.cores}")
        if is_published(record.row):
            notes.append("of a published run: the record has what was published, which is not all of it")
        if lacks := missing(record, rules_of(record.row)):
            notes.append(f"no evidence as it stands: {len(lacks)} rules of a complete record are not met, see check")
        here = fingerprint(threads, device)
        return _Case(
            record,
            replace(config, threads=threads, epochs=epochs),
            int(record.row["seed"]),
            images,
            device,
            Identity(data.sha256, files_sha256(self.code), fingerprint_sha256(here)),
            replace(
                _blank(record, self.options),
                environment=tuple(_environment_changes(record, environment, here)),
                data=tuple(_data_changes(trajectory, data)),
                code=tuple(code),
                diff=diff,
                notes=tuple(notes),
            ),
        )

    def _code(self, record: Record, trajectory: Mapping[str, Any]) -> tuple[list[Change], str]:
        """Which modules that decide numbers are others than recorded, and the diff where it can be had."""
        recorded, here = trajectory.get("code_sha256"), files_sha256(self.code)
        if recorded == here:
            return [], ""
        parts = trajectory.get("code_files")
        found = changes(parts, self.code) if isinstance(parts, dict) and parts else []
        patch = record.artifacts.get("code.diff", b"").decode(errors="replace")
        texts = sources(str(record.row.get("git_commit")), patch)
        diff = ""
        # The commit proves nothing by itself: what it holds must be what was hashed.
        if texts and files_sha256({name: _sha256(text) for name, text in texts.items()}) == recorded:
            diff = source_diff(texts, {name: (PACKAGE / name).read_text(encoding="utf-8") for name in self.code})
        return found or [Change("code_sha256", recorded, here)], diff


def _recorded_environment(record: Record, threads: int) -> tuple[Mapping[str, Any], str, list[str]]:
    """The recorded fingerprint, the device to train on here, and what is to be said about that."""
    stored = record.json("environment.json")
    recorded = stored.get("fingerprint") if isinstance(stored, dict) else None
    recorded = recorded if isinstance(recorded, dict) else {}
    if recorded.get("device", "cpu") == "cpu":
        return recorded, "cpu", []
    try:
        fingerprint(threads, "gpu")
    except EnvironmentFault:
        return recorded, "cpu", ["recorded on a GPU; none is found here, so it was replayed on the CPU"]
    return recorded, "gpu", []


def _environment_changes(record: Record, recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[Change]:
    if recorded:
        return changes(recorded, here)
    whole, ours = record.row.get("environment_sha256"), fingerprint_sha256(here)
    return [Change("environment_sha256", whole, ours)] if whole != ours else []


def _data_changes(trajectory: Mapping[str, Any], data: Dataset) -> list[Change]:
    """Which files of the data set are others than recorded; the hash of all where that cannot be told."""
    recorded, images = trajectory.get("data_sha256"), _images(trajectory)
    if recorded == data.sha256:
        return []
    parts = trajectory.get("data_files")
    real = FASHION_MNIST.sha256 if images is None else first_images_sha256(FASHION_MNIST.sha256, *images)
    if not isinstance(parts, dict) or not parts:
        parts = FASHION_MNIST.file_sha256 if recorded == real else {}
    found = changes(parts, data.file_sha256) if parts else []
    return found or [Change("data_sha256", recorded, data.sha256)]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _load(data_dir: str | None, aside: Path) -> tuple[Dataset, Path]:
    """The data set of this machine and its folder, even where it is not what it should be.

    Nothing else may use files of another SHA-256. A replay trains on them to tell what comes of it; they are linked
    in an empty folder with a label that makes them a made-up set.

    Raises:
        DataError: there are none, or they are no images and labels.
    """
    folder = find(data_dir)
    if folder is None:
        data, folder = load_dataset(data_dir), find(data_dir)
        assert folder is not None
        return data, folder
    try:
        return load(folder), folder
    except DataError as error:
        try:
            labelled = _label(folder.absolute(), aside / "data")
            return load(labelled), labelled
        except (DataError, OSError, EOFError, zlib.error):
            raise error from None


def _label(folder: Path, aside: Path) -> Path:
    contents = {}
    aside.mkdir()
    for name in FASHION_MNIST.file_sha256:
        path = folder / f"{name}.gz"
        if not path.is_file():
            raise DataError(f"{str(path)!r} is not a regular file")
        with gzip.open(path) as file:
            contents[name] = file.read(FASHION_MNIST.size(name) + 1)
        (aside / path.name).symlink_to(path)
    counts = {
        "train": int.from_bytes(contents["train-labels-idx1-ubyte"][4:8], "big"),
        "test": int.from_bytes(contents["t10k-labels-idx1-ubyte"][4:8], "big"),
    }
    files = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    label = {"name": "files of another SHA-256", "files": files, **counts}
    (aside / MADE_UP_LABEL).write_text(json.dumps(label), encoding="utf-8")
    return aside


# -- training ------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Training:
    """One worker's work: the runs of one trajectory."""

    cases: Sequence[_Case]
    epochs: list[Epoch] = field(default_factory=list)
    settled: bool = False
    error: str = ""

    @property
    def name(self) -> str:
        first, others = self.cases[0], len(self.cases) - 1
        more = f" and {others} more" if others else ""
        return f"{first.record.row['arm']}{more} · seed {first.seed}"

    @property
    def expected(self) -> int:
        """Epochs."""
        return max(expected_epochs(case.config) for case in self.cases)

    def job(self, folder: str) -> Job:
        """What the worker is to do."""
        first = self.cases[0]
        rules = {case.config.sha256(): case.config.canonical() for case in self.cases}
        return Job(
            settings=first.config.canonical(),
            rules=tuple(rules.values()),
            seed=first.seed,
            data_dir=folder,
            images=first.images,
            device=first.device,
        )


def _grouped(cases: Sequence[_Case]) -> list[_Training]:
    """Runs that are cut from the same training together, the longest training first."""
    groups: dict[object, list[_Case]] = {}
    for case in cases:
        shared = (hash_of(case.config.training_settings()), case.seed, case.images, case.device)
        groups.setdefault(shared, []).append(case)
    trainings = [_Training(group) for group in groups.values()]
    return sorted(trainings, key=lambda one: -one.expected * epoch_work(one.cases[0].config))


class _Replaying:
    """The loop that keeps workers busy and listens to them."""

    def __init__(self, trainings: Sequence[_Training], workers: int | None, data: str, aside: Path) -> None:
        self._trainings, self._workers, self._data, self._aside = trainings, workers, data, aside
        self._active: dict[Worker, _Training] = {}
        self._bars = TrainingProgress(sum(one.expected for one in trainings))

    def run(self) -> None:
        """Have everything trained, first on the CPU, then what needs a GPU."""
        with stoppable("a replay writes nothing, so nothing is lost"), self._bars:
            for device in sorted({one.cases[0].device for one in self._trainings}):
                these = [one for one in self._trainings if one.cases[0].device == device]
                limit = default_workers(max(one.cases[0].config.threads for one in these), device)
                self._run(LocalExecutor(device), these, limit if device == "gpu" else self._workers or limit)

    def _run(self, executor: LocalExecutor, trainings: Sequence[_Training], limit: int) -> None:
        waiting = deque(trainings)
        try:
            while waiting or self._active:
                while waiting and len(self._active) < limit:
                    training = waiting.popleft()
                    output = self._aside / f"worker-{len(waiting)}.log"
                    worker = executor.start(training.job(self._data), output)
                    self._active[worker] = training
                    self._bars.begin(worker, training.name, training.expected, 0)
                for worker, event in executor.events(POLL):
                    self._take(executor, worker, event)
        finally:
            executor.stop()

    def _take(self, executor: LocalExecutor, worker: Worker, event: Event | Ended) -> None:
        training = self._active[worker]
        if isinstance(event, Ended):
            del self._active[worker]
            self._bars.end(worker)
            if not training.settled and not training.error:
                training.error = event.error or "the worker ended before its runs did"
            return
        if training.settled or training.error:
            return
        match event:
            case Started() if event.identity != training.cases[0].identity:
                training.error = "the worker found other code, data or environment than this process; start again"
                executor.cancel(worker)
            case EpochDone():
                numbers = {name: event.metrics[name] for name in QUANTITIES if name in event.metrics}
                state = {"epoch": event.epoch, **numbers, "weights_sha256": event.weights_sha256}
                training.epochs.append(state)
                self._bars.epoch(worker, event.metrics)
                judged = [case.judge(training.epochs) for case in training.cases]
                training.settled = all(settled for settled, _ in judged)
                if training.settled:
                    executor.cancel(worker)  # what else it does at a cut is for records
                    self._told(training)
            case Failed():
                training.error = event.reason

    def _told(self, training: _Training) -> None:
        for case in training.cases if len(self._trainings) > 1 else ():
            self._bars.tell(f"{_finished(case, training).answer}: {case.record.row['arm']} · seed {case.seed}")


# -- the answer ----------------------------------------------------------------------------------------------------


def _finished(case: _Case, training: _Training) -> Comparison:
    """The comparison after training."""
    cut = case.config.cut([epoch["loss"] for epoch in training.epochs])
    replayed = training.epochs[: cut.epoch] if cut else training.epochs
    _, found = case.judge(replayed)
    if found and not case.comparison.environment:
        replayed = replayed[: found[0].epoch]
    error = "" if cut else training.error
    return replace(case.comparison, replayed=tuple(replayed), differences=tuple(found), error=error)


def _judged(store: Store, case: _Case, training: _Training) -> Comparison:
    """The comparison with what other seeds' records say of it, where that is all that can be said."""
    found = _finished(case, training)
    if found.answer != "NOT COMPARABLE" or found.error:
        return found
    others = _others(store, case.record)
    # All epochs are judged by where each of the others ended, the first epochs by where the others were then.
    ends = [one.row if found.epochs == found.recorded else _at(one, found.epochs) for one in others]
    reached = [end for end in ends if end is not None]
    return replace(found, intervals=tuple(intervals(found.replayed[-1], reached)), others=len(reached))


def _at(record: Record, epoch: int) -> Mapping[str, Any] | None:
    return next((one for one in record.epochs if one["epoch"] == epoch), None)


def _others(store: Store, record: Record) -> list[Record]:
    """Complete records of other seeds of the same arm, config, data, code and environment; the newest of each seed."""
    runs = store.runs([str(record.row["study"])])
    for name in ("arm", "config_sha256", *BASIS):
        runs = runs[runs[name] == record.row[name]]
    runs = runs[(runs["seed"] != record.row["seed"]) & (runs["status"] == "FINISHED")]
    newest = runs.sort_values("start_time").drop_duplicates("seed", keep="last")
    # A smoke run is no evidence, but smoke runs may be compared with each other.
    smoke = record.row.get("smoke") != "false"
    records = records_of(store, newest.to_dict("records"), whole=False)
    return [
        one
        for one in records
        if not missing(one, SMOKE_RULES if smoke else rules_of(one.row)) and not contradictions(one)
    ]
