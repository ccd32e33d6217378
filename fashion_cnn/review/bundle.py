"""What a bundle holds: its files by name, and records, studies and the manifest as bytes and back.

    README.txt                 for the reviewer
    manifest.json              the SHA-256 and size of every other file
    ro-crate-metadata.json     the same files and runs, described for other programs (RO-Crate)
    studies.json               each study's question, arms (configs) and claims
    post_results.csv           what the post printed
    runs.csv  epochs.csv       the records as tables, every number in full precision
    records/<run_id>/          a run's light artifacts, as they were recorded; its hashes.json has the hash of all
    claims.json                the verdicts, which anybody can compute again from the tables
    left_out.json              how many of the store's runs are not here, and why
    figures/<study>/  report.html  requirements.lock

`pack` makes a bundle, `verify` checks one. Nothing here reads or writes a file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from fashion_cnn.claims import Claim, Equivalent, Higher, Lower, NotTested, Stops
from fashion_cnn.config import RunConfig
from fashion_cnn.evidence.record import LIGHT, Record
from fashion_cnn.evidence.tables import COLUMNS, EPOCH_COLUMNS, TableError, epoch_rows, from_json, to_csv, to_json
from fashion_cnn.study import Study

FORMAT: Final = "fashion-cnn bundle 1"
README: Final = "README.txt"
MANIFEST: Final = "manifest.json"
CRATE: Final = "ro-crate-metadata.json"
STUDIES: Final = "studies.json"
RUNS: Final = "runs.csv"
EPOCHS: Final = "epochs.csv"
POST: Final = "post_results.csv"
CLAIMS: Final = "claims.json"
LEFT_OUT: Final = "left_out.json"
REPORT: Final = "report.html"
LOCK: Final = "requirements.lock"
REQUIRED: Final = (README, CRATE, STUDIES, RUNS, EPOCHS, POST, CLAIMS, LEFT_OUT, REPORT, LOCK)
"""The files that every bundle holds besides its manifest."""
_CLAIMS: Final = {kind.__name__: kind for kind in (Higher, Lower, Equivalent, Stops, NotTested)}
_RUN_ID: Final = re.compile(r"[0-9a-f]{32}")


class BundleError(ValueError):
    """A bundle that cannot be made or read: one line that says why."""


def artifact_name(run_id: str, artifact: str) -> str:
    """Where a bundle holds a run's artifact."""
    return f"records/{run_id}/{artifact}"


def is_run_id(text: Any) -> bool:
    """Whether a text can be a run's id, and so a folder's name."""
    return isinstance(text, str) and _RUN_ID.fullmatch(text) is not None


def record_files(records: Sequence[Record]) -> dict[str, bytes]:
    """The tables and the artifacts of some records."""
    artifacts = {}
    for record in records:
        run_id = record.row["run_id"]
        if not is_run_id(run_id):
            raise BundleError(f"{run_id!r} is no run's id")
        for name in LIGHT:
            if name in record.artifacts:
                artifacts[artifact_name(run_id, name)] = record.artifacts[name]
    rows = (record.row for record in records)
    return {RUNS: to_csv(rows, COLUMNS), EPOCHS: to_csv(epoch_rows(records), EPOCH_COLUMNS), **artifacts}


def records_in(
    runs: Iterable[Mapping[str, Any]], epochs: Iterable[Mapping[str, Any]], files: Mapping[str, bytes]
) -> list[Record]:
    """The records that the rows of a bundle's two tables and its files are of."""
    of_run: dict[str, list[Mapping[str, Any]]] = {}
    for epoch in epochs:
        of_run.setdefault(epoch["run_id"], []).append(epoch)
    records = []
    for row in runs:
        paths = {name: artifact_name(row["run_id"], name) for name in LIGHT}
        artifacts = {name: files[path] for name, path in paths.items() if path in files}
        records.append(Record(row, of_run.get(row["run_id"], []), artifacts, whole=False))
    return records


def study_values(study: Study) -> dict[str, Any]:
    """A study as JSON values."""
    claims = [{"claim": type(claim).__name__, **asdict(claim)} for claim in study.claims]
    arms = {arm: config.canonical() for arm, config in study.arms.items()}
    return {"question": study.question, "arms": arms, "claims": claims}


def study_of(name: str, values: Mapping[str, Any]) -> Study:
    """A study of JSON values; a BundleError says why they are none."""
    try:
        arms = {arm: RunConfig.from_mapping(config) for arm, config in values["arms"].items()}
        claims = tuple(_claim_of(dict(claim)) for claim in values["claims"])
        study = Study(name, values["question"], arms, claims=claims)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise BundleError(f"{name} is no study: {type(error).__name__}: {error}") from None
    if study_values(study) != values:
        raise BundleError(f"{name} is not written as a study is")
    return study


def _claim_of(values: dict[str, Any]) -> Claim:
    return _CLAIMS[values.pop("claim")](**values)


def to_manifest(files: Mapping[str, bytes]) -> bytes:
    """The manifest of all other files of a bundle."""
    listed = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in sorted(files.items())
    }
    return to_json({"format": FORMAT, "files": listed})


def from_manifest(content: bytes) -> dict[str, tuple[str, int]]:
    """What a manifest lists: SHA-256 and size in bytes by name; a BundleError where it is none."""
    try:
        values = from_json(content)
        named = values["format"]
        listed = {name: (entry["sha256"], entry["bytes"]) for name, entry in values["files"].items()}
    except (TableError, AttributeError, KeyError, TypeError):
        raise BundleError(f"it is no bundle: its {MANIFEST} is not one of fashion-cnn") from None
    if named != FORMAT:
        raise BundleError(f"its format is {str(named)[:80]!r}; this version reads {FORMAT!r}")
    return listed
