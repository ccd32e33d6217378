"""Does a bundle hold? Its bytes in, findings out. Needs numpy, pandas and scipy, no store, no network, no TensorFlow.

Whoever changed a bundle may have changed it anywhere and may be hostile: it is read in memory within limits, nothing
is written, and whatever cannot be read becomes a finding. What one place says is compared with what another says: files
with the manifest, tables with the runs' own artifacts and hashes, verdicts and the description for other programs with
those that the records give again, what is claimed with what this checkout claims. What training cannot produce is
refused (`evidence.plausibility`, `together`), and so are files that do not belong. Only the SHA-256 of the whole file,
known from elsewhere, catches someone who rewrote everything consistently.
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

from fashion_cnn.evidence import tables
from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.record import HASHES, LIGHT, PUBLISHED_RULES, RULES, Record, Rule, missing
from fashion_cnn.evidence.selection import reasons_left_out
from fashion_cnn.evidence.tables import TableError, frames, from_csv, from_json, runs_from_csv, value_differences
from fashion_cnn.evidence.together import implausible_together
from fashion_cnn.evidence.verdicts import claims_values, verdicts_of
from fashion_cnn.review import archive, bundle
from fashion_cnn.review.bundle import (
    CLAIMS,
    CRATE,
    EPOCHS,
    LEFT_OUT,
    MANIFEST,
    POST,
    REQUIRED,
    RUNS,
    STUDIES,
    BundleError,
)
from fashion_cnn.review.stated import Finding, Here, left_out, notes, other_files, own_files, statements
from fashion_cnn.study import Study

_Rows = Sequence[Mapping[str, Any]]
MOST_CLAIMS: Final = 1_000
MOST_PRINTED: Final = 1_000  # lines
MOST_SHOWN: Final = 50  # findings
_MALFORMED: Final = (
    ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError,
)  # fmt: skip
"""What code that trusts a value's type raises when it is another."""
CANNOT_TELL: Final = (
    "What this cannot tell: hashes were compared, and what the files say of each other. Nothing was trained again, and "
    "only replay proves a run: fashion-cnn import FILE brings the runs into a store, fashion-cnn replay RUN_ID trains "
    "one of a store again, fashion-cnn replay --published the published ones."
)
NOT_EXPECTED: Final = (
    "No SHA-256 was expected: give --expect SHA256, and take it from where the result was published. Without one that "
    "came another way than the file, nobody can tell a bundle that was rewritten as a whole from the one published."
)
_HIDDEN: Final = "\N{REPLACEMENT CHARACTER}"  # for what would steer a terminal
_OF_PUBLISHED: Final = "it is of published results: its records need not have what experiments/results does not hold"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class VerifyResult:
    """Whether a bundle holds, and what was found."""

    sha256: str  # of the bundle's file
    expected: str | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]  # what a reviewer should know, and what no bundle can prove of itself
    files: int
    runs: int
    studies: tuple[str, ...]
    verdicts: Mapping[str, int]  # how many sentences have which verdict, computed again

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        told = {"holds": self.holds, **asdict(self), "verdicts": dict(self.verdicts)}
        return {**told, "cannot_tell": self.cannot_tell}

    @property
    def cannot_tell(self) -> str:
        """What no look at the file can tell, and what does."""
        return CANNOT_TELL if self.expected else f"{CANNOT_TELL} {NOT_EXPECTED}"

    def __str__(self) -> str:
        """In lines: whether it holds, what does not, what to know, what this cannot tell."""
        decided = ", ".join(f"{count} {verdict}" for verdict, count in self.verdicts.items()) or "none"
        count = len(self.findings)
        head = [
            "it holds" if self.holds else f"it does not hold: {count} finding{'s' if count > 1 else ''}",
            f"SHA-256 {self.sha256}" + (", as expected" if self.expected == self.sha256 else ""),
            f"{self.files} files; {self.runs} runs of {', '.join(self.studies) or 'no study'}",
            f"sentences, decided again from the runs: {decided}",
        ]
        findings = [str(finding) for finding in self.findings[:MOST_SHOWN]]
        if more := self.findings[MOST_SHOWN:]:
            findings.append(f"and {len(more)} more; --json tells all")
        lines = [*head, *findings, *(f"note: {note}" for note in self.notes), self.cannot_tell]
        return "\n".join("".join(letter if letter.isprintable() else _HIDDEN for letter in line) for line in lines)


