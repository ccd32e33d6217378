"""What all commands share: options and their parsing, exit statuses, one-line errors, the store, answers, files."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fashion_cnn.config import RunConfig, nearest
from fashion_cnn.environment import settle
from fashion_cnn.signals import Stopped
from fashion_cnn.study import ALL, Study, ad_hoc, select_studies
from fashion_cnn.terminal import complain, printable, shown, silence

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


def count(text: str, most: int | None = None) -> int:
    """A whole number of at least 1, and of `most` at most, as an argument's type."""
    with suppress(ValueError):
        if (value := int(text)) >= 1 and value <= (most or value):
            return value
    allowed = "of at least 1" if most is None else f"from 1 to {most}"
    raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give a whole number {allowed}")


RUN_ID = "its first 8 digits, as fashion-cnn list shows them, or all of them"
SHARED: dict[str, dict[str, Any]] = {
    "study": {"nargs": "*", "metavar": "STUDY", "help": "of {studies}; or all (default: all)"},
    "--data-dir": {"metavar": "DIR", "help": "folder of Fashion-MNIST's four files"},
    "--debug": {"action": "store_true", "help": "show the traceback of an error"},
    "--json": {"action": "store_true", "help": "print JSON"},
    "--tracking-uri": {"metavar": "URI", "help": "the store (default: MLFLOW_TRACKING_URI, else mlruns/)"},
    "--workers": {"type": count, "metavar": "N", "help": "trainings at a time (default: the cores)"},
}


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations, and whose errors are one line that names the command."""

    def __init__(self, **settings: Any) -> None:
        """As argparse's own, whose settings it takes."""
        super().__init__(**{**settings, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """Exit with the status of wrong use."""
        self.exit(WRONG, f"{self.prog}: {message}; see {self.prog} --help\n")

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse's own, but no word is unknown: each is an error, of this command and not of its parent."""
        options, unknown = super().parse_known_args(None if args is None else list(args), namespace)
        for word in sorted(unknown, key=lambda word: not word.startswith("-")):
            if not word.startswith("-"):
                self.error(f"{word!r} is one word too many")
            name = word.partition("=")[0]
            self.error(f"there is no option {name!r}{nearest(name, self._option_string_actions)}")
        return options, unknown

    def add_shared(self, *names: str, studies: Sequence[str] = ()) -> None:
        """Add arguments of `SHARED`; `studies` are the names that a help text lists, and that a shell completes."""
        for name in names:
            settings = SHARED[name]
            help_text = settings["help"].format(studies=", ".join(studies))
            argument = self.add_argument(name, **{**settings, "help": help_text})
            if name == "study":
                completed(argument, [*studies, ALL])


def completed(argument: argparse.Action, words: Sequence[str]) -> None:
    """Have a shell complete an argument by these words, whose check is not argparse's."""
    argument.completer = lambda **_: words  # type: ignore[attr-defined]  # where argcomplete looks for it


class Commands:
    """The commands of `fashion-cnn`, to which each user's module adds its own."""

    def __init__(self, project: Project) -> None:
        self.studies = [study.name for study in project.studies]
        self.arms = list(dict.fromkeys(arm for study in project.studies for arm in study.arms))
        self._parser = Parser(
            prog="fashion-cnn",
            usage="fashion-cnn [-h] [--version] COMMAND ...",
            description="Tracked, replayable experiments on Fashion-MNIST.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self._parser.add_argument("--version", action="store_true", help="print the version and exit")
        # Not listed by argparse, which has no groups of commands: see `_overview`.
        self._commands = self._parser.add_subparsers(
            prog="fashion-cnn", metavar="COMMAND", required=True, parser_class=Parser, help=argparse.SUPPRESS
        )
        self._groups: dict[str, dict[str, str]] = {}

    def group(self, title: str) -> None:
        """Begin a group of commands, by what their user wants."""
        self._groups[title] = {}

    def add(self, name: str, help: str, action: Action, *shared: str, example: str) -> Parser:
        """Add a command with `--debug` and arguments of `SHARED`; its own are added to the parser returned.

        `example` is what follows the command's name in a call that makes sense.
        """
        list(self._groups.values())[-1][name] = help
        description, epilog = help[0].upper() + help[1:] + ".", f"example: fashion-cnn {name} {example}"
        parser = self._commands.add_parser(name, description=description, epilog=epilog)
        parser.set_defaults(action=action)
        parser.add_shared(*shared, "--debug", studies=self.studies)
        return parser

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """The options of the command that the words name, with its `action`; exits where they are wrong.

        Without a command the help is printed, or the version.
        """
        self._parser.epilog = self._overview()
        if "_ARGCOMPLETE" in os.environ:  # a shell asks what could follow
            import argcomplete

            argcomplete.autocomplete(self._parser)
        if not words:
            self._parser.print_help()
            self._parser.exit(DONE)
        if list(words) == ["--version"]:
            print(f"fashion-cnn {version()}")
            self._parser.exit(DONE)
        names = list(self._commands.choices)
        if not words[0].startswith("-") and words[0] not in names:
            hint = nearest(words[0], names)
            self._parser.error(f"there is no command {words[0]!r}{hint}; there are: {', '.join(names)}")
        return self._parser.parse_args(words)

    def _overview(self) -> str:
        """The commands by group, each with its help."""
        width, lines = max(shutil.get_terminal_size().columns - 2, 40), []
        for title, commands in self._groups.items():
            lines.append(f"{title}:")
            for name, help_text in commands.items():
                start = f"    {name:9} "
                lines += textwrap.wrap(help_text, width, initial_indent=start, subsequent_indent=" " * len(start))
            lines.append("")
        return "\n".join([*lines, "fashion-cnn COMMAND --help tells a command's options, with an example."])


def version() -> str:
    """Of the installed package."""
    from importlib import metadata

    try:
        return metadata.version("fashion-cnn")
    except metadata.PackageNotFoundError:
        return "(not installed: make setup)"


def guarded(action: Callable[[], int], debug: bool) -> int:
    """Run a command; its errors become one line and an exit status."""
    try:
        settle()
        return shown(action(), lambda: None)  # which writes what is still to be written
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
    """Print what a command has to say: as JSON where that is asked for, else as text. A closed pipe is no error."""
    from fashion_cnn.cli.answers import json_text

    shown(DONE, lambda: print(json_text(value) if options.json else text))


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
