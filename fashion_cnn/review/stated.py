"""What a bundle states, against what this checkout states: its files, studies and claims; and what it leaves out. Pure.

Each check gives what does not hold; `verify` makes them all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fashion_cnn.evidence.inert import active_parts
from fashion_cnn.evidence.record import Record
from fashion_cnn.evidence.tables import from_json
from fashion_cnn.evidence.together import seeds_left_out
from fashion_cnn.review import bundle, cover
from fashion_cnn.review.bundle import LEFT_OUT, MANIFEST, README, REQUIRED, RUNS, STUDIES
from fashion_cnn.study import Study

_FIGURE: Final = re.compile(r"figures/([^/]+)/[a-z0-9_]+\.(?:svg|png)")
_NO_LOSS: Final = ("smoke run", "an older duplicate", "published, recorded elsewhere")
"""Reasons to leave out a run, none of which leaves an arm without the seed."""


@dataclass(frozen=True)
class Here:
    """What the checkout that verifies has, to compare a bundle with."""

    studies: Sequence[Study] = ()
    code_sha256: str | None = None
    own: Mapping[str, Callable[[bytes], bool]] = field(default_factory=dict)
    """For a file of a bundle that was copied from the repository: whether the repository has or had this content."""


@dataclass(frozen=True)
class Finding:
    """Something that does not hold of a file of the bundle or a run's folder."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def own_files(files: Mapping[str, bytes], own: Mapping[str, Callable[[bytes], bool]]) -> Iterator[Finding]:
    """Whether what was copied from the repository is the repository's."""
    for name, had in own.items():
        if name in files and not had(files[name]):
            yield Finding(name, "not this repository's: no commit here has had it so (git fetch brings newer ones)")


def other_files(files: Mapping[str, bytes], studies: Collection[str]) -> Iterator[Finding]:
    """Whether a file does not belong, or would run or load something where it is opened."""
    for name, content in files.items():
        figure = _FIGURE.fullmatch(name)
        if not (name in (*REQUIRED, MANIFEST) or name.startswith("records/") or (figure and figure[1] in studies)):
            yield Finding(name, "it does not belong in a bundle")
        elif name.endswith((".html", ".svg", ".png", ".npz")):
            yield from (Finding(name, part) for part in active_parts(name, content))


def statements(studies: Sequence[Study], here: Sequence[Study]) -> Iterator[Finding]:
    """Whether a study that this checkout has, too, asks and claims the same here and there."""
    ours = {study.name: study for study in here}
    for study in studies:
        if study.name not in ours:
            continue
        stated, own = bundle.study_values(study), bundle.study_values(ours[study.name])
        for arm in {**own["arms"], **stated["arms"]}:
            theirs, wanted = stated["arms"].get(arm, "not there"), own["arms"].get(arm, "not there")
            if theirs != wanted:
                yield Finding(STUDIES, f"{study.name}: the arm {arm!r} is {theirs}; in this checkout it is {wanted}")
        claims, own_claims = (list(map(_without_note, values["claims"])) for values in (stated, own))
        for claim in own_claims:
            if claim not in claims:
                yield Finding(STUDIES, f"{study.name} does not claim what this checkout does: {claim}")
        for claim in claims:
            if claim not in own_claims:
                yield Finding(STUDIES, f"{study.name} claims what this checkout does not: {claim}")


def _without_note(claim: Mapping[str, Any]) -> str:
    """A claim in words, without the note that a reader gets besides."""
    return ", ".join(f"{name} {value}" for name, value in claim.items() if name != "note")


def left_out(files: Mapping[str, bytes], studies: Sequence[Study], records: Sequence[Record]) -> Iterator[Finding]:
    """Whether what is not here is told: as README.txt has it, and for each seed that an arm lacks."""
    if LEFT_OUT not in files or README not in files:  # which is told of each missing file
        return
    told = from_json(files[LEFT_OUT])
    if not all(type(count) is int and count > 0 for reasons in told.values() for count in reasons.values()):
        yield Finding(LEFT_OUT, "it must say for each study how many runs were left out for which reason")
        return
    yield from (Finding(LEFT_OUT, f"it does not name {study.name}") for study in studies if study.name not in told)
    if cover.facts(told, records).encode() not in files[README]:
        yield Finding(README, f"it does not say of the runs what {RUNS} and {LEFT_OUT} do")
    for study, lacks in seeds_left_out(records).items():
        reasons = told.get(study, {})
        if len(lacks) > sum(count for reason, count in reasons.items() if reason not in _NO_LOSS):
            shown = "; ".join(lacks[:5])
            yield Finding(RUNS, f"{study} lacks runs ({shown}), more than {LEFT_OUT} tells of: run them")


def notes(studies: Sequence[Study], runs: Sequence[Mapping[str, Any]], here: Here) -> Iterator[str]:
    """What a reviewer should know of a bundle beside what was found."""
    others = {str(row["git_commit"])[:40] for row in runs if row["code_sha256"] != here.code_sha256}
    if here.code_sha256 is not None and others:
        commits = ", ".join(sorted(others))
        yield f"the modules that decide numbers are not the ones of this checkout; the runs were made at {commits}"
    ours = {study.name: bundle.study_values(study) for study in here.studies}
    for study in studies if ours else ():
        if study.name not in ours:
            yield f"{study.name} is no study of this checkout: nothing here says what was claimed before the runs"
        elif ours[study.name] != bundle.study_values(study):
            yield f"the question or the notes of {study.name} are not worded as in this checkout"
    yield "figures, report and the rest of README.txt are checked by their hashes, and for what would run, alone"
