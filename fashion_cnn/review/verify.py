"""Does a bundle hold? Its bytes in, findings out. Needs numpy, pandas and scipy, no store, no network, no TensorFlow.

Whoever changed a bundle may have changed it anywhere and may be hostile: it is read in memory within limits, nothing
is written, and whatever cannot be read becomes a finding. What one place says is compared with what another says: files
with the manifest, tables with the runs' own artifacts and hashes, verdicts with those that the tables give again, the
description for other programs with all of it. Only the SHA-256 of the whole file, known from elsewhere, catches who
rewrote everything alike.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.record import HASHES, LIGHT, Record, missing
from fashion_cnn.evidence.selection import reasons_left_out
from fashion_cnn.evidence.tables import (
    COLUMNS,
    EPOCH_COLUMNS,
    BundleError,
    frames,
    from_csv,
    from_json,
    is_run_id,
    moment,
    value_differences,
)
from fashion_cnn.evidence.verdicts import claims_values, verdicts_of
from fashion_cnn.review import archive
from fashion_cnn.review.bundle import (
    CLAIMS,
    CRATE,
    DATA_SET,
    EPOCHS,
    FORMAT,
    LEFT_OUT,
    LOCK,
    MANIFEST,
    POST,
    PROCESS_RUN,
    README,
    REPORT,
    RUNS,
    STUDIES,
    artifact_name,
    records_of,
    study_of,
    study_values,
)
from fashion_cnn.study import Study

REQUIRED: Final = (README, CRATE, STUDIES, RUNS, EPOCHS, POST, CLAIMS, LEFT_OUT, REPORT, LOCK)
MOST_CLAIMS: Final = 1_000
MOST_PRINTED: Final = 1_000  # lines
MOST_SHOWN: Final = 50  # findings
_MALFORMED: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What code that trusts a value's type raises when it is another."""
_HIDDEN: Final = "\N{REPLACEMENT CHARACTER}"  # for what would steer a terminal
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Finding:
    """Something that does not hold."""

    where: str
    """A file of the bundle, or a run's folder."""
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Outcome:
    """What came out."""

    sha256: str
    """Of the bundle's file."""
    expected: str | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    """What a reviewer should know, and what no bundle can prove of itself."""
    files: int
    runs: int
    studies: tuple[str, ...]
    verdicts: Mapping[str, int]
    """How many sentences have which verdict, computed again."""

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"holds": self.holds, **asdict(self), "verdicts": dict(self.verdicts)}

    def __str__(self) -> str:
        """In lines: whether it holds, what does not, what to know."""
        said = ", ".join(f"{count} {verdict}" for verdict, count in self.verdicts.items()) or "none"
        count = len(self.findings)
        head = [
            "it holds" if self.holds else f"it does not hold: {count} finding{'s' if count > 1 else ''}",
            f"SHA-256 {self.sha256}" + (", as expected" if self.expected == self.sha256 else ""),
            f"{self.files} files; {self.runs} runs of {', '.join(self.studies) or 'no study'}",
            f"sentences, decided again from the runs: {said}",
        ]
        findings = [str(one) for one in self.findings[:MOST_SHOWN]]
        if more := self.findings[MOST_SHOWN:]:
            findings.append(f"and {len(more)} more; --json tells all")
        lines = [*head, *findings, *(f"note: {note}" for note in self.notes)]
        return "\n".join("".join(one if one.isprintable() else _HIDDEN for one in line) for line in lines)


