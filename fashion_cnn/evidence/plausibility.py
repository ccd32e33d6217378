"""What training cannot produce in one record: a list of rules. `together` has those for many. Pure.

A record may be consistent with itself and still be one that no training leaves: an accuracy that is no share of the
images, a commit of one digit. `check`, `verify` and `results --check` ask the same lists, and what breaks a
rule counts in no table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from fashion_cnn.data import CLASS_NAMES, FASHION_MNIST, FASHION_MNIST_SHA256
from fashion_cnn.evaluation import CLIPPED
from fashion_cnn.evidence.record import (
    EPOCH_METRICS,
    PER_CLASS,
    RUN_METRICS,
    SCORES,
    Contradiction,
    Record,
    absent,
)
from fashion_cnn.sample import epoch_images

WORST_LOSS: Final = -math.log(CLIPPED)
"""Of an image: that of a sure mistake, whose probability is clipped before the logarithm."""
SAME: Final = 1e-12
"""How far a share may be from whole images over their number: more than a division rounds, less than an image."""
_COUNTED: Final = ("epochs_trained", "reused_epochs")
_Breach = tuple[str, int | None, Any]  # the field, the epoch where it is a matter of one, and what stands there
_Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Parsed:
    """A record with its texts read once."""

    row: Mapping[str, Any]
    epochs: _Rows
    states: _Rows
    measured: Mapping[str, Any]
    """The metrics of the run as a whole, of `trajectory.json`; empty in records from before they were kept there."""
    table: Any
    """`per_class.json`, None where it is missing."""
    trained: int | None
    """How many images an epoch went through, mirror images included; None where that cannot be known."""
    tested: int | None
    """How many images the run was tested on; None where that cannot be known."""
    drawn: bool
    """Whether the run drew its test images itself, so that the classes have other counts."""


def parsed(record: Record) -> Parsed:
    """The texts of a record, read once."""
    trajectory, config = record.json("trajectory.json"), record.config()
    values = trajectory if isinstance(trajectory, dict) else {}
    measured, told = values.get("run"), values.get("images")
    trained = tested = None
    if isinstance(told, list) and len(told) == 2:
        trained, tested = (count if type(count) is int and count > 0 else None for count in told)
    elif told is None and record.row.get("data_sha256") == FASHION_MNIST_SHA256:
        trained, tested = FASHION_MNIST.train, FASHION_MNIST.test
    return Parsed(
        row=record.row,
        epochs=record.epochs,
        states=record.states(),
        measured=measured if isinstance(measured, dict) else {},
        table=record.json(PER_CLASS),
        trained=None if config is None or trained is None else epoch_images(config, trained),
        tested=tested,
        drawn=config is not None and config.split == "drawn",
    )


@dataclass(frozen=True)
class Plausible:
    """What every record of a training is like."""

    name: str
    told: str
    """What training gives, in words; with `{trained}` or `{tested}` where it is about so many images."""
    breaches: Callable[[Parsed], Iterator[_Breach]]


def implausible(record: Record) -> Iterator[Contradiction]:
    """Where a record holds what no training leaves. What is missing is a matter of `record.missing`."""
    read = parsed(record)
    for rule in RULES:
        told = f"training gives {rule.told.format(trained=read.trained, tested=read.tested)}"
        for field, epoch, found in rule.breaches(read):
            yield Contradiction(field, epoch, repr(found)[:80], told)


def finite(value: Any) -> float | None:
    """A finite number, or None; MLflow's stores keep an infinity as the largest float."""
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return None
    return number if abs(number) < 1.7e308 else None


def _unless(names: Collection[str], holds: Callable[[float, Parsed], bool], read: Parsed) -> Iterator[_Breach]:
    """The values under these names, of the row, the epochs and the states, that are there and are not so: each once."""
    places: list[_Breach] = [(name, None, read.row.get(name)) for name in names]
    for rows in (read.epochs, read.states):
        places += [(name, place, row.get(name)) for place, row in enumerate(rows, start=1) for name in names]
    wrong: dict[tuple[str, int | None], Any] = {}
    for name, epoch, value in places:
        number = finite(value)
        if not absent(value) and (number is None or not holds(number, read)):
            wrong.setdefault((name, epoch), value)
    yield from ((name, epoch, value) for (name, epoch), value in wrong.items())


def _share(value: float, images: int | None) -> bool:
    """Whether a value is a share of so many images."""
    return 0 <= value <= 1 and (images is None or abs(round(value * images) / images - value) <= SAME)


def _metrics_of_states(read: Parsed) -> Iterator[_Breach]:
    """Metrics that the tables have and `trajectory.json` has not as a number."""
    for number, (row, state) in enumerate(zip(read.epochs, read.states, strict=False), start=1):
        for name in EPOCH_METRICS:
            if not absent(row.get(name)) and finite(state.get(name)) is None:
                yield f"trajectory.json, {name}", number, state.get(name)
    for name in RUN_METRICS if read.measured else ():
        if not absent(read.row.get(name)) and finite(read.measured.get(name)) is None:
            yield f"trajectory.json, {name}", None, read.measured.get(name)


def _reused(read: Parsed) -> Iterator[_Breach]:
    trained, reused = (finite(read.row.get(name)) for name in _COUNTED)
    if trained is not None and reused is not None and reused > trained:
        yield "reused_epochs", None, reused


