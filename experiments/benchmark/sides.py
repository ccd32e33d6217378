"""Speed side by side, measured in turn in one call: `python -m experiments.benchmark`. Prints ratios, asserts nothing.

With --output it leaves all figures as `benchmark.json`, whose `ratios` may be quoted, and a page of them as
`benchmark.md`; of --scaling and --server files of these names.

Each side is a fresh process, because TensorFlow's threads are process-wide, and trains one epoch before the one that is
timed: imports, tracing and first calls are in nobody's epoch. The parts:

epoch: one epoch of the default CNN on one thread by Keras' `model.fit` as it comes, by `fit` tuned (oneDNN's kernels
    and many steps a call), by our compiled epoch, and where PyTorch is installed by its equivalent network in a plain
    eager loop. All of them add up loss and accuracy. Beside them the processor's limit: a large matrix product on one
    thread. What a side reaches of it is the operations of an epoch by its CPU seconds, by the limit's operations a CPU
    second: CPU time on both sides, because others may use the machine.
suite: all runs of the studies for one seed. The post's way trains each run from scratch, one after another, by plain
    `fit` on default threads: measured epochs times the runs' epochs; start-up, tracing and tests are left out, in its
    favour. Ours is the plan's trajectories, longest first, on a worker a core: each with what comes once a process,
    epochs (timed with all cores busy), their tests, and cuts with their figures. With --suite-seconds it is a real
    run's wall time instead.
recording: what the recording process spends on a real run against what its training takes, the worker's peak memory,
    and the disk that a run needs before and after `gc`. Always on all images.
startup: the wall time of `fashion-cnn --help`.
store: the wall time and memory of `fashion-cnn list` and `report` with 100 and 1,000 runs, which are made up: complete
    records, as filling.py says, so that the report takes every one.
scaling: more workers, other executors, fuller stores; only with --scaling, for it takes an hour. See scaling.py.
server: the same of a tracking server that fills; only with --server, which names an empty one.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmark.page import Figures, as_json, check_output, ratios, show, spread, write
from fashion_cnn.config import (
    CNN,
    IMAGE_SIZE,
    KERNEL_SIZE,
    STOPPING_RULE,
    RunConfig,
    feature_map_sizes,
    nearest,
)
from fashion_cnn.data import CLASS_NAMES, DataError, Dataset, find, load, load_dataset
from fashion_cnn.environment import KERNELS, LIBRARIES, checkout, fingerprint, packages, worker_variables
from fashion_cnn.running.plan import Run, plan, select_runs
from fashion_cnn.store.files import Unwritable
from fashion_cnn.study import Study, changes
from fashion_cnn.timing import Timer

POST_STOP = 7  # epochs after which the post's run that stops at a loss stopped
RECORDED_EPOCHS = 2
STEPS_PER_CALL = 50
LIMIT_SIZE = 2048  # rows and columns: larger products were no faster
LIMIT_CALLS = 10
HELP_CALLS = 5
STORE_RUNS = (100, 1000)
OURS = "order_study"  # the study that the post has not


@dataclass(frozen=True)
class Task:
    """What a side is to measure, as it goes to the side's process."""

    folder: str
    images: Sequence[int]
    """How many training and test images."""
    settings: Mapping[str, Any]
    """The canonical form of a config."""
    threads: int | None = 1
    """Of `fit`; None is TensorFlow's default."""
    steps: int = 1
    """Of `fit`: how many steps are one call."""

    @property
    def config(self) -> RunConfig:
        """The config."""
        return RunConfig.from_mapping(self.settings)

    def data(self) -> Dataset:
        """The images."""
        return load(self.folder).first(*self.images)


# -- the sides: each is the whole of a process ---------------------------------------------------------------------


def _tuned(task: Task) -> Figures:
    return _fit(replace(task, steps=STEPS_PER_CALL))


