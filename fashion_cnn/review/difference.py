"""How two recorded runs differ: in what they were made with, and from which epoch on in what they gave."""

from __future__ import annotations

import difflib
import tempfile
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from fashion_cnn.config import FIELDS
from fashion_cnn.evidence.record import Record, absent
from fashion_cnn.review.comparison import Change, Difference, changes, differences
from fashion_cnn.review.recorded import recorded_package
from fashion_cnn.sources import NUMBER_MODULES, canonical_sha256

NAMES: Final = ("first", "second")
_OF_THE_MACHINE: Final = ("python", "processor", "vector_flags")
"""Older records, and native ones, have these among what can change bits, too."""
_MOMENTARY: Final = "load"
"""Of a machine: of the moment when the run began."""


@dataclass(frozen=True)
class RunDifference:
    """How two runs differ."""

    runs: tuple[Mapping[str, Any], Mapping[str, Any]]
    """Of each `run_id`, `study`, `arm`, `seed`."""
    changes: Mapping[str, Sequence[Change] | None]
    """By kind: `settings`, `seed`, `data`, `code`, `environment`, `machine`, `arithmetic`. None stands for what cannot
    be compared, because a record does not name it."""
    epochs: tuple[int, int]
    """How many each has."""
    differences: Sequence[Difference]
    """All of the first epoch that differs."""
    source: str
    """The modules that decide numbers, as a unified diff; nothing where they are the same or not at hand."""
    notes: Sequence[str]

    def lines(self) -> Iterator[str]:
        """All of it in words; the source comes last."""
        for name, run in zip(NAMES, self.runs, strict=True):
            yield f"{name}: {run['study']}: {run['arm']} · seed {run['seed']} ({run['run_id']})"
        for kind, found in self.changes.items():
            if not found:
                yield f"{kind}: {'the same' if found is not None else 'not compared; one of the records lacks it'}"
            yield from (f"{kind}: {change.told(*NAMES)}" for change in found or ())
        yield from self._trained()
        yield from self.notes
        if self.source:
            yield self.source

    def _trained(self) -> Iterator[str]:
        for index, difference in enumerate(self.differences):
            told = difference.told(*NAMES)
            yield f"in the same epoch: {told}" if index else f"first difference: {told}"
        if not self.differences:
            shared = min(self.epochs)
            same = f"the same to the last bit in all {shared} that both have"
            yield f"epochs: {same if shared else 'not compared; one of the records has none'}"
        if self.epochs[0] != self.epochs[1]:
            yield "epochs: " + ", ".join(f"{name} {count}" for name, count in zip(NAMES, self.epochs, strict=True))

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        found: dict[str, Any] = {
            kind: parts and [{"part": one.part, **_named(one.recorded, one.here)} for one in parts]
            for kind, parts in self.changes.items()
        }
        first = [
            {"epoch": one.epoch, "quantity": one.quantity, **_named(one.recorded, one.replayed), "by": one.by}
            for one in self.differences
        ]
        return {**asdict(self), "changes": found, "differences": first}


def _named(*values: Any) -> dict[str, Any]:
    return dict(zip(NAMES, values, strict=True))


def difference(first: Record, second: Record) -> RunDifference:
    """How two records differ; the sources are taken from this repository's commits, where it has both."""
    both = (first, second)
    environments, machines, arithmetics = zip(*map(_conditions, both), strict=True)
    images = _whole("images", [record.trajectory().get("images") for record in both])
    data = _files("data", both)
    code, source, notes = _code(both)
    shared = [name for name in machines[0] if name in machines[1]]
    found = {
        "settings": changes(_settings(first), _settings(second)),
        "seed": _known("seed", [record.row.get("seed") for record in both]),
        "data": data and [*data, *images],
        "code": code,
        "environment": _between(environments) if all(environments) else _hashes("environment", both),
        "machine": _between([{name: one[name] for name in shared} for one in machines]) if shared else None,
        "arithmetic": _known("arithmetic", arithmetics),
    }
    names = [{name: record.row.get(name) for name in ("run_id", "study", "arm", "seed")} for record in both]
    states = [record.states() for record in both]
    epochs = len(states[0]), len(states[1])
    return RunDifference((names[0], names[1]), found, epochs, differences(*states), source, notes)


