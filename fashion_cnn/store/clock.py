"""A store's own clock, by which heartbeats are written and judged: machines that share it may not agree on the time."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

FRESH: Final = 60.0  # seconds for which what the store said is counted on
_SECONDS: Final = {
    "postgresql": "SELECT extract(epoch FROM now())",
    "mysql": "SELECT unix_timestamp()",
    "mssql": "SELECT datediff_big(second, '1970-01-01', sysutcdatetime())",
}


class Clock:
    """Asks for the time now and then, and counts on from there; a machine's clock that is set plays no part."""

    def __init__(self, ask: Callable[[], float]) -> None:
        """A clock that `ask` reads, in seconds since 1970; where it cannot, this machine's time is taken at first."""
        self._ask = ask
        self._read, self._at = math.nan, -math.inf

    def now(self) -> float:
        """Seconds since 1970."""
        passed = time.monotonic() - self._at
        if passed > FRESH:
            try:
                read = self._ask()
            except Exception:
                read = time.time() if math.isnan(self._read) else self._read + passed
            self._read, self._at, passed = read, time.monotonic(), 0.0
        return self._read + passed


def of_folder(folder: Path) -> float:
    """The time of the file system that a folder is on, which need not be this machine's."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"?")
        file.flush()
        return os.fstat(file.fileno()).st_mtime


def of_database(engine: Any) -> float:
    """The time of a database that is a server, by its SQLAlchemy engine."""
    from sqlalchemy import text

    with engine.connect() as connection:
        return float(connection.execute(text(_SECONDS[engine.dialect.name])).scalar_one())