def _fit(task: Task) -> Figures:
    import keras
    import tensorflow as tf

    from fashion_cnn.models import build
    from fashion_cnn.training import as_pixels

    if task.threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(task.threads)
        tf.config.threading.set_inter_op_parallelism_threads(task.threads)
    data, timer = task.data(), Timer(emit=None)
    clock = keras.callbacks.LambdaCallback(  # a timer starts anew each time: what it holds in the end is epoch 2
        on_epoch_begin=lambda epoch, logs: timer.__enter__(), on_epoch_end=lambda epoch, logs: timer.__exit__()
    )
    pixels, batch = as_pixels(data.train_images), task.config.batch_size
    model = build(task.config, seed=0)
    model.steps_per_execution = task.steps
    model.fit(pixels, data.train_labels, batch_size=batch, epochs=2, verbose=0, callbacks=[clock])
    return {"cpu_seconds": timer.cpu_seconds, "seconds": timer.seconds}


def _ours(task: Task) -> Figures:
    from fashion_cnn.training import Trainer, set_up_process

    set_up_process(threads=1)
    data = task.data()
    trainer = Trainer(task.config, 0, data.train_images, data.train_labels)
    trainer.train_epoch()
    epoch = trainer.train_epoch()
    return {"cpu_seconds": epoch.cpu_seconds, "seconds": epoch.seconds}


def _torch(task: Task) -> Figures:
    torch: Any = import_module("torch")
    torch.set_num_threads(1)
    data, nn = task.data(), torch.nn
    pixels = torch.from_numpy(data.train_images[:, np.newaxis].astype(np.float32) / np.float32(255))
    labels = torch.from_numpy(data.train_labels.astype(np.int64))
    convolutions = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(800, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=task.config.learning_rate)
    timer = Timer(emit=None)
    for _ in range(2):
        with timer:
            loss_sum, correct = torch.zeros(()), torch.zeros((), dtype=torch.int64)
            for chosen in torch.randperm(len(labels)).split(task.config.batch_size):
                truth = labels[chosen]
                answers = model(pixels[chosen])
                loss = nn.functional.cross_entropy(answers, truth)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                loss_sum += loss.detach() * len(chosen)
                correct += (answers.argmax(1) == truth).sum()
    return {"cpu_seconds": timer.cpu_seconds, "seconds": timer.seconds}


def _limit(_unused: Task) -> Figures:
    """The floating-point operations a CPU second in a product of two square matrices: n^3 multiplications, n^3 sums."""
    import tensorflow as tf

    from fashion_cnn.training import set_up_process

    set_up_process(threads=1)
    left, right = (tf.constant(one) for one in np.random.default_rng(0).random((2, LIMIT_SIZE, LIMIT_SIZE), np.float32))
    tf.matmul(left, right)  # warms up
    timer, best = Timer(emit=None), math.inf
    for _ in range(LIMIT_CALLS):
        with timer:
            tf.matmul(left, right)
        best = min(best, timer.cpu_seconds)
    return {"flops_per_second": 2 * LIMIT_SIZE**3 / best}


def _worker(task: Task) -> Figures:
    from fashion_cnn.events import CutDone, EpochDone, Job
    from fashion_cnn.running.worker import work

    rules = tuple(replace(task.config, epochs=epochs, callback_loss=None).canonical() for epochs in (1, 2))
    images = task.images[0], task.images[1]
    job = Job(settings=rules[1], rules=rules, seed=0, data_dir=task.folder, images=images)
    events: list[tuple[Any, float]] = [(event, time.perf_counter()) for event in work(job)]
    first, second = [number for number, (event, _) in enumerate(events) if isinstance(event, EpochDone)]
    seconds = [events[number][0].metrics["epoch_seconds"] for number in (first, second)]
    return {
        "trained_seconds": sum(seconds),
        "epoch_seconds": seconds[1],
        "evaluate_seconds": events[second][1] - events[second - 1][1] - seconds[1],  # and the state copied and hashed
        "cut_seconds": events[-1][1] - events[second][1],  # of the second cut: the first imports what draws
        "peak_memory_mib": max(event.peak_memory_mib for event, _ in events if isinstance(event, CutDone)),
    }


