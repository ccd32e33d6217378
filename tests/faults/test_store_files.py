"""A store's file, address, clock and settings: half made, of another MLflow, moved, weakened."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from fashion_cnn.store import clock as clocks
from fashion_cnn.store.address import StoreError, resolve
from fashion_cnn.store.clock import Clock, of_folder
from fashion_cnn.store.recorder import sync
from fashion_cnn.store.tracking import LOST_AFTER, Store, is_lost
from tests.support.command import REPOSITORY
from tests.support.scripted import database, header_and_record, open_store, record_one
from tests.support.stores import FOUR, is_whole, wait_until


def execute(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def opened(folder: Path) -> Store:
    return Store(resolve(database(folder), folder))


# A first creation that was killed.

MAKE = """
import sys
from pathlib import Path
from fashion_cnn.store.address import resolve
from fashion_cnn.store.tracking import Store
Store(resolve(f"sqlite:///{sys.argv[1]}/mlflow.db", Path(sys.argv[1])))
"""


@pytest.mark.slow
@pytest.mark.fault("half-made")
def test_a_first_start_that_is_killed_leaves_no_database_and_the_next_makes_one(tmp_path: Path) -> None:
    making = subprocess.Popen([sys.executable, "-c", MAKE, str(tmp_path)], cwd=REPOSITORY)
    aside = tmp_path / ".mlflow.db.new"
    wait_until(lambda: aside.exists() and aside.stat().st_size, 60)
    making.send_signal(signal.SIGKILL)
    making.wait(60)
    assert aside.exists() and not (tmp_path / "mlflow.db").exists()
    record_one(opened(tmp_path), FOUR)
    assert not aside.exists() and len(opened(tmp_path).runs()) == 1


@pytest.mark.fault("half-made")
@pytest.mark.parametrize("left", ["empty", "tables", "version"])
def test_a_half_made_database_that_holds_no_run_is_made_anew(tmp_path: Path, left: str) -> None:
    open_store(tmp_path / "whole")
    whole, path = tmp_path / "whole" / "mlflow.db", tmp_path / "mlflow.db"
    if left == "empty":
        path.touch()
    else:  # as MLflow alone leaves it when it is killed: some tables, and a version on the way
        shutil.copy(whole, path)
        execute(tmp_path, "DROP TABLE logged_models", "DELETE FROM experiments")
        changed = "UPDATE alembic_version SET version_num = '451aebb31d03'"
        execute(tmp_path, changed if left == "version" else "DELETE FROM alembic_version")
    record_one(opened(tmp_path), FOUR)
    assert len(opened(tmp_path).runs()) == 1


# Another version of MLflow's tables.


@pytest.mark.fault("other-tables")
@pytest.mark.parametrize("version", ["f" * 12, "451aebb31d03"])
def test_a_store_of_another_mlflow_is_told_as_what_it_is_and_left_as_it_is(tmp_path: Path, version: str) -> None:
    run = "INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (5, 'mine', 'active')"
    open_store(tmp_path / "first")
    (tmp_path / "other").mkdir()
    shutil.copy(tmp_path / "first" / "mlflow.db", tmp_path / "other")
    execute(tmp_path / "other", run, f"UPDATE alembic_version SET version_num = '{version}'")
    before = (tmp_path / "other" / "mlflow.db").read_bytes()
    with pytest.raises(StoreError) as caught:
        opened(tmp_path / "other")
    said, known = str(caught.value), version != "f" * 12
    assert ("is of an older MLflow" in said) is known and ("is of a newer MLflow" in said) is not known
    assert (f"db upgrade {database(tmp_path / 'other')}" in said) is known and ("upgrade" in said) is known
    assert said.endswith("--tracking-uri") is not known and version in said
    assert (tmp_path / "other" / "mlflow.db").read_bytes() == before


# Settings that lose what was sent.


@pytest.mark.fault("settings")
@pytest.mark.parametrize("by", ["variable", "call"])
def test_a_send_returns_when_the_store_has_all_of_it(tmp_path: Path, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    if by == "call":
        mlflow.config.enable_async_logging()  # type: ignore[no-untyped-call]
    store = open_store(tmp_path)
    queued = Mock(side_effect=AssertionError("what is queued may be lost"))
    monkeypatch.setattr("mlflow.utils.async_logging.async_logging_queue.AsyncLoggingQueue.log_batch_async", queued)
    record_one(store, FOUR)
    (run_id,) = store.runs()["run_id"]
    store.beat(run_id)
    assert not queued.called and is_whole(store, run_id)


@pytest.mark.fault("settings")
def test_a_param_that_the_database_refused_is_no_run_that_was_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    store = open_store(tmp_path)
    trajectory, run = header_and_record(store, FOUR)
    trajectory.save_run(run)
    busy = Mock(side_effect=sqlite3.OperationalError("database is locked"))
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.store.tracking.sqlalchemy_store.SqlAlchemyStore.log_batch", busy)
        sent, trouble = sync(store)
    assert sent == 0 and trouble is not None and "database is locked" in trouble
    assert sync(store) == (1, None) and store.runs()["model"].tolist() == ["dense"]


@pytest.mark.fault("settings")
def test_variables_that_other_tools_set_for_mlflow_play_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
    monkeypatch.setenv("MLFLOW_ACTIVE_MODEL_ID", "m-1")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
    store = open_store(tmp_path)
    record_one(store, FOUR)
    assert is_whole(store, store.runs()["run_id"].item())


# Clocks.


def at(monkeypatch: pytest.MonkeyPatch, ahead: float, plain: Any = time.time) -> None:
    """Have this process' machine be so many seconds ahead."""
    monkeypatch.setattr(time, "time", lambda: plain() + ahead)
    gmtime = time.gmtime
    monkeypatch.setattr(time, "gmtime", lambda seconds=None: gmtime(plain() + ahead if seconds is None else seconds))


