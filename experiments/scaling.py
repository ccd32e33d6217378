"""How far it scales: `python -m experiments.benchmark --scaling`. Prints figures, asserts nothing.

workers: two trainings of the default CNN, ten epochs each, by one worker and by two, with the local executor and with
    Ray on this machine. Efficiency is one worker's wall time to two workers'. What a task costs besides its epochs is
    the wall time of one worker less the epochs' own, by the number of tasks; starting a cluster is left out.
store: what it takes to record one run, `fashion-cnn list` and `report` when the store holds 100, 1,000 and 10,000 runs
    already. These are made up and have no files; the runs that are timed are sent in full, with artifacts and model.
    With --postgres once more there.

Each measurement is a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from experiments.benchmark import fill, tell, timed_commands
from experiments.measured import Figures, spread
from fashion_cnn.config import CNN
from fashion_cnn.environment import worker_variables
from fashion_cnn.study import Study
from fashion_cnn.timing import Timer

RUNS = (100, 1000, 10_000)
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
    """Of an empty database; nothing is a SQLite store that is thrown away."""
    runs: Sequence[int] = RUNS


# -- what is measured: each is the whole of a process --------------------------------------------------------------


def train(trial: Trial) -> Figures:
    """Train and record `TASKS` runs: the wall time of it all, and the sum of the epochs' own."""
    from fashion_cnn.runner import run
    from fashion_cnn.session import Options, Session

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


def grow(trial: Trial) -> Figures:
    """Record, list and report while a store grows."""
    from fashion_cnn.environment import REPOSITORY
    from fashion_cnn.tracking import Address, Store, resolve

    found: Figures = {}
    with tempfile.TemporaryDirectory() as name:
        home, made = Path(name), 0
        address = resolve(trial.uri or f"sqlite:///{home}/mlflow.db", REPOSITORY)
        store = Store(Address(address.uri, (home / "artifacts").as_uri(), home / "trajectories"))
        if len(store.runs()):
            raise ScalingError(f"the store {address.name} holds runs; name an empty database, which stays filled")
        trajectory = _trained(home, trial)
        for count in trial.runs:
            with Timer(emit=None) as timer:
                fill(store, range(made, count - SENT))
            found[f"made_up_{count}"] = timer.seconds / (count - SENT - made)
            found[f"record_{count}"] = spread([_recorded(store, trajectory, seed) for seed in range(SENT)])
            found |= {f"{what}_{count}": one for what, one in timed_commands(address.uri, home).items()}
            made = count
    return found


def _trained(home: Path, trial: Trial) -> Any:
    """A trajectory's folder as a real training leaves it; on few images, for only its size counts."""
    from fashion_cnn.events import CutDone, Drawn, EpochDone, Failed, Job, Started
    from fashion_cnn.executor import Ended, LocalExecutor
    from fashion_cnn.trajectories import Trajectory, header_of

    config, images = replace(CNN, epochs=EPOCHS), (min(trial.images[0], 256), min(trial.images[1], 256))
    settings, trajectory, executor = config.canonical(), Trajectory(home / "trajectory"), LocalExecutor()
    (here,) = executor.places(threads=1)
    executor.start(Job(settings, (settings,), seed=0, data_dir=trial.folder, images=images), home / "worker.log")
    while True:
        for _, event in executor.events(timeout=1):
            match event:
                case Started():
                    trajectory.create(header_of(config, 0, event.identity, here.environment, images))
                    trajectory.save_started(event)
                case EpochDone():
                    trajectory.append(event)
                case Drawn():
                    trajectory.save_sheets(event)
                case CutDone():
                    trajectory.save_cut(event)
                case Failed():
                    raise ScalingError(event.reason)
                case Ended():
                    return trajectory


def _recorded(store: Any, trajectory: Any, seed: int) -> float:
    """Seconds to record one run: as it begins, then as it ends."""
    from experiments import STUDIES
    from fashion_cnn.trajectories import RunRecord

    study = STUDIES[0]
    record = RunRecord(
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
    for path in (trajectory.folder / "runs").iterdir():
        path.unlink()
    with Timer(emit=None) as timer:
        trajectory.save_run(record)
        store.send(trajectory)
        trajectory.save_run(replace(record, status="finished", stop_reason="epochs", cut=EPOCHS))
        store.send(trajectory)
    return timer.seconds


MEASUREMENTS = {"train": train, "grow": grow}


def run_measurement(name: str, trial: Trial) -> Figures:
    """Measure in a fresh process.

    Raises:
        CalledProcessError: it ended with an error.
    """
    command = [sys.executable, "-m", "experiments.scaling", name]
    # Not among the words, which anybody may read: a database's address holds a password.
    given = json.dumps(asdict(trial))
    variables = worker_variables(os.environ, "cpu")
    done = subprocess.run(command, input=given, capture_output=True, text=True, env=variables, check=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


# -- the parts -----------------------------------------------------------------------------------------------------


def measure(trial: Trial, scale: float, postgres: str | None) -> Figures:
    """All of it.

    Args:
        trial: with data set and images.
        scale: all images by those used: what an epoch of these takes more.
        postgres: the address of an empty database, or None.

    Raises:
        CalledProcessError: a measurement ended with an error.
    """
    executors = ["local", *(["ray"] if find_spec("ray") else [])]
    taken: dict[str, dict[int, Figures]] = {}
    for executor in executors:
        for workers in WORKERS:
            tell(f"scaling: {TASKS} trainings, {executor}, {workers} of {WORKERS[-1]} workers")
            one = replace(trial, executor=executor, workers=workers)
            taken.setdefault(executor, {})[workers] = run_measurement("train", one)
    stores = {}
    for name, uri in (("sqlite", ""), *((("postgresql", postgres),) if postgres else ())):
        tell(f"scaling: {name}, {' and '.join(f'{count:,}' for count in trial.runs)} runs")
        stores[name] = run_measurement("grow", replace(trial, uri=uri))
    return {
        "tasks": TASKS,
        "epochs": EPOCHS,
        "images": trial.images[0],
        "scaled_by": scale,
        "executors": {name: _efficiency(one, taken["local"], scale) for name, one in taken.items()},
        "runs": list(trial.runs),
        "sent": SENT,
        "stores": {name: one | {"growth": _growth(one, trial.runs)} for name, one in stores.items()},
    }


def _efficiency(taken: Mapping[int, Figures], local: Mapping[int, Figures], scale: float) -> Figures:
    """What two workers gain, and what a task costs besides its epochs: in all, and more than a local one."""
    besides, least = _besides(taken[1]), _besides(local[1])
    run = besides + scale * taken[1]["trained_seconds"] / TASKS
    return {
        "seconds": {str(workers): one["seconds"] for workers, one in taken.items()},
        "speedup": taken[1]["seconds"] / taken[2]["seconds"],
        "seconds_besides_epochs": besides,
        "overhead_seconds": besides - least,
        "overhead_share": (besides - least) / run,
    }


def _besides(one: Figures) -> float:
    return float(one["seconds"] - one["trained_seconds"]) / TASKS


def _growth(found: Figures, runs: Sequence[int]) -> Figures:
    """How much longer each takes in the fullest store than in the emptiest."""
    few, many = runs[0], runs[-1]
    parts = {"record": "median", "list": "seconds", "report": "seconds"}
    return {name: found[f"{name}_{many}"][field] / found[f"{name}_{few}"][field] for name, field in parts.items()}


if __name__ == "__main__":
    print(json.dumps(MEASUREMENTS[sys.argv[1]](Trial(**json.loads(sys.stdin.read())))))