def _recording(task: Task) -> Figures:
    from fashion_cnn.running.runner import run
    from fashion_cnn.running.session import Options, Session
    from fashion_cnn.store.maintenance import clean

    study = Study("benchmark", "What does recording cost?", {"cnn": replace(task.config, epochs=RECORDED_EPOCHS)})
    with tempfile.TemporaryDirectory() as home:
        cpu, disk = [time.process_time()], [0]
        session = Session(Options(workers=1, data_dir=task.folder, tracking_uri=f"sqlite:///{home}/mlflow.db"))
        for seed in (0, 1):  # the first pays for what is imported and created once; the second shows what a run costs
            outcome = run(session, session.plan([study], (), [seed]))
            if outcome.failed or outcome.unsent:
                raise RuntimeError(f"a run was not recorded: {outcome}")
            cpu.append(time.process_time())
            disk.append(sum(path.stat().st_size for path in Path(home).rglob("*") if path.is_file()))
        recorded = session.store.runs().iloc[-1]
        freed, _ = clean(session.store)
    training, spent, size = float(recorded["fit_cpu_seconds"]), cpu[2] - cpu[1], disk[2] - disk[1]
    return {
        "epochs": RECORDED_EPOCHS,
        "training_cpu_seconds": training,
        "first_cpu_seconds": cpu[1] - cpu[0],
        "cpu_seconds": spent,
        "share": spent / training,
        "peak_memory_mib": float(recorded["peak_memory_mib"]),
        "run_bytes": size,
        "run_bytes_after_gc": size - freed // 2,
    }


def _store(task: Task) -> Figures:
    """List and report of a store that grows: its runs are made up and never trained."""
    from experiments.benchmark.filling import Filler
    from fashion_cnn.environment import REPOSITORY
    from fashion_cnn.store.address import resolve
    from fashion_cnn.store.tracking import Store

    found: Figures = {}
    with tempfile.TemporaryDirectory() as home:
        store, made = Store(resolve(f"sqlite:///{home}/mlflow.db", REPOSITORY)), 0
        filler = Filler(store)
        for count in STORE_RUNS:
            filler.fill(range(made, count))
            made = count
            found |= {f"{name}_{count}": one for name, one in timed_commands(store.address.uri, Path(home)).items()}
    return found


def timed_commands(uri: str, home: Path) -> Figures:
    """What `list` and `report` take of a store, and the memory they need; what they write goes into a folder."""
    commands = {"list": ["list", "--json"], "report": ["report", "--output", f"{home}/report.html"]}
    variables = {**os.environ, "MLFLOW_TRACKING_URI": uri, "FASHION_CNN_TRAJECTORIES": f"{home}/trajectories"}
    found: Figures = {}
    for name, words in commands.items():
        with Timer(emit=None) as timer:
            command = [sys.executable, "-m", "experiments", *words]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=variables)
            _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise RuntimeError(f"{name} ended with status {os.waitstatus_to_exitcode(status)}")
        found[name] = {"seconds": timer.seconds, "peak_memory_mib": usage.ru_maxrss / 1024}
    return found


SIDES = {
    "fit": _fit,
    "tuned": _tuned,
    "ours": _ours,
    "torch": _torch,
    "limit": _limit,
    "worker": _worker,
    "recording": _recording,
    "store": _store,
}


