"""The parts of a usual call: each starts its sides in turn and divides what they measured."""

from __future__ import annotations

import argparse
import csv
import heapq
import statistics
import subprocess
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from experiments.benchmark.page import spread
from experiments.benchmark.sides import LIMIT_CALLS, LIMIT_SIZE, RECORDED_EPOCHS, STEPS_PER_CALL
from experiments.benchmark.task import Figures, Task, report_progress, run_timed_side
from fashion_cnn.architecture import layers
from fashion_cnn.config import STOPPING_RULE, RunConfig
from fashion_cnn.running.plan import Run, plan, select_runs
from fashion_cnn.study import changes
from fashion_cnn.timing import Timer

POST_STOP = 7  # epochs after which the post's run that stops at a loss stopped
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


def measure_suite(task: Task, options: argparse.Namespace) -> Figures:
    """An epoch of each distinct network, both ways, and what all runs of one seed take by that."""
    from experiments import POST_RESULTS, STUDIES
    from fashion_cnn.running.executor import default_workers

    workers, networks = default_workers(threads=1), []
    with open(POST_RESULTS, encoding="utf-8", newline="") as file:
        the_posts = {row["study"] for row in csv.DictReader(file)}
    for planned in plan(select_runs([study for study in STUDIES if study.name in the_posts])).trajectories:
        settings = {name: value for name, value in changes(planned.config).items() if name not in STOPPING_RULE}
        name = ", ".join(f"{key}={value}" for key, value in settings.items()) or "default cnn"
        cuts, of_network = [run_epochs(run) for run in planned.runs], replace(task, settings=planned.config.canonical())
        report_progress(f"suite: {name}")
        fit = options.scale * run_timed_side("fit", replace(of_network, threads=None))["seconds"]
        row = {"network": name, "run_epochs": cuts, "fit_epoch_seconds": fit, "fit_seconds": sum(cuts) * fit}
        if not options.suite_seconds:
            row |= _trajectory(of_network, cuts, workers, options.scale)
        networks.append(row)
    fit_seconds = sum(row["fit_seconds"] for row in networks)
    our_seconds = options.suite_seconds or makespan([row["our_seconds"] for row in networks], workers)
    return {
        "images": task.images[0],
        "scaled_by": options.scale,
        "workers": workers,
        "networks": networks,
        "fit_seconds": fit_seconds,
        "our_seconds": our_seconds,
        "our_seconds_given": options.suite_seconds is not None,
        "post_stop": POST_STOP,
        "ratio": fit_seconds / our_seconds,
    }


def _trajectory(task: Task, cuts: Sequence[int], workers: int, scale: float) -> Figures:
    """What a trajectory that is cut at these epochs takes while each core has one like it."""
    with ThreadPoolExecutor(workers) as threads:
        measured = list(threads.map(lambda _: run_timed_side("worker", task), range(workers)))
    mean = {name: statistics.mean(figures[name] for figures in measured) for name in measured[0]}
    test, cut = mean["evaluate_seconds"], mean["cut_seconds"]
    epoch = scale * mean["epoch_seconds"] + test
    start = mean["process_seconds"] - mean["trained_seconds"] - 2 * (test + cut)  # whatever comes once per process
    return {
        "our_start_seconds": start,
        "our_epoch_seconds": epoch,
        "our_cut_seconds": cut,
        "our_seconds": start + max(cuts) * epoch + len(set(cuts)) * cut,
        "peak_memory_mib": mean["peak_memory_mib"],
    }


def run_epochs(run: Run) -> int:
    """The epochs of a run; the post's where it stops at a loss."""
    return run.config.epochs if run.config.callback_loss is None else min(run.config.epochs, POST_STOP)


def makespan(seconds: Sequence[float], workers: int) -> float:
    """When the last trajectory ends, if each in turn goes to the worker that is free first."""
    free = [0.0] * workers
    for duration in seconds:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


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
    """List and report of growing stores, and how their times grow."""
    report_progress(f"store: {' and '.join(f'{count:,}' for count in STORE_RUNS)} made-up runs")
    figures = run_timed_side("store", replace(task, runs=STORE_RUNS))
    few, many = STORE_RUNS
    growth = {
        name: figures[f"{name}_{many}"]["seconds"] / figures[f"{name}_{few}"]["seconds"] for name in ("list", "report")
    }
    return {"runs": list(STORE_RUNS), **figures, "growth": growth}
