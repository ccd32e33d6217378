"""Disks that are full, databases that others hold or write to, stores that were moved, code that differs."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest
from filelock import FileLock
from PIL import Image

from experiments import STUDIES
from fashion_cnn.config import CNN, DENSE
from fashion_cnn.environment import code_sha256
from fashion_cnn.events import EpochDone
from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.record import EPOCH_METRICS, missing
from fashion_cnn.store import connection as connecting
from fashion_cnn.store import recorder as recording
from fashion_cnn.store.address import StoreError
from fashion_cnn.store.files import Unwritable
from fashion_cnn.store.maintenance import clean, sync
from fashion_cnn.store.recorder import Recorder
from fashion_cnn.store.tracking import Store
from fashion_cnn.store.trajectories import Trajectory
from tests.support.command import REPOSITORY, Lab
from tests.support.made_up import write_made_up
from tests.support.scripted import CODE, events, header_and_record, metrics, open_store, play, record_one, state

pytestmark = pytest.mark.timeout(900)

FOUR, LONG = replace(DENSE, epochs=4), replace(DENSE, epochs=40)


def wait_until(holds: Any, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.02)


def is_whole(store: Store, run_id: str) -> bool:
    """Whether a run's record is complete, contradicts itself nowhere, and shows each of its images."""
    row = store.run(run_id)
    record = store.record(row, store.epochs([run_id]).to_dict("records"))
    images = list(Path(unquote(urlsplit(row["artifact_uri"]).path), "images").glob("*.png"))
    for path in images:
        with Image.open(path) as image:
            image.load()
    steps = [int(path.name.split("+step+")[1].split("+")[0]) for path in images]
    drawn = [epoch for epoch in range(len(record.epochs) + 1) if epoch in (1, 2, len(record.epochs)) or epoch % 5 == 0]
    return not missing(record) and not contradictions(record) and sorted(steps) == drawn


# -- a full disk ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Disk:
    """A small disk, or a limit to the size of files, which does the same where nothing can be mounted."""

    folder: Path
    limited: bool

    @contextmanager
    def full(self) -> Iterator[None]:
        """Within it, no file grows."""
        ballast, before = self.folder / "ballast", resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            if self.limited:
                resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
            else:
                _fill(ballast)
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            ballast.unlink(missing_ok=True)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (2**16, 1):
            with pytest.raises(OSError, match="No space left"):
                while True:
                    file.write(bytes(size))


