"""The command line: one module per kind of user. What is slow to import is imported where it is used."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from fashion_cnn.cli import compare, review, run
from fashion_cnn.cli.actions import Commands, Project, guarded
from fashion_cnn.cli.run import main
from fashion_cnn.start import collect_rarely
from fashion_cnn.study import Study
from fashion_cnn.terminal import readable_outputs

__all__ = ["console", "main"]


def console(studies: Sequence[Study], post: Path, published: Path, arguments: Sequence[str] | None = None) -> int:
    """The command line `fashion-cnn`; returns the exit status.

    0 done, 1 a run failed or the thing checked does not hold, 2 wrong use or input, 3 it cannot be decided here, 128 +
    signal. `post` is the file of the post's printed numbers, `published` the folder of published results.
    """
    collect_rarely()
    readable_outputs()
    project = Project(studies, post, published)
    commands = Commands(project)
    for user in (run, compare, review):
        user.add_commands(commands)
    options = commands.parse(list(sys.argv[1:] if arguments is None else arguments))
    return guarded(lambda: options.action(project, options), options.debug)
