"""Stores that fill: each side is the whole of a process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.benchmark.asked import requests_of
from experiments.benchmark.page import spread
from experiments.benchmark.sides import EPOCHS
from experiments.benchmark.task import Figures, MeasurementError, Task, peak_memory_mib
from fashion_cnn.config import CNN
from fashion_cnn.timing import Timer

SENT = 10  # runs that are recorded in full at each size


def _store(task: Task) -> Figures:
    """List and report of a store that grows: its runs are made up and never trained."""
    from experiments.benchmark.filling import Filler

    figures: Figures = {}
    with tempfile.TemporaryDirectory() as home:
        store, filled = _opened(task, Path(home)), 0
        filler = Filler(store)
        for count in task.runs:
            filler.fill(range(filled, count))
            filled = count
            figures |= _timed_commands(store.address.uri, Path(home), count)
    return figures


def _grow(task: Task) -> Figures:
    """Record, list and report while a store grows."""
    from experiments.benchmark.filling import Filler

    figures: Figures = {}
    with tempfile.TemporaryDirectory() as name:
        home, filled = Path(name), 0
        store, (header, events) = _opened(task, home), _trained(home, task)
        filler = Filler(store)
        for count in task.runs:
            with Timer(emit=None) as timer:
                filler.fill(range(filled, count - SENT))
            figures[f"made_up_{count}"] = timer.seconds / (count - SENT - filled)
            with requests_of(SENT) as asked:
                figures[f"record_{count}"] = spread([_recorded(store, header, events, seed) for seed in range(SENT)])
            figures |= _timed_commands(store.address.uri, home, count)
            filled = count
    return {**figures, "requests": asked} if task.runs and store.address.is_server else figures


def _import(task: Task) -> Figures:
    """Bring the published runs into an empty store; views and dashboards, which follow it in the UI, are left out."""
    from experiments import RESULTS, STUDIES
    from fashion_cnn.reports.publish import import_runs

    with tempfile.TemporaryDirectory() as home, Timer(emit=None) as timer:
        imported = import_runs(_opened(task, Path(home)), STUDIES, RESULTS)
    return {"runs": imported, "cpu_seconds": timer.cpu_seconds, "peak_memory_mib": peak_memory_mib()}


def _look(task: Task) -> Figures:
    """The version of a database, which answers and holds no runs.

    Raises:
        MeasurementError: it holds some.
    """
    import sqlalchemy

    with tempfile.TemporaryDirectory() as home:
        engine = sqlalchemy.create_engine(_opened(task, Path(home)).address.uri)
        query = "SELECT sqlite_version()" if engine.dialect.name == "sqlite" else "SHOW server_version"
        with engine.connect() as connection:
            version = str(connection.exec_driver_sql(query).scalar())
        engine.dispose()
    return {"version": version.split()[0]}


SIDES: dict[str, Callable[[Task], Figures]] = {"store": _store, "import": _import, "grow": _grow, "look": _look}


def _timed_commands(uri: str, home: Path, count: int) -> Figures:
    """What `list` and `report` take of a store of `count` runs, and the memory they need; they write into `home`."""
    commands = {"list": ["list", "--json"], "report": ["report", "--output", f"{home}/report.html"]}
    variables = {**os.environ, "MLFLOW_TRACKING_URI": uri, "FASHION_CNN_TRAJECTORIES": f"{home}/trajectories"}
    figures: Figures = {}
    for name, words in commands.items():
        with Timer(emit=None) as timer:
            command = [sys.executable, "-m", "experiments", *words]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=variables)
            _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise MeasurementError(f"{name} ended with status {os.waitstatus_to_exitcode(status)}")
        figures[f"{name}_{count}"] = {"seconds": timer.seconds, "peak_memory_mib": usage.ru_maxrss / 1024}
    return figures


def _opened(task: Task, home: Path) -> Any:
    """The task's store; its artifacts and what else belongs to it go into a folder.

    Raises:
        MeasurementError: it holds runs already.
        StoreError: it does not answer.
    """
    from fashion_cnn.checkout import REPOSITORY
    from fashion_cnn.store.address import Address, resolve
    from fashion_cnn.store.tracking import Store

    address = resolve(task.uri or f"sqlite:///{home}/mlflow.db", REPOSITORY)
    artifacts = address.artifacts and (home / "artifacts").as_uri()
    store = Store(Address(address.uri, artifacts, home / "trajectories"))
    if len(store.runs()):
        raise MeasurementError(f"the store {address.name} holds runs; name an empty one, which stays filled")
    return store


def _trained(home: Path, task: Task) -> tuple[Any, list[Any]]:
    """The header of a trajectory, and the events of a real worker; on few images, for only their size counts."""
    from fashion_cnn.events import CutDone, Failed, Job, Started
    from fashion_cnn.running.executor import Ended, LocalExecutor
    from fashion_cnn.store.trajectories import header_of

    config, images = replace(CNN, epochs=EPOCHS), (min(task.images[0], 256), min(task.images[1], 256))
    settings, executor, received = config.canonical(), LocalExecutor(forks=False), list[Any]()
    (here,) = executor.places(threads=1)
    executor.start(Job(settings, (settings,), seed=0, data_dir=task.folder, images=images), home / "worker.log")
    while True:
        for _, event in executor.events(timeout=1):
            if isinstance(event, Failed):
                raise MeasurementError(event.reason)
            if isinstance(event, Ended):
                if not received or not isinstance(received[-1], CutDone):
                    raise MeasurementError(f"the worker ended before its run did: {event.error}")
                assert isinstance(received[0], Started)
                return header_of(config, 0, received[0].identity, here.environment, images), received
            received.append(event)


def _recorded(store: Any, header: Any, events: Sequence[Any], seed: int) -> float:
    """Seconds to send one run to the store: as it begins, and after each event, as the recorder does it."""
    from experiments import STUDIES
    from fashion_cnn.events import CutDone
    from fashion_cnn.store.entries import RunEntry
    from fashion_cnn.store.trajectories import Trajectory

    study = max(STUDIES, key=lambda study: len(study.arms))  # that of which the store holds the most runs
    record = RunEntry(
        record=uuid.uuid4().hex,
        store=store.address.name,
        study=study.name,
        question=study.question,
        arm=next(iter(study.arms)),
        seed=seed,
        config=replace(CNN, epochs=EPOCHS).canonical(),
        smoke=False,
        reuse=True,
        start_time=time.time_ns() // 1_000_000,
        command="",
    )
    trajectory, timer = Trajectory(store.address.trajectories / f"sent-{record.record}"), Timer(emit=None)
    trajectory.create(header)
    trajectory.save_run(record)
    seconds = 0.0
    for event in (None, *events):
        if event is not None:
            trajectory.keep(event)
        if isinstance(event, CutDone):
            trajectory.save_run(replace(record, status="finished", stop_reason="epochs", cut=EPOCHS))
        with timer:
            store.send(trajectory)
        seconds += timer.seconds
    if store.unsent(trajectory):
        raise MeasurementError("a run was not sent in full")
    shutil.rmtree(trajectory.folder)
    return seconds
