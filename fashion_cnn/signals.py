"""The signals that ask a process to stop, as an exception."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
OUTPUTS = (1, 2)


class Stopped(BaseException):  # as KeyboardInterrupt is, for `except Exception` must not take it for a fault
    """A signal asks to stop: one line that says so and what becomes of the work."""

    def __init__(self, number: int, outlook: str) -> None:
        """Stopped by the signal of this number."""
        self.number, self.signal = number, signal.Signals(number).name
        super().__init__(f"stopped by {self.signal}; {outlook}")


@contextmanager
def stoppable(outlook: str) -> Iterator[None]:
    """Turns the first signal within the block into `Stopped`; later ones change nothing, so that it can end in order.

    A hang-up that is ignored stays so: that is what `nohup` is for.

    Args:
        outlook: what becomes of the work, for whoever stopped it.
    """
    stopping = False

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            _leave_closed_terminal()
            raise Stopped(number, outlook)

    wanted = [number for number in SIGNALS if (number, signal.getsignal(number)) != (signal.SIGHUP, signal.SIG_IGN)]
    before = {number: signal.signal(number, stop) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_closed_terminal() -> None:
    """Send output that has lost its terminal nowhere, for a write to it would raise."""
    import termios  # which only the systems have that have these signals

    for number in OUTPUTS:
        try:
            termios.tcgetattr(number)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
