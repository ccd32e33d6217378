"""What a bundle holds, as bytes and back: tables, studies, claims. `pack` makes one, `verify` checks one.

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

Nothing here reads or writes a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from fashion_cnn.claims import Claim, Equivalent, Higher, Lower, NotTested, Stops
from fashion_cnn.config import RunConfig
from fashion_cnn.evidence.record import LIGHT, Record
from fashion_cnn.evidence.tables import COLUMNS, EPOCH_COLUMNS, BundleError, epoch_rows, is_run_id, to_csv
from fashion_cnn.study import Study

if TYPE_CHECKING:
    pass


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
PROCESS_RUN: Final = "https://w3id.org/ro/wfrun/process/0.5"
DATA_SET: Final = "https://github.com/zalandoresearch/fashion-mnist/"
_CLAIMS: Final = {kind.__name__: kind for kind in (Higher, Lower, Equivalent, Stops, NotTested)}


def artifact_name(run_id: str, artifact: str) -> str:
    """Where a bundle holds a run's artifact."""
    return f"records/{run_id}/{artifact}"


def record_files(records: Sequence[Record]) -> dict[str, bytes]:
    """The tables and the artifacts of some records.

    Raises:
        BundleError: a run's id cannot be a folder's name.
    """
    for record in records:
        if not is_run_id(record.row["run_id"]):
            raise BundleError(f"{record.row['run_id']!r} is no run's id")
    artifacts = {
        artifact_name(record.row["run_id"], name): record.artifacts[name]
        for record in records
        for name in LIGHT
        if name in record.artifacts
    }
    rows = (record.row for record in records)
    return {RUNS: to_csv(rows, COLUMNS), EPOCHS: to_csv(epoch_rows(records), EPOCH_COLUMNS), **artifacts}


def records_of(
    runs: Iterable[Mapping[str, Any]], epochs: Iterable[Mapping[str, Any]], files: Mapping[str, bytes]
) -> list[Record]:
    """The records of a bundle: rows of its two tables, and its files."""
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
    """A study of JSON values.

    Raises:
        BundleError: they are none; says why.
    """
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
