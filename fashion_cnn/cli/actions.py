"""What all commands share: options and their parsing, exit statuses, one-line errors, the store, answers, files."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fashion_cnn.config import RunConfig, nearest
from fashion_cnn.environment import settle
from fashion_cnn.signals import Stopped
from fashion_cnn.study import Study, ad_hoc, select_studies
from fashion_cnn.terminal import complain, printable, silence

if TYPE_CHECKING:
    from fashion_cnn.store.tracking import Store

DONE, FAILED, WRONG, UNDECIDED = 0, 1, 2, 3


class OutputError(OSError):
    """A file that the user asked for cannot be written: one line that says why."""


@dataclass(frozen=True)
class Project:
    """What the commands of `fashion-cnn` are about."""

    studies: Sequence[Study]  # in order
    post: Path  # the post's printed numbers, CSV
    published: Path  # the folder of published results

    def recorded_studies(self, names: Sequence[str]) -> list[str]:
        """The names themselves; that of the runs that belong to no study may be among them."""
        return [study.name for study in select_studies([*self.studies, ad_hoc({"defaults": RunConfig()})], names)]


Action = Callable[[Project, argparse.Namespace], int]  # carries out a command; returns the exit status


def count(text: str) -> int:
    """A whole number of at least 1, as an argument's type."""
    with suppress(ValueError):
        if (value := int(text)) >= 1:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give a whole number of at least 1")


SHARED: dict[str, dict[str, Any]] = {
    "study": {"nargs": "*", "metavar": "STUDY", "help": "of {studies}; or all (default: all)"},
    "--data-dir": {"metavar": "DIR", "help": "folder of Fashion-MNIST's four files"},
    "--debug": {"action": "store_true", "help": "show the traceback of an error"},
    "--json": {"action": "store_true", "help": "print JSON"},
    "--tracking-uri": {"metavar": "URI", "help": "the store (default: MLFLOW_TRACKING_URI, else mlruns/)"},
    "--workers": {"type": count, "metavar": "N", "help": "trainings at a time (default: the cores)"},
}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with the status of wrong use."""
        self.exit(WRONG, f"{self.prog}: {message}; see {self.prog} --help\n")

    def add_shared(self, *names: str, studies: str = "") -> None:
        """Add arguments of `SHARED`; `studies` are the names that a help text lists."""
        for name in names:
            settings = SHARED[name]
            self.add_argument(name, **{**settings, "help": settings["help"].format(studies=studies)})


class Commands:
    """The commands of `fashion-cnn`, to which each user's module adds its own."""

    def __init__(self, project: Project) -> None:
        self.studies = ", ".join(study.name for study in project.studies)
        self.arms = list(dict.fromkeys(arm for study in project.studies for arm in study.arms))
        self._parser = Parser(prog="fashion-cnn", description="Tracked, replayable experiments on Fashion-MNIST.")
        self._commands = self._parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)

    def add(self, name: str, help: str, action: Action, *shared: str) -> Parser:
        """Add a command with `--debug` and arguments of `SHARED`; its own are added to the parser returned."""
        parser = self._commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        parser.set_defaults(action=action)
        parser.add_shared(*shared, "--debug", studies=self.studies)
        return parser

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """The options of the command that the words name, with its `action`; exits where they are wrong."""
        names = list(self._commands.choices)
        if words and not words[0].startswith("-") and words[0] not in names:
            hint = nearest(words[0], names)
            self._parser.error(f"there is no command {words[0]!r}{hint}; there are: {', '.join(names)}")
        return self._parser.parse_args(words)


def guarded(action: Callable[[], int], debug: bool) -> int:
    """Run a command; its errors become one line and an exit status."""
    try:
        settle()
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
        complain(f"error: {printable(line)}")
        return WRONG if known else FAILED


def open_store(options: argparse.Namespace, *, create: bool = False) -> Store:
    """The store that the options name; its notices are printed."""
    from fashion_cnn.checkout import REPOSITORY
    from fashion_cnn.store.address import resolve
    from fashion_cnn.store.tracking import Store

    store = Store(resolve(options.tracking_uri, REPOSITORY), create=create)
    for notice in store.notices:
        complain(notice)
    return store


def answer(options: argparse.Namespace, value: Mapping[str, Any], text: str) -> None:
    """Print what a command has to say: as JSON where that is asked for, else as text."""
    print(json.dumps(value) if options.json else text)


def write_output(path: Path, content: bytes, *, option: str = "--output") -> None:
    """Write a file that the user asked for, and its folders; an OutputError names the option that says where."""
    from fashion_cnn.store.files import write_bytes

    try:
        path = path.expanduser()  # a shell leaves the ~ of --output=~/x as it is
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except RuntimeError:
        raise OutputError(f"{path} lies in the home of a user who has none; name another with {option}") from None
    except OSError as error:
        why = f"{error.filename} cannot be written ({error.strerror}); name another with {option}"
        raise OutputError(why) from None
