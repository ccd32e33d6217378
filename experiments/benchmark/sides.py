"""What trains: each side is the whole of a process."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmark.task import Figures, MeasurementError, Task
from fashion_cnn.environment import Arithmetic
from fashion_cnn.study import Study
from fashion_cnn.timing import Timer

STEPS_PER_CALL = 50
LIMIT_SIZE = 2048  # rows and columns: larger products were no faster
LIMIT_CALLS = 10
RECORDED_EPOCHS = 2
TASKS = 2  # trainings that workers share
EPOCHS = 10  # of each of them


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
    """The floating-point operations per CPU second in a product of two square matrices: n^3 products, n^3 sums."""
    import tensorflow as tf

    from fashion_cnn.training import set_up_process

    set_up_process(threads=1)
    left, right = map(tf.constant, np.random.default_rng(0).random((2, LIMIT_SIZE, LIMIT_SIZE), np.float32))
    tf.matmul(left, right)  # warms up
    timer, least = Timer(emit=None), math.inf
    for _ in range(LIMIT_CALLS):
        with timer:
            tf.matmul(left, right)
        least = min(least, timer.cpu_seconds)
    return {"flops_per_second": 2 * LIMIT_SIZE**3 / least}


def _starts(task: Task) -> Figures:
    """The CPU seconds of a worker until its first epoch begins, forked and fresh."""
    from fashion_cnn.running.executor import LocalExecutor

    spent: Figures = {}
    for name in ("forked", "fresh"):
        executor = LocalExecutor(forks=name == "forked")
        try:
            spent[f"{name}_cpu_seconds"] = _start_of_worker(executor, task)
        finally:
            executor.stop()
    return spent


def _start_of_worker(executor: Any, task: Task) -> float:
    from fashion_cnn.events import Drawn, Failed, Job
    from fashion_cnn.running.executor import Ended

    job = Job(task.settings, (task.settings,), 0, task.folder, (task.images[0], task.images[1]))
    spent: float | None = None
    with tempfile.TemporaryDirectory() as folder:
        worker = executor.start(job, Path(folder, "worker.log"))
        while True:
            for _, event in executor.events(timeout=1):
                if isinstance(event, Drawn) and spent is None:  # of the untrained network
                    spent = _cpu_seconds(worker.process.pid)
                    executor.cancel(worker)
                if spent is None and isinstance(event, Failed | Ended):
                    raise MeasurementError(f"a worker did not start: {event}")
                if spent is not None and isinstance(event, Ended):
                    return spent


def _cpu_seconds(pid: int) -> float:
    """What a process has spent so far, in the system's ticks of 10 ms."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _recording(task: Task) -> Figures:
    """What recording a run takes besides its training."""
    from fashion_cnn.running.runner import run
    from fashion_cnn.running.session import Options, Session
    from fashion_cnn.store.recorder import clean

    study = Study("benchmark", "What does recording cost?", {"cnn": replace(task.config, epochs=RECORDED_EPOCHS)})
    with tempfile.TemporaryDirectory() as home:
        cpu, disk = [time.process_time()], [0]
        session = Session(Options(workers=1, data_dir=task.folder, tracking_uri=f"sqlite:///{home}/mlflow.db"))
        for seed in (0, 1):  # the first pays for what is imported and created once; the second shows what a run costs
            outcome = run(session, session.plan([study], (), [seed]))
            if outcome.failed or outcome.unsent:
                raise MeasurementError(f"a run was not recorded: {outcome}")
            cpu.append(time.process_time())
            disk.append(sum(path.stat().st_size for path in Path(home).rglob("*") if path.is_file()))
        session.executor.stop()
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


def _train(task: Task) -> Figures:
    """The wall time of training and recording `TASKS` runs, and the sum of their epochs' own."""
    study = Study("scaling", "What do more workers gain?", {"cnn": replace(task.config, epochs=EPOCHS)})
    with tempfile.TemporaryDirectory() as home:
        figures = record(task, [study], range(TASKS), home)
    return {
        "seconds": figures["seconds"],
        "trained_seconds": sum(float(row["fit_seconds"]) for row in figures["recorded"]),
    }


def record(
    task: Task, studies: Sequence[Study], seeds: Sequence[int], home: str, arithmetic: Arithmetic | None = None
) -> Figures:
    """Train and record these studies' runs on the task's images, by its executor and workers.

    Args:
        task: what is asked of it.
        studies: in order.
        seeds: of each arm a run each.
        home: a folder for the store.
        arithmetic: None is the portable one where this machine can.

    Returns:
        `seconds`, the wall time; `workers`; `peak_memory_mib` of the largest; `recorded`, a row for each run.

    Raises:
        MeasurementError: a run was not recorded.
    """
    from fashion_cnn.running.runner import run
    from fashion_cnn.running.session import Options, Session

    how = Options(
        workers=task.workers,
        data_dir=task.folder,
        tracking_uri=f"sqlite:///{home}/mlflow.db",
        arithmetic=arithmetic,
        executor=task.executor,
    )
    session = Session(how)
    try:
        session.images = task.images[0], task.images[1]
        session.data = session.data.first(*session.images)
        todo = session.plan(studies, (), seeds)
        with Timer(emit=None) as timer:
            outcome = run(session, todo)
        if outcome.failed or outcome.unsent:
            raise MeasurementError(f"a run was not recorded: {outcome}")
        recorded = session.store.runs()
        return {
            "seconds": timer.seconds,
            "workers": session.workers(todo),
            "peak_memory_mib": float(recorded["peak_memory_mib"].max()),
            "recorded": recorded.to_dict("records"),
        }
    finally:
        session.executor.stop()


SIDES: dict[str, Callable[[Task], Figures]] = {
    "fit": _fit,
    "tuned": _tuned,
    "ours": _ours,
    "native": _ours,
    "torch": _torch,
    "limit": _limit,
    "recording": _recording,
    "starts": _starts,
    "train": _train,
}
