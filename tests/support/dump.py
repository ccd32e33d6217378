"""All that a sqlite store holds, read without MLflow: what of it is the same before and after."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

OWNERS = ("run_uuid", "source_run_id", "source_id", "destination_id")
"""The columns by which a row of any table says that it is a run's; the last two of its inputs and outputs."""


@dataclass(frozen=True)
class StoredExperiment:
    """An experiment as it is stored."""

    name: str
    stage: str
    tags: dict[str, str]


@dataclass(frozen=True)
class StoredRun:
    """A run as it is stored, wherever the store lies."""

    info: dict[str, Any]
    """Its row of the table `runs`."""
    tags: dict[str, str]
    params: dict[str, str]
    metrics: frozenset[tuple[str, float, int, int]]
    """Name, value, time and step."""
    others: frozenset[tuple[Any, ...]]
    """Its rows of all other tables, the table's name first."""
    files: dict[str, str]
    """The SHA-256 of each of its artifacts, and of its models' files, by path."""

    @property
    def active(self) -> bool:
        return bool(self.info["lifecycle_stage"] == "active")

    @property
    def status(self) -> str:
        return str(self.info["status"])


@dataclass(frozen=True)
class Dump:
    """A store: its experiments by id, and its runs by id, in the order that they were made in."""

    experiments: dict[str, StoredExperiment]
    runs: dict[str, StoredRun]


def dump(folder: Path) -> Dump:
    """What the store in a folder holds."""
    # A move changes what addresses begin with, and nothing else: "@" stands for the folder and any other beside it.
    beside = re.compile(f"(?:{re.escape(folder.parent.as_uri())}|{re.escape(str(folder.parent))})/[^/]+")

    def here(value: Any) -> Any:
        return beside.sub("@", value) if isinstance(value, str) and "/" in value else value

    with closing(sqlite3.connect(folder / "mlflow.db", timeout=60)) as connection:
        connection.row_factory = sqlite3.Row
        names = [row["name"] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        tables = {
            name: [
                {column: here(row[column]) for column in row.keys()}  # noqa: SIM118  # a row's keys
                for row in connection.execute(f'SELECT * FROM "{name}" ORDER BY rowid')
            ]
            for name in names
        }
    tags: dict[str, dict[str, str]] = {}
    for row in tables["experiment_tags"]:
        tags.setdefault(str(row["experiment_id"]), {})[row["key"]] = row["value"]
    experiments = {
        key: StoredExperiment(row["name"], row["lifecycle_stage"], tags.get(key, {}))
        for row in tables["experiments"]
        if (key := str(row["experiment_id"])) != "0"
    }
    owned: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for name, rows in tables.items():
        for row in rows:
            for owner in {row[column] for column in OWNERS if row.get(column)}:
                owned.setdefault(owner, []).append((name, row))
    return Dump(experiments, {row["run_uuid"]: _run(row, owned[row["run_uuid"]], folder) for row in tables["runs"]})


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file in a folder, by its path there."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _run(info: dict[str, Any], owned: list[tuple[str, dict[str, Any]]], folder: Path) -> StoredRun:
    places = [info["artifact_uri"], *(row["artifact_location"] for name, row in owned if name == "logged_models")]
    files: dict[str, str] = {}
    for place in places:
        path = Path(unquote(place).replace("@", str(folder), 1))
        files |= {f"{place}/{name}": digest for name, digest in contents(path).items()}
    known = ("runs", "tags", "params", "metrics")
    return StoredRun(
        info,
        {row["key"]: row["value"] for name, row in owned if name == "tags"},
        {row["key"]: row["value"] for name, row in owned if name == "params"},
        frozenset(
            (row["key"], row["value"], row["timestamp"], row["step"]) for name, row in owned if name == "metrics"
        ),
        frozenset((name, *row.values()) for name, row in owned if name not in known),
        files,
    )
