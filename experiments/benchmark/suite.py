"""All runs of one seed of the post's studies, each way whole: nothing here is extrapolated."""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from experiments.benchmark.sides import record
from experiments.benchmark.task import Figures, Task, peak_memory_mib, report_progress, run_timed_side
from fashion_cnn.config import STOPPING_RULE, RunConfig
from fashion_cnn.environment import Arithmetic
from fashion_cnn.running.plan import plan, select_runs
from fashion_cnn.study import Study, changes
from fashion_cnn.timing import Timer

WAYS = {"post": "post", "portable": "suite", "native": "native_suite"}
"""The ways, and the side of each: the post's, and ours in both arithmetics."""


def measure_suite(task: Task, _: argparse.Namespace) -> Figures:
    """The ways in turn, what each network takes of them, and the ratios of their wall times."""
    planned = plan(select_runs(post_studies())).trajectories
    count = sum(len(trajectory.runs) for trajectory in planned)
    ways: dict[str, Figures] = {}
    for way, side in WAYS.items():
        report_progress(f"suite: {way}, {count} runs")
        ways[way] = run_timed_side(side, task)
    networks = []
    for trajectory in planned:
        runs = [_name(run.study.name, run.arm) for run in trajectory.runs]
        row: Figures = {"network": _network(trajectory.config), "runs": runs}
        row["epochs"] = {way: [figures["runs"][run]["epochs"] for run in runs] for way, figures in ways.items()}
        for way, figures in ways.items():
            added = sum if way == "post" else max  # ours trains the longest run, and cuts the others from it
            of_runs = [figures["runs"][run] for run in runs]
            row[way] = {clock: added(run[clock] for run in of_runs) for clock in ("seconds", "cpu_seconds")}
        networks.append(row)
    seconds = {way: figures["process_seconds"] for way, figures in ways.items()}
    return {
        "images": task.images[0],
        "runs": count,
        "workers": ways["portable"]["workers"],
        "networks": networks,
        "seconds": seconds,
        "peak_memory_mib": {way: figures["peak_memory_mib"] for way, figures in ways.items()},
        "ratios": {way: seconds["post"] / seconds[way] for way in WAYS if way != "post"},
    }


def post_studies() -> list[Study]:
    """Those that the post printed results of."""
    from experiments import POST_RESULTS, STUDIES

    with open(POST_RESULTS, encoding="utf-8", newline="") as file:
        printed = {row["study"] for row in csv.DictReader(file)}
    return [study for study in STUDIES if study.name in printed]


def _network(config: RunConfig) -> str:
    settings = {name: value for name, value in changes(config).items() if name not in STOPPING_RULE}
    return ", ".join(f"{key}={value}" for key, value in settings.items()) or "default cnn"


def _name(study: str, arm: str) -> str:
    return f"{study}: {arm}"


def _post(task: Task) -> Figures:
    """Each run trained from scratch, one after another in one process, by plain `fit`, and tested."""
    import keras

    from fashion_cnn.models import build
    from fashion_cnn.training import as_pixels

    class StopAtLoss(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def __init__(self, loss: float) -> None:
            super().__init__()
            self.loss = loss

        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
            if logs["loss"] < self.loss:
                self.model.stop_training = True

    data, runs = task.data(), {}
    pixels, test_pixels = as_pixels(data.train_images), as_pixels(data.test_images)
    for run in select_runs(post_studies()):
        config = run.config
        stops = [] if config.callback_loss is None else [StopAtLoss(config.callback_loss)]
        with Timer(emit=None) as timer:
            model = build(config, seed=run.seed)
            fitted = model.fit(
                pixels,
                data.train_labels,
                batch_size=config.batch_size,
                epochs=config.epochs,
                verbose=0,
                callbacks=stops,
            )
            model.evaluate(test_pixels, data.test_labels, verbose=0)
        runs[_name(run.study.name, run.arm)] = {
            "epochs": len(fitted.epoch),
            "seconds": timer.seconds,
            "cpu_seconds": timer.cpu_seconds,
        }
    return {"runs": runs, "peak_memory_mib": peak_memory_mib()}


def _ours(arithmetic: Arithmetic, task: Task) -> Figures:
    """Planned, trained by one worker a core, and recorded: with starts, tests, cuts, figures and the sending."""
    with tempfile.TemporaryDirectory() as home:
        figures = record(replace(task, workers=None), post_studies(), [0], home, arithmetic)
    runs = {
        _name(row["study"], row["arm"]): {
            "epochs": row["epochs_trained"],
            "seconds": row["fit_seconds"],
            "cpu_seconds": row["fit_cpu_seconds"],
        }
        for row in figures.pop("recorded")
    }
    return figures | {"runs": runs}


SIDES: dict[str, Callable[[Task], Figures]] = {
    "post": _post,
    "suite": partial(_ours, "portable"),
    "native_suite": partial(_ours, "native"),
}