def verify_file(path: Path, *, expected: str | None, here: Sequence[Study], code_sha256: str) -> Outcome:
    """Check a bundle's file; arguments as those of `verify`.

    Raises:
        BundleError: it cannot be read, or is no bundle, or is not safe to read; or `expected` is no SHA-256.
    """
    if expected is not None and not _SHA256.fullmatch(expected := expected.strip().lower()):
        raise BundleError(f"{expected[:80]!r} is no SHA-256; allowed: 64 digits from 0 to f")
    try:
        if not path.is_file():
            raise BundleError("it is no file" if path.exists() else "there is no such file")
        with path.open("rb") as file:
            content = file.read(archive.MOST_BYTES + 1)  # one more than is taken
        return verify(content, expected=expected, here=here, code_sha256=code_sha256)
    except OSError as error:
        raise BundleError(f"{path}: it cannot be read ({error.strerror})") from None
    except (archive.ArchiveError, BundleError) as error:
        raise BundleError(f"{path}: {error}") from None


def verify(
    content: bytes, *, expected: str | None = None, here: Sequence[Study] = (), code_sha256: str | None = None
) -> Outcome:
    """Check a bundle.

    Args:
        content: the file.
        expected: the SHA-256 that it must have, known from elsewhere.
        here: the studies of the code that checks: where they differ is noted.
        code_sha256: of the code that checks, likewise.

    Raises:
        ArchiveError: no zip, or one that is not safe to read.
        BundleError: no bundle.
    """
    digest = hashlib.sha256(content).hexdigest()
    found: list[Finding] = []
    if expected is not None and expected != digest:
        found.append(Finding("the bundle", f"its SHA-256 is {digest}, but {expected} is expected"))
    unpacked = archive.unpack(content)
    listed = _manifest(unpacked)
    found += _of_files(unpacked, listed)
    files = unpacked.files
    studies = _read(found, files, STUDIES, _studies)
    runs = _read(found, files, RUNS, lambda table: from_csv(table, COLUMNS))
    epochs = _read(found, files, EPOCHS, lambda table: from_csv(table, EPOCH_COLUMNS))
    again: dict[str, Any] = {}
    if studies is None or runs is None or epochs is None:
        found.append(Finding("the bundle", f"no run can be checked without {STUDIES}, {RUNS} and {EPOCHS}"))
        studies, runs = studies or [], runs or []
    else:
        found += _of_rows(runs, epochs, studies, files)
        known = {study.name for study in studies}
        records = [one for one in records_of(runs, epochs, files) if one.artifacts and one.row["study"] in known]
        for record in records:
            found += _guarded(f"records/{record.row['run_id']}", partial(_of_record, record))
        found += _guarded(CLAIMS, lambda: _of_claims(files, studies, records, again))
        found += _guarded(CRATE, lambda: _of_crate(files, runs))
    return Outcome(
        sha256=digest,
        expected=expected,
        findings=tuple(dict.fromkeys(found)),
        notes=tuple(_notes(expected, studies, runs, here, code_sha256)),
        files=len(files),
        runs=len(runs),
        studies=tuple(study.name for study in studies),
        verdicts=Counter(one["verdict"] for study in again.get("studies", ()) for one in study["sentences"]),
    )


