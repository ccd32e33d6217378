"""A fresh store's database, copied: MLflow takes two seconds of CPU time to make one, and many tests need one."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from fashion_cnn.store import schema
from fashion_cnn.store.address import Address, resolve

_make = schema._create


def copy_empty(address: Address, path: Path) -> None:
    """What `schema._create` does, with a copy of a database that it made before."""
    content, artifacts = _made()
    path.write_bytes(content)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)",
            (artifacts, address.artifacts),
        )


@cache
def _made() -> tuple[bytes, str]:
    """An empty database, and the address of its artifacts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        address = resolve(f"sqlite:///{folder / 'mlflow.db'}", folder)
        _make(address, folder / "mlflow.db")
        return (folder / "mlflow.db").read_bytes(), str(address.artifacts)
