"""What takes an hour: more workers, other executors, fuller stores, and a tracking server that fills."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec

from experiments.benchmark.page import spread
from experiments.benchmark.sides import EPOCHS, TASKS
from experiments.benchmark.stores import SENT
from experiments.benchmark.task import Figures, Task, report_progress, run_side
from fashion_cnn.environment import packages

RUNS = (100, 1000, 10_000)
SERVER_RUNS = (100, 1000)
WORKERS = (1, 2)


def measure_scaling(task: Task, options: argparse.Namespace) -> Figures:
    """More workers, other executors, fuller stores.

    Raises:
        CalledProcessError: a measurement ended with an error.
    """
    task, scale = replace(task, runs=RUNS), options.scale
    stores = {"sqlite": "", **({"postgresql": options.postgres} if options.postgres else {})}
    # First of all: one that does not answer would waste hours of training.
    versions = {name: run_side("look", replace(task, uri=uri))["version"] for name, uri in stores.items()}
    trained = _trained(task, options.repeats)
    grown = {}
    for name, uri in stores.items():
        report_progress(f"scaling: {name}, {_counts(RUNS)} runs")
        grown[name] = run_side("grow", replace(task, uri=uri))
    return {
        "versions": versions | _installed("mlflow", "ray"),
        "tasks": TASKS,
        "epochs": EPOCHS,
        "images": task.images[0],
        "scaled_by": scale,
        "repeats": options.repeats,
        "executors": {name: _efficiency(rounds, trained["local"], scale) for name, rounds in trained.items()},
        **_stores(grown, RUNS),
    }


def measure_server(task: Task, options: argparse.Namespace) -> Figures:
    """How a tracking server fills.

    Raises:
        CalledProcessError: the measurement ended with an error; the server holds runs, for one.
    """
    report_progress(f"server: {_counts(SERVER_RUNS)} runs")
    grown = run_side("grow", replace(task, uri=options.server, runs=SERVER_RUNS))
    return {"versions": _installed("mlflow"), **_stores({"server": grown}, SERVER_RUNS)}


def _trained(task: Task, repeats: int) -> dict[str, dict[int, list[Figures]]]:
    """What the trainings took, all of them done in turn, again and again: by executor and number of workers."""
    executors = ["local", *(["ray"] if find_spec("ray") else [])]
    trained: dict[str, dict[int, list[Figures]]] = {name: {workers: [] for workers in WORKERS} for name in executors}
    for number in range(repeats):
        for executor in executors:
            for workers in WORKERS:
                what = f"{executor}, {workers} of {WORKERS[-1]} workers, {number + 1} of {repeats}"
                report_progress(f"scaling: {TASKS} trainings, {what}")
                figures = run_side("train", replace(task, executor=executor, workers=workers))
                trained[executor][workers].append(figures)
    return trained


def _counts(runs: Sequence[int]) -> str:
    return " and ".join(f"{count:,}" for count in runs)


def _installed(*names: str) -> dict[str, str]:
    """The versions of those of these packages that are installed here."""
    versions = dict(package.split("==", 1) for package in packages())
    return {name: versions[name] for name in names if name in versions}


def _stores(grown: Mapping[str, Figures], runs: Sequence[int]) -> Figures:
    """What was measured of stores that grew to so many runs."""
    stores = {name: figures | {"growth": _growth(figures, runs)} for name, figures in grown.items()}
    return {"runs": list(runs), "sent": SENT, "stores": stores}


def _efficiency(
    measured: Mapping[int, Sequence[Figures]], local: Mapping[int, Sequence[Figures]], scale: float
) -> Figures:
    """What two workers gain, what a task costs besides its epochs, and what it takes more than a local one in all."""
    seconds = {workers: _seconds(rounds) for workers, rounds in measured.items()}
    local_seconds = {workers: _seconds(rounds) for workers, rounds in local.items()}
    scaled, scaled_local = _seconds(measured[1], scale), _seconds(local[1], scale)
    besides = [float(figures["seconds"] - figures["trained_seconds"]) / TASKS for figures in measured[1]]
    return {
        "seconds": {str(workers): spread([one["seconds"] for one in rounds]) for workers, rounds in measured.items()},
        "speedup": seconds[1] / seconds[2],
        "seconds_besides_epochs": statistics.median(besides),
        "to_local": {str(workers): seconds[workers] / local_seconds[workers] for workers in measured},
        "overhead_seconds": (seconds[1] - local_seconds[1]) / TASKS,
        "overhead_share": (scaled - scaled_local) / scaled_local,
    }


def _seconds(rounds: Sequence[Figures], scale: float = 1) -> float:
    """The median wall time, were the epochs `scale` times as long; the epochs of one worker add up to it."""
    return statistics.median(float(figures["seconds"] + (scale - 1) * figures["trained_seconds"]) for figures in rounds)


def _growth(figures: Figures, runs: Sequence[int]) -> Figures:
    """How much longer each takes in the fullest store than in the emptiest."""
    few, many = runs[0], runs[-1]
    parts = {"record": "median", "list": "seconds", "report": "seconds"}
    return {name: figures[f"{name}_{many}"][field] / figures[f"{name}_{few}"][field] for name, field in parts.items()}
