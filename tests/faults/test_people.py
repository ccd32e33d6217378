"""What people do to a store besides recording: their own runs, tags, the UI's bin, other names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from fashion_cnn.config import DENSE
from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.record import missing
from fashion_cnn.reports.publish import import_runs
from fashion_cnn.review.replay import records_of
from fashion_cnn.running.entries import open_entries
from fashion_cnn.running.plan import PlannedTrajectory, Run
from fashion_cnn.running.results import recorded_results
from fashion_cnn.store.address import StoreError
from fashion_cnn.store.experiments import MARK, Binned, listed
from fashion_cnn.store.recorder import Recorder, sync
from fashion_cnn.store.tracking import Store
from fashion_cnn.study import Study
from tests.support.command import Lab
from tests.support.published import BASELINE, published, records
from tests.support.published import STUDY as PUBLISHED
from tests.support.recorded import put, record
from tests.support.scripted import events, header_and_record, open_store, record_one
from tests.support.stores import FOUR, is_whole

STUDY = "baseline_study"
QUESTION = "Does it hold?"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


def foreign(store: Store, experiment: str, status: str, **tags: str) -> str:
    """Somebody else's run in an experiment; its id."""
    run_id = str(store.client.create_run(experiment, tags=tags).info.run_id)
    if status != "RUNNING":
        store.client.set_terminated(run_id, status)
    return run_id


def seen(store: Store, run_id: str) -> tuple[Any, ...]:
    run = store.client.get_run(run_id)
    return run.info.status, run.info.lifecycle_stage, run.info.end_time, run.data.tags


# Whose runs these are.


@pytest.mark.fault("foreign-runs")
def test_other_peoples_runs_are_never_written_to_though_their_tags_are_called_as_ours(store: Store) -> None:
    ours = store.experiment(STUDY, QUESTION)
    other = store.client.create_experiment("churn")
    runs = [
        foreign(store, other, "RUNNING", study="churn-hpo"),
        foreign(store, ours, "RUNNING", study=STUDY, arm="dense", seed="0", record="x"),
        foreign(store, other, "RUNNING", study=STUDY, trajectory_sha256="0" * 64, record="x"),
    ]
    for run_id in runs:
        store.client.set_tag(run_id, "heartbeat", "2020-01-01T00:00:00Z")
    before = [seen(store, run_id) for run_id in runs]
    assert store.close_lost({}) == []
    assert [seen(store, run_id) for run_id in runs] == before


@pytest.mark.fault("foreign-runs")
def test_while_our_experiment_is_in_the_bin_no_other_is_taken_for_it(store: Store) -> None:
    tags = {"study": STUDY, "trajectory_sha256": "0" * 64, "record": "x", "heartbeat": "2020-01-01T00:00:00Z"}
    ours, other = store.experiment(STUDY, QUESTION), store.client.create_experiment("churn")
    run_id = foreign(store, other, "RUNNING", **tags)
    store.client.delete_experiment(ours)
    before = seen(store, run_id)
    assert store.close_lost({}) == [] and seen(store, run_id) == before and len(store.runs()) == 0
    with pytest.raises(Binned, match=f"--experiment-id {ours}"):
        Store(store.address).experiment(STUDY, QUESTION)
    assert store.client.get_experiment(other).tags == {}


@pytest.mark.fault("foreign-runs")
def test_other_peoples_runs_in_our_experiment_are_not_read(store: Store, tmp_path: Path) -> None:
    record_one(store, FOUR)
    ours = store.experiment(STUDY, QUESTION)
    theirs = foreign(store, ours, "FINISHED", study=STUDY, config_sha256="1" * 64)
    store.client.log_metric(theirs, "test_accuracy", 0.99)
    assert len(recorded_results(store, [STUDY])) == 1
    assert theirs not in set(store.runs()["run_id"])
    assert theirs[:6] not in Lab(tmp_path, tmp_path).call("list")
    with pytest.raises(StoreError, match="has no recorded run"):
        store.find(theirs)


@pytest.mark.fault("foreign-runs")
def test_a_server_with_more_experiments_than_it_lists_at_once_hides_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Page(list[Any]):
        token: str | None = None

    first, second = (
        Page([SimpleNamespace(name=name, experiment_id=name, tags={}, lifecycle_stage="active")]) for name in ("a", "b")
    )
    first.token = "more"
    client: Any = SimpleNamespace(search_experiments=lambda _, page_token=None: second if page_token else first)
    assert listed(client).named == {"a": "a", "b": "b"}


# Tags, and what was measured.


