"""Folders that are damaged, stores that were moved or copied, code that differs."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments import STUDIES
from fashion_cnn.config import CNN
from fashion_cnn.running.results import recorded_results
from fashion_cnn.sources import code_sha256
from fashion_cnn.store.recorder import Recorder, clean, sync
from fashion_cnn.store.trajectories import Trajectory
from tests.support.command import REPOSITORY, Lab
from tests.support.made_up import write_made_up
from tests.support.scripted import CODE, header_and_record, open_store, play, record_one
from tests.support.stores import FOUR, is_whole, wait_until

pytestmark = pytest.mark.timeout(900)


def damage(trajectory: Trajectory, part: str) -> Path:
    """Damage a file of a folder: its `header`, or the record of its `run`, which becomes that of other code."""
    path = trajectory.folder / "header.json"
    if part == "run":
        (path,) = (trajectory.folder / "runs").glob("*.json")
    path.write_text("[" if part == "header" else '{"record": "r", "of_later_code": 1}')
    return path


@pytest.mark.parametrize("part", ["header", "run"])
@pytest.mark.fault("folder-damaged")
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
@pytest.mark.fault("folder-damaged")
def test_damaged_folders_are_told_and_keep_no_other_from_being_trained(tmp_path: Path) -> None:
    lab = Lab(tmp_path, write_made_up(tmp_path / "data", train=64, test=64))
    store, paths = open_store(tmp_path), []
    for seed, part in enumerate(("header", "run")):
        trajectory, run = header_and_record(store, FOUR, seed)
        trajectory.save_run(run)
        paths.append(damage(trajectory, part))
    train = ("train", "--model", "dense", "--dense-units", "8", "--epochs", "1")
    assert "1 run to record" in lab.call(*train, "--dry-run")
    said = lab.call(*train)
    assert f"{paths[0]} was changed or damaged: it holds no JSON object" in said
    assert f"{paths[1]} is not a run as this code keeps it: " in said
    assert "1 run made" in said and store.runs("ad_hoc")["status"].tolist() == ["FINISHED"]


@pytest.mark.fault("folder-damaged")
def test_folders_of_other_code_are_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, paths = open_store(tmp_path), []
    for seed, part in enumerate(("run", "run", "run", "header")):
        trajectory, run = header_and_record(store, FOUR, seed)
        trajectory.save_run(run)
        paths.append(damage(trajectory, part))
    assert recorded_results(store, ["baseline_study"]) == {}
    damaged, others = capsys.readouterr().err.splitlines()
    assert f"{paths[3]} was changed or damaged" in damaged
    assert "is not a run as this code keeps it: " in others and others.endswith(" (and so it is with 2 more)")


@pytest.mark.fault("folder-damaged")
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


@pytest.mark.fault("moved")
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


@pytest.mark.fault("moved")
def test_a_moved_store_records_beside_itself_and_sends_what_was_not_sent(original: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    original.rename(moved)
    store = open_store(moved)
    assert sync(store) == (1, None)
    record_one(store, FOUR, 1)
    assert not original.exists()
    assert sorted(store.runs("baseline_study")["seed"]) == ["0", "1", "7"]
    assert len(list((moved / "artifacts" / "baseline_study").iterdir())) == 3  # two finished runs, and their models


@pytest.mark.fault("moved")
def test_a_copy_uses_its_own_artifacts_and_leaves_the_originals_alone(original: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(original, copy)
    before = {path: path.stat().st_mtime_ns for path in original.rglob("*")}
    store = open_store(copy)
    assert places(copy) == set() and len(store.notices) == 1
    record_one(store, FOUR, 1)
    assert {path: path.stat().st_mtime_ns for path in original.rglob("*")} == before
    assert open_store(original).notices == []


@pytest.mark.fault("moved")
def test_a_database_copied_alone_still_reads_the_originals_artifacts(original: Path, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    shutil.copy(original / "mlflow.db", tmp_path / "alone")
    store = open_store(tmp_path / "alone")
    assert store.notices == []
    assert all(is_whole(store, run_id) for run_id in store.runs()["run_id"])


@pytest.mark.fault("moved")
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


@pytest.mark.fault("two-clones")
def test_claims_take_one_code_and_say_what_they_left_out(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for seed, code in enumerate((CODE, CODE, {**CODE, "models.py": "5" * 64})):
        record_one(store, STUDIES[0].arms["dense"], seed, code=code)
    assert store.runs()["code_sha256"].value_counts().tolist() == [2, 1]
    lab = Lab(tmp_path, tmp_path)
    said = lab.call("claims", "baseline_study")
    assert "2 of 3 recorded runs are taken; left out: another code (1)" in said
    lab.call("report", "baseline_study", "--output", tmp_path / "report.html")
    assert "another code" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.fault("two-clones")
def test_two_clones_with_different_code_write_to_one_store_and_neither_is_taken_for_the_other(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "store", write_made_up(tmp_path / "data", train=64, test=64))
    open_store(lab.folder)
    clone = tmp_path / "clone"
    for name in ("fashion_cnn", "experiments"):
        shutil.copytree(REPOSITORY / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    models = clone / "fashion_cnn" / "models.py"
    models.write_text(models.read_text(encoding="utf-8") + "CHANGED = True\n", encoding="utf-8")
    train = ("train", "--model", "dense", "--dense-units", "8", "--epochs", "1")
    other = subprocess.Popen(
        lab.command(*train), cwd=clone, env=lab.variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said = lab.call(*train)
    printed, _ = other.communicate(timeout=600)
    assert other.returncode == 0, printed
    assert "1 run made" in said and "1 run made" in printed
    runs = lab.runs()
    assert runs["status"].tolist() == ["FINISHED"] * 2
    assert set(runs["code_sha256"]) == {code_sha256(), code_sha256(clone / "fashion_cnn")}
    assert len(set(runs["code_sha256"])) == 2 == len(lab.trajectories())
    assert "Nothing to do: the run was recorded already." in lab.call(*train)
