"""Records as tables and JSON: the same records give the same bytes, every number in full precision. Pure."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from fashion_cnn.evidence.inert import inert_cell, text_of_cell
from fashion_cnn.evidence.record import (
    EPOCH_METRICS,
    PARAMS,
    RECORD_FORMAT,
    RUN_METRICS,
    TABLE_TAGS,
    Record,
    TwiceError,
    format_of,
    since,
    strict_json,
    too_new,
)

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["text", "whole", "real"]
COLUMNS: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(("run_id", "name", "status"), "text"),
    **dict.fromkeys(("start_time", "end_time"), "whole"),
    **dict.fromkeys((*TABLE_TAGS, *PARAMS), "text"),
    **dict.fromkeys((*EPOCH_METRICS, *RUN_METRICS), "real"),
}
"""Of the table of runs; see `columns_of`."""
EPOCH_COLUMNS: Final[Mapping[str, Kind]] = {"run_id": "text", "epoch": "whole", **dict.fromkeys(EPOCH_METRICS, "real")}
_NOTHING: Final = "not there"


class TableError(ValueError):
    """A file that holds no JSON value, or not the table that is read: one line that says why."""


def to_json(value: Any) -> bytes:
    """A JSON value as a file; the same value gives the same bytes."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def from_json(content: bytes) -> Any:
    """The JSON value in a file; a TableError where it holds none."""
    try:
        return strict_json(content)
    except TwiceError as error:
        raise TableError(f"in its JSON {error}") from None
    except (ValueError, RecursionError):
        raise TableError("it holds no JSON value") from None


def iso_time(milliseconds: float) -> str:
    """A time, milliseconds since 1970, as ISO 8601 in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def to_csv(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, Kind]) -> bytes:
    """A table as a CSV file, each number with as many digits as distinguish it from any other."""
    buffer = io.StringIO()
    table = csv.writer(buffer)  # with the CR LF of RFC 4180: with LF alone Python does not quote a text with a CR
    table.writerow(columns)
    table.writerows([_cell(row.get(name), kind) for name, kind in columns.items()] for row in rows)
    return buffer.getvalue().encode()


def columns_of(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, Kind] = COLUMNS) -> dict[str, Kind]:
    """Those columns that a table of these runs has: of the newest format among them, for older ones left empty."""
    newest = max(map(format_of, rows), default=RECORD_FORMAT)
    return {name: kind for name, kind in columns.items() if since(name) <= newest}


def runs_to_csv(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Kind] = COLUMNS) -> bytes:
    """The table of some runs as a CSV file, with those of the columns that their formats have."""
    return to_csv(rows, columns_of(rows, columns))


def runs_from_csv(content: bytes, columns: Mapping[str, Kind] = COLUMNS) -> list[dict[str, Any]]:
    """The rows of a CSV file that `runs_to_csv` wrote; errors are those of `from_csv`, and runs of a newer format."""
    names, *rows = _cells(content) or [[]]
    runs = [dict(zip(names, (cell or None for cell in cells), strict=False)) for cells in rows]
    for newer in filter(None, map(too_new, runs)):
        raise TableError(str(newer))
    return _read([names, *rows], columns_of(runs, columns))


def from_csv(content: bytes, columns: Mapping[str, Kind]) -> list[dict[str, Any]]:
    """The rows of a CSV file that `to_csv` wrote; an empty cell is None.

    Raises:
        TableError: other columns, or a cell that `to_csv` would not write so: says which.
    """
    return _read(_cells(content), columns)


def _cells(content: bytes) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(content.decode(), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"it holds no table ({error})") from None


def _read(table: Sequence[Sequence[str]], columns: Mapping[str, Kind]) -> list[dict[str, Any]]:
    if not table or table[0] != list(columns):
        raise TableError(f"its columns are not {', '.join(columns)}")
    rows = []
    for number, cells in enumerate(table[1:], start=2):
        if len(cells) != len(columns):
            raise TableError(f"row {number} has {len(cells)} cells for {len(columns)} columns")
        row = {}
        for (name, kind), cell in zip(columns.items(), cells, strict=True):
            row[name] = _value(cell, kind)
            if _cell(row[name], kind) != cell:
                raise TableError(f"row {number}: {name} is {cell[:80]!r}, which is no {_KINDS[kind]}")
        rows.append(row)
    return rows


_KINDS: Final = {"text": "text", "whole": "whole number", "real": "number in full precision"}


def _cell(value: Any, kind: Kind) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return inert_cell(str(value)) if kind == "text" else str(int(value)) if kind == "whole" else repr(float(value))


def _value(cell: str, kind: Kind) -> Any:
    try:
        return (text_of_cell(cell) or None) if kind == "text" else int(cell) if kind == "whole" else float(cell)
    except ValueError:
        return None


def epoch_rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """The rows of the table of epochs."""
    return [{**epoch, "run_id": record.row["run_id"]} for record in records for epoch in record.epochs]


def frames(records: Sequence[Record]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Records as the tidy frames of runs and of epochs that claims, figures and the report take.

    The runs have a column more than `COLUMNS`: the `processor` that trained them, None where it is not told.
    """
    import pandas as pd

    runs = run_frame([record.row for record in records]).assign(processor=[each.processor() for each in records])
    return runs, pd.DataFrame(epoch_rows(records), columns=list(EPOCH_COLUMNS))


def run_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows of records as the tidy frame of runs."""
    import pandas as pd

    return pd.DataFrame(list(rows), columns=list(COLUMNS))


def value_differences(stated: Any, computed: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ; numbers may by what another processor's rounding makes of them."""
    if isinstance(stated, dict) and isinstance(computed, dict):
        for name in {**computed, **stated}:
            at = f"{place}.{name}" if place else str(name)
            yield from value_differences(stated.get(name, _NOTHING), computed.get(name, _NOTHING), at)
    elif isinstance(stated, list) and isinstance(computed, list) and len(stated) == len(computed):
        for number, both in enumerate(zip(stated, computed, strict=True)):
            yield from value_differences(*both, f"{place}[{number}]")
    elif isinstance(stated, float) and isinstance(computed, float | int):
        if not math.isclose(stated, computed, rel_tol=1e-9, abs_tol=1e-12):
            yield place, stated, computed
    elif type(stated) is not type(computed) or stated != computed:
        yield place, stated, computed
