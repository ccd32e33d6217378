"""How far it scales: `python -m experiments.benchmark --scaling`, or `--server URI`. Prints figures, asserts nothing.

workers: two trainings of the default CNN, ten epochs each, by one worker and by two, with the local executor and with
    Ray on this machine; all four in turn, again and again, and medians of their wall times. The speed-up is one
    worker's to two workers'; the efficiency is half of that. Ray's overhead is its one worker's wall time less the
    local one's, all of it: what a task costs besides its epochs, and epochs that take longer under Ray. Starting a
    cluster is left out.
store: what it takes to record one run, `fashion-cnn list` and `report` when the store holds 100, 1,000 and 10,000 runs
    already. These are made up, and their records are complete, so that the report takes every one; the runs that are
    timed are sent in full, with artifacts and model, after each event as the recorder does it. They were trained on
    few images, so that the report leaves out these ten at each size. With --postgres once more there; that database
    is asked for first, before an hour is spent.
server: the same through a tracking server, up to 1,000 runs; the time of each includes what the server takes.

Each measurement is a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from experiments.benchmark.page import Figures, spread
from experiments.benchmark.sides import tell, timed_commands
from fashion_cnn.config import CNN
from fashion_cnn.environment import packages, worker_variables
from fashion_cnn.study import Study
from fashion_cnn.timing import Timer

RUNS = (100, 1000, 10_000)
SERVER_RUNS = (100, 1000)
SENT = 10  # runs that are recorded in full at each size
TASKS = 2
EPOCHS = 10
WORKERS = (1, 2)


class ScalingError(RuntimeError):
    """It cannot be measured: one line that says why."""


@dataclass(frozen=True)
class Trial:
    """What one process is to measure."""

    folder: str
    """The data set's."""
    images: Sequence[int]
    """How many training and test images."""
    executor: str = "local"
    workers: int = 1
    uri: str = ""
    """Of an empty database or tracking server; nothing is a SQLite store that is thrown away."""
    runs: Sequence[int] = RUNS


# -- what is measured: each is the whole of a process --------------------------------------------------------------


def train(trial: Trial) -> Figures:
    """Train and record `TASKS` runs: the wall time of it all, and the sum of the epochs' own."""
    from fashion_cnn.running.runner import run
    from fashion_cnn.running.session import Options, Session

    study = Study("scaling", "What do more workers gain?", {"cnn": replace(CNN, epochs=EPOCHS)})
    with tempfile.TemporaryDirectory() as home:
        store = f"sqlite:///{home}/mlflow.db"
        how = Options(workers=trial.workers, data_dir=trial.folder, tracking_uri=store, executor=trial.executor)
        session = Session(how)
        try:
            session.images = trial.images[0], trial.images[1]
            session.data = session.data.first(*session.images)
            todo = session.plan([study], (), range(TASKS))
            with Timer(emit=None) as timer:
                outcome = run(session, todo)
            if outcome.failed or outcome.unsent:
                raise ScalingError(f"a run was not recorded: {outcome}")
            trained = float(session.store.runs()["fit_seconds"].sum())
        finally:
            session.executor.stop()
    return {"seconds": timer.seconds, "trained_seconds": trained}


def look(trial: Trial) -> Figures:
    """The version of a database, which answers and holds no runs.

    Raises:
        ScalingError: it holds some.
    """
    import sqlalchemy

    with tempfile.TemporaryDirectory() as home:
        uri = _opened(trial, Path(home)).address.uri
        engine = sqlalchemy.create_engine(uri)
        asked = "SELECT sqlite_version()" if engine.dialect.name == "sqlite" else "SHOW server_version"
        with engine.connect() as connection:
            told = str(connection.exec_driver_sql(asked).scalar())
        engine.dispose()
    return {"version": told.split()[0]}


def grow(trial: Trial) -> Figures:
    """Record, list and report while a store grows."""
    from experiments.benchmark.filling import Filler

    found: Figures = {}
    with tempfile.TemporaryDirectory() as name:
        home, made = Path(name), 0
        store, said = _opened(trial, home), _trained(home, trial)
        filler = Filler(store)
        for count in trial.runs:
            with Timer(emit=None) as timer:
                filler.fill(range(made, count - SENT))
            found[f"made_up_{count}"] = timer.seconds / (count - SENT - made)
            found[f"record_{count}"] = spread([_recorded(store, said, seed) for seed in range(SENT)])
            found |= {f"{what}_{count}": one for what, one in timed_commands(store.address.uri, home).items()}
            made = count
    return found


