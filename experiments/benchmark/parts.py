"""The parts of a usual call: each starts its sides in turn and divides what they measured."""

from __future__ import annotations

import argparse
import subprocess
import sysconfig
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from experiments.benchmark.page import spread
from experiments.benchmark.sides import LIMIT_CALLS, LIMIT_SIZE, RECORDED_EPOCHS, STEPS_PER_CALL
from experiments.benchmark.task import Figures, Task, report_progress, run_timed_side
from fashion_cnn.architecture import layers
from fashion_cnn.config import RunConfig
from fashion_cnn.timing import Timer

HELP_CALLS = 5
STORE_RUNS = (100, 1000)


def measure_epoch(task: Task, options: argparse.Namespace) -> Figures:
    """The sides and the limit in turn, again and again: medians, spreads, and the ratios of medians."""
    sides = ["fit", "tuned", "ours", "native", *(["torch"] if find_spec("torch") else [])]
    clocks = ("cpu_seconds", "seconds")
    measured: dict[str, list[Figures]] = {side: [] for side in (*sides, "limit")}
    for number in range(options.repeats):
        for side, rounds in measured.items():
            report_progress(f"epoch: {side}, {number + 1} of {options.repeats}")
            rounds.append(run_timed_side(side, task))
    images, operations = task.images[0], epoch_operations(task.config, task.images[0])
    limit = spread([figures["flops_per_second"] for figures in measured["limit"]])
    summary: dict[str, Figures] = {
        side: {clock: spread([figures[clock] for figures in measured[side]]) for clock in clocks} for side in sides
    }
    for side, values in summary.items():
        values["ratio_to_fit"] = {clock: values[clock]["median"] / summary["fit"][clock]["median"] for clock in clocks}
        values["images_per_second"] = spread([images / figures["seconds"] for figures in measured[side]])
        values["flops_per_second"] = spread([operations / figures["cpu_seconds"] for figures in measured[side]])
        values["share_of_limit"] = values["flops_per_second"]["median"] / limit["median"]
    return {
        "images": images,
        "repeats": options.repeats,
        "steps_per_call": STEPS_PER_CALL,
        "operations": operations,
        "limit": {"size": LIMIT_SIZE, "calls": LIMIT_CALLS, "flops_per_second": limit},
        "sides": summary,
    }


def epoch_operations(config: RunConfig, images: int) -> int:
    """The floating-point operations of training one epoch, as one counts them for a share of the processor's limit.

    Convolutions and dense layers count, with two operations (a product and a sum) for each weight that a result
    uses. The way back costs a layer twice that of the way forward: once for the gradient of its weights, once for that
    of its input, which the first layer does not need. So counted Amodei and Hernandez (AI and Compute, 2018) and
    Kaplan et al. (2020, arXiv 2001.08361, section 2.1), but for the first layer, which they take like any other.
    Biases, activations, pooling, loss and optimizer are left out; a padded border counts as pixels do.

    Args:
        config: of the network.
        images: in an epoch.
    """
    weights_used = [layer.multiply_adds for layer in layers(config) if layer.parameters]
    forward = 2 * sum(weights_used)
    back = 2 * (2 * sum(weights_used) - weights_used[0])
    return images * (forward + back)


def measure_recording(task: Task, _: argparse.Namespace) -> Figures:
    """Two real runs through the runner, into a store that is thrown away."""
    report_progress(f"recording: two runs of {RECORDED_EPOCHS} epochs")
    return run_timed_side("recording", task)


def measure_startup(task: Task, options: argparse.Namespace) -> Figures:
    """A call that prints its help, and a worker until it trains, again and again."""
    command, timer, seconds = [str(Path(sysconfig.get_path("scripts"), "fashion-cnn")), "--help"], Timer(emit=None), []
    for _ in range(HELP_CALLS):
        with timer:
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        seconds.append(timer.seconds)
    workers = []
    for number in range(options.repeats):
        report_progress(f"startup: a worker, {number + 1} of {options.repeats}")
        workers.append(run_timed_side("starts", task))
    return {
        "calls": HELP_CALLS,
        "seconds": spread(seconds),
        "starts": options.repeats,
        **{name: spread([one[name] for one in workers]) for name in ("forked_cpu_seconds", "fresh_cpu_seconds")},
    }


def measure_store(task: Task, _: argparse.Namespace) -> Figures:
    """List and report of growing stores, how their times grow, and the import of the published runs."""
    report_progress(f"store: {' and '.join(f'{count:,}' for count in STORE_RUNS)} made-up runs")
    figures = run_timed_side("store", replace(task, runs=STORE_RUNS))
    few, many = STORE_RUNS
    growth = {
        name: figures[f"{name}_{many}"]["seconds"] / figures[f"{name}_{few}"]["seconds"] for name in ("list", "report")
    }
    report_progress("store: import of the published runs")
    return {"runs": list(STORE_RUNS), **figures, "growth": growth, "import": run_timed_side("import", task)}
