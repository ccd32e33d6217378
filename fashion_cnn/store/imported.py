"""Which runs of a store were imported, and what as: a mark beside the store, whatever becomes of the runs' tags.

A line of JSON per run in `imported.jsonl` of the trajectories' folder: `run_id` here, and `of`, its id where it was
recorded. Lines are only added, each between two line ends, so that one which a kill cut off spoils no other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from fashion_cnn.store.files import Unwritable

MARKS: Final = "imported.jsonl"
_RUN_ID: Final = re.compile(r"[0-9a-f]{32}")


def mark(folder: Path, run_id: str, original: str) -> None:
    """Note that a run was imported, of a run with another id; raises Unwritable where that cannot be done."""
    path = folder / MARKS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(f"\n{json.dumps({'run_id': run_id, 'of': original})}\n".encode())
    except OSError as error:
        raise Unwritable(error.errno, error.strerror, str(path)) from error


def marks(folder: Path) -> dict[str, str]:
    """The imported runs: the id that each was recorded with, by its id here."""
    path = folder / MARKS
    found: dict[str, str] = {}
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
            found[str(entry["run_id"])] = str(entry["of"])
        except (ValueError, KeyError, TypeError):
            continue  # an empty line, or one that was cut off
    return found


def told_apart(folder: Path, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of runs, `published` in those that were imported and in no other.

    Where another machine imported a run into a server, there is nothing but the tag `published`. People may use the
    word, too, so the tag alone makes an imported run only of one that has no `record`, which those have that were
    recorded here, and only where it holds the id of a run.
    """
    known = marks(folder)
    rows = list(rows)
    for row in rows:
        if original := known.get(str(row["run_id"])):
            row["published"] = original
        elif row.get("record") or not _RUN_ID.fullmatch(str(row.get("published"))):
            row["published"] = None
    return rows
