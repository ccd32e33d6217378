"""What a replay says of a record: recorded states against replayed ones, and what may explain a difference. Pure."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from fashion_cnn.evidence.record import Contradiction
from fashion_cnn.evidence.statistics import MIN_PAIRS
from fashion_cnn.intervals import prediction_interval

Answer = Literal["INCONSISTENT", "EXACT", "NOT COMPARABLE", "DIFFERENT", "FAILED"]
QUANTITIES: Final = ("loss", "accuracy", "test_loss", "test_accuracy", "weights_sha256")
"""What records and replays say of a state: numbers in full precision, and the hash of the weights."""
SCORES: Final = ("test_accuracy", "test_loss")
MIN_OTHERS: Final = MIN_PAIRS
"""Other seeds that a prediction interval needs."""
Epoch = Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """A quantity that differs between a record and its replay."""

    epoch: int
    """Counted from 1."""
    quantity: str
    recorded: Any
    replayed: Any

    @property
    def by(self) -> float | None:
        """Replayed minus recorded; None where these are no numbers."""
        both = (self.recorded, self.replayed)
        return self.replayed - self.recorded if all(isinstance(value, int | float) for value in both) else None

    def __str__(self) -> str:
        by = "" if self.by is None else f" ({self.by:+.3g})"
        return f"epoch {self.epoch}, {self.quantity}: recorded {self.recorded}, replayed {self.replayed}{by}"


def differences(recorded: Sequence[Epoch], replayed: Sequence[Epoch]) -> list[Difference]:
    """How the first epoch that differs does, as far as both go; nothing where none does.

    Args:
        recorded: the epochs from 1 on, each with `QUANTITIES`.
        replayed: likewise.
    """
    for epoch, (ours, theirs) in enumerate(zip(recorded, replayed, strict=False), start=1):
        found = [
            Difference(epoch, name, ours.get(name), theirs.get(name))
            for name in QUANTITIES
            if ours.get(name) != theirs.get(name)
        ]
        if found:
            return found
    return []


@dataclass(frozen=True)
class Change:
    """A part of the environment, the data set or the code that is different here from what the record has."""

    part: str
    recorded: Any
    here: Any

    def __str__(self) -> str:
        if isinstance(self.recorded, list) and isinstance(self.here, list):
            lost = [str(value) for value in self.recorded if value not in self.here]
            gained = [str(value) for value in self.here if value not in self.recorded]
            parts = [f"without {' '.join(lost)}"] if lost else []
            parts += [f"besides {' '.join(gained)}"] if gained else []
            return f"{self.part}: here {', '.join(parts)}"
        return f"{self.part}: recorded {_shown(self.recorded)}, here {_shown(self.here)}"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    is_hash = isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value)
    return f"SHA-256 {value[:16]}…" if is_hash else str(value)


def changes(recorded: Mapping[str, Any], here: Mapping[str, Any], within: str = "") -> list[Change]:
    """The parts that differ, such as `tensorflow` or `variables.TF_ENABLE_ONEDNN_OPTS`; None stands for no part."""
    found = []
    for name in dict.fromkeys((*recorded, *here)):
        ours, theirs, part = recorded.get(name), here.get(name), f"{within}{name}"
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            found += changes(ours, theirs, f"{part}.")
        elif ours != theirs:
            found.append(Change(part, ours, theirs))
    return found


@dataclass(frozen=True)
class Interval:
    """Where one more run of other seeds' distribution is expected, and where the replayed one is."""

    score: str
    replayed: float
    low: float
    high: float
    seeds: int

    @property
    def inside(self) -> bool:
        """Whether the replayed score is in it."""
        return self.low <= self.replayed <= self.high

    def __str__(self) -> str:
        where = "inside" if self.inside else "outside"
        return (
            f"{self.score} {self.replayed:.4f} is {where} the 95 % prediction interval of {self.seeds} other seeds "
            f"({self.low:.4f} to {self.high:.4f})"
        )