@pytest.fixture
def tagged(store: Store) -> str:
    """A run that somebody gave tags, a param and metrics called as what we write elsewhere."""
    record_one(store, replace(DENSE, epochs=2))
    run_id = str(store.runs()["run_id"].item())
    for name, value in {"loss": "high", "test_accuracy": "0.99", "model": "best", "seed": "x", "status": "bad"}.items():
        store.client.set_tag(run_id, name, value)
    for name in ("arm", "fit_seconds", "experiment_id"):
        store.client.log_param(run_id, name, "mine")
    for name in ("filters", "code_sha256", "run_id"):
        store.client.log_metric(run_id, name, 7.0)
    return run_id


@pytest.mark.fault("tags-as-values")
def test_a_tag_changes_no_metric_and_no_param_nor_one_of_these_a_tag(store: Store, tagged: str) -> None:
    (row,) = store.runs().to_dict("records")
    assert (row["run_id"], row["status"], row["model"], row["seed"], row["arm"]) == (
        *(tagged, "FINISHED", "dense", "0", "dense"),
    )
    assert row["loss"] < 1 and row["test_accuracy"] < 0.9 and row["fit_seconds"] > 10
    for each in records_of(store, [store.run(tagged)]):
        assert missing(each) == [] and contradictions(each) == []


@pytest.mark.fault("tags-as-values")
@pytest.mark.parametrize("words", [("list",), ("list", "--json"), ("claims", STUDY), ("check",)])
def test_no_command_ends_at_a_tag_of_a_person(tagged: str, tmp_path: Path, words: tuple[str, ...]) -> None:
    said = Lab(tmp_path, tmp_path).call(*words, *([tagged] if words == ("check",) else []))
    assert "0.99" not in said and "best" not in said


@pytest.mark.fault("tags-as-values")
def test_what_a_person_writes_into_a_run_under_way_stays_there(store: Store) -> None:
    trajectory, run, run_id = started(store)
    store.client.set_tag(run_id, "mlflow.note.content", "look at epoch 2")
    store.client.set_tag(run_id, "mlflow.runName", "my favourite")
    finish(store, trajectory, run)
    (row,) = store.runs().to_dict("records")
    assert seen(store, run_id)[3]["mlflow.note.content"] == "look at epoch 2"
    assert (row["status"], row["name"]) == ("FINISHED", "my favourite") and is_whole(store, run_id)


# What an import made.


@pytest.mark.fault("imported-or-not")
def test_a_run_that_a_person_calls_published_stays_where_it_is(store: Store, tmp_path: Path) -> None:
    for name, content in published(records(0, studies=(BASELINE,)), (BASELINE,)).items():
        (tmp_path / "results" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "results" / name).write_bytes(content)
    record_one(store, FOUR)
    (ours,) = store.runs()["run_id"]
    bare = put(store, record(BASELINE, "cnn", 1), BASELINE.question, published="in the paper")  # by no code of ours
    experiment = store.experiment(STUDY, QUESTION)
    theirs = foreign(store, experiment, "FINISHED", study=STUDY, published="a" * 32)
    for name, value in {"published": "a" * 32, "imported": "experiments/results"}.items():
        store.client.set_tag(ours, name, value)
    assert import_runs(store, [BASELINE], tmp_path / "results") == 2
    assert {seen(store, run_id)[1] for run_id in (ours, bare, theirs)} == {"active"}
    assert store.find(ours[:8])["published"] is None and len(recorded_results(store, [STUDY])) == 2
    with pytest.raises(StoreError, match="has no recorded run"):
        store.find("a" * 8)


@pytest.mark.fault("imported-or-not")
def test_the_first_import_beside_own_runs_asks_pandas_for_nothing_it_will_refuse(store: Store, tmp_path: Path) -> None:
    for name, content in published(records(0, studies=(BASELINE,)), (BASELINE,)).items():
        (tmp_path / "results" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "results" / name).write_bytes(content)
    record_one(store, FOUR)  # of no run is it said what it was imported from: warnings are errors here
    assert import_runs(store, [BASELINE], tmp_path / "results") == 2


@pytest.mark.fault("imported-or-not")
def test_what_was_imported_stays_so_whatever_becomes_of_its_tags(store: Store, tmp_path: Path) -> None:
    def publish(*seeds: int) -> int:
        for name, content in published(records(*seeds, studies=(BASELINE,)), (BASELINE,)).items():
            (tmp_path / "results" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "results" / name).write_bytes(content)
        return import_runs(store, [BASELINE], tmp_path / "results")

    assert publish(0, 1) == 4
    for run_id in store.runs()["run_id"]:
        store.client.set_tag(run_id, "published", "yes")
        store.client.set_tag(run_id, "imported", "by me")
    assert publish(0, 1) == 0 and recorded_results(store, [STUDY]) == {}
    assert publish(0) == 0 and len(store.runs()) == 2  # what is published no more is in the bin


# Deleted, while a run is under way or after.


