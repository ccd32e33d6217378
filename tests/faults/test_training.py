"""Training that raises, that leaves the numbers, and under a clock that jumps."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from fashion_cnn.evidence.record import absent
from fashion_cnn.evidence.selection import select
from tests.faults.test_processes import check_records
from tests.support.command import Lab
from tests.support.made_up import write_made_up
from tests.support.watch import in_every_process

# In a worker: the network with convolutions raises in its second epoch.
RAISES = """
import sys
if "fashion_cnn.running.template" in sys.orig_argv:
    from fashion_cnn.training import Trainer

    def train_epoch(trainer, plain=Trainer.train_epoch):
        if trainer.config.model == "cnn" and trainer.epoch == 1:
            raise ArithmeticError("two and two are five\\nin this epoch")
        return plain(trainer)

    Trainer.train_epoch = train_epoch
"""
# Everywhere: each look at the clock finds it an hour earlier.
CLOCK = """
import itertools, time
hours, plain, plain_ns = itertools.count(), time.time, time.time_ns
time.time = lambda: plain() - 3600 * next(hours)
time.time_ns = lambda: plain_ns() - 3600 * next(hours) * 10**9
"""
# Steps so large that the numbers leave the range of float32; all images in one step, so that the training loss of an
# epoch, taken before that step, is still a number.
DIVERGES = ("train", "--name", "diverges", "--padding", "same", "--learning-rate", 1000, "--batch-size", 330)
LARGE_NETWORK = ("--additional-convolutions", 3, "--filters", 64, "--epochs", 30)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_made_up(tmp_path_factory.mktemp("data"), train=330, test=64)


@pytest.mark.fault("exception-training")
def test_an_exception_fails_its_run_with_the_traceback_the_other_arm_goes_on_and_so_does_it_later(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path / "lab", data)
    monkeypatch.setenv("PYTHONPATH", in_every_process(tmp_path / "fault", RAISES))
    printed = lab.call("run", "baseline_study", "--smoke", status=1)
    assert "cnn · seed 0: its run failed: ArithmeticError: two and two are five" in printed
    assert "1 of them did not finish; the same command goes on with them." in printed
    runs = lab.runs().set_index("arm")
    assert runs.loc["dense", "status"] == "FINISHED"
    failed = runs.loc["cnn"]
    assert (failed["status"], failed["stop_reason"]) == ("FAILED", "error")
    assert failed["error"] == "ArithmeticError: two and two are five"
    told = lab.artifact(failed["run_id"], "traceback.txt").read_text(encoding="utf-8")
    assert told.startswith("Traceback") and told.endswith("ArithmeticError: two and two are five\nin this epoch\n")
    assert 'raise ArithmeticError("two and two are five' in told
    assert list(lab.store().epochs([failed["run_id"]])["epoch"]) == [1]

    monkeypatch.delenv("PYTHONPATH")
    assert "cnn · seed 0: starting after epoch 1" in lab.call("run", "baseline_study", "--smoke")
    finished = lab.runs().set_index("arm").loc["cnn"]
    assert (finished["run_id"], finished["status"]) == (failed["run_id"], "FINISHED") and absent(finished["error"])
    check_records(lab)


@pytest.mark.fault("no-number")
def test_a_loss_that_is_no_number_ends_its_run_as_failed_and_leaves_it_out_of_every_mean(
    tmp_path: Path, data: Path
) -> None:
    lab = Lab(tmp_path, data)
    printed = lab.call(*DIVERGES, *LARGE_NETWORK, status=1)
    failure = "TrainingError: the test loss became nan in epoch 3"
    assert f"diverges · seed 0: its run failed: {failure}" in printed
    run = lab.runs().iloc[0]
    assert (run["status"], run["stop_reason"], run["error"]) == ("FAILED", "error", failure)
    epochs = lab.store().epochs([run["run_id"]])
    assert list(epochs["epoch"]) == [1, 2] and epochs["test_loss"].notna().all()
    # A run on made-up data is a smoke run; as a real one it would be left out for its own reason, and counted.
    chosen, left_out = select(lab.runs().assign(smoke="false"))
    assert chosen.empty and left_out == [("not finished", 1)]


@pytest.mark.fault("clock")
def test_durations_hold_though_the_clock_jumps(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(tmp_path / "lab", data)
    monkeypatch.setenv("PYTHONPATH", in_every_process(tmp_path / "fault", CLOCK))
    started = time.monotonic()
    printed = lab.call_process("train", "--model", "dense", "--epochs", "3")
    spent = time.monotonic() - started
    monkeypatch.delenv("PYTHONPATH")
    run = lab.runs().iloc[0]
    stamps = [one["ended_at"] for one in lab.json_artifact(run["run_id"], "trajectory.json")["epochs"]]
    assert stamps[0] - stamps[-1] > 3600 * 1000, "the clock did not jump"
    epochs = lab.store().epochs([run["run_id"]])
    assert (epochs["epoch_seconds"] > 0).all() and (epochs["epoch_cpu_seconds"] > 0).all()
    assert 0 < run["fit_seconds"] + run["evaluate_seconds"] < spent
    shown = (run["end_time"] - run["start_time"]) / 1000
    assert shown == pytest.approx(run["fit_seconds"] + run["evaluate_seconds"], abs=0.002)
    assert re.search(r"1 run made in (\d+ min )?\d+(\.\d)? s, from start to end", printed)
    check_records(lab)