def run_side(side: str, task: Task) -> Figures:
    """Run a side in a fresh process.

    Returns:
        What it measured, and `process_seconds`, the wall time of the whole process.

    Raises:
        CalledProcessError: it ended with an error.
    """
    command = [sys.executable, "-m", "experiments.benchmark", "--side", side, json.dumps(asdict(task))]
    variables = worker_variables(os.environ, "cpu")
    if side == "fit" and set(KERNELS) - set(os.environ):  # as TensorFlow comes
        variables = {name: value for name, value in variables.items() if name not in KERNELS}
    with Timer(emit=None) as timer:
        done = subprocess.run(command, capture_output=True, text=True, env=variables, check=True)
    return {**json.loads(done.stdout.splitlines()[-1]), "process_seconds": timer.seconds}


# -- the parts -----------------------------------------------------------------------------------------------------


def measure_epoch(task: Task, options: argparse.Namespace) -> Figures:
    """The sides and the limit in turn, again and again: medians, spreads, and the ratios of medians."""
    sides, clocks = ["fit", "tuned", "ours", *(["torch"] if find_spec("torch") else [])], ("cpu_seconds", "seconds")
    taken: dict[str, list[Figures]] = {side: [] for side in (*sides, "limit")}
    for number in range(options.repeats):
        for side, those in taken.items():
            tell(f"epoch: {side}, {number + 1} of {options.repeats}")
            those.append(run_side(side, task))
    images, operations = task.images[0], epoch_operations(task.config, task.images[0])
    limit = spread([one["flops_per_second"] for one in taken["limit"]])
    found = {side: {clock: spread([one[clock] for one in taken[side]]) for clock in clocks} for side in sides}
    for side, values in found.items():
        values["ratio_to_fit"] = {clock: values[clock]["median"] / found["fit"][clock]["median"] for clock in clocks}
        values["images_per_second"] = spread([images / one["seconds"] for one in taken[side]])
        values["flops_per_second"] = spread([operations / one["cpu_seconds"] for one in taken[side]])
        values["share_of_limit"] = values["flops_per_second"]["median"] / limit["median"]
    return {
        "images": images,
        "repeats": options.repeats,
        "steps_per_call": STEPS_PER_CALL,
        "operations": operations,
        "limit": {"size": LIMIT_SIZE, "calls": LIMIT_CALLS, "flops_per_second": limit},
        "sides": found,
    }


def epoch_operations(config: RunConfig, images: int) -> int:
    """The floating-point operations of training one epoch, as one counts them for a share of the processor's limit.

    Convolutions and dense layers count, with two operations (a product and a sum) for each weight that a result
    uses. The way back costs a layer twice that of the way forward: once for the gradient of its weights, once for that
    of its input, which the first layer needs not. So counted Amodei and Hernandez (AI and Compute, 2018) and
    Kaplan et al. (2020, arXiv 2001.08361, section 2.1), but for the first layer, which they take like any other.
    Biases, activations, pooling, loss and optimizer are left out; a padded border counts as pixels do.

    Args:
        config: of the network.
        images: that an epoch goes through.
    """
    used, side, channels = [], IMAGE_SIZE, 1  # by layer: a weight used for a result counts one
    for layer, side in feature_map_sizes(config):
        if layer == "convolution":
            assert config.filters is not None
            used.append(side**2 * KERNEL_SIZE**2 * channels * config.filters)
            channels = config.filters
    used += [side**2 * channels * config.dense_units, config.dense_units * len(CLASS_NAMES)]
    forward, back = 2 * sum(used), 2 * (2 * sum(used) - used[0])
    return images * (forward + back)