def started(store: Store, status: str = "running") -> tuple[Any, Any, str]:
    """A run of four epochs of which two are in the store."""
    trajectory, run = header_and_record(store, FOUR)
    trajectory.save_run(run)
    for event in list(events(trajectory, 4))[:6]:
        trajectory.keep(event)  # type: ignore[arg-type]  # no cut among them
    if status != "running":
        run = replace(run, status=status, stop_reason=status)  # type: ignore[arg-type]
        trajectory.save_run(run)
    store.send(trajectory)
    return trajectory, run, str(trajectory.sent(run).run_id)


def finish(store: Store, trajectory: Any, run: Any) -> None:
    assert trajectory.acquire()
    with Recorder(store) as recorder:
        recorder.begin(trajectory, [replace(run, status="running", stop_reason=None)])
        for event in events(trajectory, 4, first=len(trajectory.epochs()) + 1):
            recorder.take(trajectory, event)
        recorder.leave(trajectory)
    assert recorder.trouble is None


@pytest.mark.fault("deleted")
@pytest.mark.parametrize("status", ["running", "killed"])
def test_a_run_that_was_deleted_before_it_finished_is_made_anew_and_said_so(
    store: Store, status: str, capfd: pytest.CaptureFixture[str]
) -> None:
    trajectory, run, first = started(store, status)
    store.client.delete_run(first)
    finish(store, trajectory, run)
    (row,) = store.runs().to_dict("records")
    assert row["run_id"] != first and row["status"] == "FINISHED" and is_whole(store, row["run_id"])
    said = "baseline_study: dense · seed 0: its run is gone from the store; it is made anew\n"
    assert capfd.readouterr().err.count(said) == 1
    assert seen(store, first)[1] == "deleted" and sync(store) == (0, None)


@pytest.mark.fault("deleted")
def test_a_run_is_sent_to_a_database_that_took_the_place_of_one_that_was_removed(tmp_path: Path) -> None:
    trajectory, run, _ = started(open_store(tmp_path / "removed"), "killed")
    (tmp_path / "new").mkdir()
    (tmp_path / "removed" / "trajectories").rename(tmp_path / "new" / "trajectories")
    store = open_store(tmp_path / "new")
    trajectory = type(trajectory)(tmp_path / "new" / "trajectories" / trajectory.folder.name)
    assert sync(store) == (0, None)  # it had ended, and was sent
    finish(store, trajectory, run)
    (row,) = store.runs().to_dict("records")
    assert row["status"] == "FINISHED" and is_whole(store, row["run_id"])


def opened(store: Store, trajectory: Any) -> Any:
    """What the next `run` of the one arm has to make, and what it finds finished."""
    planned = PlannedTrajectory((Run(Study(STUDY, QUESTION, {"dense": FOUR}), "dense", 0, FOUR),))
    options = SimpleNamespace(reuse=True, smoke=False)
    session: Any = SimpleNamespace(store=store, address=store.address, smoke=False, options=options)
    to_make, finished = open_entries(session, planned, trajectory, {})
    return to_make, finished


@pytest.mark.fault("deleted")
@pytest.mark.parametrize("change", ["deleted", "arm", "trajectory_sha256"])
def test_a_finished_run_that_is_in_the_store_no_more_as_what_it_was_is_asked_for_again(
    store: Store, change: str
) -> None:
    trajectory = record_one(store, FOUR)
    (run_id,) = store.runs()["run_id"]
    assert len(opened(store, trajectory)[1]) == 1
    if change == "deleted":
        store.client.delete_run(run_id)
    else:
        store.client.set_tag(run_id, change, "of mine")
    to_make, finished = opened(store, trajectory)
    assert len(to_make) == 1 and finished == []


@pytest.mark.fault("deleted")
@pytest.mark.parametrize("status", ["running", "killed"])
def test_an_unfinished_run_that_a_person_made_anothers_is_left_to_them_and_another_is_made(
    store: Store, status: str
) -> None:
    trajectory, run, run_id = started(store, status)
    assert [entry.record for entry in opened(store, trajectory)[0]] == [run.record]
    store.client.set_tag(run_id, "arm", "of mine")
    (entry,), finished = opened(store, trajectory)
    assert entry.record != run.record and finished == []
    (left,) = trajectory.runs()
    assert left.status == "killed" and left.record == run.record


@pytest.mark.fault("deleted")
def test_a_run_that_was_made_anew_and_is_restored_is_left_open_by_nobody(store: Store) -> None:
    trajectory, run, first = started(store)
    store.client.delete_run(first)
    finish(store, trajectory, run)
    store.client.restore_run(first)
    store.client.set_tag(first, "heartbeat", "2020-01-01T00:00:00Z")
    noted = {run.record: trajectory.sent(run).run_id}
    assert store.close_lost(noted) == ["baseline_study: dense · seed 0"]
    assert seen(store, first)[0] == "KILLED" and seen(store, str(noted[run.record]))[0] == "FINISHED"


# An experiment in the bin, or renamed.