def _opened(trial: Trial, home: Path) -> Any:
    """The trial's store; its artifacts and what else belongs to it go into a folder.

    Raises:
        ScalingError: it holds runs already.
        StoreError: it does not answer.
    """
    from fashion_cnn.environment import REPOSITORY
    from fashion_cnn.store.address import Address, resolve
    from fashion_cnn.store.tracking import Store

    address = resolve(trial.uri or f"sqlite:///{home}/mlflow.db", REPOSITORY)
    artifacts = address.artifacts and (home / "artifacts").as_uri()
    store = Store(Address(address.uri, artifacts, home / "trajectories"))
    if len(store.runs()):
        raise ScalingError(f"the store {address.name} holds runs; name an empty one, which stays filled")
    return store


def _trained(home: Path, trial: Trial) -> tuple[Any, list[Any]]:
    """The header of a trajectory, and what a real worker says of it; on few images, for only its size counts."""
    from fashion_cnn.events import CutDone, Failed, Job, Started
    from fashion_cnn.running.executor import Ended, LocalExecutor
    from fashion_cnn.store.trajectories import header_of

    config, images = replace(CNN, epochs=EPOCHS), (min(trial.images[0], 256), min(trial.images[1], 256))
    settings, executor, said = config.canonical(), LocalExecutor(), list[Any]()
    (here,) = executor.places(threads=1)
    executor.start(Job(settings, (settings,), seed=0, data_dir=trial.folder, images=images), home / "worker.log")
    while True:
        for _, event in executor.events(timeout=1):
            if isinstance(event, Failed):
                raise ScalingError(event.reason)
            if isinstance(event, Ended):
                if not said or not isinstance(said[-1], CutDone):
                    raise ScalingError(f"the worker ended before its run did: {event.error}")
                assert isinstance(said[0], Started)
                return header_of(config, 0, said[0].identity, here.environment, images), said
            said.append(event)


def _recorded(store: Any, said: tuple[Any, Sequence[Any]], seed: int) -> float:
    """Seconds to send one run to the store: as it begins, and after each event, as the recorder does it."""
    from experiments import STUDIES
    from fashion_cnn.events import CutDone, Drawn, EpochDone, Started
    from fashion_cnn.store.entries import RunEntry
    from fashion_cnn.store.trajectories import Trajectory

    study = max(STUDIES, key=lambda one: len(one.arms))  # that of which the store holds the most runs
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
    header, events = said
    trajectory, timer = Trajectory(store.address.trajectories / f"sent-{record.record}"), Timer(emit=None)
    trajectory.create(header)
    trajectory.save_run(record)
    taken = 0.0
    for event in (None, *events):
        match event:
            case Started():
                trajectory.save_started(event)
            case EpochDone():
                trajectory.append(event)
            case Drawn():
                trajectory.save_sheets(event)
            case CutDone():
                trajectory.save_cut(event)
                trajectory.save_run(replace(record, status="finished", stop_reason="epochs", cut=EPOCHS))
        with timer:
            store.send(trajectory)
        taken += timer.seconds
    if store.unsent(trajectory):
        raise ScalingError("a run was not sent in full")
    shutil.rmtree(trajectory.folder)
    return taken


MEASUREMENTS: dict[str, Callable[[Trial], Figures]] = {"train": train, "look": look, "grow": grow}