def measure_suite(task: Task, options: argparse.Namespace) -> Figures:
    """An epoch of each distinct network, both ways, and what all runs of one seed take by that."""
    from experiments import STUDIES
    from fashion_cnn.running.executor import default_workers

    workers, networks = default_workers(threads=1), []
    for planned in plan(select_runs([study for study in STUDIES if study.name != OURS])).trajectories:
        settings = {name: value for name, value in changes(planned.config).items() if name not in STOPPING_RULE}
        name = ", ".join(f"{key}={value}" for key, value in settings.items()) or "default cnn"
        cuts, one = [run_epochs(run) for run in planned.runs], replace(task, settings=planned.config.canonical())
        tell(f"suite: {name}")
        fit = options.scale * run_side("fit", replace(one, threads=None))["seconds"]
        row = {"network": name, "run_epochs": cuts, "fit_epoch_seconds": fit, "fit_seconds": sum(cuts) * fit}
        networks.append(row | ({} if options.suite_seconds else _trajectory(one, cuts, workers, options.scale)))
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
        taken = list(threads.map(lambda _: run_side("worker", task), range(workers)))
    mean = {name: statistics.mean(one[name] for one in taken) for name in taken[0]}
    test, cut = mean["evaluate_seconds"], mean["cut_seconds"]
    epoch = scale * mean["epoch_seconds"] + test
    start = mean["process_seconds"] - mean["trained_seconds"] - 2 * (test + cut)  # whatever comes once a process
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
    for one in seconds:
        heapq.heapreplace(free, free[0] + one)
    return max(free)


def measure_recording(task: Task, _: argparse.Namespace) -> Figures:
    """Two real runs through the runner, into a store that is thrown away."""
    tell(f"recording: two runs of {RECORDED_EPOCHS} epochs")
    return run_side("recording", task)


def measure_startup(*_unused: object) -> Figures:
    """A call that prints its help, again and again."""
    command, timer, taken = [str(Path(sysconfig.get_path("scripts"), "fashion-cnn")), "--help"], Timer(emit=None), []
    for _ in range(HELP_CALLS):
        with timer:
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        taken.append(timer.seconds)
    return {"calls": HELP_CALLS, "seconds": spread(taken)}


def measure_store(task: Task, _: argparse.Namespace) -> Figures:
    """List and report of growing stores, and how their times grow."""
    tell(f"store: {' and '.join(f'{count:,}' for count in STORE_RUNS)} made-up runs")
    found = run_side("store", task)
    few, many = STORE_RUNS
    growth = {
        name: found[f"{name}_{many}"]["seconds"] / found[f"{name}_{few}"]["seconds"] for name in ("list", "report")
    }
    return {"runs": list(STORE_RUNS), **found, "growth": growth}


def measure_scaling(task: Task, options: argparse.Namespace) -> Figures:
    """More workers, other executors, fuller stores."""
    from experiments.benchmark import scaling

    return scaling.measure(scaling.Trial(task.folder, task.images), options.scale, options.postgres, options.repeats)


def measure_server(task: Task, options: argparse.Namespace) -> Figures:
    """A tracking server that fills."""
    from experiments.benchmark import scaling

    return scaling.measure_server(scaling.Trial(task.folder, task.images, uri=options.server))


PARTS: dict[str, Callable[[Task, argparse.Namespace], Figures]] = {
    "epoch": measure_epoch,
    "suite": measure_suite,
    "recording": measure_recording,
    "startup": measure_startup,
    "store": measure_store,
    "scaling": measure_scaling,
    "server": measure_server,
}
USUAL = [name for name in PARTS if name not in ("scaling", "server")]


def tell(line: str) -> None:
    """Say on standard error what is measured now."""
    print(line, file=sys.stderr, flush=True)


