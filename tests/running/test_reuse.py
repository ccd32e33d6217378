"""Trajectories that several runs, calls and workers share: real processes, a real store, a made-up data set."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fashion_cnn.config import RunConfig
from fashion_cnn.events import Drawn
from fashion_cnn.store.trajectories import Trajectory
from tests.support.command import Lab
from tests.support.made_up import write_made_up
from tests.support.watch import in_every_process, refusing

# In a worker: the second sheet of feature maps, which is epoch 1's, cannot be drawn.
BLOT = """
import sys
if "fashion_cnn.running.template" in sys.orig_argv:
    from fashion_cnn import figures

    def layer_scale(maps, plain=figures.layer_scale, calls=[]):
        calls.append(maps)
        if len(calls) == 2:
            raise RuntimeError("a blot")
        return plain(maps)

    figures.layer_scale = layer_scale
"""
LONG = ("train", "--name", "long", "--epochs", "12", "--filters", "8")  # about 0.25 s an epoch on `slow_data`


@pytest.fixture(scope="module")
def slow_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_made_up(tmp_path_factory.mktemp("slow"), train=3000, test=64)


class TestReuse:
    def test_a_longer_run_continues_a_shorter_one_and_cleaning_keeps_that(self, tmp_path: Path, data: Path) -> None:
        lab, straight = Lab(tmp_path / "lab", data), Lab(tmp_path / "straight", data)
        dense = ("train", "--model", "dense")
        lab.call(*dense, "--epochs", 3, "--name", "three")
        freed = lab.call("gc")
        assert "MiB freed; 0 trajectories left alone" in freed
        lab.call(*dense, "--epochs", 5, "--name", "five")
        lab.call(*dense, "--epochs", 2, "--name", "two")  # its weights were cleaned away: trained again
        straight.call(*dense, "--epochs", 5, "--name", "five")
        runs = lab.runs().set_index("arm")
        assert runs.loc["five", "weights_sha256"] == straight.runs().set_index("arm").loc["five", "weights_sha256"]
        assert runs.loc["five", "reused_epochs"] == 3
        assert runs.loc["two", "reused_epochs"] == 2
        kept = lab.json_artifact(runs.loc["five", "run_id"], "trajectory.json")["epochs"]
        assert runs.loc["two", "weights_sha256"] == kept[1]["weights_sha256"]

    def test_stopping_at_a_loss_is_a_prefix_of_the_same_trajectory(self, tmp_path: Path, data: Path) -> None:
        lab = Lab(tmp_path, data)
        lab.call("train", "--model", "dense", "--epochs", 6, "--name", "six")
        six = lab.runs().iloc[0]
        losses = [e["loss"] for e in lab.json_artifact(six["run_id"], "trajectory.json")["epochs"]]
        threshold = (losses[2] + losses[3]) / 2
        lab.call("train", "--model", "dense", "--epochs", 100, "--callback-loss", threshold, "--name", "stop")
        stopped = lab.runs().set_index("arm").loc["stop"]
        assert (stopped["stop_reason"], stopped["epochs_trained"]) == ("callback", 4)
        assert stopped["reused_epochs"] == 4 and stopped["trajectory_sha256"] == six["trajectory_sha256"]


class TestTwoCalls:
    @pytest.mark.fault("eight-at-once")
    def test_of_two_calls_that_want_the_same_trajectory_one_waits_and_each_run_is_recorded_once(
        self, tmp_path: Path, slow_data: Path
    ) -> None:
        lab = Lab(tmp_path, slow_data)
        lab.store()
        both = [lab.start(*LONG), lab.start(*LONG)]
        for process in both:
            _, errors = process.communicate(timeout=600)
            assert process.returncode == 0, errors
            assert errors.count("another process trains it") <= 1
        assert len(lab.runs()) == 1 and len(lab.trajectories()) == 1
        (epochs,) = [len(one.epochs()) for one in lab.trajectories()]
        assert epochs == 12


class TestDrawing:
    @pytest.mark.fault("sigkill")
    def test_an_epoch_that_was_written_but_not_drawn_is_drawn_when_its_run_goes_on(
        self, tmp_path: Path, data: Path
    ) -> None:
        def stop(trajectory: Trajectory, event: Drawn) -> None:
            if event.epoch == 2:
                signal.raise_signal(signal.SIGTERM)
            save(trajectory, event)

        lab, save = Lab(tmp_path, data), Trajectory.save_sheets
        train = ("train", "--epochs", 3, "--filters", 4)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trajectory, "save_sheets", stop)
            lab.call(*train, status=143)
        assert [len(one.epochs()) for one in lab.trajectories()] == [2]
        lab.call(*train)
        assert sorted({step for _, step in lab.images(lab.runs().iloc[0]["run_id"])}) == [0, 1, 2, 3]

    @pytest.mark.fault("exception-drawing")
    def test_what_cannot_be_drawn_is_told_and_never_loses_the_run(
        self, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", refusing(tmp_path / "fault", "matplotlib", "out of ink"))
        lab = Lab(tmp_path / "lab", data)
        lab.call("train", "--epochs", 1, "--filters", 4)
        row = lab.runs().iloc[0]
        assert row["status"] == "FINISHED" and row["drawing_error"] == "ImportError: out of ink"
        names = {item.path for item in lab.store().client.list_artifacts(row["run_id"])}
        assert "activations.npz" in names and "images" not in names

    @pytest.mark.fault("exception-drawing")
    def test_what_could_not_be_drawn_on_the_way_is_told_too(
        self, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", in_every_process(tmp_path / "fault", BLOT), prepend=os.pathsep)
        lab = Lab(tmp_path / "lab", data)
        printed = lab.call("train", "--epochs", 3, "--filters", 4)
        row = lab.runs().iloc[0]
        assert row["status"] == "FINISHED" and row["drawing_error"] == "RuntimeError: a blot"
        assert "not drawn: RuntimeError: a blot" in printed
        assert sorted({step for _, step in lab.images(row["run_id"])}) == [0, 2, 3]

    def test_each_run_shows_its_own_stop_and_its_own_epochs(self, tmp_path: Path, data: Path) -> None:
        lab = Lab(tmp_path, data)
        lab.call("train", "--epochs", 7, "--filters", 4, "--name", "seven")
        lab.call("train", "--epochs", 6, "--filters", 4, "--name", "six")
        runs = lab.runs().set_index("arm")["run_id"]
        steps = {arm: sorted({step for _, step in lab.images(run_id)}) for arm, run_id in runs.items()}
        assert steps == {"seven": [0, 1, 2, 5, 7], "six": [0, 1, 2, 5, 6]}
        drawn = {arm: lab.artifact(run_id, "figures/learning_curves.png").read_bytes() for arm, run_id in runs.items()}
        assert drawn["seven"] != drawn["six"]


@pytest.mark.real_data
def test_real_images_give_the_same_weights_alone_and_side_by_side(tmp_path: Path) -> None:
    from fashion_cnn.download import find

    folder = find()
    assert folder is not None, "the real data set is missing: make setup"
    together, alone = Lab(tmp_path / "together", folder), Lab(tmp_path / "alone", folder)
    together.call("run", "baseline_study", "--smoke", "--workers", 2)
    alone.call("run", "baseline_study", "--smoke", "--workers", 1, "--no-reuse")
    assert len(together.weights()) == 2 and together.weights() == alone.weights()
    assert {RunConfig.from_mapping(r.config).epochs for t in together.trajectories() for r in t.runs()} == {2}
