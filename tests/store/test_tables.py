"""A sqlite store's tables, read and written without MLflow's client: the same as with it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import ViewType

from fashion_cnn.store import bulk, direct
from fashion_cnn.store.address import resolve
from fashion_cnn.store.connection import Connection
from fashion_cnn.store.experiments import OUR_TAG, listed
from fashion_cnn.store.tracking import Store
from tests.support.published import BASELINE
from tests.support.recorded import put, record
from tests.support.scripted import database, open_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Runs of all kinds: recorded, without an end, with a metric that is none, deleted, a stranger's."""
    store = open_store(tmp_path_factory.mktemp("store"))
    run_ids = [put(store, record(BASELINE, arm, seed), BASELINE.question) for seed in (1, 0) for arm in BASELINE.arms]
    experiment = store.experiment(BASELINE.name, BASELINE.question)
    for step, value in ((3, math.nan), (7, math.inf), (7, 0.5)):
        store.client.log_metric(run_ids[0], "loss", value, step=step)
    store.client.create_run(experiment, tags={OUR_TAG: "open", "study": BASELINE.name})
    store.client.create_run(experiment, tags={OUR_TAG: "", "study": BASELINE.name})
    store.client.set_tag(run_ids[1], "mlflow.runName", "renamed")
    store.client.delete_run(run_ids[2])
    store.client.delete_experiment(store.client.create_experiment("in the bin"))
    store.client.create_run(store.client.create_experiment("a stranger's"), tags={OUR_TAG: "theirs"})
    return store


def said(runs: Any) -> list[dict[str, Any]]:
    """What of runs is read anywhere in the project; as text, for no NaN is itself."""
    info = ("run_id", "run_name", "experiment_id", "artifact_uri", "status", "start_time", "end_time")
    return [
        {name: str(getattr(run.info, name)) for name in info}
        | {
            "tags": dict(run.data.tags),
            "params": dict(run.data.params),
            "metrics": repr(sorted(run.data.metrics.items())),
        }
        for run in runs
    ]


def test_runs_are_those_that_the_client_finds(store: Store) -> None:
    assert store.tables is not None
    ids = [each.experiment_id for each in store.client.search_experiments()]
    asked = store.client.search_runs(ids, f"tags.{OUR_TAG} != ''", order_by=["attributes.start_time"])
    found = direct.runs(store.tables, ids, OUR_TAG)
    assert said(found) == said(asked) and len(found) == 5


def test_experiments_are_those_that_the_client_lists(store: Store) -> None:
    assert store.tables is not None
    theirs = [each.name for each in store.client.search_experiments(ViewType.ALL)]
    assert sorted(each.name for each in direct.experiments(store.tables)) == sorted(theirs)
    assert store.experiments() == listed(store.client)


def test_histories_are_those_that_the_client_tells(store: Store) -> None:
    assert store.tables is not None
    run_ids = [run["run_id"] for run in store.runs().to_dict("records")]
    for name in ("loss", "test_accuracy"):
        theirs = [
            (run_id, each.step, repr(each.value))
            for run_id in run_ids
            for each in store.client.get_metric_history(run_id, name)
        ]
        ours = [(run_id, step, repr(value)) for run_id, step, value in direct.histories(store.tables, run_ids, name)]
        assert sorted(ours) == sorted(theirs) and len(ours) > 8


def test_tables_of_another_version_are_left_to_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(open_store(tmp_path).address.file or "")
    assert direct.is_current(path)
    monkeypatch.setattr(direct, "_newest", lambda: "0123456789ab")
    assert not direct.is_current(path)
    assert Connection(resolve(database(tmp_path), tmp_path)).tables is None


def test_a_run_that_is_imported_at_once_is_the_one_that_the_client_would_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = record(BASELINE, "cnn", 0)
    slow, fast = open_store(tmp_path / "slow"), open_store(tmp_path / "fast")
    with monkeypatch.context() as patch:
        patch.setattr(bulk, "_location", lambda *_: "s3://elsewhere")  # the client is asked where it is not a folder
        slow.import_elsewhere(made, BASELINE.question, "a bundle")
    fast.import_elsewhere(made, BASELINE.question, "a bundle")
    assert everything(slow) == everything(fast)


def everything(store: Store) -> dict[str, Any]:
    run_id = store.runs()["run_id"].item()
    run = store.client.get_run(run_id)
    histories = {
        name: sorted((each.step, each.timestamp, each.value) for each in store.client.get_metric_history(run_id, name))
        for name in run.data.metrics
    }
    inputs = [
        (each.dataset.to_dictionary(), [(tag.key, tag.value) for tag in each.tags])
        for each in (run.inputs.dataset_inputs if run.inputs else ())
    ]
    info = {
        name: getattr(run.info, name) for name in ("run_name", "status", "start_time", "end_time", "lifecycle_stage")
    }
    tags = {name: value for name, value in run.data.tags.items() if name != "mlflow.user"}
    files = sorted(item.path for item in store.client.list_artifacts(run_id))
    place = run.info.artifact_uri.endswith(f"/{run_id}/artifacts")
    return {
        **info, "tags": tags, "params": run.data.params, "metrics": list(run.data.metrics.items()),
        "histories": histories, "inputs": inputs, "files": files, "place": place,
    }  # fmt: skip
