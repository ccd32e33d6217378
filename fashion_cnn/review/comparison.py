"""What a replay says of a record: recorded states against replayed ones, and what may explain a difference. Pure."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from fashion_cnn.evidence.record import Contradiction
from fashion_cnn.evidence.statistics import MIN_PAIRS
from fashion_cnn.intervals import prediction_interval

Answer = Literal["INCONSISTENT", "EXACT", "NOT COMPARABLE", "DIFFERENT", "FAILED"]
WORST_FIRST: Final[tuple[Answer, ...]] = ("INCONSISTENT", "DIFFERENT", "FAILED", "NOT COMPARABLE", "EXACT")
"""The answers, the worst first: of several records it is the one that counts."""
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
        return self.told("recorded", "replayed")

    def told(self, one: str, other: str) -> str:
        """In words, with names for the two that differ."""
        by = "" if self.by is None else f" ({self.by:+.3g})"
        return f"epoch {self.epoch}, {self.quantity}: {one} {self.recorded}, {other} {self.replayed}{by}"


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
        return self.told("recorded", "here")

    def told(self, one: str, other: str) -> str:
        """In words, with names for the two that differ."""
        if isinstance(self.recorded, list) and isinstance(self.here, list):
            lost = [str(value) for value in self.recorded if value not in self.here]
            gained = [str(value) for value in self.here if value not in self.recorded]
            parts = [f"without {' '.join(lost)}"] if lost else []
            parts += [f"besides {' '.join(gained)}"] if gained else []
            return f"{self.part}: {other} {', '.join(parts)}"
        return f"{self.part}: {one} {_shown(self.recorded)}, {other} {_shown(self.here)}"


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
class Result:
    """A score at the end of what was compared, in the record and in its replay, and where one more seed is expected."""

    score: str
    recorded: float
    replayed: float
    seeds: int = 0
    """Other seeds that the interval is of."""
    low: float | None = None
    """The 95 % prediction interval begins here; None where there are too few other seeds."""
    high: float | None = None

    def inside(self, value: float) -> bool | None:
        """Whether a value is in the interval; None where there is none."""
        return None if self.low is None or self.high is None else self.low <= value <= self.high

    @property
    def name(self) -> str:
        """In words."""
        return self.score.replace("_", " ")

    def __str__(self) -> str:
        both = f"recorded {self.name} {self.recorded:.4f}, replayed {self.replayed:.4f}"
        inside = self.inside(self.recorded), self.inside(self.replayed)
        if self.low is None or None in inside:
            return both
        where = {
            (True, True): "both lie inside",
            (True, False): "the replayed one lies outside of",
            (False, True): "the recorded one lies outside of",
            (False, False): "both lie outside of",
        }[bool(inside[0]), bool(inside[1])]
        interval = f"({self.low:.4f} to {self.high:.4f}, n = {self.seeds})"
        return f"{both}; {where} the other seeds' 95 % prediction interval {interval}"

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        inside = {"recorded_inside": self.inside(self.recorded), "replayed_inside": self.inside(self.replayed)}
        return {**asdict(self), **inside}


def results(recorded: Epoch, replayed: Epoch, others: Sequence[Epoch] = ()) -> list[Result]:
    """Both test results side by side, the one first whose recorded value is not where other seeds lead to expect it.

    Args:
        recorded: the last epoch compared, of the record.
        replayed: of the replay.
        others: that of other seeds' runs; the 95 % prediction interval (`intervals.prediction_interval`) is of these,
            and there is none with fewer than `MIN_OTHERS`.
    """
    found = []
    for score in SCORES:
        result = Result(score, float(recorded[score]), float(replayed[score]), len(others))
        if len(others) >= MIN_OTHERS:
            values = [float(other[score]) for other in others]
            low, high = prediction_interval(statistics.fmean(values), statistics.stdev(values), len(values))
            result = replace(result, low=low, high=high)
        found.append(result)
    return sorted(found, key=lambda result: result.inside(result.recorded) is not False)


@dataclass(frozen=True)
class Terms:
    """What a replay was made with, and where."""

    arithmetic: str
    code_sha256: str
    commit: str
    """That the code was taken from; nothing where it is this checkout's."""
    recorded_on: str | None
    """The processor; None where the record names none."""
    replayed_on: str

    @property
    def other_processor(self) -> str:
        """That the processors differ, or nothing where they do not, or where that is not known."""
        same = self.recorded_on in (None, self.replayed_on)
        return "" if same else f"recorded on {self.recorded_on}, replayed on {self.replayed_on}"

    def __str__(self) -> str:
        whose = f"of commit {self.commit[:10]}" if self.commit else "of this checkout"
        return f"{self.arithmetic} arithmetic, code {self.code_sha256[:12]} {whose}"


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
    results: tuple[Result, ...] = ()
    """Where bits differ for a known reason."""
    terms: Terms | None = None
    """None where nothing was compared with this machine."""
    trajectory: str = ""
    """The hash that names it, as recorded."""
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
        yield self.headline()
        yield from (f"  the record contradicts itself: {contradiction}" for contradiction in self.contradictions)
        if self.error:
            yield f"  the worker failed: {self.error}"
        if self.answer == "NOT COMPARABLE":
            yield from self._judgement()
        for index, difference in enumerate(self.differences):
            yield f"  {'in the same epoch' if index else 'first difference'}: {difference}"
        yield from (f"  {cause}" for cause in self.causes())
        if self.answer == "DIFFERENT" and not self.data:
            yield f"  cause: unknown{self._ruled_out()}"
        if self.terms and self.answer != "EXACT":
            yield f"  replayed in the {self.terms}"
        yield from (f"  {note}" for note in self.notes)

    def headline(self) -> str:
        """The answer in one line."""
        return f"{self.answer}: {self.study}: {self.arm} · seed {self.seed}: {self._summary()}"

    def causes(self) -> Iterator[str]:
        """What is different here from what the record has."""
        for kind in ("environment", "data", "code"):
            yield from (f"another {kind}: {change}" for change in getattr(self, kind))
        named = any(change.part == "processor" for change in self.environment)
        if self.differences and self.terms and self.terms.other_processor and not named:
            yield f"another processor: {self.terms.other_processor}"

    def _summary(self) -> str:
        if self.answer == "INCONSISTENT":
            return "nothing was replayed"
        if self.answer == "EXACT":
            whole = f"{len(self.replayed)} of {self.recorded} epochs replayed, each the same to the last bit"
            return "; ".join(filter(None, (whole, self._made_with())))
        if self.answer == "FAILED":
            return f"the replay ended after {len(self.replayed)} of {self.epochs} epochs"
        if self.answer == "NOT COMPARABLE" and self.results:
            return f"{self._after()}{self.results[0]}"
        return self._bits()

    def _made_with(self) -> str:
        if self.terms is None:
            return ""
        other = self.terms.other_processor
        return f"{self.terms}{f'; on another processor: {other}' if other else ''}"

    def _after(self) -> str:
        return "" if self.epochs == self.recorded else f"after epoch {self.epochs}, "

    def _bits(self) -> str:
        words = {"environment": "in another environment", "code": "by other code", "": "in the same environment"}
        why = words.get(self.reasons, "in another environment and by other code")
        return f"other bits {why}, from epoch {self.differences[0].epoch} of {self.recorded} on"

    def _judgement(self) -> Iterator[str]:
        """What stands below the headline: the other score, and what the judgement rests on."""
        if not self.results:
            return
        yield from (f"  {self._after()}{result}" for result in self.results[1:])
        if self.results[0].low is None:
            yield (
                f"  {self.results[0].seeds} other seeds of this arm have complete records under the same data, code "
                f"and environment; a prediction interval needs {MIN_OTHERS}"
            )
        yield f"  {self._bits()}"

    def _ruled_out(self) -> str:
        """What cannot be the cause, because it was compared; and what may be, because the record does not name it."""
        if self.terms is None:
            return ""
        same = [kind for kind in ("data", "code", "environment") if not getattr(self, kind)]
        parts = [f"compared with the record, and the same: {', '.join(same)}"]
        if self.terms.recorded_on is None:
            parts.append("not compared: the processor, which the record does not name")
        return "".join(f"; {part}" for part in parts)

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        values = asdict(self)
        for value, difference in zip(values["differences"], self.differences, strict=True):
            value["by"] = difference.by
        return {"answer": self.answer, **values, "results": [result.as_dict() for result in self.results]}