def verify_file(path: Path, *, expected: str | None, here: Here) -> VerifyResult:
    """Check a bundle's file as `verify` does; a BundleError where it cannot be read or is no safe bundle."""
    wanted = None if expected is None else to_sha256(expected)
    content = read_file(path)
    try:
        return verify(content, expected=wanted, here=here)
    except (archive.ArchiveError, BundleError) as error:
        raise BundleError(f"{path}: {error}") from None


def to_sha256(text: str) -> str:
    """The SHA-256 that a person typed; a BundleError where it is none."""
    if not _SHA256.fullmatch(typed := text.strip().lower()):
        raise BundleError(f"{typed[:80]!r} is no SHA-256; allowed: 64 digits from 0 to f")
    return typed


def read_file(path: Path) -> bytes:
    """The bytes of a bundle's file, no more than one takes; a BundleError where it cannot be read."""
    try:
        if not path.is_file():
            raise BundleError(f"{path}: it is no file" if path.exists() else f"{path}: there is no such file")
        with path.open("rb") as file:
            return file.read(archive.MOST_BYTES + 1)  # one more than is taken
    except OSError as error:
        raise BundleError(f"{path}: it cannot be read ({error.strerror})") from None


def verify(content: bytes, *, expected: str | None = None, here: Here | None = None) -> VerifyResult:
    """Check a bundle: the bytes of its file.

    Args:
        content: the file.
        expected: the SHA-256 that it must have, known from elsewhere.
        here: what the checkout has that verifies; by default nothing is compared with it.

    Raises:
        ArchiveError: no zip, or one that is not safe to read.
        BundleError: no bundle.
    """
    digest, here = hashlib.sha256(content).hexdigest(), here or Here()
    findings: list[Finding] = []
    if expected is not None and expected != digest:
        findings.append(Finding("the bundle", f"its SHA-256 is {digest}, but {expected} is expected"))
    unpacked = archive.unpack(content)
    files = unpacked.files
    findings += _of_files(unpacked, _manifest(unpacked))
    findings += own_files(files, here.own)
    published = bundle.is_of_published(files[MANIFEST])
    studies = _read(findings, files, STUDIES, _studies)
    runs = _read(findings, files, RUNS, runs_from_csv)
    epochs = _read(findings, files, EPOCHS, lambda table: from_csv(table, tables.EPOCH_COLUMNS))
    again: dict[str, Any] = {}
    if studies is None or runs is None or epochs is None:
        findings.append(Finding("the bundle", f"no run can be checked without {STUDIES}, {RUNS} and {EPOCHS}"))
        studies, runs = studies or [], runs or []
    else:
        findings += _guarded("the bundle", lambda: other_files(files, {study.name for study in studies}))
        findings += statements(studies, here.studies)
        records = bundle.records_in(runs, epochs, files)
        findings += _of_rows(records, epochs, studies, files)
        findings += _of_records(files, studies, records, again, PUBLISHED_RULES if published else RULES)
    return VerifyResult(
        sha256=digest,
        expected=expected,
        findings=tuple(dict.fromkeys(findings)),
        notes=(*notes(studies, runs, here), *([_OF_PUBLISHED] if published else [])),
        files=len(files),
        runs=len(runs),
        studies=tuple(study.name for study in studies),
        verdicts=Counter(sentence["verdict"] for study in again.get("studies", ()) for sentence in study["sentences"]),
    )


def _of_records(
    files: Mapping[str, bytes],
    studies: Sequence[Study],
    found: Sequence[Record],
    again: dict[str, Any],
    rules: Sequence[Rule],
) -> Iterator[Finding]:
    """Whether the records hold, alone and together, and what is said of them; fills `again` with the verdicts."""
    known = {study.name for study in studies}
    records = [record for record in found if record.artifacts and record.row["study"] in known]
    for record in records:
        yield from _guarded(f"records/{record.row['run_id']}", partial(_of_record, record, rules))
    yield from _guarded(RUNS, lambda: _of_many(records))
    yield from _guarded(LEFT_OUT, lambda: left_out(files, studies, records))
    yield from _guarded(CLAIMS, lambda: _of_claims(files, studies, records, again))
    yield from _guarded(CRATE, lambda: _of_crate(files, studies, records))


