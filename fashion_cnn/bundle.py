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

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from fashion_cnn.claims import Claim, Equivalent, Higher, Lower, NotTested, Stops
from fashion_cnn.config import FIELDS, RunConfig
from fashion_cnn.evidence import EPOCH_METRICS, LIGHT, RUN_METRICS, Record
from fashion_cnn.study import Study
from fashion_cnn.verdicts import Verdicts, verdicts

if TYPE_CHECKING:
    import pandas as pd

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

_Kind = Literal["text", "whole", "real"]
COLUMNS: Final[Mapping[str, _Kind]] = {
    **dict.fromkeys(("run_id", "name", "status"), "text"),
    **dict.fromkeys(("start_time", "end_time"), "whole"),
    **dict.fromkeys(("study", "arm", "seed", "smoke", "reuse", "stop_reason", "node", "workers"), "text"),
    **dict.fromkeys(("git_commit", "git_dirty", "config_sha256", "trajectory_sha256", "data_sha256"), "text"),
    **dict.fromkeys(("code_sha256", "environment_sha256", "weights_sha256", "artifacts_sha256"), "text"),
    **dict.fromkeys((*FIELDS, "parameters"), "text"),
    **dict.fromkeys((*EPOCH_METRICS, *RUN_METRICS), "real"),
}
"""Of the table of runs. An allow-list: addresses, users and command lines of a store stay there."""
EPOCH_COLUMNS: Final[Mapping[str, _Kind]] = {
    "run_id": "text",
    "epoch": "whole",
    **dict.fromkeys(EPOCH_METRICS, "real"),
}
_CLAIMS: Final = {kind.__name__: kind for kind in (Higher, Lower, Equivalent, Stops, NotTested)}
_RUN_ID: Final = re.compile(r"[0-9a-f]{32}")
_NOTHING: Final = "not there"


class BundleError(ValueError):
    """A bundle that cannot be made or read: one line that says why."""


@dataclass(frozen=True)
class Selection:
    """The records of a study that count, and how many do not."""

    study: Study
    records: Sequence[Record]
    """Complete, one an arm and seed, of one data set, code and environment: as `evidence.select` orders them."""
    left_out: Sequence[tuple[str, int]]
    """How many of the store's runs of the study are not among them, by reason."""
    incomplete: Mapping[str, str] = field(default_factory=dict)
    """Of these, what is missing or contradictory in a record that is no evidence therefore, by the run's id."""


# -- JSON ----------------------------------------------------------------------------------------------------------


def to_json(value: Any) -> bytes:
    """A JSON value as a file; the same value gives the same bytes."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def from_json(content: bytes) -> Any:
    """The JSON value in a file.

    Raises:
        BundleError: it holds none.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise BundleError("it holds no JSON value") from None


def moment(milliseconds: float) -> str:
    """A time, milliseconds since 1970, as ISO 8601 in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


# -- tables --------------------------------------------------------------------------------------------------------


def to_csv(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, _Kind]) -> bytes:
    """A table as a CSV file, each number with as many digits as tell it from any other."""
    buffer = io.StringIO()
    table = csv.writer(buffer)  # with the CR LF of RFC 4180: with LF alone Python does not quote a text with a CR
    table.writerow(columns)
    table.writerows([_cell(row.get(name), kind) for name, kind in columns.items()] for row in rows)
    return buffer.getvalue().encode()


def from_csv(content: bytes, columns: Mapping[str, _Kind]) -> list[dict[str, Any]]:
    """The rows of a CSV file that `to_csv` wrote; an empty cell is None.

    Raises:
        BundleError: other columns, or a cell that `to_csv` would not write so: says which.
    """
    try:
        table = list(csv.reader(io.StringIO(content.decode(), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BundleError(f"it holds no table ({error})") from None
    if not table or table[0] != list(columns):
        raise BundleError(f"its columns are not {', '.join(columns)}")
    rows = []
    for number, cells in enumerate(table[1:], start=2):
        if len(cells) != len(columns):
            raise BundleError(f"row {number} has {len(cells)} cells for {len(columns)} columns")
        row = {}
        for (name, kind), cell in zip(columns.items(), cells, strict=True):
            row[name] = _value(cell, kind)
            if _cell(row[name], kind) != cell:
                raise BundleError(f"row {number}: {name} is {cell[:80]!r}, which is no {_KINDS[kind]}")
        rows.append(row)
    return rows


_KINDS: Final = {"text": "text", "whole": "whole number", "real": "number in full precision"}


def _cell(value: Any, kind: _Kind) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value) if kind == "text" else str(int(value)) if kind == "whole" else repr(float(value))


def _value(cell: str, kind: _Kind) -> Any:
    if cell == "":
        return None
    try:
        return cell if kind == "text" else int(cell) if kind == "whole" else float(cell)
    except ValueError:
        return None


# -- records -------------------------------------------------------------------------------------------------------


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


def epoch_rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """The rows of the table of epochs."""
    return [{**epoch, "run_id": record.row["run_id"]} for record in records for epoch in record.epochs]


def is_run_id(text: Any) -> bool:
    """Whether a text can be a run's id, and so a folder's name."""
    return isinstance(text, str) and _RUN_ID.fullmatch(text) is not None


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


# -- studies and claims --------------------------------------------------------------------------------------------


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


def frames(runs: Iterable[Mapping[str, Any]], epochs: Iterable[Mapping[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the two tables as the tidy frames that claims, figures and the report take."""
    import pandas as pd

    return pd.DataFrame([*runs], columns=list(COLUMNS)), pd.DataFrame([*epochs], columns=list(EPOCH_COLUMNS))


def verdicts_of(studies: Sequence[Study], runs: pd.DataFrame, epochs: pd.DataFrame, post: bytes) -> Verdicts:
    """What the runs of a bundle say of the studies' claims and of the post's numbers.

    Args:
        studies: in order.
        runs: see `frames`.
        epochs: likewise.
        post: the CSV file of the post's numbers.
    """
    import pandas as pd

    return verdicts(studies, runs, epochs, pd.read_csv(io.BytesIO(post)))


def claims_values(found: Verdicts) -> dict[str, Any]:
    """Verdicts as JSON values, without the words that say nothing about these runs."""
    values: dict[str, Any] = from_json(to_json(found.as_dict()))  # tuples become lists, as in a file
    return {name: value for name, value in values.items() if name != "caveats"}


def value_differences(said: Any, computed: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ; numbers may by what another processor's rounding makes of them."""
    if isinstance(said, dict) and isinstance(computed, dict):
        for name in {**computed, **said}:
            at = f"{place}.{name}" if place else str(name)
            yield from value_differences(said.get(name, _NOTHING), computed.get(name, _NOTHING), at)
    elif isinstance(said, list) and isinstance(computed, list) and len(said) == len(computed):
        for number, both in enumerate(zip(said, computed, strict=True)):
            yield from value_differences(*both, f"{place}[{number}]")
    elif isinstance(said, float) and isinstance(computed, float | int):
        if not math.isclose(said, computed, rel_tol=1e-9, abs_tol=1e-12):
            yield place, said, computed
    elif type(said) is not type(computed) or said != computed:
        yield place, said, computed