def _between(both: Sequence[Mapping[str, Any]]) -> list[Change]:
    return changes(both[0], both[1])


def _settings(record: Record) -> Mapping[str, Any]:
    config = record.config()
    return {name: record.row.get(name) for name in FIELDS} if config is None else config.params()


def _conditions(record: Record) -> tuple[dict[str, Any], dict[str, Any], str | None]:
    """What can change bits but the arithmetic and the processor; the machine; the arithmetic."""
    stored = record.json("environment.json")
    fingerprint = stored.get("fingerprint") if isinstance(stored, dict) else None
    fingerprint = fingerprint if isinstance(fingerprint, dict) else {}
    environment = {name: value for name, value in fingerprint.items() if name not in ("arithmetic", *_OF_THE_MACHINE)}
    machine = {name: fingerprint[name] for name in _OF_THE_MACHINE if name in fingerprint} | dict(record.machine())
    machine.pop(_MOMENTARY, None)
    # Without a word of it: so were all runs before there were two.
    return environment, machine, fingerprint.get("arithmetic", "native") if fingerprint else None


def _whole(name: str, values: Sequence[Any]) -> list[Change]:
    return [] if values[0] == values[1] else [Change(name, values[0], values[1])]


def _known(name: str, values: Sequence[Any]) -> list[Change] | None:
    """As `_whole`, of what each record must have."""
    return None if any(map(absent, values)) else _whole(name, values)


def _hashes(kind: str, records: Sequence[Record]) -> list[Change] | None:
    return _known(f"{kind}_sha256", [record.row.get(f"{kind}_sha256") for record in records])


def _files(kind: str, records: Sequence[Record]) -> list[Change] | None:
    """The files of data or code that differ by name; their hash as a whole where they are not named."""
    whole = _hashes(kind, records)
    named = [record.trajectory().get(f"{kind}_files") for record in records]
    parts = [part for part in named if isinstance(part, dict) and part]
    return (_between(parts) if whole and len(parts) == len(records) else []) or whole


def _code(records: Sequence[Record]) -> tuple[list[Change] | None, str, Sequence[str]]:
    """The modules that differ, their unified diff, and why there is none where that is so."""
    found = _files("code", records)
    if not found:
        return found, "", ()
    sources, notes = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, record in zip(NAMES, records, strict=True):
            (aside := Path(folder, name)).mkdir()
            if (package := recorded_package(record, aside)) is not None:
                sources.append(_sources(package / "fashion_cnn"))
            else:
                commit = record.row.get("git_commit")
                notes.append(f"source: no diff; the code of the {name} is not at hand here: commit {commit}")
    if notes:
        return found, "", notes
    # By what they say: records of the first format have the hashes of the files' bytes.
    said = [{name: canonical_sha256(text) for name, text in part.items()} for part in sources]
    found = _between(said)
    if not found:
        notes = ["code: the hashes differ, but the modules that decide numbers say the same"]
    return found, "\n".join(_unified(sources, [change.part for change in found])), notes


def _sources(package: Path) -> dict[str, str]:
    """The text of each module that decides numbers, those left out that a commit does not have."""
    texts = {}
    for path in (package / f"{name}.py" for name in NUMBER_MODULES):
        if path.exists():
            with tokenize.open(path) as file:  # in the encoding that it declares
                texts[path.name] = file.read()
    return texts


def _unified(sources: Sequence[Mapping[str, str]], names: Sequence[str]) -> Iterator[str]:
    for name in names:
        first, second = (_printable(part.get(name, "")) for part in sources)
        yield from difflib.unified_diff(first, second, f"{NAMES[0]}/{name}", f"{NAMES[1]}/{name}", lineterm="")


def _printable(source: str) -> list[str]:
    """The lines of a source without what acts on a terminal: a record's `code.diff` may come from anybody."""
    hidden = {ord(letter): "\N{REPLACEMENT CHARACTER}" for letter in set(source) - {"\t"} if not letter.isprintable()}
    return [line.translate(hidden) for line in source.splitlines()]