@pytest.mark.fault("binned")
def test_an_experiment_in_the_bin_is_told_before_training_with_the_command_that_restores_it(store: Store) -> None:
    record_one(store, FOUR)
    experiment = store.experiment(STUDY, QUESTION)
    store.client.delete_experiment(experiment)
    store.forget(STUDY)
    with pytest.raises(Binned, match="the experiment of baseline_study is in the store's bin") as caught:
        store.check_rights({STUDY: QUESTION})
    assert f"-m mlflow experiments restore --experiment-id {experiment}" in str(caught.value)
    assert f"MLFLOW_TRACKING_URI={store.address.name}" in str(caught.value)
    store.client.restore_experiment(experiment)
    store.check_rights({STUDY: QUESTION})


@pytest.mark.fault("binned")
def test_one_in_the_bin_keeps_no_run_of_another_study_from_the_store_though_they_share_their_training(
    store: Store,
) -> None:
    trajectory, run = header_and_record(store, FOUR)
    for place, study in enumerate((STUDY, "epochs_study")):
        trajectory.save_run(replace(run, record=f"{place}" * 32, study=study))
    experiment = store.experiment(STUDY, QUESTION)
    store.client.delete_experiment(experiment)
    store.forget(STUDY)
    with pytest.raises(Binned, match="the experiment of baseline_study"):
        store.send(trajectory)
    assert list(store.runs()["study"]) == ["epochs_study"]
    store.client.restore_experiment(experiment)
    store.send(trajectory)
    assert sorted(store.runs()["study"]) == ["baseline_study", "epochs_study"]


@pytest.mark.fault("binned")
def test_one_that_was_deleted_during_training_gets_its_run_back_when_it_is_restored(store: Store) -> None:
    trajectory, _, first = started(store)
    experiment = store.experiment(STUDY, QUESTION)
    store.client.rename_experiment(experiment, "networks")
    store.client.delete_experiment(experiment)
    assert trajectory.acquire()
    with Recorder(store) as recorder:
        for event in events(trajectory, 4, first=3):
            recorder.take(trajectory, event)
        recorder.leave(trajectory)
    assert recorder.trouble is not None and f"restore --experiment-id {experiment}" in recorder.trouble
    store.client.restore_experiment(experiment)
    assert sync(store) == (1, None)
    (row,) = store.runs().to_dict("records")
    assert row["run_id"] == first and row["status"] == "FINISHED" and is_whole(store, first)


@pytest.mark.fault("binned")
def test_the_ui_starts_and_imports_what_it_can(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in published(records(0)).items():
        (tmp_path / "results" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "results" / name).write_bytes(content)
    store.client.delete_experiment(store.experiment("epochs_study", "How long?"))
    served = Mock(side_effect=lambda *_, prepare, **__: prepare() or 0)
    monkeypatch.setattr("fashion_cnn.cli.ui.serve", served)
    monkeypatch.setattr("tests.support.command.STUDIES", PUBLISHED)
    said = Lab(tmp_path, tmp_path).call("ui", "--published")
    assert "; its published runs are not imported" in said and "2 published runs imported" in said
    served.assert_called_once()


@pytest.mark.fault("renamed")
@pytest.mark.parametrize("marked", [True, False])
def test_a_renamed_experiment_is_its_studys_still(store: Store, tmp_path: Path, marked: bool) -> None:
    record_one(store, FOUR)
    experiment = store.experiment(STUDY, QUESTION)
    store.client.rename_experiment(experiment, "networks \x1b[31m")
    if not marked:  # made before there was a mark
        store.client.delete_experiment_tag(experiment, MARK)
    again = Store(store.address)
    assert again.runs([STUDY])["seed"].tolist() == ["0"] and again.runs()["seed"].tolist() == ["0"]
    record_one(again, FOUR, 1)
    assert set(again.runs([STUDY])["experiment_id"]) == {experiment}
    assert again.client.get_experiment(experiment).tags[MARK] == STUDY
    assert "the experiment of baseline_study is called networks \ufffd[31m in the store\n" in (
        Lab(tmp_path, tmp_path).call("list")
    )


@pytest.mark.fault("renamed")
def test_two_that_swapped_their_names_keep_their_runs_and_a_taken_name_is_told(store: Store) -> None:
    first, second = (store.experiment(name, QUESTION) for name in (STUDY, "filter_study"))
    for experiment, name in ((first, "x"), (second, STUDY), (first, "filter_study")):
        store.client.rename_experiment(experiment, name)
    again = Store(store.address)
    assert [again.experiment(name, QUESTION) for name in (STUDY, "filter_study")] == [first, second]
    again.client.rename_experiment(first, "depth_study")
    with pytest.raises(StoreError, match="another study's experiment was renamed to depth_study: give it another"):
        again.experiment("depth_study", QUESTION)
