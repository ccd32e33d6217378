"""Processes that are killed, stopped, or die with their machine."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from fashion_cnn.config import DENSE
from fashion_cnn.evidence.record import absent
from fashion_cnn.store import recorder
from fashion_cnn.store.entries import RunStatus
from fashion_cnn.store.recorder import Recorder
from fashion_cnn.store.tracking import LOST_AFTER
from fashion_cnn.store.trajectories import Trajectory
from tests.support import scripted
from tests.support.command import REPOSITORY, Lab
from tests.support.made_up import write_made_up
from tests.support.watch import (
    GIVES_UP,
    PATIENCE,
    Terminal,
    ending,
    epochs,
    kill,
    killing_workers,
    processes,
    start_on_terminal,
    wait_for_epochs,
    wait_until,
    workers,
)

LONG = ("train", "--name", "long", "--epochs", "12", "--filters", "8")  # about 0.4 s an epoch on `slow_data`
OTHER = ("train", "--name", "other", "--model", "dense", "--epochs", "1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_made_up(tmp_path_factory.mktemp("data"), train=330, test=64)


@pytest.fixture(scope="module")
def slow_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_made_up(tmp_path_factory.mktemp("slow"), train=5000, test=64)


@pytest.mark.parametrize(
    ("kills", "command"),
    [
        pytest.param(3, ("run", "baseline_study", "--smoke"), id="3"),
        pytest.param(
            50,
            ("run", "baseline_study", "epochs_study", "depth_study"),
            id="50",
            marks=[pytest.mark.slow, pytest.mark.soak],
        ),
    ],
)
@pytest.mark.timeout(1500)
@pytest.mark.fault("sigkill", note="3 kills; 50 in the soak")
def test_killed_at_random_moments_it_ends_with_the_same_weights_and_each_run_once(
    tmp_path: Path, data: Path, kills: int, command: tuple[str, ...]
) -> None:
    chance = random.Random(int(os.environ["FAULT_SEED"]))
    victims = [*("parent", "worker", "both"), *chance.choices(("parent", "worker", "both"), k=kills - 3)]
    chance.shuffle(victims)
    undisturbed = Lab(tmp_path / "undisturbed", data)
    undisturbed.call(*command)
    written = [path.stat().st_mtime for path in (undisturbed.folder / "trajectories").rglob("*")]
    life = max(written) - min(written)  # seconds, from the start of its workers to what was sent at its end
    seeds = 1
    with ending(Lab(tmp_path / "killed", data)) as lab:
        lab.store()
        while victims:
            process = lab.start(*command, "--seeds", seeds)
            # A moment of a run's life.
            wait_until(lambda: workers(lab) or process.poll() is not None, "a worker")  # noqa: B023
            while victims and process.poll() is None:
                try:
                    process.wait(chance.triangular(0, life, 0))  # rather early: later there may be nothing to kill
                except subprocess.TimeoutExpired:
                    found = workers(lab) if victims[-1] in ("worker", "both") else {}
                    if not found and victims[-1] != "parent":
                        continue  # it has trained all and still sends: there is no worker to kill
                    victim = victims.pop()
                    for number in found:
                        kill(number)
                    if victim in ("parent", "both"):
                        process.kill()
                        process.wait()
            if victims and process.wait() == 0:
                seeds += 1  # all is done, so there is more to do
            process.kill()
            _, errors = process.communicate()
            assert "Traceback" not in errors, errors
            wait_until(lambda: not processes(lab), "no process outlives its runner", GIVES_UP)
    lab.call(*command, "--seeds", seeds)
    assert not processes(lab)
    undisturbed.call(*command, "--seeds", seeds)
    runs = lab.runs()
    assert set(runs["status"]) == {"FINISHED"}
    assert not runs.duplicated(["study", "arm", "seed"]).any()
    assert len(runs) == len(undisturbed.runs()) and lab.weights() == undisturbed.weights()
    check_records(lab)


def check_records(lab: Lab) -> None:
    """Each record of a lab is complete and consistent, and holds nothing twice."""
    from fashion_cnn.evidence.consistency import contradictions
    from fashion_cnn.evidence.record import missing
    from fashion_cnn.review.replay import SMOKE_RULES, records_of

    store = lab.store()
    rows = [row for row in store.runs().to_dict("records") if row["status"] == "FINISHED"]
    for record in records_of(store, rows):
        assert not [*map(str, missing(record, SMOKE_RULES)), *map(str, contradictions(record))]
        run_id = record.row["run_id"]
        losses = store.client.get_metric_history(run_id, "loss")
        assert sorted(metric.step for metric in losses) == list(range(1, len(record.epochs) + 1))
        shown = Counter(item.path.partition("+timestamp")[0] for item in store.client.list_artifacts(run_id, "images"))
        assert set(shown.values()) == {2}  # the picture and its thumbnail
        drawn = {name: count for name, count in shown.items() if name.startswith("images/feature_maps~")}
        layers = {name.partition("+step+")[0] for name in drawn}
        assert bool(layers) == (record.row["model"] == "cnn")
        last = len(record.epochs)
        steps = [epoch for epoch in range(last + 1) if epoch in (1, 2, last) or epoch % 5 == 0]
        assert drawn == {f"{layer}+step+{step}": 2 for layer in layers for step in steps}


@dataclass
class Story:
    """One long run that is stopped in all ways, one after another, and what was seen each time."""

    lab: Lab
    status: dict[str, int] = field(default_factory=dict)
    """How the command ended."""
    errors: dict[str, str] = field(default_factory=dict)
    row: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The run in the store afterwards."""
    left: dict[str, dict[int, str]] = field(default_factory=dict)
    """Processes that were still there afterwards."""
    said: dict[str, str] = field(default_factory=dict)
    """What other commands printed."""

    def look(self, when: str, process: subprocess.Popen[str] | None = None) -> None:
        if process is not None:
            _, self.errors[when] = process.communicate(timeout=PATIENCE)
            self.status[when] = process.returncode
            self.left[when] = processes(self.lab)
        runs = self.lab.runs()
        self.row[when] = runs[runs["arm"] == "long"].iloc[0].to_dict()

    def heartbeat(self, seconds_ago: float) -> None:
        """Say that the long run gave its last sign of life so long ago."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds_ago))
        client, until = self.lab.store().client, time.monotonic() + PATIENCE
        while True:  # the run itself writes meanwhile, and MLflow's client gives up at once where two collide
            try:
                client.set_tag(self.row["SIGINT"]["run_id"], "heartbeat", at)
                return
            except MlflowException as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.5)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, slow_data: Path) -> Story:
    told = Story(Lab(tmp_path_factory.mktemp("story"), slow_data))
    with ending(told.lab) as lab:
        lab.store()
        for number, epoch in ((signal.SIGINT, 1), (signal.SIGTERM, 3)):
            process = lab.start(*LONG)
            wait_for_epochs(lab, epoch, process)
            process.send_signal(number)
            told.look(number.name, process)

        terminal = start_on_terminal(lab, *LONG)
        hang_up(lab, terminal, 5)
        told.look("SIGHUP", terminal.process)

        process = lab.start(*LONG)
        wait_for_epochs(lab, 7, process)
        stop_between_writes(lab, process)  # alive, but without a heartbeat
        told.heartbeat(3 * LOST_AFTER)
        told.said["beside a live one"] = lab.call(*OTHER)
        told.look("beside a live one")
        process.kill()
        told.look("SIGKILL")
        wait_until(lambda: not workers(lab), "no worker outlives its runner", GIVES_UP)
        told.look("SIGKILL", process)
        told.said["list"] = lab.call("list")
        told.said["list --json"] = lab.call("list", "--json")
        told.said["another run"] = lab.call(*OTHER)
        told.look("another run")
        told.said["the same run"] = lab.call(*LONG)
        told.look("the same run")
    return told


def stop_between_writes(lab: Lab, process: subprocess.Popen[str]) -> None:
    """Stop a command for a while, but not while it reads or writes the database, which would hold up whoever writes."""
    for _ in range(100):
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        with closing(sqlite3.connect(lab.folder / "mlflow.db", timeout=0, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError:
                process.send_signal(signal.SIGCONT)
            else:
                connection.execute("ROLLBACK")
                return
    raise AssertionError("it used the database each time")


def hang_up(lab: Lab, terminal: Terminal, epoch: int) -> None:
    """Close the terminal of a command when it has trained so far."""

    def reached() -> bool:
        assert terminal.process.poll() is None, f"it ended before epoch {epoch}"
        terminal.read()
        return epochs(lab) >= epoch

    wait_until(reached, f"epoch {epoch}")
    terminal.close()


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.fault("signal")
def test_a_signal_marks_runs_killed_tells_what_becomes_of_them_and_leaves_no_process(
    story: Story, name: str, status: int
) -> None:
    assert story.status[name] == status and not story.left[name]
    row = story.row[name]
    assert (row["status"], row["stop_reason"], row["error"]) == ("KILLED", "killed", f"stopped by {name}")
    if name != "SIGHUP":  # whose terminal is gone
        assert story.errors[name].endswith(f"stopped by {name}; the same command goes on from the last epoch\n")
        assert "Traceback" not in story.errors[name]


@pytest.mark.fault("signal")
def test_a_hang_up_that_is_ignored_stops_nothing() -> None:
    code = (
        "import os, signal; from fashion_cnn.signals import stoppable; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with stoppable('?'): os.kill(os.getpid(), signal.SIGHUP); print('went on')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "went on\n"


@pytest.mark.fault("machine-dies")
def test_a_run_without_heartbeat_is_listed_as_lost(story: Story) -> None:
    listed = {row["arm"]: row["status"] for row in json.loads(story.said["list --json"])["runs"]}
    assert listed == {"long": "LOST", "other": "FINISHED"}
    assert "1 lost: said to be running, but without a sign of life for two minutes." in story.said["list"]


@pytest.mark.fault("machine-dies")
def test_a_run_whose_process_lives_is_untouched_even_without_heartbeat(story: Story) -> None:
    row = story.row["beside a live one"]
    assert row["status"] == "RUNNING" and absent(row["stop_reason"])
    assert "lost" not in story.said["beside a live one"]


@pytest.mark.fault("machine-dies")
def test_the_next_call_closes_lost_runs_that_it_is_not_asked_for(story: Story) -> None:
    row = story.row["another run"]
    assert (row["status"], row["stop_reason"]) == ("KILLED", "lost")
    assert "long · seed 0: closed as lost, the process that made it died" in story.said["another run"]
    assert row["end_time"] < time.time() * 1000 - 1000  # its last epoch's, not when it was found


@pytest.mark.fault("signal")
def test_after_all_this_it_is_the_same_run_with_the_same_weights(story: Story, tmp_path: Path, slow_data: Path) -> None:
    assert "starting after epoch" in story.said["the same run"]
    row = story.row["the same run"]
    assert row["status"] == "FINISHED" and absent(row["error"])
    assert len({seen["run_id"] for seen in story.row.values()}) == 1
    undisturbed = Lab(tmp_path, slow_data)
    undisturbed.call(*LONG)
    assert undisturbed.runs().iloc[0]["weights_sha256"] == row["weights_sha256"]
    check_records(story.lab)


@pytest.mark.fault("machine-dies")
def test_a_run_beats_every_fifteen_seconds_and_is_lost_after_two_minutes() -> None:
    assert (recorder.HEARTBEAT, LOST_AFTER) == (15, 120)


@pytest.mark.fault("machine-dies")
def test_a_long_epoch_or_a_long_send_is_no_loss_because_a_thread_beats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "HEARTBEAT", 0.1)
    store = scripted.open_store(tmp_path)
    trajectory, run = scripted.header_and_record(store, DENSE)
    assert trajectory.acquire()
    sending, answered = threading.Event(), threading.Event()

    def hang(_: Trajectory) -> None:
        sending.set()
        assert answered.wait(30)

    with Recorder(store) as keeper:
        keeper.begin(trajectory, [run])
        wait_until(lambda: trajectory.sent(run).tags, "the run is in the store")
        monkeypatch.setattr(store, "send", hang)
        keeper.take(trajectory, next(scripted.events(trajectory, 1)))
        assert sending.wait(PATIENCE)
        first = store.runs()["heartbeat"].iloc[0]
        wait_until(lambda: store.runs()["heartbeat"].iloc[0] > first, "another heartbeat", 10)
        assert len(trajectory.epochs()) == 0
        answered.set()
        keeper.leave(trajectory)


@pytest.mark.fault("machine-dies")
def test_a_run_lost_on_another_machine_is_closed_and_one_that_beats_is_not(tmp_path: Path) -> None:
    store = scripted.open_store(tmp_path)
    for seed in (0, 1, 2):
        trajectory, run = scripted.header_and_record(store, DENSE, seed, start_time=1 + seed)
        trajectory.save_run(run)
        store.send(trajectory)
    ids = list(store.runs()["run_id"])
    for run_id in ids[:2]:
        store.client.set_tag(run_id, "heartbeat", "2020-01-01T12:00:00Z")
    here = {store.runs()["record"].iloc[1]: ids[1]}  # its trajectory's lock tells more than its heartbeat
    assert store.close_lost(here) == ["baseline_study: dense · seed 0"]
    runs = store.runs()
    assert list(runs["status"]) == ["KILLED", "RUNNING", "RUNNING"]
    assert list(runs["stop_reason"].fillna("")) == ["lost", "", ""]


@pytest.mark.parametrize("stop_reason", ["killed", "error", "lost"])
@pytest.mark.fault("clock")
def test_a_run_lasts_no_less_than_nothing_though_the_clock_was_set_back(tmp_path: Path, stop_reason: str) -> None:
    store = scripted.open_store(tmp_path)
    ahead = 1000 * round(time.time() + 3600)
    trajectory, run = scripted.header_and_record(store, DENSE, start_time=ahead)
    trajectory.save_run(run)
    store.send(trajectory)
    if stop_reason == "lost":  # on another machine
        assert not store.close_lost({})
        store.client.set_tag(store.runs()["run_id"].iloc[0], "heartbeat", "2020-01-01T12:00:00Z")
        assert store.close_lost({})
    else:
        status: RunStatus = "killed" if stop_reason == "killed" else "failed"
        trajectory.save_run(replace(run, status=status, stop_reason=stop_reason))
        store.send(trajectory)
    row = store.runs().iloc[0]
    assert row["stop_reason"] == stop_reason and row["end_time"] == row["start_time"]


@pytest.mark.fault("out-of-memory")
def test_a_worker_that_was_killed_once_is_tried_again_and_all_is_well(tmp_path: Path, data: Path) -> None:
    lab = Lab(tmp_path, data)
    with killing_workers(lab, 1) as killed:
        printed = lab.call(*OTHER)
    assert len(killed) == 1
    assert (
        "other · seed 0: its run failed: the worker was ended by SIGKILL, as the system does when memory runs out; it "
        "is tried once more" in printed
    )
    run = lab.runs().iloc[0]
    assert (run["status"], run["stop_reason"]) == ("FINISHED", "epochs") and absent(run["error"])


@pytest.mark.fault("out-of-memory")
def test_a_worker_that_is_killed_before_it_has_read_its_job_is_tried_again(tmp_path: Path, data: Path) -> None:
    lab = Lab(tmp_path, data)
    dense = ("train", "--model", "dense")
    lab.call(*dense, "--name", "short", "--epochs", 1)
    # With a state, a job does not fit the socket: the runner is still sending it when its worker is gone.
    with killing_workers(lab, 1) as killed:
        printed = lab.call(*dense, "--name", "longer", "--epochs", 2)
    assert len(killed) == 1
    assert "longer · seed 0: its run failed: the worker was ended by SIGKILL" in printed
    assert set(lab.runs()["status"]) == {"FINISHED"}


@pytest.mark.fault("out-of-memory")
def test_a_worker_that_was_killed_twice_fails_its_run_and_the_others_go_on(tmp_path: Path, data: Path) -> None:
    lab = Lab(tmp_path, data)

    def is_cnn(folder: str) -> bool:
        mine = next(one for one in lab.trajectories() if one.folder.name == folder)
        return bool(mine.header.settings["model"] == "cnn")

    with killing_workers(lab, 99, is_cnn) as killed:
        printed = lab.call("run", "baseline_study", "--smoke", status=1)
    assert len(killed) == 2 and len(set(killed)) == 1
    assert "1 of them did not finish" in printed
    runs = lab.runs().set_index("arm")
    assert runs.loc["dense", "status"] == "FINISHED"
    failed = runs.loc["cnn"]
    assert (failed["status"], failed["stop_reason"]) == ("FAILED", "error")
    assert failed["error"] == "the worker was ended by SIGKILL, as the system does when memory runs out"
