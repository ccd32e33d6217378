"""Timer: how long a block takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Self


class Timer:
    """A context manager that says when a block started and ended and how long it took.

    The clock times are for people; `elapsed`, `seconds` and `cpu_seconds` come from monotonic clocks, so
    setting the clock in between does not change them. A timer can be used again and again; each use starts anew.

    Attributes:
        started: local clock time at the start, or None before the first use.
        ended: local clock time at the end, or None until then.
        seconds: wall time of the block.
        cpu_seconds: processor time of the whole process, all threads, during the block.
    """

    def __init__(self, emit: Callable[[str], object] | None = print) -> None:
        """A timer that passes a line at the start and two at the end to `emit`; None keeps it silent."""
        self._emit = emit
        self.started: datetime | None = None
        self.ended: datetime | None = None
        self.seconds = 0.0
        self.cpu_seconds = 0.0

    @property
    def elapsed(self) -> timedelta:
        """Wall time of the block."""
        return timedelta(seconds=self.seconds)

    def __enter__(self) -> Self:
        """Start."""
        self.started, self.ended = datetime.now().astimezone(), None
        self._tell(f"Started: {self.started:%Y-%m-%d %H:%M:%S}")
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop, whether the block ended well or not."""
        self.seconds = time.perf_counter() - self._wall
        self.cpu_seconds = time.process_time() - self._cpu
        self.ended = datetime.now().astimezone()
        self._tell(f"Ended: {self.ended:%Y-%m-%d %H:%M:%S}")
        self._tell(f"Elapsed: {self.elapsed}")

    def _tell(self, line: str) -> None:
        if self._emit is not None:
            self._emit(line)
