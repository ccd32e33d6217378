"""Recompute recorded runs in fresh processes, without reuse, and compare them state by state.

What is trained follows from the record alone, wherever that comes from. Nothing is written, neither to a store nor to
a trajectory.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from fashion_cnn import environment
from fashion_cnn.config import hash_of
from fashion_cnn.events import EpochDone, Event, Failed, Job, Started
from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.record import LIGHT, RULES, Record
from fashion_cnn.review.cases import Case, Machine, blank_comparison, load_any, not_replayable
from fashion_cnn.review.comparison import QUANTITIES, Comparison, Epoch, results
from fashion_cnn.review.recorded import launch
from fashion_cnn.running.executor import Ended, LocalExecutor, default_workers
from fashion_cnn.running.loop import WorkerLoop
from fashion_cnn.running.plan import epoch_work, expected_epochs, whole_epoch
from fashion_cnn.running.progress import TrainingProgress, trajectory_name
from fashion_cnn.signals import stoppable
from fashion_cnn.store.tracking import Store

SMOKE_RULES = tuple(rule for rule in RULES if rule.field not in ("row.smoke", "row.data_sha256"))
OtherSeeds = Callable[[Record], Iterable[Record]]
"""Gives the records that a record's results are judged by: see `others`."""


class ReplayError(ValueError):
    """A run cannot be replayed: one line that says why and what can."""


@dataclass(frozen=True)
class ReplayOptions:
    """How records are replayed."""

    epochs: int | None = None
    """The first epochs only; None is all."""
    threads: int | None = None
    """Of each training; None is as recorded."""
    workers: int | None = None
    """Trainings at a time; None is as many as the cores carry."""
    data_dir: str | None = None


@dataclass(frozen=True)
class ReplayResult:
    """What came of a call."""

    comparisons: tuple[Comparison, ...]
    """One per run, in the order of the rows."""
    left_out: tuple[tuple[str, str], ...]
    """The ids of runs that cannot be replayed, and why."""
    trainings: int
    """Runs of one trajectory share one."""


def records_of(store: Store, rows: Sequence[Mapping[str, Any]], *, whole: bool = True) -> Iterator[Record]:
    """The records of some rows of `Store.runs`, in their order; arguments and errors are those of `Store.record`."""
    epochs = store.epochs([str(row["run_id"]) for row in rows])
    by_run = {str(run_id): part.to_dict("records") for run_id, part in epochs.groupby("run_id", sort=False)}
    yield from store.records(rows, by_run, whole=whole)


def replay(records: Iterable[Record], others: OtherSeeds, options: ReplayOptions) -> ReplayResult:
    """Recompute recorded runs and compare.

    A record that contradicts itself is not trained. A training that differs in the same environment ends there: no
    later state can be the same. In another environment it continues, because its last epoch can still be judged.

    Args:
        records: with all that is known of each; no two of one run.
        others: is asked where bits differ for a known reason.
        options: how.

    Raises:
        ReplayError, DataError: these runs cannot be replayed with this machine's threads or data.
        StoreError: the records are of a store that does not answer.
        Stopped: by a signal; the workers have ended.
    """
    cores = environment.cores()
    if options.threads is not None and options.threads > cores:
        raise ReplayError(f"threads is {options.threads}, but this machine has {cores}; allowed: 1 to {cores}")
    order: list[str] = []
    done: dict[str, Comparison] = {}
    sound: list[Record] = []
    left_out = []
    for record in records:
        order.append(run_id := str(record.row["run_id"]))
        if found := contradictions(record):
            done[run_id] = replace(blank_comparison(record, options.epochs), contradictions=tuple(found))
        elif reason := not_replayable(record):
            left_out.append((run_id, reason))
        else:
            kept = {name: record.artifacts[name] for name in LIGHT if name in record.artifacts}
            sound.append(replace(record, artifacts=kept, whole=False))  # figures and models of a study take space
    trainings: list[_Training] = []
    if sound:
        with tempfile.TemporaryDirectory() as aside:
            machine = Machine(cores, *load_any(options.data_dir, Path(aside)), Path(aside))
            trainings = _grouped([machine.case(record, options.epochs, options.threads) for record in sound])
            _train(trainings, options.workers, machine.folder, Path(aside))
    for training in trainings:
        for case in training.cases:
            done[str(case.record.row["run_id"])] = _judged(others, case, training)
    return ReplayResult(tuple(done[run_id] for run_id in order if run_id in done), tuple(left_out), len(trainings))