@pytest.mark.fault("clock")
@pytest.mark.parametrize("ahead", [1.5 * LOST_AFTER, -1.5 * LOST_AFTER])
def test_a_live_run_is_not_lost_to_a_machine_whose_clock_is_off(
    tmp_path: Path, ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        if ahead < 0:
            at(patch, ahead)  # the machine that trains is behind
        store = open_store(tmp_path)
        trajectory, run = header_and_record(store, FOUR)
        trajectory.save_run(run)
        store.send(trajectory)
    with monkeypatch.context() as patch:
        if ahead > 0:
            at(patch, ahead)
        assert opened(tmp_path).close_lost({}) == []
    assert store.runs()["status"].tolist() == ["RUNNING"]


@pytest.mark.fault("clock")
def test_a_clock_that_is_set_meanwhile_plays_no_part_and_a_silent_store_none(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = iter([1000.0, None, 5000.0])

    def ask() -> float:
        if (answer := next(asked)) is None:
            raise OSError("no answer")
        return answer

    passed = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: passed[0])
    monkeypatch.setattr(time, "time", lambda: 9e9)
    clock = Clock(ask)
    assert clock.now() == 1000
    passed[0] += clocks.FRESH
    assert clock.now() == 1000 + clocks.FRESH
    passed[0] += 1
    assert clock.now() == 1000 + clocks.FRESH + 1  # it did not answer
    passed[0] += clocks.FRESH + 1
    assert clock.now() == 5000


@pytest.mark.fault("clock")
def test_a_heartbeat_that_is_no_time_makes_no_run_lost() -> None:
    row = {"status": "RUNNING", "start_time": 0, "heartbeat": "fast"}
    assert not is_lost(row, 1e9) and is_lost({**row, "heartbeat": None}, 1e9)


def test_the_clock_of_a_folder_is_its_file_systems(tmp_path: Path) -> None:
    assert abs(of_folder(tmp_path) - time.time()) < 2 and os.listdir(tmp_path) == []


# Addresses.


@pytest.mark.fault("paths")
def test_what_nothing_expands_is_refused_and_a_folder_that_is_called_so_is_not(tmp_path: Path) -> None:
    for name in ("$SCRATCH", "${SCRATCH}"):
        with pytest.raises(StoreError, match="has a variable that nothing expands here, "):
            resolve(f"sqlite:///{tmp_path}/{name}/w.db", REPOSITORY)
        (tmp_path / name).mkdir()
        assert resolve(f"sqlite:///{tmp_path}/{name}/w.db", REPOSITORY).file == tmp_path / name / "w.db"


# Moved, with what people registered.


@pytest.mark.fault("moved")
def test_registered_models_and_traces_are_found_after_a_move(tmp_path: Path) -> None:
    store = open_store(tmp_path / "old place")
    record_one(store, FOUR)
    (row,) = store.runs().to_dict("records")
    (model,) = store.client.search_logged_models([row["experiment_id"]])
    location = str(model.artifact_location)
    store.client.create_registered_model("best")
    for source in (location, str(tmp_path / "old place" / "artifacts" / "baseline_study" / "by hand")):
        store.client.create_model_version("best", source, row["run_id"])
    experiment = store.experiment("baseline_study", "")
    store.client.rename_experiment(experiment, "networks")
    kept = "INSERT INTO trace_info (request_id, experiment_id, timestamp_ms, status) VALUES ('t', 1, 0, 'OK')"
    place = "mlflow.artifactLocation"
    tags = [
        f"INSERT INTO trace_tags (request_id, key, value) VALUES ('t', '{k}', '{location}')" for k in (place, "mine")
    ]
    execute(tmp_path / "old place", kept, *tags)
    (tmp_path / "old place").rename(tmp_path / "new")
    moved = open_store(tmp_path / "new")
    assert len(moved.notices) == 1
    new = location.replace("old%20place", "new")
    with closing(sqlite3.connect(tmp_path / "new" / "mlflow.db")) as connection:
        found = connection.execute("SELECT source FROM model_versions ORDER BY version").fetchall()
        assert found == [(new,), (str(tmp_path / "new" / "artifacts" / "baseline_study" / "by hand"),)]
        found = connection.execute("SELECT key, value FROM trace_tags ORDER BY key").fetchall()
        assert found == [("mine", location), (place, new)]
    assert moved.client.get_model_version_download_uri("best", "1") == new
    assert is_whole(moved, row["run_id"])
