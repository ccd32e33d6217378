"""Parsing the command line: errors on one line, and the options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from fashion_cnn.cli.actions import WRONG, Action, Project
from fashion_cnn.config import nearest


def count(text: str) -> int:
    """A whole number of at least 1, as an argument's type."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give a whole number of at least 1")
    return value


def seed(text: str) -> int:
    """A whole number of at least 0, as an argument's type."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give a whole number of at least 0")
    return int(text)


SHARED: dict[str, dict[str, Any]] = {
    "study": {"nargs": "*", "metavar": "STUDY", "help": "of {studies} (default: all)"},
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
        """Start without a command."""
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
