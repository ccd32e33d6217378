"""Record: a plain `fit` in the store, under the names that runs have, and never counted as one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fashion_cnn import Record
from fashion_cnn.config import DENSE
from fashion_cnn.data import Dataset
from fashion_cnn.models import build
from fashion_cnn.store.address import StoreError
from fashion_cnn.store.connection import Connection
from fashion_cnn.store.tracking import Store
from fashion_cnn.training import as_pixels
from tests.support.scripted import database, open_store

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


def fit(data: Dataset, callback: Any, *others: Any) -> Any:
    """A plain fit of two epochs; whatever else is random in it would need a seed in this process."""
    model = build(replace(DENSE, dense_units=4), seed=0)
    tested = as_pixels(data.test_images), data.test_labels
    images, labels = as_pixels(data.train_images), data.train_labels
    return model.fit(
        images, labels, epochs=2, shuffle=False, verbose=0, validation_data=tested, callbacks=[callback, *others]
    )


def test_a_fit_is_logged_under_the_names_of_runs(store: Store, tmp_path: Path, made_up_data: Dataset) -> None:
    record = Record("mine", settings={"batch_size": 32}, tracking_uri=database(tmp_path))
    history = fit(made_up_data, record).history
    run = store.client.get_run(str(record.run_id))
    assert (run.info.status, run.info.run_name) == ("FINISHED", "mine")
    assert run.data.params == {"epochs": "2", "learning_rate": "0.001", "parameters": "3190", "batch_size": "32"}
    for ours, keras_s in (("loss", "loss"), ("test_loss", "val_loss"), ("test_accuracy", "val_accuracy")):
        logged = store.client.get_metric_history(str(record.run_id), ours)
        assert [(value.step, value.value) for value in logged] == list(enumerate(history[keras_s], start=1))
    sums = run.data.metrics
    assert sums["epochs_trained"] == 2 and sums["fit_seconds"] > sums["epoch_seconds"] > 0


def test_it_says_that_it_is_no_evidence_and_is_none_of_our_runs(
    store: Store, tmp_path: Path, made_up_data: Dataset
) -> None:
    record = Record(tracking_uri=database(tmp_path))
    fit(made_up_data, record)
    tags = store.client.get_run(str(record.run_id)).data.tags
    assert tags["evidence"] == "none" and "no evidence" in tags["mlflow.note.content"]
    assert store.runs().empty
    with pytest.raises(StoreError, match="has no recorded run"):
        store.run(str(record.run_id))


def test_each_fit_is_a_run_and_one_that_broke_off_is_killed(
    store: Store, tmp_path: Path, made_up_data: Dataset
) -> None:
    import keras

    def stop(epoch: int, logs: Any) -> None:
        raise ZeroDivisionError

    record = Record(tracking_uri=database(tmp_path))
    with pytest.raises(ZeroDivisionError):
        fit(made_up_data, record, keras.callbacks.LambdaCallback(on_epoch_begin=stop))
    broken = str(record.run_id)
    fit(made_up_data, record)
    assert store.client.get_run(broken).info.status == "KILLED"
    assert store.client.get_run(str(record.run_id)).info.status == "FINISHED"


def test_a_store_that_fails_meanwhile_stops_the_logging_and_not_the_training(
    store: Store, tmp_path: Path, made_up_data: Dataset, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    record, taken = Record(tracking_uri=database(tmp_path)), Connection.log

    def log(self: Connection, run_id: str, metrics: Any = (), *arguments: Any, **named: Any) -> None:
        if metrics:
            raise StoreError("the disk is full")
        taken(self, run_id, metrics, *arguments, **named)

    monkeypatch.setattr(Connection, "log", log)
    assert fit(made_up_data, record).epoch == [0, 1]
    assert capsys.readouterr().err == "the disk is full; the rest of this fit is not logged\n"
