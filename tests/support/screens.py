"""A terminal of some width, as far as a program can tell, and what it shows."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import redirect_stdout
from unittest import mock


class Screen(io.StringIO):
    """Standard output that is a terminal."""

    def isatty(self) -> bool:
        return True


def on_screen(show: Callable[[], object], width: int = 80) -> str:
    """What is printed into a terminal of so many columns, without colours."""
    with mock.patch.dict(os.environ, COLUMNS=str(width), LINES="40", TERM="dumb"), redirect_stdout(Screen()) as screen:
        show()
    return screen.getvalue()
