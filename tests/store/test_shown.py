"""What MLflow's UI is given to show of a run, recorded or imported: metrics, tags, names and pictures."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fashion_cnn.config import CNN, DENSE
from fashion_cnn.events import EpochDone, Failed
from fashion_cnn.evidence.record import EPOCH_METRICS, RUN_METRICS, absent
from fashion_cnn.store import artifacts, grid
from fashion_cnn.store.tracking import Store
from tests.support.published import BASELINE
from tests.support.recorded import CURVES, record
from tests.support.scripted import PIXEL, events, header_and_record, open_store, record_one

SYSTEM = {"system/peak_memory_mib", "system/other_load"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One scripted run, recorded as a trial, and one that was imported."""
    store = open_store(tmp_path_factory.mktemp("shown"))
    record_one(store, replace(CNN, epochs=2), smoke=True)
    whole = record(BASELINE, "dense", 0)
    store.import_elsewhere(replace(whole, artifacts={**whole.artifacts, CURVES: PIXEL}), "Why?", "a bundle")
    return store


@pytest.fixture(params=["recorded", "imported"])
def run(store: Store, request: pytest.FixtureRequest) -> Any:
    """MLflow's own view of each of the two."""
    rows = store.runs()
    own = rows["published"].isna() if request.param == "recorded" else rows["published"].notna()
    return store.client.get_run(rows[own]["run_id"].item())


def steps(store: Store, run: Any, name: str) -> list[int]:
    return sorted(value.step for value in store.client.get_metric_history(run.info.run_id, name))


def test_test_accuracy_is_logged_first(run: Any) -> None:
    assert next(iter(run.data.metrics)) == "test_accuracy"


def test_what_is_measured_once_is_at_step_0(store: Store, run: Any) -> None:
    assert all(steps(store, run, name) == [0] for name in (*RUN_METRICS, *SYSTEM))
    epochs = list(range(1, round(run.data.metrics["epochs_trained"]) + 1))
    assert all(sorted(set(steps(store, run, name))) == epochs for name in EPOCH_METRICS)


def test_what_the_system_did_stands_among_the_system_metrics_too(run: Any) -> None:
    values = run.data.metrics
    assert {name for name in values if name.startswith("system/")} == SYSTEM
    assert all(values[name] == values[name.removeprefix("system/")] for name in SYSTEM)


def test_no_tag_is_empty(run: Any) -> None:
    assert all(run.data.tags.values()) and not {"error", "drawing_error"} & set(run.data.tags)


def test_a_trial_is_called_one(store: Store) -> None:
    names = dict(store.runs()[["smoke", "name"]].to_numpy())
    assert names == {"true": "dense · seed 0 · smoke", "false": "dense · seed 0"}


def pictures(store: Store, run: Any) -> Counter[tuple[str, str]]:
    """How many files each key and step of the grid has."""
    names = [item.path.removeprefix("images/") for item in store.client.list_artifacts(run.info.run_id, "images")]
    return Counter((name.split("+step+")[0], name.split("+step+")[1].split("+")[0]) for name in names)


def test_figures_stand_in_the_image_grid_at_one_step_for_runs_of_every_length(store: Store, run: Any) -> None:
    found = pictures(store, run)
    maps = {("feature_maps~convolution_1", str(epoch)): 2 for epoch in range(3)}
    assert found == {("figures~learning_curves", "0"): 2, **(maps if absent(run.data.tags.get("published")) else {})}
    assert run.data.tags["mlflow.loggedImages"] == "True"


def test_a_picture_has_the_same_name_each_time_and_what_is_none_is_left_out() -> None:
    shown = [grid.Picture(f"figures/{name}", 0, 5, PIXEL) for name in grid.FIGURES]
    assert grid.files("r", shown) == grid.files("r", shown) and len(grid.files("r", shown)) == 2 * len(shown)
    assert set(grid.files("r", shown)).isdisjoint(grid.files("another run", shown))
    assert grid.files("r", [grid.Picture("figures/mistakes", 0, 5, b"ink")]) == {}


def test_what_ended_a_run_is_no_longer_said_of_it_once_it_resumed(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    trajectory, run = header_and_record(store, replace(DENSE, epochs=1))
    trajectory.save_run(replace(run, status="failed", stop_reason="error", error="no memory"))
    store.send(trajectory)
    row = store.runs().iloc[0]
    assert (row["status"], row["stop_reason"], row["error"]) == ("FAILED", "error", "no memory")
    trajectory.save_run(run)
    store.send(trajectory)
    row = store.runs().iloc[0]
    assert row["status"] == "RUNNING" and absent(row["stop_reason"]) and absent(row["error"])
    store.client.set_tag(row["run_id"], "error", "another machine took it for lost")
    for event in events(trajectory, 1):
        assert not isinstance(event, Failed)
        trajectory.keep(event)
    trajectory.save_run(replace(run, status="finished", stop_reason="epochs", cut=1))
    store.send(trajectory)
    row = store.runs().iloc[0]
    assert (row["status"], row["stop_reason"]) == ("FINISHED", "epochs") and absent(row["error"])


def test_a_run_that_was_killed_resumed_and_killed_again_before_a_send_is_sent_as_it_is_now(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    trajectory, run = header_and_record(store, replace(DENSE, epochs=3))
    killed = replace(run, status="killed", stop_reason="lost", error="first")
    trajectory.save_run(killed)
    store.send(trajectory)
    assert store.unsent(trajectory) == []
    for event in events(trajectory, 2):
        if isinstance(event, EpochDone):
            trajectory.keep(event)
    trajectory.save_run(replace(killed, error="second", resumed=1))
    assert [entry.record for entry in store.unsent(trajectory)] == [run.record]
    store.send(trajectory)
    (row,) = store.runs().to_dict("records")
    assert (row["status"], row["error"]) == ("KILLED", "second")
    assert len(store.client.get_metric_history(row["run_id"], "loss")) == 2
    assert store.unsent(trajectory) == []


class Shelf:
    """A server's artifacts; one of the files, and all after it, are refused."""

    def __init__(self, refused: int) -> None:
        self.taken: list[tuple[str, str | None]] = []
        self._refused, self._lock, self.together = refused, threading.Lock(), 0
        self._now = 0

    def log_artifact(self, path: str, folder: str | None) -> None:
        with self._lock:
            self._now += 1
            self.together = max(self.together, self._now)
            self.taken.append((Path(path).name, folder))
            refused = len(self.taken) >= self._refused
        time.sleep(0.01)
        self._now -= 1
        if refused:
            raise OSError(28, "No space left on device")


def test_a_server_gets_several_files_at_a_time_each_in_its_folder(tmp_path: Path) -> None:
    shelf = Shelf(refused=99)
    artifacts._put(shelf, tmp_path, ["config.json", "images/a~b.png", "data/x/y.txt", *map(str, range(9))])
    assert {("config.json", None), ("a~b.png", "images"), ("y.txt", "data/x")} < set(shelf.taken)
    assert 1 < shelf.together <= artifacts.WRITERS


def test_a_server_that_refuses_a_file_is_not_asked_for_all_others(tmp_path: Path) -> None:
    shelf = Shelf(refused=3)
    with pytest.raises(OSError, match="No space left"):
        artifacts._put(shelf, tmp_path, list(map(str, range(100))))
    assert len(shelf.taken) < 100
