"""A task, and how a side's process gets it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fashion_cnn.config import CNN, RunConfig
from fashion_cnn.data import Dataset, load
from fashion_cnn.environment import KERNELS, worker_variables
from fashion_cnn.timing import Timer

Figures = dict[str, Any]


class MeasurementError(RuntimeError):
    """It cannot be measured: one line that says why."""


AS_IT_COMES = ("fit", "post")
"""The sides that leave the choice of kernels to TensorFlow."""
NATIVE = (*AS_IT_COMES, "tuned", "native", "native_suite", "torch", "limit")
"""The sides whose kernels are the processor's fastest; ours has those that every processor with AVX2 has."""


@dataclass(frozen=True)
class Task:
    """What a side is to measure, as it goes to the side's process."""

    folder: str
    """The data set's."""
    images: Sequence[int]
    """How many training and test images."""
    settings: Mapping[str, Any] = field(default_factory=CNN.canonical)
    """The canonical form of a config."""
    threads: int | None = 1
    """Of `fit`; None is TensorFlow's default."""
    steps: int = 1
    """Of `fit`: how many steps are one call."""
    executor: str = "local"
    workers: int | None = 1
    """None is as many as the cores carry."""
    uri: str = ""
    """Of an empty database or tracking server; empty is a SQLite store that is thrown away."""
    runs: Sequence[int] = ()
    """The sizes, in runs, at which a growing store is measured."""

    @property
    def config(self) -> RunConfig:
        """The config."""
        return RunConfig.from_mapping(self.settings)

    def data(self) -> Dataset:
        """The images."""
        return load(self.folder).first(*self.images)


def run_side(side: str, task: Task) -> Figures:
    """What a side measures in a fresh process.

    Raises:
        CalledProcessError: it ended with an error.
    """
    command = [sys.executable, "-m", "experiments.benchmark", "--side", side]
    variables = worker_variables(os.environ, "cpu", "native" if side in NATIVE else "portable")
    if side in AS_IT_COMES:
        chosen = set(KERNELS["native"]) - set(os.environ)
        variables = {name: value for name, value in variables.items() if name not in chosen}
    # The task is no argument, which anybody on the machine may read: a database's address holds a password.
    given = json.dumps(asdict(task))
    done = subprocess.run(command, input=given, capture_output=True, text=True, env=variables, check=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def run_timed_side(side: str, task: Task) -> Figures:
    """As `run_side`, and `process_seconds`, the wall time of the whole process."""
    with Timer(emit=None) as timer:
        figures = run_side(side, task)
    return {**figures, "process_seconds": timer.seconds}


def peak_memory_mib() -> float:
    """The most memory that this process has had in use so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report_progress(line: str) -> None:
    """Say on standard error what is measured now."""
    print(line, file=sys.stderr, flush=True)
