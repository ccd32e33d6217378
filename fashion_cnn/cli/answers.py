"""What programs read: JSON values with types and the version of their schema, and the same fields as CSV."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fashion_cnn.config import FIELDS, kind, parse
from fashion_cnn.evidence.record import EPOCH_METRICS, PARAMS, RUN_METRICS, TABLE_TAGS, absent
from fashion_cnn.evidence.tables import Kind

SCHEMA: Final = 1
"""Of every JSON answer, and of the columns that `export` writes. It grows when a field is renamed or removed or changes
its type; a new field changes nothing for those who read the others."""

_WHOLE: Final = ("seed", "parameters", "workers", "record_format", "epochs_trained", "reused_epochs", "epoch")
_TRUTHS: Final = ("smoke", "git_dirty", "imported")
_TIMES: Final = ("start_time", "end_time")

RUN_FIELDS: Final[Mapping[str, type]] = {
    **dict.fromkeys(("run_id", "name", "status"), str),
    **dict.fromkeys(_TIMES, int),
    **dict.fromkeys(TABLE_TAGS, str),
    **{name: kind(name) for name in FIELDS},
    **dict.fromkeys((*EPOCH_METRICS, *RUN_METRICS), float),
    **dict.fromkeys([name for name in _WHOLE if name in (*TABLE_TAGS, *PARAMS, *RUN_METRICS)], int),
    **dict.fromkeys(_TRUTHS, bool),
}
"""The fields of a run by name, in order, with their type: what `list --json` prints and `runs.csv` has as columns."""
EPOCH_FIELDS: Final[Mapping[str, type]] = {"run_id": str, "epoch": int, **dict.fromkeys(EPOCH_METRICS, float)}
"""The columns of `epochs.csv`, with their type."""


def run_values(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a run, from a row of `Store.runs`: None where it has none, and for a setting that is `none`.

    `imported` says whether the run came from published results or a bundle.
    """
    known = {**row, "imported": "false" if absent(row.get("published")) else "true"}
    return {name: _typed(known.get(name), of, name) for name, of in RUN_FIELDS.items()}


def epoch_values(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `epochs.csv`, from rows of `Store.epochs`."""
    return [{name: _typed(row.get(name), of, name) for name, of in EPOCH_FIELDS.items()} for row in rows]


def numbered_seed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values with a seed that is a number, which records keep as text."""
    return {**values, "seed": _typed(values.get("seed"), int, "seed")}


def json_text(values: Mapping[str, Any]) -> str:
    """A JSON answer, under the version of its schema; a number that JSON does not have is null."""
    return json.dumps({"schema": SCHEMA, **_finite(values)}, indent=1, allow_nan=False)


def csv_columns(fields: Mapping[str, type]) -> dict[str, Kind]:
    """Fields as columns of `evidence.tables.to_csv`: numbers in full precision, booleans as `true` and `false`."""
    kinds: Mapping[type, Kind] = {int: "whole", float: "real"}
    return {name: kinds.get(of, "text") for name, of in fields.items()}


def csv_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values for such a table."""
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in values.items()}


def _typed(value: Any, of: type, name: str) -> Any:
    """A value as the type of its field; None where there is none, and where somebody wrote something else there."""
    if absent(value) or value == "":
        return None
    try:
        if name in FIELDS:
            return parse(name, str(value))
        if of is bool:
            return {"true": True, "false": False}.get(str(value))
        return int(float(value)) if of is int else of(value)
    except (ValueError, OverflowError):
        return None


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if absent(value) or (isinstance(value, float) and abs(value) == float("inf")) else value
