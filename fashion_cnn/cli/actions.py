"""What the actions of all commands share: exit statuses, errors on one line, the store, the answer, output files."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_cnn.config import RunConfig
from fashion_cnn.signals import Stopped
from fashion_cnn.study import AD_HOC, Study, select_studies
from fashion_cnn.terminal import complain, silence

if TYPE_CHECKING:
    from fashion_cnn.store.tracking import Store

DONE, FAILED, WRONG = 0, 1, 2


class OutputError(OSError):
    """A file that the user asked for cannot be written: one line that says why."""


@dataclass(frozen=True)
class Project:
    """What the commands of `fashion-cnn` are about."""

    studies: Sequence[Study]  # in order
    post: Path  # the post's printed numbers, CSV
    published: Path  # the folder of published results

    def recorded_studies(self, names: Sequence[str]) -> list[str]:
        """The names themselves; that of the runs that belong to no study may be among them.

        Raises:
            StudyError: an unknown name.
        """
        return [study.name for study in select_studies([*self.studies, ad_hoc({"defaults": RunConfig()})], names)]


Action = Callable[[Project, argparse.Namespace], int]  # carries out a command; returns the exit status


def ad_hoc(arms: Mapping[str, RunConfig]) -> Study:
    """The study of runs that belong to none."""
    return Study(AD_HOC, "Single runs that belong to no study.", arms)


def guarded(action: Callable[[], int], debug: bool) -> int:
    """Run a command; its errors become one line and an exit status."""
    try:
        return action()
    except BrokenPipeError:  # the reader of a pipe had enough
        silence(sys.stdout)
        return DONE
    except KeyboardInterrupt:
        return 130
    except Stopped as stop:
        complain(str(stop))
        return 128 + stop.number
    except Exception as error:
        if debug:
            raise
        # Only the package's own errors are written for people, and shown as they are.
        known = type(error).__module__.startswith("fashion_cnn.")
        text = str(error) if known else f"{type(error).__name__}: {error} (--debug shows where)"
        line = " ".join(text.split("\n"))
        # A server's words may be in it, and control characters act on a terminal.
        complain("error: " + "".join(letter if letter.isprintable() else "\ufffd" for letter in line))
        return WRONG if known else FAILED


def open_store(options: argparse.Namespace, *, create: bool = False) -> Store:
    """The store that the options name; its notices are printed.

    Raises:
        StoreError: it cannot be opened.
    """
    from fashion_cnn.environment import REPOSITORY
    from fashion_cnn.store.address import resolve
    from fashion_cnn.store.tracking import Store

    store = Store(resolve(options.tracking_uri, REPOSITORY), create=create)
    show_notices(store)
    return store


def show_notices(store: Store) -> None:
    """Print what a store wants its user to know."""
    for line in store.notices:
        complain(line)


def answer(options: argparse.Namespace, value: Mapping[str, Any], text: str) -> None:
    """Print what a command has to say: as JSON where that is asked for, else as text."""
    print(json.dumps(value) if options.json else text)


def write_output(path: Path, content: bytes, *, option: str = "--output") -> None:
    """Write a file that the user asked for, and the folders that it lies in.

    Args:
        path: of the file.
        content: of it.
        option: names the file or its folder.

    Raises:
        OutputError: it cannot be written; the line names the option.
    """
    from fashion_cnn.store.files import write_bytes

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except OSError as error:
        raise OutputError(
            f"{error.filename} cannot be written ({error.strerror}); name another with {option}"
        ) from None
