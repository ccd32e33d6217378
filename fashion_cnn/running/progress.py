"""What a person sees while runs are made: bars on a terminal, a line per finished run elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fashion_cnn.running.executor import Executor
from fashion_cnn.store.entries import RunEntry
from fashion_cnn.store.trajectories import Trajectory
from fashion_cnn.terminal import console


class TrainingProgress:
    """A bar per worker, in its epochs, and one for all, in epochs of all images. Use it as a context manager."""

    def __init__(self, epochs: float) -> None:
        """Bars for so many epochs in all, each counted as the part of the training images that it goes through."""
        self._console = console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
            speed_estimate_period=600,
        )
        self._all = self._bars.add_task("all", total=epochs, note="")
        self._tasks: dict[Any, TaskID] = {}
        self._parts: dict[Any, float] = {}

    def __enter__(self) -> TrainingProgress:
        """Show the bars."""
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bars as they are."""
        self._bars.stop()

    def begin(self, key: object, name: str, epochs: int, done: int, part: float = 1.0) -> None:
        """A worker takes on a trajectory that has `done` of so many epochs, each of this part of the images."""
        self._parts[key] = part
        self._tasks[key] = self._bars.add_task(name, total=epochs, completed=done, note="starting")
        self._bars.advance(self._all, part * done)
        if not self._console.is_terminal:
            self.tell(f"{name}: starting" + (f" after epoch {done}" if done else ""))

    def epoch(self, key: object, metrics: Mapping[str, float]) -> None:
        """A worker trained an epoch."""
        note = f"test {metrics['test_accuracy']:.4f}"  # short, for all to fit into 80 columns
        self._bars.update(self._tasks[key], advance=1, note=note)
        self._bars.advance(self._all, self._parts[key])

    def end(self, key: object) -> None:
        """A worker ended; its bar goes."""
        task, part = self._tasks.pop(key), self._parts.pop(key)
        if not self._bars.disable:
            of = next(bar for bar in self._bars.tasks if bar.id == task)
            # A run that stops at a loss takes more or fewer epochs than were expected.
            total = next(bar for bar in self._bars.tasks if bar.id == self._all).total or 0
            self._bars.update(self._all, total=total + part * (of.completed - (of.total or 0)))
        self._bars.remove_task(task)

    def tell(self, line: str) -> None:
        """Print a line above the bars; it stays one line, for anyone searching a log."""
        self._bars.console.print(line, soft_wrap=True)


def environment_lines(executor: Executor[Any]) -> Iterator[str]:
    """Why runs are not portable; and where machines differ, which of them are alike: their runs are never mixed."""
    if sys.platform != "linux":
        yield "this is no Linux: each worker starts afresh, and what else kept the machine busy is not recorded"
    places = executor.places(threads=1)
    for machine, reason in executor.left_out.items():
        yield f"{machine}: left out, because {reason}"
    for note in dict.fromkeys(place.note for place in places if place.note):
        yield f"arithmetic: native, because {note}"
    if len(places) > 1:
        yield f"{len(places)} environments; a trajectory stays in the one that it was begun in:"
        for place in places:
            machines = ", ".join(place.machines)
            what = place.environment.get("processor", place.environment["arithmetic"])
            yield f"  {place.environment_sha256[:16]}: {place.workers} CPUs on {machines} ({what})"


def trajectory_name(arms: Sequence[str], seed: int) -> str:
    """A trajectory by the arms of its runs."""
    more = f" and {len(arms) - 1} more" if len(arms) > 1 else ""
    return f"{arms[0]}{more} · seed {seed}"


def run_name(entry: RunEntry) -> str:
    """A run by its study, arm and seed."""
    return f"{entry.study}: {entry.arm} · seed {entry.seed}"


def finished_lines(trajectory: Trajectory, entry: RunEntry) -> Iterator[str]:
    """How a run ended that finished."""
    assert entry.cut is not None
    metrics = trajectory.epochs()[entry.cut - 1].metrics
    yield (
        f"{run_name(entry)}: {entry.cut} epochs, "
        f"test accuracy {metrics['test_accuracy']:.4f}, test loss {metrics['test_loss']:.4f}"
    )
    cut = trajectory.cut(entry.cut)
    if cut is not None and cut.drawing_error:
        yield f"{run_name(entry)}: not drawn: {cut.drawing_error}"
