"""Files that are whole or absent after a kill: written aside, synced and renamed; appended lines are synced."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class TrajectoryError(RuntimeError):
    """A trajectory's folder cannot be used as asked: one line that says why."""


class OtherCode(TrajectoryError):
    """A file that code which keeps other things has written."""


class Unwritable(OSError):
    """A file could not be written, of a full disk for example; the one that was there before still is."""

    def __str__(self) -> str:
        """One line that names the file and says what to do."""
        return f"{self.filename} cannot be written ({self.strerror}); once it can, the same command goes on"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that is whole or absent after a kill; raises Unwritable where that cannot be done."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    with _named(path):
        try:
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


def append_line(path: Path, line: str, after: int) -> None:
    """Append a line to a file, dropping whatever a kill left behind its first `after` bytes."""
    with _named(path), path.open("ab") as file:
        file.truncate(after)
        file.write(f"{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as `write_bytes` does."""
    write_bytes(path, (json.dumps(value, indent=1) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; a TrajectoryError where it holds something else."""
    try:
        value = json.loads(path.read_bytes())
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise TrajectoryError(f"{path} was changed or damaged: it holds no JSON object")
    return value


@contextmanager
def shaped(path: Path, what: str) -> Iterator[None]:
    """Has an error of making a value from a file's JSON object be an OtherCode that names the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise OtherCode(f"{path} is not {what}: {error}") from None


def told_together(errors: Sequence[Exception]) -> list[str]:
    """A line for each error, but one for all that are of other code: a store that it made has one in every folder."""
    lines = {str(error): isinstance(error, OtherCode) for error in errors}
    others = [line for line, of_other_code in lines.items() if of_other_code]
    if len(others) > 1:
        others = [f"{others[0]} (and so it is with {len(others) - 1} more)"]
    return [*(line for line, of_other_code in lines.items() if not of_other_code), *others]


def check_name(name: str) -> str:
    """The name itself; a TrajectoryError where it cannot be a file's here, whatever the file system."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
        raise TrajectoryError(f"{name[:40]!r} cannot be a file's name: use up to 100 letters, digits and _ . -")
    return name


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Has an error of writing name the file, which a full disk's does not."""
    try:
        yield
    except OSError as error:
        raise Unwritable(error.errno, error.strerror, str(path)) from error
