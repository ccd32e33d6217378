"""What is noted beside a run of what the store has taken, and the steps that note it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fashion_cnn.config import CNN, DENSE
from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.record import RECORD_FORMAT, Record, absent, missing
from fashion_cnn.review.replay import records_of
from fashion_cnn.store import artifacts, grid, send
from fashion_cnn.store.address import StoreError
from fashion_cnn.store.entries import RunEntry, Sent
from fashion_cnn.store.files import TrajectoryError, read_json
from fashion_cnn.store.recorder import Recorder, clean
from fashion_cnn.store.send import STEPS
from fashion_cnn.store.tracking import Store
from fashion_cnn.store.trajectories import Trajectory
from tests.support import scripted
from tests.support.scripted import MACHINE, events, header_and_record, open_store, record_one

FINISHED = {  # as the code before this class wrote it
    "run_id": "0123456789abcdef0123456789abcdef",
    "epochs": 4,
    "tags": {"git_commit": "unknown", "workers": "1"},
    "node": "here",
    "sheets": [0, 1, 2],
    "artifacts_sha256": "a" * 64,
    "values": {"fit_seconds": 1.5},
    "model_id": "m-1",
    "done": "finished",
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


def test_nothing_was_sent_at_first(store: Store) -> None:
    trajectory, run = header_and_record(store)
    assert trajectory.sent(run) == Sent()


def test_what_older_code_noted_comes_back_and_is_written_as_it_was() -> None:
    sent = Sent.from_json(FINISHED)
    assert (sent.run_id, sent.epochs, sent.sheets, sent.done) == (FINISHED["run_id"], 4, (0, 1, 2), "finished")
    assert json.dumps(sent.to_json(), indent=1) == json.dumps({**FINISHED}, indent=1)


@pytest.mark.parametrize(("noted", "left"), [(Sent("r", done="killed"), 1), (Sent("r", done="finished", resumed=1), 0)])
def test_what_a_run_left_is_freed_only_where_it_was_sent_as_it_ended_after_it_was_resumed(
    store: Store, noted: Sent, left: int
) -> None:
    trajectory, run = header_and_record(store)
    ended = replace(run, status="finished", stop_reason="epochs", cut=1, resumed=1)
    trajectory.save_run(ended)
    trajectory.save_sent(ended, noted)
    assert clean(store)[1] == left
    assert store.holds(trajectory, ended) == bool(left)  # else the store is asked, which has no such run


def test_a_run_that_was_only_created_has_no_other_notes() -> None:
    assert Sent(run_id="r").to_json() == {"run_id": "r", "epochs": 0}
    assert Sent.from_json({"run_id": "r", "epochs": 0}) == Sent(run_id="r")


def test_one_that_resumed_is_not_done() -> None:
    assert Sent.from_json({"run_id": "r", "epochs": 2, "done": None}).done is None


def test_notes_that_are_none_are_named(store: Store) -> None:
    trajectory, run = header_and_record(store)
    path = trajectory.folder / "runs" / f"{run.record}.sent.json"
    path.write_text('{"sheets": 3}')
    with pytest.raises(TrajectoryError, match=f"^{path} is not what this code keeps of a run that was sent: "):
        trajectory.sent(run)


def recorded_step_by_step(store: Store) -> tuple[Trajectory, RunEntry]:
    """A run that is finished in its folder and was never sent."""
    trajectory, run = header_and_record(store, replace(CNN, epochs=2))
    for event in events(trajectory, 2):
        match type(event).__name__:
            case "Started":
                trajectory.save_started(event)  # type: ignore[arg-type]
            case "EpochDone":
                trajectory.append(event)  # type: ignore[arg-type]
            case "Drawn":
                trajectory.save_sheets(event)  # type: ignore[arg-type]
            case "CutDone":
                trajectory.save_cut(event)  # type: ignore[arg-type]
    run = replace(run, status="finished", stop_reason="epochs", cut=2)
    trajectory.save_run(run)
    return trajectory, run


REQUESTS = {
    "run": "create_run",
    "tags": "log_batch",
    "model": "create_logged_model",
    "result": "set_terminated",
}
PARTS: dict[str, tuple[Any, str]] = {"feature maps": (send, "upload"), "artifacts": (grid, "figures")}


@pytest.mark.parametrize("name", [*REQUESTS, *PARTS])
def test_a_send_that_is_cut_off_at_a_step_is_completed_by_the_next(
    store: Store, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trajectory, run = recorded_step_by_step(store)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(5, "the cable was pulled")

    with monkeypatch.context() as patch:
        patch.setattr(*PARTS.get(name, (store.client, REQUESTS.get(name, ""))), fail)
        with pytest.raises(StoreError, match="the cable was pulled"):
            store.send(trajectory)
    assert [ended.record for ended in store.unsent(trajectory)] == [run.record]
    store.send(trajectory)
    assert store.unsent(trajectory) == []
    (row,) = store.runs().to_dict("records")
    assert (row["status"], row["epochs_trained"]) == ("FINISHED", 2)
    assert len(store.client.get_metric_history(row["run_id"], "loss")) == 2


def test_each_step_has_a_name_of_its_own() -> None:
    names = [step.name for step in STEPS]
    assert len(set(names)) == len(names) and {*REQUESTS, *PARTS} < set(names)


def sent_record(store: Store) -> Record:
    """The one record in a store."""
    (record,) = records_of(store, store.runs().to_dict("records"))
    assert missing(record) == [] and contradictions(record) == []
    return record


def test_a_record_tells_its_format_its_arithmetic_and_the_machine_that_trained_it(store: Store) -> None:
    record_one(store, replace(DENSE, epochs=1))
    record = sent_record(store)
    assert (record.row["record_format"], record.row["arithmetic"]) == (str(RECORD_FORMAT), "portable")
    assert record.json("environment.json")["machine"] == MACHINE


def test_what_older_code_left_unsent_is_sent_in_its_own_format(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    older = {name: value for name, value in scripted.FINGERPRINT.items() if name != "arithmetic"}
    monkeypatch.setattr(scripted, "FINGERPRINT", older)
    trajectory, run = recorded_step_by_step(store)
    trajectory.save_run(replace(run, tags={name: run.tags[name] for name in ("git_commit", "git_dirty", "workers")}))
    path = trajectory.folder / "started.json"
    path.write_text(json.dumps({name: value for name, value in read_json(path).items() if name != "machine"}))
    started = trajectory.started()
    assert started is not None and started.machine is None
    store.send(trajectory)
    record = sent_record(store)
    assert record.format == 1 and absent(record.row["record_format"]) and absent(record.row["arithmetic"])
    assert record.json("environment.json")["machine"] is None


def test_what_was_sent_is_not_sent_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    trajectory = record_one(store, replace(DENSE, epochs=1))
    asked: list[str] = []

    def watched(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*args: Any, **kwargs: Any) -> Any:
            asked.append(name)
            return plain(*args, **kwargs)

        return ask

    monkeypatch.setattr(send, "upload", watched("upload", artifacts.upload))
    for name in ("create_run", "log_batch", "search_runs"):
        monkeypatch.setattr(store.client, name, watched(name, getattr(store.client, name)))
    store.send(trajectory)
    assert asked == []


def test_a_send_that_fails_while_the_recorder_closes_is_tried_once_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    trajectory, run = header_and_record(store, replace(DENSE, epochs=1))
    recorder, errors, begun = Recorder(store), [StoreError("no answer")], threading.Event()

    def send_late(of: Trajectory) -> None:
        if of in recorder._sender._leaving and errors:
            begun.set()
            while not recorder._sender._closing:
                time.sleep(0.01)
            raise errors.pop()
        Store.send(store, of)

    monkeypatch.setattr(store, "send", send_late)
    assert trajectory.acquire()
    with recorder:
        recorder.begin(trajectory, [run])
        for event in events(trajectory, 1):
            recorder.take(trajectory, event)
        recorder.leave(trajectory)
        assert begun.wait(60)
    assert errors == [] and recorder.trouble is None and store.runs()["status"].tolist() == ["FINISHED"]
