"""Databases that others hold or write to."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest
from filelock import FileLock

from fashion_cnn.evidence.record import EPOCH_METRICS
from fashion_cnn.store import connection as connecting
from fashion_cnn.store import recorder as recording
from fashion_cnn.store.recorder import Recorder, sync
from fashion_cnn.store.tracking import Store
from tests.support.command import REPOSITORY, Lab
from tests.support.made_up import write_made_up
from tests.support.scripted import header_and_record, metrics, open_store, play, record_one
from tests.support.stores import FOUR, is_whole

pytestmark = pytest.mark.timeout(900)


# Imports once, then forks: eight processes that open one fresh store and write to it, some the same trajectory.
EIGHT = """
import json, os, sys, time
from dataclasses import replace
from pathlib import Path
import mlflow.store.tracking.sqlalchemy_store, mlflow.pyfunc, PIL.Image, pandas
from fashion_cnn.config import DENSE
from fashion_cnn.store.address import resolve
from fashion_cnn.store.recorder import Recorder
from fashion_cnn.store.tracking import Store
from tests.support.scripted import database, header_and_record, play

def write(number):
    store = Store(resolve(database(folder), folder))
    until, made = time.monotonic() + seconds, 0
    while not made or time.monotonic() < until:
        seed = 1000 * (number + 1) + made if made else number // 2  # two share the first one's trajectory
        trajectory, run = header_and_record(store, replace(DENSE, epochs=10), seed, arm=f"{number}")
        while not trajectory.acquire():
            time.sleep(0.02)
        with Recorder(store) as recorder:  # which ends when all is sent
            play(recorder, trajectory, run)
        if recorder.trouble is not None:
            return made, recorder.trouble
        made += 1
    return made, None

folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
pipes = []
for number in range(8):
    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.close(ours)
        try:
            answer = write(number)
        except BaseException as error:
            answer = 0, f"{type(error).__name__}: {error}"
        os.write(theirs, json.dumps(answer).encode())
        os._exit(0)
    os.close(theirs)
    pipes.append(ours)
answers = [json.loads(open(pipe).read()) for pipe in pipes]
for _ in range(8):
    os.wait()
