"""A sqlite store's experiments, runs and epochs, read from its tables: importing MLflow would take longer than that.

Only of tables of the version that the MLflow here makes; of any other, MLflow is asked, and says what is wrong. What is
read is given in the shape of MLflow's own entities, as far as they are used.
"""

from __future__ import annotations

import importlib.util
import math
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

TIMEOUT: Final = 20.0  # seconds for a database that somebody else writes to
_REVISION: Final = re.compile(r"^(down_)?revision\b[^=]*= *(.*)$", re.MULTILINE)
_OF_RUN: Final = ("experiment_id", "artifact_uri", "name", "status", "start_time", "end_time")
_NAME: Final = "mlflow.runName"  # the tag that has a run's name where the run itself has none


def is_current(path: Path) -> bool:
    """Whether a database's tables are those of the MLflow here; not where they cannot be read."""
    try:
        with closing(sqlite3.connect(path, timeout=1)) as connection:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error:
        return False
    return len(found) == 1 and found[0][0] == _newest()


@cache
def _newest() -> str | None:
    """The version of tables that follows on no other's place, of MLflow's files; None where there is not just one."""
    package = importlib.util.find_spec("mlflow")
    if package is None or package.origin is None:
        return None
    made, replaced = set[str](), set[str]()
    for path in Path(package.origin).parent.glob("store/db_migrations/versions/*.py"):
        for before, stated in _REVISION.findall(path.read_text(encoding="utf-8")):
            (replaced if before else made).update(re.findall(r"[0-9a-f]{12}", stated))
    newest = made - replaced
    return newest.pop() if len(newest) == 1 else None


def experiments(path: Path) -> list[Any]:
    """All experiments, the newest first: `experiment_id`, `name`, `lifecycle_stage`, `tags`."""
    with closing(sqlite3.connect(path, timeout=TIMEOUT)) as connection:
        connection.execute("BEGIN")
        listed = connection.execute(
            "SELECT experiment_id, name, lifecycle_stage FROM experiments ORDER BY creation_time DESC, experiment_id"
        ).fetchall()
        tags: dict[int, dict[str, str]] = {}
        for number, key, value in connection.execute("SELECT experiment_id, key, value FROM experiment_tags"):
            tags.setdefault(number, {})[key] = value
    return [
        SimpleNamespace(experiment_id=str(number), name=name, lifecycle_stage=stage, tags=tags.get(number, {}))
        for number, name, stage in listed
    ]


def runs(path: Path, experiment_ids: Sequence[str], mark: str) -> list[Any]:
    """The runs of some experiments that are not in the bin and have a tag that is not empty, oldest first.

    Each has `info` (`run_id`, `run_name`, `experiment_id`, `artifact_uri`, `status`, `start_time`, `end_time`) and
    `data` (`tags`, `params` and the last values of `metrics`, by name).
    """
    places = ", ".join("?" * len(experiment_ids))
    chosen = f"FROM runs WHERE lifecycle_stage = 'active' AND experiment_id IN ({places})"
    numbers = [int(number) for number in experiment_ids]
    with closing(sqlite3.connect(path, timeout=TIMEOUT)) as connection:
        connection.execute("BEGIN")
        rows = connection.execute(
            f"SELECT run_uuid, {', '.join(_OF_RUN)} {chosen} ORDER BY start_time IS NULL, start_time, run_uuid", numbers
        ).fetchall()
        data = {row[0]: SimpleNamespace(tags={}, params={}, metrics={}) for row in rows}
        for table, value in (
            ("tags", "value"),
            ("params", "value"),
            ("latest_metrics", "CASE WHEN is_nan THEN NULL ELSE value END"),
        ):
            which = f"SELECT run_uuid, key, {value} FROM {table} WHERE run_uuid IN (SELECT run_uuid {chosen})"
            for run_id, key, stated in connection.execute(which, numbers):
                if table == "latest_metrics":
                    data[run_id].metrics[key] = math.nan if stated is None else stated
                else:
                    getattr(data[run_id], table)[key] = stated
    return [_run(row, data[row[0]]) for row in rows if data[row[0]].tags.get(mark)]


def _run(row: Sequence[Any], data: Any) -> Any:
    info = SimpleNamespace(run_id=row[0], **dict(zip(_OF_RUN, row[1:], strict=True)))
    info.experiment_id = str(info.experiment_id)
    info.run_name = info.name or data.tags.get(_NAME, "")
    return SimpleNamespace(info=info, data=data)


def histories(path: Path, run_ids: Sequence[str], name: str) -> Iterator[tuple[str, int, float]]:
    """Every value of a metric of some runs, with its run and step, in order of time."""
    places = ", ".join("?" * len(run_ids))
    asked = (
        f"SELECT run_uuid, step, CASE WHEN is_nan THEN NULL ELSE value END FROM metrics WHERE key = ? "
        f"AND run_uuid IN ({places}) ORDER BY run_uuid, timestamp, step, value"
    )
    with closing(sqlite3.connect(path, timeout=TIMEOUT)) as connection:
        for run_id, step, value in connection.execute(asked, (name, *run_ids)).fetchall():
            yield run_id, step, math.nan if value is None else value