def _guarded(where: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """What a check finds; that it cannot be made is a finding."""
    try:
        return list(check())
    except _MALFORMED as error:
        return [Finding(where, f"cannot be checked ({type(error).__name__}: {str(error)[:200]})")]


def _read(
    found: list[Finding], files: Mapping[str, bytes], name: str, read: Callable[[bytes], Any]
) -> Any:  # fmt: skip
    """What a file holds, or None where it is missing or not readable, which is a finding."""
    if name not in files:
        return None
    try:
        return read(files[name])
    except BundleError as error:
        found.append(Finding(name, str(error)))
        return None


# -- files ---------------------------------------------------------------------------------------------------------


def _manifest(unpacked: archive.Unpacked) -> dict[str, tuple[str, int]]:
    """SHA-256 and size by name."""
    if MANIFEST in unpacked.damaged:
        raise BundleError(f"it cannot be checked: {MANIFEST} is damaged ({unpacked.damaged[MANIFEST]})")
    if MANIFEST not in unpacked.files:
        raise BundleError(f"it is no bundle: it has no {MANIFEST}; fashion-cnn bundle makes one")
    try:
        values = from_json(unpacked.files[MANIFEST])
        known, listed = values["format"], {name: (one["sha256"], one["bytes"]) for name, one in values["files"].items()}
    except (BundleError, AttributeError, KeyError, TypeError):
        raise BundleError(f"it is no bundle: its {MANIFEST} is not one of fashion-cnn") from None
    if known != FORMAT:
        raise BundleError(f"its format is {str(known)[:80]!r}; this version reads {FORMAT!r}")
    return listed


def _of_files(unpacked: archive.Unpacked, listed: Mapping[str, tuple[str, int]]) -> Iterator[Finding]:
    there = {**unpacked.files, **dict.fromkeys(unpacked.damaged, b"")}
    for name in sorted({*there, *listed, *REQUIRED} - {MANIFEST}):
        if name not in there:
            yield Finding(name, f"removed: {MANIFEST} lists it" if name in listed else "missing: every bundle has it")
        elif name in unpacked.damaged:
            yield Finding(name, f"changed: it is damaged ({unpacked.damaged[name]})")
        elif name not in listed:
            yield Finding(name, f"added: {MANIFEST} does not list it")
        else:
            content, (sha256, size) = there[name], listed[name]
            if (told := hashlib.sha256(content).hexdigest()) != sha256:
                yield Finding(name, f"changed: its SHA-256 is {told}, but {MANIFEST} says {sha256}")
            elif len(content) != size:
                yield Finding(name, f"changed: it has {len(content)} bytes, but {MANIFEST} says {size}")


# -- records -------------------------------------------------------------------------------------------------------


def _studies(content: bytes) -> list[Study]:
    values = from_json(content)
    if not isinstance(values, dict):
        raise BundleError("it holds no studies by name")
    studies = [study_of(name, one) for name, one in values.items()]
    if (claims := sum(len(study.claims) for study in studies)) > MOST_CLAIMS:
        raise BundleError(f"{claims:,} claims are too many; allowed: {MOST_CLAIMS:,}")
    return studies


def _of_rows(
    runs: Sequence[Mapping[str, Any]],
    epochs: Sequence[Mapping[str, Any]],
    studies: Sequence[Study],
    files: Collection[str],
) -> Iterator[Finding]:
    """Whether tables, folders and studies are about the same runs."""
    ids = Counter(row["run_id"] for row in runs)
    by_name = {study.name: study for study in studies}
    for row in runs:
        run_id = row["run_id"]
        if not is_run_id(run_id) or ids[run_id] > 1:
            yield Finding(RUNS, f"run_id {str(run_id)[:80]!r} is {'there twice' if is_run_id(run_id) else 'no id'}")
        if row["study"] not in by_name:
            yield Finding(RUNS, f"run {str(run_id)[:80]}: {STUDIES} has no study {str(row['study'])[:80]!r}")
    for run_id in {epoch["run_id"]: None for epoch in epochs if epoch["run_id"] not in ids}:
        yield Finding(EPOCHS, f"run {str(run_id)[:80]} is not in {RUNS}")
    folders = {name.split("/")[1]: None for name in files if name.startswith("records/")}
    for run_id in folders:
        if run_id not in ids:
            yield Finding(f"records/{run_id}", f"{RUNS} has no such run")
    for run_id in ids:
        if run_id not in folders:
            yield Finding(RUNS, f"run {str(run_id)[:80]} has no artifacts")
    wanted = {artifact_name(str(run_id), name) for run_id in ids for name in LIGHT}
    for name in files:
        if name.startswith("records/") and name not in wanted and name.split("/")[1] in ids:
            yield Finding(name, "no artifact that a bundle holds")
    table, _ = frames(runs, ())
    for name, study in by_name.items():
        mine = table[table["study"] == name]
        if mine.empty:
            yield Finding(STUDIES, f"{name} has no run in {RUNS}")
            continue
        yield from _guarded(RUNS, partial(_of_choice, mine, study))


def _of_choice(mine: Any, study: Study) -> Iterator[Finding]:
    """Whether all of a study's runs count: one an arm and seed, of its configs, of one data set, code, environment."""
    for run_id, reason in zip(mine["run_id"], reasons_left_out(mine, study), strict=True):
        if reason:
            yield Finding(RUNS, f"run {run_id} of {study.name} is none that counts: {reason}")


def _of_record(record: Record) -> Iterator[Finding]:
    where = f"records/{record.row['run_id']}"
    for found in (*missing(record), *contradictions(record)):
        yield Finding(where, str(found))
    listed = record.json(HASHES)
    for name in set(LIGHT) - {HASHES} if isinstance(listed, dict) else ():
        if name in listed and name not in record.artifacts:
            yield Finding(where, f"{name}: {HASHES} lists it, but it is not there")
        elif name in record.artifacts and name not in listed:
            yield Finding(where, f"{name}: {HASHES} does not list it")


# -- claims --------------------------------------------------------------------------------------------------------


def _of_claims(
    files: Mapping[str, bytes], studies: Sequence[Study], records: Sequence[Record], again: dict[str, Any]
) -> Iterator[Finding]:
    """Whether the tables give the verdicts again; fills `again` with them."""
    if CLAIMS not in files or POST not in files or not studies:
        return
    if (lines := files[POST].count(b"\n")) > MOST_PRINTED:
        yield Finding(POST, f"{lines:,} lines are too many; allowed: {MOST_PRINTED:,}")
        return
    runs, epochs = frames([one.row for one in records], [epoch for one in records for epoch in one.epochs])
    again |= claims_values(verdicts_of(studies, runs, epochs, files[POST]))
    for place, said, computed in value_differences(from_json(files[CLAIMS]), again):
        yield Finding(CLAIMS, f"{place} is {_short(said)}, but computed again it is {_short(computed)}")


def _short(value: Any) -> str:
    return repr(value)[:120]


# -- the description for other programs ------------------------------------------------------------------------------


def _of_crate(files: Mapping[str, bytes], runs: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Whether the RO-Crate has what its specification requires, and says what the files and the table of runs say."""
    if CRATE not in files:
        return
    values = from_json(files[CRATE])
    entities: dict[str, dict[str, Any]] = {}
    for one in values["@graph"]:
        if one["@id"] in entities:
            yield Finding(CRATE, f"{one['@id']} is described twice")
        entities[one["@id"]] = one
    for name, wanted in _REQUIRED_OF_CRATE.items():
        one = entities.get(name, {})
        for key, allowed in wanted.items():
            if not one.get(key) or (allowed is not None and allowed not in _references(one[key])):
                yield Finding(CRATE, f"{name} lacks {key}" + (f" {allowed}" if allowed else ""))
    for one in entities.values():
        for reference in _targets(one):
            if reference not in entities and not reference.startswith("https://"):
                yield Finding(CRATE, f"{one['@id']} refers to {reference}, which is not described")
    root = entities.get("./", {})
    yield from _of_parts(files, entities, set(_references(root.get("hasPart", []))))
    yield from _of_actions(runs, entities, set(_references(root.get("mentions", []))))


_REQUIRED_OF_CRATE: Final[Mapping[str, Mapping[str, str | None]]] = {
    CRATE: {"@type": "CreativeWork", "about": "./", "conformsTo": "https://w3id.org/ro/crate/1.1"},
    "./": {
        **dict.fromkeys(("name", "description", "datePublished", "license", "hasPart", "mentions")),
        **{"@type": "Dataset", "conformsTo": PROCESS_RUN},
    },
    DATA_SET: {**dict.fromkeys(("name", "license", "sha256", "hasPart")), "@type": "Dataset"},
}


def _references(value: Any) -> list[Any]:
    """The ids, or the texts, that a property holds, be it one or several."""
    return [one["@id"] if isinstance(one, dict) else one for one in (value if isinstance(value, list) else [value])]


def _targets(entity: Mapping[str, Any]) -> Iterator[str]:
    for value in entity.values():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                yield str(one["@id"])


def _of_parts(
    files: Mapping[str, bytes], entities: Mapping[str, Mapping[str, Any]], parts: Collection[Any]
) -> Iterator[Finding]:
    described = {name for name, one in entities.items() if "File" in _references(one.get("@type", ""))}
    for name in sorted({*files, *described} - {CRATE}):
        if name not in described:
            yield Finding(CRATE, f"{name} is not described")
        elif name not in files:
            yield Finding(CRATE, f"{name} is described, but not there")
        elif name not in parts:
            yield Finding(CRATE, f"{name} is no part of ./")
        elif name != MANIFEST:  # which holds this description's own hash
            sha256, size = hashlib.sha256(files[name]).hexdigest(), str(len(files[name]))
            if (entities[name].get("sha256"), entities[name].get("contentSize")) != (sha256, size):
                yield Finding(CRATE, f"{name} is described with another SHA-256 or size")


def _of_actions(
    runs: Sequence[Mapping[str, Any]], entities: Mapping[str, Mapping[str, Any]], mentioned: Collection[Any]
) -> Iterator[Finding]:
    actions = {name: one for name, one in entities.items() if one.get("@type") == "CreateAction"}
    rows = {f"#{row['run_id']}": row for row in runs}
    for name in sorted({*actions, *rows}):
        if name not in actions:
            yield Finding(CRATE, f"the run {name[1:]} is not described")
            continue
        if name not in rows:
            yield Finding(CRATE, f"{name} is no run of {RUNS}")
            continue
        row, action = rows[name], actions[name]
        if name not in mentioned:
            yield Finding(CRATE, f"{name} is not mentioned by ./")
        software = entities.get(str(_references(action.get("instrument"))[0]), {})
        data = entities.get(DATA_SET, {})
        told = {
            "startTime": (action.get("startTime"), moment(row["start_time"])),
            "endTime": (action.get("endTime"), moment(row["end_time"])),
            "instrument's type": (software.get("@type"), "SoftwareApplication"),
            "instrument's softwareVersion": (software.get("softwareVersion"), row["git_commit"]),
            "data set's SHA-256": (data.get("sha256"), row["data_sha256"]),
        }
        for what, (said, recorded) in told.items():
            if said != recorded:
                yield Finding(CRATE, f"{name}: {what} is {_short(said)}, but {RUNS} says {recorded}")
        for key, one in (("object", DATA_SET), ("result", artifact_name(row["run_id"], "trajectory.json"))):
            if one not in _references(action.get(key, [])):
                yield Finding(CRATE, f"{name}: {key} lacks {one}")


# -- notes ---------------------------------------------------------------------------------------------------------


def _notes(
    expected: str | None,
    studies: Sequence[Study],
    runs: Sequence[Mapping[str, Any]],
    here: Sequence[Study],
    code_sha256: str | None,
) -> Iterator[str]:
    if expected is None:
        yield (
            "no expected SHA-256 was given (--expect): who rewrites all of a bundle rewrites its own hashes, too; take "
            "the SHA-256 from where the result was published"
        )
    codes = {str(row["code_sha256"]) for row in runs}
    if code_sha256 is not None and codes - {code_sha256}:
        commits = ", ".join(sorted({str(row["git_commit"])[:40] for row in runs if row["code_sha256"] != code_sha256}))
        yield f"the modules that decide numbers are not the ones of this checkout; the runs were made at {commits}"
    ours = {study.name: study_values(study) for study in here}
    for study in studies:
        if here and ours.get(study.name) != study_values(study):
            yield f"{study.name} is not stated as in this checkout: compare its arms and claims"
    yield "figures, report and README.txt are checked by their hashes alone"
