"""A sqlite store that was moved or copied: its database names artifacts by absolute paths, which then are wrong.

MLflow has no call that changes them. Artifacts lie beside the database, in `artifacts/<experiment>/`, so that where
they are now is known; the database is told so, and MLflow's own UI finds them as well.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from fashion_cnn.store.experiments import MARK

TIMEOUT = 20.0  # seconds for a database that somebody else writes to
# Of MLflow 3: whatever names a place of artifacts. The source of a registered model is the one that a person gave.
COLUMNS = (
    ("experiments", "artifact_location", ""),
    ("runs", "artifact_uri", ""),
    ("logged_models", "artifact_location", ""),
    ("model_versions", "source", ""),
    ("model_versions", "storage_location", ""),
    ("trace_tags", "value", "key = 'mlflow.artifactLocation' AND "),
)


def relocate(database: Path, artifacts: Path) -> list[str]:
    """Have a database name the artifacts beside it, where it names a folder that is gone or a copy's original.

    An experiment whose artifacts were given a place of another kind is left alone, and so is one whose folder is where
    the database says and not beside the database.

    Returns:
        What to tell the user: a line for each place that was changed, and one for each folder that was not found.
    """
    lines: dict[str, None] = {}
    with closing(sqlite3.connect(database, timeout=TIMEOUT, isolation_level=None)) as connection:
        mark = f"SELECT value FROM experiment_tags t WHERE t.experiment_id = e.experiment_id AND key = '{MARK}'"
        asked = f"SELECT experiment_id, name, artifact_location, ({mark}) FROM experiments e"
        found = connection.execute(asked).fetchall()
        wrong = [
            (number, old, new)
            for number, name, old, study in found
            if (new := _now({quote(name), quote(study or name), str(number)}, old, artifacts))
        ]
        if not wrong:
            return []
        connection.execute("BEGIN IMMEDIATE")
        for number, old, new in wrong:
            before = _path(old)
            _change(connection, old, new.as_uri())
            _change(connection, str(before), str(new))
            if new.is_dir():
                lines[f"artifacts are taken from {new.parent} now; they were recorded in {before.parent}"] = None
            elif connection.execute("SELECT 1 FROM runs WHERE experiment_id = ? LIMIT 1", (number,)).fetchone():
                lines[f"artifacts are missing: copy {before} of the old place to {new}"] = None
        connection.execute("COMMIT")
    return list(lines)


def _now(names: Collection[str], old: str, artifacts: Path) -> Path | None:
    """Where the artifacts of an experiment are to be found now, or None where the database says so already.

    `names` are those that its folder may have from us.
    """
    before = _path(old)
    ours = before.name in names and before.name != ".." and before.name.isprintable()
    if before.parent.name != artifacts.name or not ours:
        return None
    new = artifacts / before.name
    here = before.parent.resolve() == artifacts.resolve()  # though the store is opened by a link
    return None if here or (before.is_dir() and (not new.is_dir() or new.samefile(before))) else new


def _path(uri: str) -> Path:
    """The folder of a local address; an empty path for any other one."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return Path()
    return Path(unquote(parts.path)) if parts.scheme == "file" and not parts.netloc else Path()


def _change(connection: sqlite3.Connection, old: str, new: str) -> None:
    for table, column, condition in COLUMNS:
        named = f"{condition}({column} = ? OR substr({column}, 1, ?) = ?)"
        connection.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {named}",
            (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
        )
