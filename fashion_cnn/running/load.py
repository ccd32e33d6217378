"""How busy a machine is with other things than the workers of one call, as Linux tells it.

What is measured beside other work takes longer, in CPU seconds, too: caches and memory are shared.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CALL: Final = "FASHION_CNN_CALL"
"""The environment variable by which the workers of one call know each other."""
_IDLE: Final = (3, 4, 7)  # of a line of /proc/stat: idle, waiting for a disk, and what the host gave to other machines
_OWN: Final = slice(11, 15)  # of /proc/PID/stat, after the name: its CPU time and that of its children that ended
_PROC: Final = Path("/proc")


@dataclass(frozen=True)
class Usage:
    """CPU seconds until now."""

    at: float
    """Seconds of a monotonic clock."""
    busy: float
    """Of all processes of the machine."""
    own: float
    """Of the workers of this call among them."""


def usage(call: str | None = None) -> Usage | None:
    """What was used until now, or None where the system does not tell.

    Args:
        call: what `CALL` is in the processes of the call; by default in this process.
    """
    call = os.environ.get(CALL, "") if call is None else call
    try:
        ticks = os.sysconf("SC_CLK_TCK")
        first = (_PROC / "stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
        busy = sum(int(value) for place, value in enumerate(first) if place not in _IDLE)
        own = sum(_ticks(process) for process in _PROC.glob("[0-9]*") if _is_of(process, call))
    except (OSError, ValueError, AttributeError):
        return None
    return Usage(time.monotonic(), busy / ticks, own / ticks)


def other_load(before: Usage | None, after: Usage | None) -> float | None:
    """How many cores other processes kept busy between two moments, in the mean; None where it is not known."""
    if before is None or after is None or after.at <= before.at:
        return None
    return max(0.0, (after.busy - before.busy - after.own + before.own) / (after.at - before.at))


def _is_of(process: Path, call: str) -> bool:
    if process.name == str(os.getpid()):
        return True
    with suppress(OSError):  # another user's, or gone
        return bool(call) and f"{CALL}={call}".encode() in (process / "environ").read_bytes().split(b"\0")
    return False


def _ticks(process: Path) -> int:
    with suppress(OSError):  # it has ended meanwhile
        fields = (process / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return sum(map(int, fields[_OWN]))
    return 0
