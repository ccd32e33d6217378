"""What the command line prints: the plan, the closing table, the list of runs."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from fashion_cnn.study import PlannedTrajectory, expected_epochs

if TYPE_CHECKING:
    import pandas as pd

    from fashion_cnn.session import Outcome
    from fashion_cnn.study import Plan, Study

LOG_WIDTH = 150  # columns where there is no terminal to ask


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the caller end quietly, where Rich would end with status 1."""
        raise BrokenPipeError


def console(*, stderr: bool = False) -> Console:
    """A console on standard output or error that does not break lines early in a file."""
    file = sys.stderr if stderr else sys.stdout
    return _Console(file=file, width=None if file.isatty() else LOG_WIDTH, highlight=False, markup=False)


def table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    """An empty table with columns of text and columns of numbers."""
    made = Table(title=title, title_justify="left")
    for name in left:
        made.add_column(name, overflow="fold")
    for name in right:
        made.add_column(name, justify="right", no_wrap=True)
    return made


def duration(seconds: float) -> str:
    """Seconds for people: 8.2 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def show_plan(plan: Plan, *, seconds_per_work: float, measured: bool, workers: int, bytes_per_run: int) -> None:
    """Print what is to be trained and recorded, what is recorded already, and about how long it takes."""
    out = console()

    def seconds(planned: PlannedTrajectory) -> float:
        return planned.work * seconds_per_work

    made = table("Trajectories, longest first", ("runs cut from it",), ("seed", "epochs", "about"))
    for planned in plan.trajectories:
        runs = "\n".join(f"{run.study.name}: {run.arm}" for run in planned.runs)
        made.add_row(runs, str(planned.seed), str(planned.epochs), duration(seconds(planned)))
    out.print(made)
    work = [seconds(planned) for planned in plan.trajectories]
    wall = max(sum(work) / workers, max(work, default=0.0))
    source = "from epochs measured on this machine" if measured else "nothing is measured here yet: a guess"
    out.print(
        f"{len(plan.runs)} runs to record from {len(plan.trajectories)} trajectories; "
        f"{len(plan.recorded)} are recorded already."
    )
    out.print(f"About {duration(wall)} on {workers} workers ({source}) and {_mib(len(plan.runs) * bytes_per_run)}.")
    if any(run.config.callback_loss is not None for run in plan.runs):
        longest = max(expected_epochs(run.config) for run in plan.runs if run.config.callback_loss is not None)
        out.print(f"A run that stops at a loss is taken to need {longest} epochs.")


def show_outcome(outcome: Outcome, studies: Sequence[Study]) -> None:
    """Print the closing table and how to go on."""
    order = [(study.name, arm) for study in studies for arm in study.arms]
    results = sorted(outcome.results, key=lambda result: (order.index((result.study, result.arm)), result.seed))
    out = console()
    numbers = ("seed", "epochs", "loss", "accuracy", "test loss", "test accuracy", "seconds")
    made = table("", ("study", "arm", "status"), numbers)
    for result in results:
        values = [result.metrics.get(name) for name in ("loss", "accuracy", "test_loss", "test_accuracy")]
        made.add_row(
            *(result.study, result.arm, result.status, str(result.seed), str(result.epochs)),
            *(_number(value, 4) for value in values),
            _number(result.seconds, 1),
        )
    if results:
        out.print(made)
    spent = sum(result.seconds for result in results if result.status != "recorded")
    out.print(
        f"{outcome.made} runs made in {duration(outcome.seconds)}; trained one after another, each from the start, "
        f"they would have taken {duration(spent)}."
    )
    if outcome.failed:
        out.print(f"{outcome.failed} of them did not finish; the same command goes on with them.")
    if skipped := len(results) - outcome.made:
        out.print(f"{skipped} runs were recorded already.")
    if outcome.unsent:
        out.print(f"{outcome.unsent} runs are not in the store yet ({outcome.trouble}): fashion-cnn sync sends them.")
    out.print(f"Compare them: fashion-cnn ui {studies[0].name if len(studies) == 1 else ''}".rstrip())


def show_runs(runs: pd.DataFrame, *, as_json: bool) -> None:
    """Print a frame of `Store.runs`."""
    if as_json:
        print(runs.to_json(orient="records", indent=1))
        return
    numbers = ("seed", "epochs", "test loss", "test accuracy", "seconds")
    made = table("", ("run id", "study", "arm", "status", "smoke"), numbers)
    for row in runs.to_dict("records"):
        made.add_row(
            *(str(row[name]) for name in ("run_id", "study", "arm", "status", "smoke", "seed")),
            _whole(row["epochs_trained"]),
            _number(row["test_loss"], 4),
            _number(row["test_accuracy"], 4),
            _number(row["fit_seconds"] + row["evaluate_seconds"], 1),
        )
    console().print(made if len(runs) else "No runs are recorded.")


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _whole(value: float | None) -> str:
    return _number(value, 0)


def _mib(count: float) -> str:
    return f"{count / 2**20:.0f} MiB of disk"