@dataclass(eq=False)
class _Training:
    """One worker's work: the runs of one trajectory."""

    cases: Sequence[Case]
    epochs: list[Epoch] = field(default_factory=list)
    settled: bool = False
    error: str = ""

    @property
    def name(self) -> str:
        return trajectory_name([str(case.record.row["arm"]) for case in self.cases], self.cases[0].seed)

    @property
    def process(self) -> tuple[str, Path | None]:
        """The device of its process, and the recorded code that it runs; None is this code."""
        return self.cases[0].device, self.cases[0].package

    @property
    def expected(self) -> int:
        """Epochs."""
        return max(expected_epochs(case.config) for case in self.cases)

    def job(self, folder: Path) -> Job:
        """What the worker is to do."""
        first = self.cases[0]
        rules = {case.config.sha256(): case.config.canonical() for case in self.cases}
        return Job(
            settings=first.config.canonical(),
            rules=tuple(rules.values()),
            seed=first.seed,
            data_dir=str(folder),
            images=first.images,
            device=first.device,
            arithmetic=first.arithmetic,
        )

    def take(self, event: Event | Ended) -> bool:
        """Note what the worker says; answers whether it is not needed any more."""
        if self.settled or self.error:
            return False
        match event:
            case Ended():
                self.error = event.error or "the worker ended before its runs did"
            case Started() if event.identity != self.cases[0].identity:
                self.error = "the worker found other code, data or environment than this process; start again"
                return True
            case EpochDone():
                numbers = {name: event.metrics[name] for name in QUANTITIES if name in event.metrics}
                self.epochs.append({"epoch": event.epoch, **numbers, "weights_sha256": event.weights_sha256})
                # What else the worker does at a cut is for records.
                self.settled = all(case.judge(self.epochs)[0] for case in self.cases)
            case Failed():
                self.error = event.reason
        return self.settled


def _grouped(cases: Sequence[Case]) -> list[_Training]:
    """Runs that are cut from the same training together, the longest training first."""
    groups: dict[object, list[Case]] = {}
    for case in cases:
        settings = hash_of(case.config.training_settings())
        shared = (settings, case.seed, case.images, case.device, case.arithmetic, case.package)
        groups.setdefault(shared, []).append(case)
    trainings = [_Training(group) for group in groups.values()]
    return sorted(trainings, key=lambda training: -training.expected * epoch_work(training.cases[0].config))


def _train(trainings: Sequence[_Training], workers: int | None, data: Path, aside: Path) -> None:
    """Have everything trained, first on the CPU, then what needs a GPU."""
    bars = TrainingProgress(sum(training.expected * whole_epoch(training.cases[0].config) for training in trainings))

    def begin(loop: WorkerLoop[_Training], training: _Training) -> bool:
        output = aside / f"worker-{trainings.index(training)}.log"
        loop.start(training, training.job(data), output, name=training.name, epochs=training.expected)
        return True

    def take(loop: WorkerLoop[_Training], training: _Training, event: Event | Ended) -> None:
        if training.take(event):
            loop.cancel(training)
            for case in training.cases if training.settled and len(trainings) > 1 else ():
                answer = case.finish(training.epochs, training.error).answer
                bars.tell(f"{answer}: {case.record.row['arm']} · seed {case.seed}")

    with stoppable("a replay writes nothing, so nothing is lost"), bars:
        for device, package in sorted({training.process for training in trainings}, key=str):
            waiting = deque(training for training in trainings if training.process == (device, package))
            carried = default_workers(max(training.cases[0].config.threads for training in waiting), device)
            limit = carried if device == "gpu" else workers or carried
            executor = LocalExecutor(device, launch=None if package is None else partial(launch, package))
            try:
                loop = WorkerLoop[_Training](executor, bars)
                loop.run(waiting, partial(begin, loop), partial(take, loop), partial(int, limit))
            finally:
                executor.stop()


def _judged(others: OtherSeeds, case: Case, training: _Training) -> Comparison:
    """The comparison; where bits differ for a known reason, with what other seeds say of the recorded results."""
    comparison = case.finish(training.epochs, training.error)
    if comparison.answer != "NOT COMPARABLE" or comparison.error:
        return comparison
    # All epochs are judged by where each of the others ended, the first epochs by where the others were then.
    whole, last = comparison.epochs == comparison.recorded, comparison.epochs
    ends = [other.epochs[-1] if whole else _epoch_of(other, last) for other in others(case.record)]
    recorded, replayed = case.record.states()[last - 1], comparison.replayed[-1]
    return replace(comparison, results=tuple(results(recorded, replayed, [end for end in ends if end is not None])))


def _epoch_of(record: Record, number: int) -> Mapping[str, Any] | None:
    return next((epoch for epoch in record.epochs if epoch["epoch"] == number), None)
