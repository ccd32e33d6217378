"""What came of runs: a row of the closing table for each, and the whole of a call."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from fashion_cnn.evidence.record import BASIS
from fashion_cnn.running.plan import Plan, Run, RunKey
from fashion_cnn.store.entries import RunEntry
from fashion_cnn.store.files import TrajectoryError, told_together
from fashion_cnn.store.tracking import Store
from fashion_cnn.store.trajectories import Trajectory, trajectories

RESULT_METRICS = ("loss", "accuracy", "test_loss", "test_accuracy")
IDENTIFYING = ("study", "arm", "seed", "config_sha256", "smoke", *BASIS)
RecordKey = tuple[str, ...]
"""The values of `IDENTIFYING`, as text: what makes a record count as that of a run."""


@dataclass(frozen=True)
class RunResult:
    """A row of the closing table."""

    study: str
    arm: str
    seed: int
    status: str
    """As the run ended, or `recorded` where it was before."""
    epochs: int
    seconds: float
    """Of training, whichever run trained the epochs."""
    metrics: Mapping[str, float]
    """Those of the last epoch; empty where there is none."""


@dataclass(frozen=True)
class CallResult:
    """What came of a call."""

    results: tuple[RunResult, ...]
    """One per run, the skipped ones included."""
    made: int
    """Runs made, well or not."""
    failed: int
    """Those of them that did not finish."""
    unsent: int
    """Runs of which the store lacks something."""
    trouble: str | None
    """Why, as far as it is known."""


class EndedRuns:
    """How the runs of a plan ended, and which of them could not even begin."""

    def __init__(self) -> None:
        """Nothing has ended yet."""
        self._entries: dict[str, tuple[RunEntry, Trajectory]] = {}
        self.refused: list[Run] = []

    def add(self, trajectory: Trajectory, entries: Iterable[RunEntry]) -> None:
        """Note how these runs ended; what they ended as before is forgotten."""
        for entry in entries:
            self._entries[entry.record] = (entry, trajectory)

    def of(self, trajectory: Trajectory) -> list[RunEntry]:
        """The entries of one trajectory."""
        return [entry for entry, its in self._entries.values() if its is trajectory]

    def forget_unfinished(self, trajectory: Trajectory) -> None:
        """Drop what a trajectory left unfinished, because its runs begin again elsewhere."""
        for entry in self.of(trajectory):
            if entry.status != "finished":
                del self._entries[entry.record]

    def refuse_lost(self, planned: Plan) -> list[Run]:
        """Count those runs of a plan as refused of which nothing is left, not even how they ended; returns them."""
        known = {key_of(entry) for entry, _ in self._entries.values()} | {run.key() for run in self.refused}
        lost = [run for run in planned.runs if run.key() not in known]
        self.refused += lost
        return lost

    def results(self) -> list[RunResult]:
        """A row for each run."""
        failed = [RunResult(run.study.name, run.arm, run.seed, "failed", 0, 0.0, {}) for run in self.refused]
        return [result_of(entry, trajectory) for entry, trajectory in self._entries.values()] + failed

    def unsent(self, store: Store) -> int:
        """How many runs the store lacks something of."""
        return sum(entry in store.unsent(trajectory) for entry, trajectory in self._entries.values())


def key_of(entry: RunEntry) -> RunKey:
    """What distinguishes a run from any other, as `Run.key` has it."""
    return entry.study, entry.arm, entry.seed, entry.run_config().sha256()


def result_of(entry: RunEntry, trajectory: Trajectory) -> RunResult:
    """What came of a run, from its trajectory's folder."""
    lines = trajectory.epochs()[: entry.cut]
    return RunResult(
        entry.study,
        entry.arm,
        entry.seed,
        entry.status,
        len(lines),
        sum(line.metrics["epoch_seconds"] for line in lines),
        {name: lines[-1].metrics[name] for name in RESULT_METRICS} if lines else {},
    )


def recorded_results(store: Store, studies: Sequence[str]) -> dict[RecordKey, RunResult]:
    """What came of the runs of some studies that finished, whether the store has them or only a folder.

    A folder that cannot be read is left out, and standard error says so.

    Raises:
        StoreError: the store does not answer.
    """
    results: dict[RecordKey, RunResult] = {}
    errors: list[Exception] = []
    for trajectory in trajectories(store.address.trajectories):
        try:
            identity = asdict(trajectory.header.identity).values()
            for entry in store.unsent(trajectory):
                if entry.status == "finished":
                    key = (*map(str, key_of(entry)), str(entry.smoke).lower(), *identity)
                    results[key] = result_of(entry, trajectory)
        except (TrajectoryError, OSError) as error:  # of this folder alone
            errors.append(error)
    for line in told_together(errors):
        print(f"what it holds is left out: {line}", file=sys.stderr)
    frame = store.runs(sorted(studies))
    whole = (frame["status"] == "FINISHED") & frame["epochs_trained"].notna() & frame["published"].isna()
    for row in frame[whole].to_dict("records"):
        results[tuple(str(row[name]) for name in IDENTIFYING)] = RunResult(
            row["study"],
            row["arm"],
            int(row["seed"]),
            "recorded",
            int(row["epochs_trained"]),
            row["fit_seconds"],
            {name: row[name] for name in RESULT_METRICS},
        )
    return results