def _guarded(where: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """What a check finds; that it cannot be made is a finding."""
    try:
        return list(check())
    except _MALFORMED as error:
        return [Finding(where, f"cannot be checked ({type(error).__name__}: {str(error)[:200]})")]


def _read(findings: list[Finding], files: Mapping[str, bytes], name: str, read: Callable[[bytes], Any]) -> Any:
    """What a file holds, or None where it is missing or not readable, which is a finding."""
    if name not in files:
        return None
    try:
        return read(files[name])
    except (BundleError, TableError) as error:
        findings.append(Finding(name, str(error)))
        return None


def _manifest(unpacked: archive.Unpacked) -> dict[str, tuple[str, int]]:
    if MANIFEST in unpacked.damaged:
        raise BundleError(f"it cannot be checked: {MANIFEST} is damaged ({unpacked.damaged[MANIFEST]})")
    if MANIFEST not in unpacked.files:
        raise BundleError(f"it is no bundle: it has no {MANIFEST}; fashion-cnn bundle makes one")
    return bundle.from_manifest(unpacked.files[MANIFEST])


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
            if (digest := hashlib.sha256(content).hexdigest()) != sha256:
                yield Finding(name, f"changed: its SHA-256 is {digest}, but {MANIFEST} says {sha256}")
            elif len(content) != size:
                yield Finding(name, f"changed: it has {len(content)} bytes, but {MANIFEST} says {size}")


def _studies(content: bytes) -> list[Study]:
    values = from_json(content)
    if not isinstance(values, dict):
        raise BundleError("it holds no studies by name")
    studies = [bundle.study_of(name, study) for name, study in values.items()]
    if (claims := sum(len(study.claims) for study in studies)) > MOST_CLAIMS:
        raise BundleError(f"{claims:,} claims are too many; allowed: {MOST_CLAIMS:,}")
    return studies


def _of_rows(
    records: Sequence[Record], epochs: _Rows, studies: Sequence[Study], files: Collection[str]
) -> Iterator[Finding]:
    """Whether tables, folders and studies are about the same runs."""
    ids = Counter(record.row["run_id"] for record in records)
    by_name = {study.name: study for study in studies}
    for record in records:
        run_id, study_name = record.row["run_id"], record.row["study"]
        if not bundle.is_run_id(run_id) or ids[run_id] > 1:
            yield Finding(
                RUNS, f"run_id {str(run_id)[:80]!r} is {'there twice' if bundle.is_run_id(run_id) else 'no id'}"
            )
        if study_name not in by_name:
            yield Finding(RUNS, f"run {str(run_id)[:80]}: {STUDIES} has no study {str(study_name)[:80]!r}")
    for run_id in {epoch["run_id"]: None for epoch in epochs if epoch["run_id"] not in ids}:
        yield Finding(EPOCHS, f"run {str(run_id)[:80]} is not in {RUNS}")
    yield from _of_folders(ids, files)
    table, _ = frames(records)
    for name, study in by_name.items():
        of_study = table[table["study"] == name]
        if of_study.empty:
            yield Finding(STUDIES, f"{name} has no run in {RUNS}")
        else:
            yield from _guarded(RUNS, partial(_of_choice, of_study, study))


def _of_folders(run_ids: Collection[str], files: Collection[str]) -> Iterator[Finding]:
    """Whether each run has its folder, and each folder the artifacts of a run and no other file."""
    recorded = [name for name in files if name.startswith("records/")]
    folders = {name.split("/")[1]: None for name in recorded}
    for run_id in folders:
        if run_id not in run_ids:
            yield Finding(f"records/{run_id}", f"{RUNS} has no such run")
    for run_id in run_ids:
        if run_id not in folders:
            yield Finding(RUNS, f"run {str(run_id)[:80]} has no artifacts")
    wanted = {bundle.artifact_name(str(run_id), name) for run_id in run_ids for name in bundle.HELD}
    for name in recorded:
        if name not in wanted and name.split("/")[1] in run_ids:
            yield Finding(name, "no artifact that a bundle holds")


def _of_choice(runs: Any, study: Study) -> Iterator[Finding]:
    """Whether all of a study's runs count: one per arm and seed, of its configs, one data set, code and environment."""
    for run_id, reason in zip(runs["run_id"], reasons_left_out(runs, study), strict=True):
        if reason:
            yield Finding(RUNS, f"run {run_id} of {study.name} is none that counts: {reason}")


def _of_record(record: Record, rules: Sequence[Rule]) -> Iterator[Finding]:
    where = f"records/{record.row['run_id']}"
    for fault in (*missing(record, rules), *contradictions(record)):
        yield Finding(where, str(fault))
    listed = record.json(HASHES)
    for name in set(LIGHT) - {HASHES} if isinstance(listed, dict) else ():
        if name in listed and name not in record.artifacts:
            yield Finding(where, f"{name}: {HASHES} lists it, but it is not there")
        elif name in record.artifacts and name not in listed:
            yield Finding(where, f"{name}: {HASHES} does not list it")


def _of_many(records: Sequence[Record]) -> Iterator[Finding]:
    """Whether the records can stand together."""
    for run_id, breaches in implausible_together(records).items():
        yield from (Finding(f"records/{run_id}", str(breach)) for breach in breaches)


def _of_claims(
    files: Mapping[str, bytes], studies: Sequence[Study], records: Sequence[Record], again: dict[str, Any]
) -> Iterator[Finding]:
    """Whether the tables give the verdicts again; fills `again` with them."""
    if CLAIMS not in files or POST not in files or not studies:
        return
    if (lines := files[POST].count(b"\n")) > MOST_PRINTED:
        yield Finding(POST, f"{lines:,} lines are too many; allowed: {MOST_PRINTED:,}")
        return
    again |= claims_values(verdicts_of(studies, *frames(records), files[POST]))
    for place, stated, computed in value_differences(from_json(files[CLAIMS]), again):
        yield Finding(CLAIMS, f"{place} is {stated!r:.120}, but computed again it is {computed!r:.120}")


def _of_crate(files: Mapping[str, bytes], studies: Sequence[Study], records: Sequence[Record]) -> Iterator[Finding]:
    """Whether the description for other programs is the one that the bundle's records and files give."""
    if CRATE not in files:
        return
    if not records:
        yield Finding(CRATE, "there is no run that it could describe")
        return
    stated = from_json(files[CRATE])
    described = {name: content for name, content in files.items() if name not in (CRATE, MANIFEST)}
    computed = bundle.describe(described, studies, records)
    if {**stated, "@graph": None} != {**computed, "@graph": None}:
        yield Finding(CRATE, f"it must hold a @graph, the @context {', '.join(computed['@context'])}, and nothing else")
    for name, count in Counter(entity["@id"] for entity in stated["@graph"]).items():
        if count > 1:
            yield Finding(CRATE, f"{name} is described twice")
    ours, theirs = _entities(computed["@graph"]), _entities(stated["@graph"])
    runs = {f"#{record.row['run_id']}": f"the run {record.row['run_id']}" for record in records}
    for name in {**ours, **theirs}:
        if name not in theirs:
            yield Finding(CRATE, f"{runs.get(name, name)} is not described")
        elif name not in ours:
            yield Finding(CRATE, f"{name} is described, but nothing in the bundle is so named")
        else:
            yield from _of_entity(name, theirs[name], ours[name])


def _entities(graph: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The entities of a description by id; those of runs with the properties of their software, too."""
    entities = {entity["@id"]: dict(entity) for entity in graph}
    for entity in entities.values():
        if "instrument" in entity:
            software = entities.get(entity["instrument"]["@id"], {})
            entity |= {f"instrument's {key}": value for key, value in software.items()}
    return entities


def _of_entity(name: str, stated: Mapping[str, Any], computed: Mapping[str, Any]) -> Iterator[Finding]:
    for key in {**computed, **stated}:
        if key not in stated:
            yield Finding(CRATE, f"{name} lacks {key}")
        elif stated[key] != computed.get(key):
            expected = repr(computed[key]) if key in computed else "not there"
            yield Finding(CRATE, f"{name}: {key} is {stated[key]!r:.120}, but computed again it is {expected:.120}")