def run_measurement(name: str, trial: Trial) -> Figures:
    """Measure in a fresh process.

    Raises:
        CalledProcessError: it ended with an error.
    """
    command = [sys.executable, "-m", "experiments.benchmark.scaling", name]
    # Not among the words, which anybody may read: a database's address holds a password.
    given = json.dumps(asdict(trial))
    variables = worker_variables(os.environ, "cpu")
    done = subprocess.run(command, input=given, capture_output=True, text=True, env=variables, check=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


# -- the parts -----------------------------------------------------------------------------------------------------


def measure(trial: Trial, scale: float, postgres: str | None, repeats: int) -> Figures:
    """All of it.

    Args:
        trial: with data set and images.
        scale: all images by those used: what an epoch of these takes more.
        postgres: the address of an empty database, or None.
        repeats: how often the trainings are done, all of them in turn.

    Raises:
        CalledProcessError: a measurement ended with an error.
    """
    stores = {"sqlite": "", **({"postgresql": postgres} if postgres else {})}
    # First of all: one that does not answer would waste hours of training.
    versions = {name: run_measurement("look", replace(trial, uri=uri))["version"] for name, uri in stores.items()}
    executors = ["local", *(["ray"] if find_spec("ray") else [])]
    taken: dict[str, dict[int, list[Figures]]] = {name: {workers: [] for workers in WORKERS} for name in executors}
    for number in range(repeats):
        for executor in executors:
            for workers in WORKERS:
                what = f"{executor}, {workers} of {WORKERS[-1]} workers, {number + 1} of {repeats}"
                tell(f"scaling: {TASKS} trainings, {what}")
                one = replace(trial, executor=executor, workers=workers)
                taken[executor][workers].append(run_measurement("train", one))
    grown = {}
    for name, uri in stores.items():
        tell(f"scaling: {name}, {' and '.join(f'{count:,}' for count in trial.runs)} runs")
        grown[name] = run_measurement("grow", replace(trial, uri=uri))
    return {
        "versions": versions | _installed("mlflow", "ray"),
        "tasks": TASKS,
        "epochs": EPOCHS,
        "images": trial.images[0],
        "scaled_by": scale,
        "repeats": repeats,
        "executors": {name: _efficiency(one, taken["local"], scale) for name, one in taken.items()},
        **_stores(grown, trial.runs),
    }


def measure_server(trial: Trial) -> Figures:
    """How a tracking server fills.

    Args:
        trial: with data set, images and the server's address.

    Raises:
        CalledProcessError: the measurement ended with an error; the server holds runs, for one.
    """
    tell(f"server: {' and '.join(f'{count:,}' for count in SERVER_RUNS)} runs")
    grown = run_measurement("grow", replace(trial, runs=SERVER_RUNS))
    return {"versions": _installed("mlflow"), **_stores({"server": grown}, SERVER_RUNS)}


def _installed(*names: str) -> dict[str, str]:
    """The versions of those of these packages that are installed here."""
    return {name: told for name, _, told in (one.partition("==") for one in packages()) if name in names}


def _stores(grown: Mapping[str, Figures], runs: Sequence[int]) -> Figures:
    """What was measured of stores that grew to so many runs."""
    stores = {name: one | {"growth": _growth(one, runs)} for name, one in grown.items()}
    return {"runs": list(runs), "sent": SENT, "stores": stores}


def _efficiency(
    taken: Mapping[int, Sequence[Figures]], local: Mapping[int, Sequence[Figures]], scale: float
) -> Figures:
    """What two workers gain, what a task costs besides its epochs, and what it takes more than a local one in all."""
    ours, theirs = ({workers: _seconds(some) for workers, some in by.items()} for by in (taken, local))
    whole, least = (_seconds(by[1], scale) for by in (taken, local))
    return {
        "seconds": {str(workers): spread([one["seconds"] for one in some]) for workers, some in taken.items()},
        "speedup": ours[1] / ours[2],
        "seconds_besides_epochs": statistics.median(_besides(one) for one in taken[1]),
        "to_local": {str(workers): ours[workers] / theirs[workers] for workers in taken},
        "overhead_seconds": (ours[1] - theirs[1]) / TASKS,
        "overhead_share": (whole - least) / least,
    }


def _seconds(some: Sequence[Figures], scale: float = 1) -> float:
    """The median wall time of these, were their epochs so many times as long; the epochs of one worker add up to it."""
    return statistics.median(float(one["seconds"] + (scale - 1) * one["trained_seconds"]) for one in some)


def _besides(one: Figures) -> float:
    return float(one["seconds"] - one["trained_seconds"]) / TASKS


def _growth(found: Figures, runs: Sequence[int]) -> Figures:
    """How much longer each takes in the fullest store than in the emptiest."""
    few, many = runs[0], runs[-1]
    parts = {"record": "median", "list": "seconds", "report": "seconds"}
    return {name: found[f"{name}_{many}"][field] / found[f"{name}_{few}"][field] for name, field in parts.items()}


if __name__ == "__main__":
    print(json.dumps(MEASUREMENTS[sys.argv[1]](Trial(**json.loads(sys.stdin.read())))))
