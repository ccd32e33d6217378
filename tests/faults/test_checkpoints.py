"""Saved states that are no longer what was saved, or belong to another trajectory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fashion_cnn.config import CNN, RunConfig
from fashion_cnn.events import EpochDone, Identity
from fashion_cnn.state import State
from fashion_cnn.store.files import TrajectoryError
from fashion_cnn.store.trajectories import Header, Trajectory, header_of
from tests.support.command import Lab
from tests.support.made_up import write_made_up

HERE = Identity("d" * 64, "c" * 64, "e" * 64)
ELSEWHERE = replace(HERE, environment_sha256="f" * 64)
DENSE = ("train", "--model", "dense")


def header(config: RunConfig = CNN, identity: Identity = HERE) -> Header:
    return header_of(config, 0, identity, {"threads": 1}, None)


def trained(folder: Path, of: Header | None = None) -> Trajectory:
    """A trajectory of four epochs; its full states are kept for epochs 3 and 4. The numbers depend on nothing else."""
    made, of = Trajectory(folder), of or header()
    made.create(of)
    for epoch in range(1, 5):
        weights = {"hidden/kernel": np.full((3, 2), epoch, np.float32)}
        state = State(epoch, weights, {"adam/iteration": np.array(epoch)})
        made.append(EpochDone(state, state.weights_sha256(), {"loss": 1 / epoch}, 1000 * epoch, of.identity))
    return made


def newest(trajectory: Trajectory) -> Path:
    return trajectory.folder / "states" / "000004.npz"


@pytest.fixture
def trajectory(tmp_path: Path) -> Trajectory:
    return trained(tmp_path / "mine")


@pytest.mark.fault("state-damaged")
def test_wherever_a_state_is_cut_off_it_is_refused_and_the_one_before_is_used(trajectory: Trajectory) -> None:
    whole = newest(trajectory).read_bytes()
    for length in range(0, len(whole), 11):
        newest(trajectory).write_bytes(whole[:length])
        refused: list[str] = []
        state = trajectory.latest_state(refused)
        assert state is not None and state.epoch == 3, f"cut off after {length} bytes"
        assert len(refused) == 1 and refused[0].startswith("the state after epoch 4 cannot be read (")


@pytest.mark.fault("state-damaged")
def test_whatever_bit_is_flipped_no_other_numbers_are_ever_used(trajectory: Trajectory) -> None:
    whole = newest(trajectory).read_bytes()
    good = trajectory.latest_state()
    assert good is not None
    used = {3: 0, 4: 0}
    for bit in range(0, 8 * len(whole), 37):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        newest(trajectory).write_bytes(flipped)
        refused: list[str] = []
        state = trajectory.latest_state(refused)
        assert state is not None and len(refused) == 4 - state.epoch
        # A bit that carries nothing, such as one of a file's date, is no damage.
        assert state.epoch == 3 or state.sha256() == good.sha256()
        used[state.epoch] += 1
    assert used[3] > used[4]


@pytest.mark.parametrize(
    "other", [header(replace(CNN, learning_rate=0.01)), header(identity=ELSEWHERE)], ids=["config", "environment"]
)
@pytest.mark.fault("state-foreign")
def test_a_state_of_another_trajectory_is_refused_even_with_the_same_numbers(
    trajectory: Trajectory, tmp_path: Path, other: Header
) -> None:
    shutil.copy(newest(trained(tmp_path / "other", other)), newest(trajectory))
    refused: list[str] = []
    state = trajectory.latest_state(refused)
    assert state is not None and state.epoch == 3
    assert refused == [
        "the state after epoch 4 is of another trajectory (another config, seed, data set, code or environment)"
    ]


@pytest.mark.fault("state-foreign")
def test_a_state_of_another_epoch_is_refused(trajectory: Trajectory) -> None:
    shutil.copy(newest(trajectory).with_name("000003.npz"), newest(trajectory))
    refused: list[str] = []
    state = trajectory.latest_state(refused)
    assert state is not None and state.epoch == 3
    assert refused == ["the state after epoch 4 is not the one that was recorded (another SHA-256)"]


def test_epochs_from_another_environment_under_a_header_of_this_one_are_refused(
    trajectory: Trajectory, tmp_path: Path
) -> None:
    other = trained(tmp_path / "other", header(identity=ELSEWHERE))
    shutil.copy(other.folder / "epochs.jsonl", trajectory.folder)
    with pytest.raises(TrajectoryError, match="was trained under another environment; move it away and start again"):
        trajectory.create(header())


def test_what_a_killed_process_was_writing_is_gone_when_the_next_one_takes_over(trajectory: Trajectory) -> None:
    (trajectory.folder / "states" / ".000005.npz.4711.1").write_bytes(b"half")
    (trajectory.folder / "sheets" / ".000005.4711").mkdir(parents=True)
    (trajectory.folder / "sheets" / ".000005.4711" / ".convolution_1.png.4711.1").write_bytes(b"half")
    with trajectory.held() as had:
        assert had and not list(trajectory.folder.rglob(".*"))
    assert len(trajectory.epochs()) == 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_made_up(tmp_path_factory.mktemp("data"), train=330, test=64)


@pytest.fixture(scope="module")
def shorter(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Lab:
    """A lab that has three epochs of a run."""
    lab = Lab(tmp_path_factory.mktemp("shorter"), data)
    lab.call(*DENSE, "--epochs", "3")
    return lab


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.fault("state-damaged")
def test_damaged_states_are_told_and_what_is_trained_again_has_the_same_weights(shorter: Lab, tmp_path: Path) -> None:
    lab = Lab(tmp_path, shorter.data)
    shutil.copytree(shorter.folder / "trajectories", tmp_path / "trajectories")
    before = lab.trajectories()[0].epochs()
    states = sorted(lab.trajectories()[0].folder.glob("states/*.npz"))
    damages: list[Callable[[Path], None]] = [cut_off, flip]
    for path, damage in zip(states, damages, strict=True):
        damage(path)
    printed = lab.call(*DENSE, "--epochs", "4")
    told = [line for line in printed.splitlines() if "the state after epoch" in line]
    assert [line.partition("cannot be read (")[0] for line in told] == [
        f"model=dense, epochs=4 · seed 0: the state after epoch {epoch} " for epoch in (3, 2)
    ]
    assert all(line.endswith("; training again from the start") for line in told)
    # An epoch that is trained again must give the weights it gave before, or its run fails.
    assert lab.trajectories()[0].epochs()[:3] == before and lab.runs()["status"].iloc[0] == "FINISHED"


@pytest.mark.fault("state-foreign")
def test_epochs_that_were_not_trained_here_are_never_continued(shorter: Lab, tmp_path: Path) -> None:
    lab = Lab(tmp_path, shorter.data)
    shutil.copytree(shorter.folder / "trajectories", tmp_path / "trajectories")
    path = lab.trajectories()[0].folder / "epochs.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line["identity"]["environment_sha256"] = "0" * 64
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    printed = lab.call(*DENSE, "--epochs", "4", status=1)
    assert "cannot be trained: epoch 1 in " in printed
    assert "was trained under another environment; move it away and start again" in printed
    assert "1 of them did not finish" in printed and lab.runs().empty