# -- the command line ----------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print.

    Args:
        arguments: in place of those of the process.

    Returns:
        The exit status: 0 done, 1 a side failed or the figures could not be written, 2 no such data; wrong use
        exits with 2.
    """
    # Without a usage an error is one line.
    parser = argparse.ArgumentParser("benchmark", argparse.SUPPRESS, "Speed side by side; nothing is asserted.")
    parser.add_argument("--only", default=",".join(USUAL), metavar="PART,...", help="(default: %(default)s)")
    alone = parser.add_mutually_exclusive_group()
    alone.add_argument("--scaling", action="store_true", help="only how far it scales: takes an hour")
    alone.add_argument("--server", metavar="URI", help="only how a tracking server fills, which must be empty")
    parser.add_argument(
        "--postgres",
        metavar="URI",
        help="of an empty database, which --scaling fills; its password may come from PGPASSWORD instead",
    )
    parser.add_argument("--repeats", type=int, default=3, metavar="R", help="of epoch and scaling (default: 3)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--images", type=int, metavar="N", help="training images (default: all); the suite is scaled up")
    size.add_argument("--quick", action="store_true", help="a tenth of the training images")
    parser.add_argument("--suite-seconds", type=float, metavar="S", help="wall time of a real run of all studies")
    parser.add_argument("--data-dir", metavar="DIR", help="folder of Fashion-MNIST's four files")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--output", metavar="DIR", help="folder to write a page and JSON into: benchmark.*, scaling.* or server.*"
    )
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.side:
        side, task = options.side
        print(json.dumps(SIDES[side](Task(**json.loads(task)))))
        return 0
    own = "scaling" if options.scaling else "server" if options.server else None
    asked = [own] if own else options.only.split(",")
    for part in asked:
        if part != own and part not in USUAL:
            parser.error(f"there is no part {part!r}{nearest(part, USUAL)}; there are: {', '.join(USUAL)}")
    for name in ("repeats", "images", "suite_seconds"):
        if (value := getattr(options, name)) is not None and not 0 < value < math.inf:
            parser.error(f"--{name.replace('_', '-')} is {value}; give a number above 0")
    if options.output == "":
        parser.error("--output is empty; name a folder")
    output = None if options.output is None else Path(options.output)
    name = own or "benchmark"
    try:
        if output:
            check_output(output, name)
    except OSError as error:
        reason = "it is no folder" if isinstance(error, FileExistsError) else error.strerror
        parser.error(f"--output {options.output!r} cannot be written ({reason}); name a folder that can")
    try:
        figures = measure([part for part in PARTS if part in asked], options)
    except DataError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        last = (error.stderr or "").strip().splitlines()[-1:]
        print(f"benchmark: a measured process ended with status {error.returncode}: {''.join(last)}", file=sys.stderr)
        return 1
    status = 0
    try:
        if output:
            write(figures, output, name)
    except Unwritable as error:  # what was measured is printed all the same
        print(f"benchmark: {error.filename} cannot be written ({error.strerror})", file=sys.stderr)
        status = 1
    if options.json:
        print(as_json(figures))
    else:
        show(figures)
    return status


def measure(parts: Sequence[str], options: argparse.Namespace) -> Figures:
    """The date, the machine, the settings, what the parts measured, and the ratios.

    Raises:
        DataError: there is no such data.
        CalledProcessError: a side failed.
    """
    data = load_dataset(options.data_dir)
    train, test = len(data.train_labels), len(data.test_labels)
    used = options.images or (max(1, train // 10) if options.quick else train)
    data.first(used, test)  # refuses more than there are
    options.scale = train / used
    task = Task(str(find(options.data_dir)), (used, test), CNN.canonical())
    found = fingerprint(threads=1)
    machine = {name: found[name] for name in ("processor", "python", *LIBRARIES)}
    machine |= {name: version for name, version in (one.split("==", 1) for one in packages()) if name == "torch"}
    machine |= {"cores": len(os.sched_getaffinity(0)), "load": round(os.getloadavg()[0], 2)}
    source = checkout()
    settings = {
        "parts": list(parts),
        "repeats": options.repeats,
        "images": used,
        "all_images": train,
        "test_images": test,
        "suite_seconds": options.suite_seconds,
        "data": data.name,
        "data_sha256": data.sha256,
        "config": dict(task.settings),
        "commit": source.commit + (", changed" if source.dirty else ""),
    }
    date = datetime.now(UTC).isoformat(timespec="seconds")
    found = {part: PARTS[part](task, options) for part in parts}
    return {"date": date, "machine": machine, "settings": settings, **found, "ratios": ratios(found)}