def intervals(replayed: Epoch, others: Sequence[Epoch]) -> list[Interval]:
    """The 95 % prediction interval of each score; see `intervals.prediction_interval`.

    Args:
        replayed: an epoch of the replay.
        others: that of other seeds' runs; with fewer than `MIN_OTHERS` there are no intervals.
    """
    if len(others) < MIN_OTHERS:
        return []
    found = []
    for score in SCORES:
        values = [float(other[score]) for other in others]
        low, high = prediction_interval(statistics.fmean(values), statistics.stdev(values), len(values))
        found.append(Interval(score, float(replayed[score]), low, high, len(values)))
    return found


@dataclass(frozen=True)
class Comparison:
    """A record and its replay."""

    run_id: str
    study: str
    arm: str
    seed: str
    epochs: int
    """How many epochs were asked of the replay: the record's, or the first of them."""
    recorded: int
    """How many the record has."""
    replayed: tuple[Epoch, ...] = ()
    """The states, from epoch 1 on. A replay that differs in the same environment ends with the epoch that does."""
    contradictions: tuple[Contradiction, ...] = ()
    differences: tuple[Difference, ...] = ()
    """All of the first epoch that differs."""
    environment: tuple[Change, ...] = ()
    data: tuple[Change, ...] = ()
    code: tuple[Change, ...] = ()
    intervals: tuple[Interval, ...] = ()
    others: int | None = None
    """Complete records of other seeds, where they were counted."""
    notes: tuple[str, ...] = ()
    error: str = ""
    """Why the replay's worker failed."""

    @property
    def reasons(self) -> str:
        """What is known to give other bits: another environment, other code, or both; nothing where neither is."""
        return " and ".join(
            name for name, changed in (("environment", self.environment), ("code", self.code)) if changed
        )

    @property
    def answer(self) -> Answer:
        """What the replay says, in the order in which answers win."""
        if self.contradictions:
            return "INCONSISTENT"
        if self.differences:
            return "NOT COMPARABLE" if self.reasons else "DIFFERENT"
        return "FAILED" if self.error else "EXACT"

    def lines(self) -> Iterator[str]:
        """All of it in words, the answer first."""
        yield f"{self.answer}: {self._summary()}"
        yield from (f"  the record contradicts itself: {contradiction}" for contradiction in self.contradictions)
        if self.error:
            yield f"  the worker failed: {self.error}"
        for index, difference in enumerate(self.differences):
            yield f"  {'in the same epoch' if index else 'first difference'}: {difference}"
        for kind in ("environment", "data", "code"):
            yield from (f"  another {kind}: {change}" for change in getattr(self, kind))
        if self.answer == "DIFFERENT" and not self.data:
            yield "  cause: unknown; data, code and environment are those of the record"
        if self.answer == "NOT COMPARABLE":
            yield from self._weaker()
        yield from (f"  {note}" for note in self.notes)

    def _summary(self) -> str:
        of = f"{self.study}: {self.arm} · seed {self.seed}"
        if self.answer == "INCONSISTENT":
            return f"{of}: nothing was replayed"
        if self.answer == "EXACT":
            return f"{of}: {len(self.replayed)} of {self.recorded} epochs replayed, each the same to the last bit"
        if self.answer == "FAILED":
            return f"{of}: the replay ended after {len(self.replayed)} of {self.epochs} epochs"
        words = {"environment": "in another environment", "code": "by other code"}
        bits = f"other bits {words.get(self.reasons, 'in another environment and by other code')}"
        if not self.reasons:
            bits = "other bits in the same environment"
        return f"{of}: {bits}, from epoch {self.differences[0].epoch} of {self.recorded} on"

    def _weaker(self) -> Iterator[str]:
        if self.intervals:
            after = "" if self.epochs == self.recorded else f"after epoch {self.epochs}, "
            yield from (f"  {after}{interval}" for interval in self.intervals)
        elif self.others is not None:
            yield (
                f"  {self.others} other seeds of this arm have complete records under the same data, code and "
                f"environment; a prediction interval needs {MIN_OTHERS}"
            )

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        values = asdict(self)
        for value, difference in zip(values["differences"], self.differences, strict=True):
            value["by"] = difference.by
        for value, interval in zip(values["intervals"], self.intervals, strict=True):
            value["inside"] = interval.inside
        return {"answer": self.answer, **values}
