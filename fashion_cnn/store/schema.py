"""A database's tables: made whole or not at all, made anew where a kill left nothing but tables, of another MLflow."""

from __future__ import annotations

import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Final

from fashion_cnn.store.address import Address, StoreError

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

_SOMEBODYS: Final = {"alembic_version": "0", "experiments": "experiment_id != 0", "workspaces": "name != 'default'"}
"""Which rows are not MLflow's own, by table; of the others all."""


def make(address: Address, path: Path) -> None:
    """Make a sqlite database aside and move it into place, where there is none or one whose making was cut off.

    One caller at a time. A database of which anything is somebody's is left as it is.
    """
    if path.exists() and path.stat().st_size and not _cut_off(path):
        return
    path = path.resolve()  # the file, where it is a link
    aside = path.with_name(f".{path.name}.new")
    for left in (aside, aside.with_name(f"{aside.name}-journal")):  # of a start that was killed
        left.unlink(missing_ok=True)
    _create(address, aside)
    aside.replace(path)


def _create(address: Address, path: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    made = SqlAlchemyStore(f"sqlite:///{path}", str(address.artifacts))  # type: ignore[no-untyped-call]
    made.engine.dispose()  # its connections are to the file's name of now


def _cut_off(path: Path) -> bool:
    """Whether a database has not all tables of this MLflow as they should be, and holds nothing of anybody's."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for name in tables:
                somebodys = _SOMEBODYS.get(name, "1")
                if connection.execute(f'SELECT 1 FROM "{name}" WHERE {somebodys} LIMIT 1').fetchone():
                    return False
            known = "alembic_version" in tables
            found = [row[0] for row in connection.execute("SELECT version_num FROM alembic_version")] if known else []
    except sqlite3.Error:
        return False  # MLflow tells what is wrong with it
    return not found or (found != [_newest()] and _is_known(found[0]))


def mismatch(address: Address, reason: str) -> StoreError | None:
    """What to do where MLflow gave this reason for refusing a database whose tables are of another version."""
    found = re.search(r"found version (\w+)|Can't locate revision identified by '(\w+)'", reason)
    if found is None:
        return None
    from mlflow.version import VERSION

    version = found[1] or found[2]
    if not _is_known(version):
        return StoreError(
            f"the store {address.name} is of a newer MLflow (its tables are of version {version}, which MLflow "
            f"{VERSION} here does not know): use the checkout that wrote it, update this one (git pull, make setup), "
            "or name another store with --tracking-uri"
        )
    return StoreError(
        f"the store {address.name} is of an older MLflow (its tables are of version {version}, those of MLflow "
        f"{VERSION} here of {_newest()}): make a backup of the database, then run {quote(sys.executable)} -m mlflow "
        f"db upgrade {quote(address.name)}"
    )


def _newest() -> str:
    return str(_scripts().get_current_head())


def _is_known(version: str) -> bool:
    from alembic.util import CommandError

    try:
        return _scripts().get_revision(version) is not None
    except CommandError:
        return False


def _scripts() -> ScriptDirectory:
    """The versions that the tables of the MLflow here went through."""
    import mlflow.store
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(mlflow.store.__path__[0], "db_migrations")))