_LAST: Final = 253_402_300_799_999  # ms: the end of the year 9999, the last that dates are written of


def _times(read: Parsed) -> Iterator[_Breach]:
    given = {name: read.row.get(name) for name in ("start_time", "end_time")}
    times = {name: finite(value) for name, value in given.items() if not absent(value)}
    wrong = [name for name, time in times.items() if time is None or not 0 <= time <= _LAST]
    yield from ((name, None, given[name]) for name in wrong)
    if len(times) == 2 and not wrong and times["end_time"] < times["start_time"]:  # type: ignore[operator]  # no None
        yield "end_time", None, given["end_time"]
    # In any order: a clock may be set back while a run trains.
    for number, state in enumerate(read.states, start=1):
        ended = state.get("ended_at")
        if ended is not None and ((moment := finite(ended)) is None or not 0 <= moment <= _LAST):
            yield "ended_at", number, ended


def _commit(read: Parsed) -> Iterator[_Breach]:
    commit = read.row.get("git_commit")
    if not isinstance(commit, str) or commit in ("", "unknown"):  # a matter of what is missing
        return
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit) or len(set(commit)) == 1:
        yield "git_commit", None, commit


def _table(read: Parsed) -> Iterator[_Breach]:
    """The table of test images by class and answer."""
    if not isinstance(read.table, dict):
        return
    if (counts := class_counts(read.table)) is None:
        yield PER_CLASS, None, "a table that is none of counts by class and answer"
        return
    total = sum(map(sum, counts))
    if read.tested is not None and total != read.tested:
        yield PER_CLASS, None, total
    elif read.tested == FASHION_MNIST.test and not read.drawn:
        each = FASHION_MNIST.test // len(CLASS_NAMES)
        sums = zip(CLASS_NAMES, map(sum, counts), strict=True)
        yield from ((f"{PER_CLASS}, {name}", None, count) for name, count in sums if count != each)


def _rates(read: Parsed) -> Iterator[_Breach]:
    """The shares that stand in that table beside its counts."""
    if not isinstance(read.table, dict) or (counts := class_counts(read.table)) is None:
        return
    given = {"recall": [sum(row) for row in counts], "precision": [sum(column) for column in zip(*counts, strict=True)]}
    for column, sums in given.items():
        if column not in (columns := read.table["columns"]):
            continue
        for place, (name, total) in enumerate(zip(CLASS_NAMES, sums, strict=True)):
            value = read.table["data"][place][columns.index(column)]
            if (rate := finite(value)) is None or abs(rate - counts[place][place] / max(total, 1)) > SAME:
                yield f"{PER_CLASS}, {column} of {name}", None, value


def class_counts(table: Mapping[str, Any]) -> list[list[int]] | None:
    """How often each class (row) was answered as each, from a `per_class.json`; None where it is no such table."""
    columns, rows = table.get("columns"), table.get("data")
    wanted = ["class", "images", *(f"answered {name}" for name in CLASS_NAMES)]
    if not isinstance(columns, list) or not isinstance(rows, list) or len(rows) != len(CLASS_NAMES):
        return None
    if any(columns.count(name) != 1 for name in wanted):
        return None
    counts = []
    for name, row in zip(CLASS_NAMES, rows, strict=True):
        if not isinstance(row, list) or len(row) != len(columns):
            return None
        label, images, *answers = (row[columns.index(column)] for column in wanted)
        if label != name or any(type(count) is not int or count < 0 for count in (images, *answers)):
            return None
        if sum(answers) != images:
            return None
        counts.append(answers)
    return counts


_POSITIVE: Final = [name for name in (*EPOCH_METRICS, *RUN_METRICS) if name not in (*SCORES, *_COUNTED)]
RULES: Final = (
    Plausible(
        "training accuracy",
        "a share of {trained} training images",
        partial(_unless, ["accuracy"], lambda value, read: _share(value, read.trained)),
    ),
    Plausible(
        "test accuracy",
        "a share of {tested} test images",
        partial(_unless, ["test_accuracy"], lambda value, read: _share(value, read.tested)),
    ),
    Plausible("training loss", "a loss of at least 0", partial(_unless, ["loss"], lambda value, _: value >= 0)),
    Plausible(
        "test loss",
        f"a loss from 0 to {WORST_LOSS:.2f}, where every answer is a sure mistake",
        partial(_unless, ["test_loss"], lambda value, _: 0 <= value <= WORST_LOSS + SAME),
    ),
    Plausible(
        "times and memory", "a finite number of at least 0", partial(_unless, _POSITIVE, lambda value, _: value >= 0)
    ),
    Plausible(
        "counts of epochs",
        "a whole number of epochs",
        partial(_unless, _COUNTED, lambda value, _: value >= 0 and value == int(value)),
    ),
    Plausible("reused epochs", "no more reused epochs than epochs", _reused),
    Plausible("metrics of the states", "a finite number there, as the tables have", _metrics_of_states),
    Plausible("times in order", "an end after its start, and no time before 1970", _times),
    Plausible("the commit", "a commit of git: 40 or 64 hex digits, not all the same", _commit),
    Plausible("the table by class", "{tested} test images, each class in whole numbers as the set has it", _table),
    Plausible("rates by class", "the share that its counts give", _rates),
)