def may_mount() -> bool:
    """Whether the system lets this process mount anything: root may, but not in every container."""
    (capabilities,) = re.findall(r"^CapEff:\s*(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return bool(int(capabilities, 16) >> 21 & 1)  # CAP_SYS_ADMIN


def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A folder on a small disk of its own."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if made.returncode != 0:
        assert "CI" not in os.environ or not may_mount(), "CI must not leave this out where it may mount"
        pytest.skip(f"this user cannot mount a small disk: {made.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)  # a database may be open still


@pytest.fixture(params=["a small disk", "a limit to files"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "a limit to files":
        (tmp_path / "disk").mkdir()
        yield Disk(tmp_path / "disk", limited=True)
    else:
        for folder in mounted(tmp_path / "disk", "8m"):
            yield Disk(folder, limited=False)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Disk]:
    for folder in mounted(tmp_path / "disk", "8m"):
        yield Disk(folder, limited=False)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "RETRY", 0.2)


def elsewhere(folder: Path, name: str, target: Path) -> None:
    """Have a part of a store lie on another disk."""
    folder.mkdir(exist_ok=True)
    target.mkdir()
    (folder / name).symlink_to(target)


def test_a_checkpoint_that_does_not_fit_is_told_and_the_one_before_is_kept(disk: Disk) -> None:
    store = open_store(disk.folder)
    trajectory, run = header_and_record(store, FOUR)
    said = list(events(trajectory, 4))
    assert trajectory.acquire()
    with Recorder(store) as recorder:
        recorder.begin(trajectory, [run])
        for event in said[:4]:
            recorder.take(trajectory, event)
        wait_until(lambda: trajectory.sent(run).sheets == (0, 1))  # nothing is left to send and to note
        assert isinstance(said[4], EpochDone) and said[4].epoch == 2
        with disk.full():
            with pytest.raises(Unwritable) as caught:
                recorder.take(trajectory, said[4])
            files = sorted(path.name for path in trajectory.folder.rglob("*") if path.is_file())
            failed = recorder.end(trajectory, "failed", "error", str(caught.value))
            with pytest.raises(StoreError, match=r"cannot be written \(.+\); make room there or name another store"):
                Store(store.address)
            assert Store(store.address, create=False).runs()["status"].tolist() == ["RUNNING"]
        assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)
        weights = trajectory.folder / "weights" / "000002.npz"
        assert str(caught.value) == (
            f"{weights} cannot be written ({caught.value.strerror}); once it can, the same command goes on"
        )
        kept = {"header.json", "started.json", "epochs.jsonl", f"{run.record}.json", f"{run.record}.sent.json", "lock"}
        assert set(files) == kept | {"000001.npz", "convolution_1.png"}  # nothing half
        assert [one.status for one in failed] == ["failed"]
        latest = trajectory.latest_state()
        assert latest is not None and latest.sha256() == state(0, 1).sha256()
        recorder.begin(trajectory, [run])
        for event in said[4:]:
            recorder.take(trajectory, event)
        recorder.leave(trajectory)
    (row,) = store.runs().to_dict("records")
    assert is_whole(store, row["run_id"])


@pytest.mark.parametrize("part", ["database", "artifacts"])
def test_what_the_store_has_no_room_for_is_sent_when_there_is_room(
    small: Disk, part: str, tmp_path: Path, hurried: None, capfd: pytest.CaptureFixture[str]
) -> None:
    if part == "database":
        home = small.folder
        for name in ("trajectories", "artifacts"):
            elsewhere(home, name, tmp_path / name)
    else:
        home = tmp_path / "home"
        elsewhere(home, "artifacts", small.folder / "artifacts")
    store = open_store(home)
    trajectory, run = header_and_record(store, LONG)
    assert trajectory.acquire()
    with Recorder(store) as recorder:
        recorder.begin(trajectory, [run])
        said = events(trajectory, 40)
        for _ in range(4):
            recorder.take(trajectory, next(said))
        wait_until(lambda: 1 in trajectory.sent(run).sheets)
        with small.full():
            for event in said:  # training is not held up
                recorder.take(trajectory, event)
            wait_until(lambda: recorder.trouble is not None)
            assert recorder.trouble is not None and recorder.trouble.startswith(
                f"the tracking store {store.address.name} did not answer as it should: "
                + ("database or disk is full" if part == "database" else "No space left on device: ")
            )
            assert "\n" not in recorder.trouble
            assert store.runs()["status"].tolist() == ["RUNNING"]  # no more than what happened
            assert trajectory.runs()[0].status == "finished"
        recorder.leave(trajectory)
    assert recorder.trouble is None
    (row,) = store.runs().to_dict("records")
    assert row["status"] == "FINISHED" and is_whole(store, row["run_id"])
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.slow
def test_a_training_that_fills_the_disk_ends_with_a_clear_line_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    data = write_made_up(tmp_path / "data", train=64, test=64)
    train = ("train", "--model", "dense", "--epochs", 12)
    for folder in mounted(tmp_path / "disk", "5m"):
        lab = Lab(folder, data)
        open_store(folder)
        said = lab.call(*train, status=1)
        kept = len(lab.trajectories()[0].epochs())
        assert 1 <= kept < 12
        (line,) = [line for line in said.splitlines() if "its run failed" in line]
        assert line.endswith(" cannot be written (No space left on device); once it can, the same command goes on")
        assert "1 of them did not finish; the same command goes on with them." in said and "Traceback" not in said
        assert "FINISHED" not in lab.call("list")
        subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
        assert "starting after epoch" in lab.call(*train)
        (row,) = lab.runs().to_dict("records")
        assert (row["status"], row["epochs_trained"]) == ("FINISHED", 12)


# -- a database that others use ------------------------------------------------------------------------------------

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
        printed, errors = listing.communicate(timeout=120)
        seconds["list"] = time.monotonic() - started
    listed = subprocess.CompletedProcess([], listing.returncode, printed, errors)
    return Held(store, seconds, trouble, unsent, read, listed)


@pytest.mark.slow
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


def damage(trajectory: Trajectory, part: str) -> Path:
    """Damage a file of a folder: its `header`, or the record of its `run`, which becomes that of other code."""
    path = trajectory.folder / "header.json"
    if part == "run":
        (path,) = (trajectory.folder / "runs").glob("*.json")
    path.write_text("[" if part == "header" else '{"record": "r", "of_later_code": 1}')
    return path


@pytest.mark.parametrize("part", ["header", "run"])
def test_a_damaged_folder_keeps_no_other_from_being_sent_or_cleaned(tmp_path: Path, part: str) -> None:
    store = open_store(tmp_path)
    folders = []
    for seed in (0, 1):
        trajectory, run = header_and_record(store, FOUR, seed)
        trajectory.save_run(run)
        folders.append(trajectory)
    path = damage(min(folders, key=lambda one: one.folder), part)
    sent, trouble = sync(store)
    assert sent == 1 and trouble is not None and f"{path} " in trouble
    assert store.runs()["status"].tolist() == ["KILLED"]
    assert clean(store) == (0, 2)


@pytest.mark.slow
def test_damaged_folders_are_told_and_keep_no_other_from_being_trained(tmp_path: Path) -> None:
    lab = Lab(tmp_path, write_made_up(tmp_path / "data", train=64, test=64))
    store, paths = open_store(tmp_path), []
    for seed, part in enumerate(("header", "run")):
        trajectory, run = header_and_record(store, FOUR, seed)
        trajectory.save_run(run)
        paths.append(damage(trajectory, part))
    train = ("train", "--model", "dense", "--dense-units", "8", "--epochs", "1")
    assert "1 runs to record" in lab.call(*train, "--dry-run")
    said = lab.call(*train)
    assert f"{paths[0]} was changed or damaged: it holds no JSON object" in said
    assert f"{paths[1]} is not a run as this code keeps it: " in said
    assert "1 runs made" in said and store.runs("ad_hoc")["status"].tolist() == ["FINISHED"]


def test_whatever_is_wrong_with_one_folder_the_others_are_sent_and_it_is_told(
    tmp_path: Path, hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    bad, good = (header_and_record(store, FOUR, seed) for seed in (0, 1))

    def send(trajectory: Trajectory, plain: Any = store.send) -> None:
        if trajectory is bad[0]:
            raise KeyError("none of the errors that anybody thought of")
        plain(trajectory)

    monkeypatch.setattr(store, "send", send)
    with Recorder(store) as recorder:
        for trajectory, run in (bad, good):
            assert trajectory.acquire()
            play(recorder, trajectory, run)
            wait_until(lambda: recorder.trouble is not None)
        wait_until(lambda: not store.unsent(good[0]))
        assert recorder.trouble == "KeyError: 'none of the errors that anybody thought of'"
    assert recorder.trouble == "KeyError: 'none of the errors that anybody thought of'"
    assert store.runs()["seed"].tolist() == ["1"] and len(store.unsent(bad[0])) == 1
    with bad[0].held() as had:
        assert had, "a folder that could not be sent is let go"


# -- a store that is elsewhere -------------------------------------------------------------------------------------


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A store with two runs of two studies, and a third that is not sent."""
    store = open_store(tmp_path / "original")
    record_one(store, FOUR, 0)
    record_one(store, replace(CNN, epochs=4), 0, study="epochs_study", arm="5 epochs")
    trajectory, run = header_and_record(store, FOUR, 7)
    trajectory.save_run(run)
    return tmp_path / "original"


def places(folder: Path) -> set[str]:
    """Every path that the database names."""
    columns = ("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location")
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        named = {path for table, name in columns for (path,) in connection.execute(f"SELECT {name} FROM {table}")}
    return {path for path in named if "/original" in path}


def test_a_moved_store_finds_its_artifacts_and_models_and_says_so(original: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved here"
    original.rename(moved)
    said = Lab(moved, tmp_path).call("list")
    assert f"artifacts are taken from {moved / 'artifacts'} now; they were recorded in {original / 'artifacts'}" in said
    store = open_store(moved)
    assert store.notices == [] and places(moved) == set()
    assert all(is_whole(store, run_id) for run_id in store.runs()["run_id"])
    for run in store.client.search_runs([one.experiment_id for one in store.client.search_experiments()]):
        assert {item.path for item in store.client.list_artifacts(run.info.run_id)} >= {"config.json", "figures"}


def test_a_moved_store_records_beside_itself_and_sends_what_was_not_sent(original: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    original.rename(moved)
    store = open_store(moved)
    assert sync(store) == (1, None)
    record_one(store, FOUR, 1)
    assert not original.exists()
    assert sorted(store.runs("baseline_study")["seed"]) == ["0", "1", "7"]
    assert len(list((moved / "artifacts" / "baseline_study").iterdir())) == 3  # two finished runs, and their models


def test_a_copy_uses_its_own_artifacts_and_leaves_the_originals_alone(original: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(original, copy)
    before = {path: path.stat().st_mtime_ns for path in original.rglob("*")}
    store = open_store(copy)
    assert places(copy) == set() and len(store.notices) == 1
    record_one(store, FOUR, 1)
    assert {path: path.stat().st_mtime_ns for path in original.rglob("*")} == before
    assert open_store(original).notices == []


def test_a_database_copied_alone_still_reads_the_originals_artifacts(original: Path, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    shutil.copy(original / "mlflow.db", tmp_path / "alone")
    store = open_store(tmp_path / "alone")
    assert store.notices == []
    assert all(is_whole(store, run_id) for run_id in store.runs()["run_id"])


def test_artifacts_that_are_nowhere_are_told_with_where_to_put_them(original: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    original.rename(moved)
    (moved / "artifacts" / "epochs_study").rename(tmp_path / "left behind")
    said = Lab(moved, tmp_path).call("list")
    there, wanted = original / "artifacts" / "epochs_study", moved / "artifacts" / "epochs_study"
    assert f"artifacts are missing: copy {there} of the old place to {wanted}" in said
    (tmp_path / "left behind").rename(wanted)
    store = open_store(moved)
    assert all(is_whole(store, run_id) for run_id in store.runs()["run_id"])


def test_a_place_that_somebody_chose_and_a_link_to_the_store_are_left_alone(original: Path, tmp_path: Path) -> None:
    store = open_store(original)
    store.client.create_experiment("mine", (tmp_path / "original" / "elsewhere").as_uri())
    before = places(original)
    (tmp_path / "link").symlink_to(original)
    assert open_store(tmp_path / "link").notices == []
    assert places(original) == before


# -- two clones ----------------------------------------------------------------------------------------------------


def test_claims_take_one_code_and_say_what_they_left_out(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for seed, code in enumerate((CODE, CODE, {**CODE, "models.py": "5" * 64})):
        record_one(store, STUDIES[0].arms["dense"], seed, code=code)
    assert store.runs()["code_sha256"].value_counts().tolist() == [2, 1]
    lab = Lab(tmp_path, tmp_path)
    said = lab.call("claims", "baseline_study")
    assert "2 of 3 recorded runs are taken; left out: another code (1)." in said
    lab.call("report", "baseline_study", "--output", tmp_path / "report.html")
    assert "another code" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_two_clones_with_different_code_write_to_one_store_and_neither_is_taken_for_the_other(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "store", write_made_up(tmp_path / "data", train=64, test=64))
    open_store(lab.folder)
    clone = tmp_path / "clone"
    for name in ("fashion_cnn", "experiments"):
        shutil.copytree(REPOSITORY / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    models = clone / "fashion_cnn" / "models.py"
    models.write_text(models.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    train = ("train", "--model", "dense", "--dense-units", "8", "--epochs", "1")
    other = subprocess.Popen(
        lab.command(*train), cwd=clone, env=lab.variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said = lab.call(*train)
    printed, _ = other.communicate(timeout=200)
    assert other.returncode == 0, printed
    assert "1 runs made" in said and "1 runs made" in printed
    runs = lab.runs()
    assert runs["status"].tolist() == ["FINISHED"] * 2
    assert set(runs["code_sha256"]) == {code_sha256(), code_sha256(clone / "fashion_cnn")}
    assert len(set(runs["code_sha256"])) == 2 == len(lab.trajectories())
    assert "1 runs were recorded already" in lab.call(*train)
