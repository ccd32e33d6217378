"""The folder of a trajectory keeps what was said, whole or not at all."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from fashion_cnn.config import CNN
from fashion_cnn.events import CutDone, Drawn, EpochDone, Identity
from fashion_cnn.evidence.predictions import PREDICTIONS
from fashion_cnn.state import State
from fashion_cnn.store.entries import RunEntry
from fashion_cnn.store.files import TrajectoryError, write_json
from fashion_cnn.store.trajectories import Trajectory, folder_name, header_of, trajectories

IDENTITY = Identity("d" * 64, "c" * 64, "e" * 64)
HEADER = header_of(CNN, 0, IDENTITY, {"threads": 1}, None)


def state(epoch: int, value: float = 0.0) -> State:
    weights = {"hidden/kernel": np.full((3, 2), epoch + value, np.float32), "hidden/bias": np.zeros(2, np.float32)}
    return State(epoch, weights, {"adam/iteration": np.array(epoch)})


def epoch_done(epoch: int, value: float = 0.0, identity: Identity = IDENTITY) -> EpochDone:
    reached = state(epoch, value)
    metrics = {"loss": 1 / epoch, "accuracy": 0.1 * epoch}
    return EpochDone(reached, reached.weights_sha256(), metrics, ended_at=1000 * epoch, identity=identity)


def record(name: str = "a" * 32, **changes: object) -> RunEntry:
    base = RunEntry(
        record=name,
        store="sqlite:///x",
        study="s",
        question="?",
        arm="a",
        seed=0,
        config=CNN.canonical(),
        smoke=False,
        reuse=True,
        start_time=1,
        command="c",
    )
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture
def trajectory(tmp_path: Path) -> Trajectory:
    made = Trajectory(tmp_path / folder_name(HEADER.trajectory_sha256))
    made.create(HEADER)
    return made


def test_files_that_a_person_put_into_the_folder_stay_there(trajectory: Trajectory) -> None:
    kept = [trajectory.folder / name for name in (".notes", "cuts/notes.txt", "sheets/.notes.txt", "runs/.a.b.1")]
    ours = [trajectory.folder / name for name in (".header.json.12.34567", "sheets/.000002.12")]
    for path in (*kept, *ours):
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    with trajectory.held() as had:
        assert had and not any(path.exists() for path in ours)
        trajectory.clean()
    assert all(path.exists() for path in kept)


@pytest.fixture
def trained(trajectory: Trajectory) -> Trajectory:
    for epoch in range(1, 5):
        trajectory.append(epoch_done(epoch))
    return trajectory


def test_copies_that_a_person_made_of_ours_are_taken_for_nothing_and_stay(trained: Trajectory) -> None:
    copies = [trained.folder / name for name in ("cuts/000004.bak/cut.json", "states/backup.npz", "weights/mine.npz")]
    for path in copies:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    assert trained.cuts() == frozenset()
    trained.append(epoch_done(5))  # which drops the older states
    trained.clean()
    assert all(path.exists() for path in copies)


def test_a_new_one_has_no_epochs_no_state_and_no_runs(trajectory: Trajectory) -> None:
    assert (trajectory.epochs(), trajectory.latest_state(), trajectory.runs()) == ([], None, [])


def test_the_header_comes_back_as_it_was(trajectory: Trajectory) -> None:
    assert trajectory.header == HEADER


def test_a_folder_of_another_trajectory_is_refused(trajectory: Trajectory) -> None:
    with pytest.raises(TrajectoryError, match="another trajectory"):
        trajectory.create(header_of(CNN, 1, IDENTITY, {"threads": 1}, None))


def test_epochs_come_back_with_their_hashes(trained: Trajectory) -> None:
    assert [line.epoch for line in trained.epochs()] == [1, 2, 3, 4]
    assert trained.epochs()[3].weights_sha256 == state(4).weights_sha256()


def test_full_states_are_kept_of_the_last_two_epochs_and_weights_of_all(trained: Trajectory) -> None:
    assert sorted(path.stem for path in (trained.folder / "states").iterdir()) == ["000003", "000004"]
    assert all(trained.weights(epoch) is not None for epoch in range(1, 5))


def test_the_latest_state_is_that_of_the_last_epoch(trained: Trajectory) -> None:
    latest = trained.latest_state()
    assert latest is not None and latest.sha256() == state(4).sha256()


def test_cleaning_leaves_the_last_state_and_the_feature_maps_which_a_run_that_is_made_anew_shows(
    trained: Trajectory,
) -> None:
    trained.save_sheets(Drawn(1, {"convolution_1": b"png"}))
    (trained.folder / "cuts" / "000002").mkdir(parents=True)
    assert trained.clean(dry=True) == trained.clean() > 0
    assert [path.stem for path in (trained.folder / "states").iterdir()] == ["000004"]
    assert [path.name for path in trained.sheets()[1]] == ["convolution_1.png"]
    assert not (trained.folder / "cuts" / "000002").exists() and trained.clean() == 0


def test_a_line_that_was_cut_off_is_dropped_and_written_again(trained: Trajectory) -> None:
    path = trained.folder / "epochs.jsonl"
    path.write_bytes(path.read_bytes()[:-7])
    assert [line.epoch for line in trained.epochs()] == [1, 2, 3]
    trained.append(epoch_done(4))
    assert [line.epoch for line in trained.epochs()] == [1, 2, 3, 4]


def test_an_epoch_trained_again_to_the_same_weights_is_no_new_one(trained: Trajectory) -> None:
    before = (trained.folder / "epochs.jsonl").read_bytes()
    trained.append(epoch_done(2))
    assert (trained.folder / "epochs.jsonl").read_bytes() == before


def test_an_epoch_trained_again_to_other_weights_is_refused(trained: Trajectory) -> None:
    with pytest.raises(TrajectoryError, match="epoch 2 trained again gave other weights"):
        trained.append(epoch_done(2, value=0.5))


def test_an_epoch_that_leaves_a_gap_is_refused(trained: Trajectory) -> None:
    with pytest.raises(TrajectoryError, match="epoch 6 cannot follow epoch 4"):
        trained.append(epoch_done(6))


def test_an_epoch_trained_under_other_code_is_refused(trained: Trajectory) -> None:
    with pytest.raises(TrajectoryError, match="other data, code or environment"):
        trained.append(epoch_done(5, identity=Identity("d" * 64, "0" * 64, "e" * 64)))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "of another epoch"])
def test_a_damaged_state_is_refused_with_the_reason_and_the_one_before_is_used(
    trained: Trajectory, damage: str
) -> None:
    path = trained.folder / "states" / "000004.npz"
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        del content[len(content) // 2 :]
    elif damage == "flipped":
        # Within the numbers of an array, so that the file can still be read.
        at = bytes(content).index(np.float32(4).tobytes() * 6)
        content[at] ^= 1
    else:
        content = bytearray((trained.folder / "states" / "000003.npz").read_bytes())
    path.write_bytes(content)
    refused: list[str] = []
    latest = trained.latest_state(refused)
    assert latest is not None and latest.epoch == 3
    assert len(refused) == 1 and refused[0].startswith("the state after epoch 4 ")


def test_damaged_weights_are_none(trained: Trajectory) -> None:
    (trained.folder / "weights" / "000002.npz").write_bytes(b"PK")
    assert trained.weights(2) is None


def test_a_cut_is_there_only_once_all_its_files_are(trained: Trajectory) -> None:
    files = {"model.keras": b"m", "per_class.json": b"{}"}
    trained.save_cut(CutDone(4, state(4).weights_sha256(), 0.1, 100.0, files))
    cut = trained.cut(4)
    assert cut is not None and {name: path.read_bytes() for name, path in cut.files.items()} == files
    (trained.folder / "cuts" / "000004" / "cut.json").unlink()
    assert trained.cut(4) is None and trained.cuts() == frozenset()


def test_a_cut_from_before_there_were_predictions_is_made_again(trained: Trajectory) -> None:
    cut = CutDone(4, state(4).weights_sha256(), 0.1, 100.0, {"model.keras": b"m"})
    trained.save_cut(cut)
    assert trained.cuts() == frozenset() and trained.cut(4) is not None
    again = replace(cut, files={"model.keras": b"m", "predictions.npz": b"p"})
    trained.save_cut(again)
    trained.save_cut(cut)
    kept = trained.cut(4)
    assert trained.cuts() == {4} and kept is not None and set(kept.files) == set(again.files)


def test_runs_are_told_apart_by_store(trajectory: Trajectory) -> None:
    trajectory.save_run(record("a" * 32))
    trajectory.save_run(record("b" * 32, store="http://elsewhere"))
    assert [run.record for run in trajectory.runs("http://elsewhere")] == ["b" * 32]
    assert len(trajectory.runs()) == 2


def test_only_one_can_hold_it_at_a_time(trajectory: Trajectory) -> None:
    other = Trajectory(trajectory.folder)
    with trajectory.held() as had, other.held() as also:
        assert had and not also
    with other.held() as had:
        assert had


def test_cleaning_keeps_the_last_state_and_what_is_known(trained: Trajectory) -> None:
    trained.save_cut(CutDone(4, state(4).weights_sha256(), 0.1, 100.0, {"model.keras": b"m"}))
    trained.save_run(record(status="finished", cut=4))
    wanted = trained.clean(dry=True)
    assert trained.cut(4) is not None and trained.weights(3) is not None
    assert trained.clean() == wanted > 0
    latest = trained.latest_state()
    assert latest is not None and latest.epoch == 4
    assert len(trained.epochs()) == 4 and len(trained.runs()) == 1
    assert trained.weights(3) is None and not trained.cuts()


def test_a_cut_whose_cleaning_was_cut_off_is_none(trained: Trajectory, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"a.json": b"{}", "model.keras": b"m", PREDICTIONS: b"p", "z.png": b"z"}
    trained.save_cut(CutDone(4, state(4).weights_sha256(), 0.1, 100.0, files))
    trained.save_run(record(status="finished", cut=4))
    assert trained.cuts() == {4}
    unlink, gone = Path.unlink, list[Path]()

    def killed(path: Path) -> None:
        if gone:
            raise KeyboardInterrupt
        gone.append(path)
        unlink(path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", killed)
        trained.clean()
    assert not trained.cuts() and trained.cut(4) is None


def test_a_file_that_cannot_be_written_leaves_the_old_one(trained: Trajectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    trained.save_run(record())
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        trained.save_run(record(status="failed"))
    assert trained.runs()[0].status == "running"
    assert not list((trained.folder / "runs").glob(".*"))


def test_a_changed_header_is_named(trained: Trajectory) -> None:
    (trained.folder / "header.json").write_text("[]")
    with pytest.raises(TrajectoryError, match=r"header\.json was changed or damaged"):
        _ = trained.header


@pytest.mark.parametrize("change", [{"of_later_code": 1}, {"config": {"model": "none"}}, {"config": None}])
def test_a_run_that_other_code_wrote_is_named(trained: Trajectory, change: dict[str, object]) -> None:
    path = trained.folder / "runs" / f"{'a' * 32}.json"
    write_json(path, {**asdict(record()), **change})
    with pytest.raises(TrajectoryError, match=f"^{path} is not a run as this code keeps it: "):
        trained.runs()


def test_all_trajectories_of_a_folder_are_found(trained: Trajectory) -> None:
    assert [one.folder for one in trajectories(trained.folder.parent)] == [trained.folder]