print(json.dumps(answers))
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("seconds", [0, pytest.param(300, marks=pytest.mark.soak)])
@pytest.mark.fault("eight-at-once", note="5 minutes in the soak")
def test_eight_that_start_at_once_on_one_fresh_store_lose_nothing(tmp_path: Path, seconds: int) -> None:
    writers = subprocess.run(
        [sys.executable, "-c", EIGHT, str(tmp_path), str(seconds)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert writers.returncode == 0, writers.stderr
    assert "locked" not in writers.stderr and "Traceback" not in writers.stderr
    answers = json.loads(writers.stdout.splitlines()[-1])
    assert [trouble for _, trouble in answers] == [None] * 8
    store = open_store(tmp_path)
    runs = store.runs()
    assert len(runs) == sum(made for made, _ in answers) >= 8
    assert set(runs["status"]) == {"FINISHED"} and len(set(runs["experiment_id"])) == 1
    epochs = store.epochs(list(runs["run_id"]))
    assert len(epochs) == 10 * len(runs)
    seeds = dict(zip(runs["run_id"], runs["seed"], strict=True))
    for row in epochs.to_dict("records"):
        expected = metrics(int(seeds[row["run_id"]]), int(row["epoch"]))
        assert {name: row[name] for name in EPOCH_METRICS} == expected
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        (kept,) = connection.execute("SELECT count(*) FROM metrics WHERE key = 'loss'").fetchone()
    assert kept == 10 * len(runs)
    print(f"eight processes: {len(runs)} runs, {kept} values of each metric, none lost")
    assert runs.groupby("trajectory_sha256").size().max() == 2


@pytest.mark.soak
@pytest.mark.timeout(1500)
@pytest.mark.fault("eight-at-once", note="soak")
def test_eight_trainings_that_start_at_once_on_one_fresh_store_share_what_they_can(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "store", write_made_up(tmp_path / "data", train=64, test=64))
    train = ("train", "--model", "dense", "--workers", 1, "--epochs")
    started = [lab.start(*train, 2 + number // 4, "--seed", number % 2) for number in range(8)]
    for process in started:
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 0 and "locked" not in errors and "Traceback" not in errors, errors
    runs = lab.runs()
    assert sorted(zip(runs["seed"], runs["epochs"], strict=True)) == [("0", "2"), ("0", "3"), ("1", "2"), ("1", "3")]
    assert set(runs["status"]) == {"FINISHED"} and len(lab.trajectories()) == 2
    assert len(lab.store().epochs(list(runs["run_id"]))) == 2 * (2 + 3)


HELD = 30.0  # seconds; MLflow alone waits for 20
HOLDER = """
import select, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
select.select([sys.stdin], [], [], float(sys.argv[2]))
"""


@contextmanager
def held(path: Path, seconds: float = 600) -> Iterator[None]:
    """Another process has a database for itself, so long or until the block ends."""
    command = [sys.executable, "-c", HOLDER, str(path), str(seconds)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdin is not None and holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        yield
    finally:
        holder.stdin.close()
        assert holder.wait(120) == 0
        holder.stdout.close()


@dataclass(frozen=True)
class Held:
    """What happened to a store that somebody held for longer than MLflow waits."""

    store: Store
    seconds: dict[str, float]
    """How long each took."""
    trouble: str | None
    """Of the recorder that ended meanwhile."""
    unsent: int
    """Runs that it had not sent."""
    read: pd.DataFrame
    """The runs, as the store told who had opened it before and asked meanwhile."""
    listed: subprocess.CompletedProcess[str]
    """`fashion-cnn list`, started meanwhile."""


@pytest.fixture(scope="module")
def held_store(tmp_path_factory: pytest.TempPathFactory) -> Held:
    folder = tmp_path_factory.mktemp("held")
    store = open_store(folder)
    record_one(store, FOUR, 0)
    ending, staying = (header_and_record(store, FOUR, seed) for seed in (1, 2))
    for trajectory, _ in (ending, staying):
        assert trajectory.acquire()
    seconds: dict[str, float] = {}
    lab = Lab(folder, folder)
    with Recorder(store) as recorder, held(folder / "mlflow.db", HELD), ThreadPoolExecutor(1) as another:
        started = time.monotonic()
        listing = lab.start("list")
        asked = another.submit(lambda: (store.runs(), time.monotonic() - started))
        play(recorder, *staying)
        ended = Recorder(store)
        with ended:
            play(ended, *ending)
            seconds["training"] = time.monotonic() - started
        seconds["ending"] = time.monotonic() - started
        trouble, unsent = ended.trouble, len(store.unsent(ending[0]))
        read, seconds["reading"] = asked.result()
        printed, errors = listing.communicate(timeout=600)
        seconds["list"] = time.monotonic() - started
    listed = subprocess.CompletedProcess([], listing.returncode, printed, errors)
    return Held(store, seconds, trouble, unsent, read, listed)


@pytest.mark.slow
@pytest.mark.fault("database-held", note="30 s")
class TestADatabaseThatSomebodyHolds:
    def test_holds_up_no_training(self, held_store: Held) -> None:
        assert held_store.seconds["training"] < 15  # MLflow alone would wait for 20

    def test_is_waited_for_by_who_opens_it(self, held_store: Held) -> None:
        assert held_store.listed.returncode == 0, held_store.listed.stderr
        assert held_store.seconds["list"] > HELD - 1
        assert "waiting for the store " in held_store.listed.stderr
        assert ": another program holds it\n" in held_store.listed.stderr
        assert "Traceback" not in held_store.listed.stderr and "baseline_study" in held_store.listed.stdout

    def test_is_waited_for_by_who_had_opened_it(self, held_store: Held) -> None:
        assert held_store.seconds["reading"] > HELD - 1
        assert "0" in set(held_store.read["seed"])

    def test_gets_what_is_due_as_soon_as_it_can(self, held_store: Held) -> None:
        runs = held_store.store.runs()
        (row,) = runs[runs["seed"] == "2"].to_dict("records")
        assert row["status"] == "FINISHED" and is_whole(held_store.store, row["run_id"])

    def test_gets_what_a_run_left_that_ended_meanwhile(self, held_store: Held) -> None:
        assert held_store.seconds["ending"] > HELD - 1
        assert (held_store.unsent, held_store.trouble) == (0, None)
        runs = held_store.store.runs()
        assert sorted(runs["seed"]) == ["0", "1", "2"] and set(runs["status"]) == {"FINISHED"}
        assert all(is_whole(held_store.store, run_id) for run_id in runs["run_id"])
        assert sync(held_store.store) == (0, None)

    def test_gets_from_sync_what_a_run_could_not_wait_for(
        self, tmp_path: Path, hurried: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        from mlflow.exceptions import MlflowException

        store = open_store(tmp_path)
        trajectory, run = header_and_record(store, FOUR)
        assert trajectory.acquire()
        monkeypatch.setattr(recording, "PATIENCE", 1.0)
        # MLflow's own 20 seconds, over and over, are spared.
        name = "mlflow.store.tracking.sqlalchemy_store.SqlAlchemyStore._search_runs"
        locked = MlflowException("(sqlite3.OperationalError) database is locked")
        with monkeypatch.context() as patch:
            patch.setattr(name, Mock(side_effect=locked))
            started = time.monotonic()
            with Recorder(store) as recorder:
                play(recorder, trajectory, run)
            assert 1 < time.monotonic() - started < 10
        assert len(store.unsent(trajectory)) == 1
        told = f"the tracking store {store.address.name} did not answer as it should: "
        assert recorder.trouble is not None and recorder.trouble.startswith(told)
        waiting = f"waiting for the store {tmp_path / 'mlflow.db'}: another program holds it\n"
        assert capfd.readouterr().err.count(waiting) == 1
        assert sync(store) == (1, None)

    def test_whose_opening_hangs_is_given_up_with_a_clear_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        open_store(tmp_path)
        monkeypatch.setattr(connecting, "QUEUE", 1.0)
        with FileLock(tmp_path / "mlflow.db.lock"):
            said = Lab(tmp_path, tmp_path).call("list", status=2)
        assert said == (
            f"error: another program has held {tmp_path / 'mlflow.db.lock'} for 1 seconds; end that program, or name "
            "another store with --tracking-uri\n"
        )

    def test_is_given_up_after_a_while_with_a_clear_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        open_store(tmp_path)
        monkeypatch.setattr(connecting, "PATIENCE", 1.0)
        with held(tmp_path / "mlflow.db"):
            said = Lab(tmp_path, tmp_path).call("list", status=2)
        assert said.splitlines()[-1] == (
            f"error: another program has held the store {tmp_path / 'mlflow.db'} for 1 seconds; end that program, or "
            "name another store with --tracking-uri"
        )
