"""Which runs of a store were imported, and what as: a mark beside the store, whatever becomes of the runs' tags.

A line of JSON per run in `imported.jsonl` of the trajectories' folder: `run_id` here, `of`, its id where it was
recorded, and `origin`, what it came in. Lines are only added, each between two line ends, so that one which a kill cut
off spoils no other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from fashion_cnn.store.files import Unwritable

MARKS: Final = "imported.jsonl"


def mark(folder: Path, run_id: str, original: str, origin: str) -> None:
    """Note that a run was imported, of a run with another id; raises Unwritable where that cannot be done."""
    path = folder / MARKS
    entry = {"run_id": run_id, "of": original, "origin": origin}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(f"\n{json.dumps(entry)}\n".encode())
    except OSError as error:
        raise Unwritable(error.errno, error.strerror, str(path)) from error


def marks(folder: Path) -> dict[str, tuple[str, str]]:
    """The imported runs by their ids here: the id that each was recorded with, and its origin."""
    path = folder / MARKS
    found: dict[str, tuple[str, str]] = {}
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
            found[str(entry["run_id"])] = str(entry["of"]), str(entry["origin"])
        except (ValueError, KeyError, TypeError):
            continue  # an empty line, or one that was cut off
    return found


def told_apart(folder: Path, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of runs, `published` in those that were imported and in no other.

    Of a run without a mark the tag counts where it names a run's id, and the run has no `record`, which only runs
    recorded here have: it was imported before there were marks, or by another machine. People use the word, too.
    """
    known = marks(folder)
    rows = list(rows)
    for row in rows:
        if here := known.get(str(row["run_id"])):
            row["published"], row["imported"] = here
        elif row.get("record") or not re.fullmatch("[0-9a-f]{32}", row.get("published") or ""):
            row["published"] = None
    return rows
