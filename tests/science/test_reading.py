"""Frames for a notebook: typed, one row for what counts, and as the figures take them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from experiments import STUDIES
from fashion_cnn import figures, load_epochs, load_runs
from fashion_cnn.config import CNN, DENSE
from fashion_cnn.store.address import StoreError
from fashion_cnn.study import StudyError
from tests.support.command import REPOSITORY
from tests.support.scripted import database, open_store, record_one

SHORT = replace(CNN, epochs=2, callback_loss=0.01)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with two seeds of two arms, one of these twice, and a smoke run."""
    folder = tmp_path_factory.mktemp("read")
    store = open_store(folder)
    for seed in (0, 1):
        record_one(store, replace(DENSE, epochs=2), seed)
        record_one(store, SHORT, seed, arm="cnn")
    record_one(store, SHORT, 1, arm="cnn", start_time=1_795_000_000_001)
    record_one(store, replace(DENSE, epochs=1), 2, smoke=True)
    return database(folder)


def test_there_is_one_row_for_each_study_arm_and_seed_that_counts(uri: str) -> None:
    runs = load_runs(tracking_uri=uri)
    assert list(runs[["study", "arm", "seed"]].itertuples(index=False, name=None)) == [
        ("baseline_study", arm, seed) for arm in ("cnn", "dense") for seed in (0, 1)
    ]
    assert runs["start_time"].max() == pd.Timestamp(1_795_000_000_001, unit="ms", tz="UTC")


def test_every_run_is_there_on_demand(uri: str) -> None:
    runs = load_runs("baseline_study", every=True, tracking_uri=uri)
    assert len(runs) == 6 and list(runs["smoke"]) == [False] * 5 + [True]


def test_columns_have_types_and_what_is_missing_is_missing(uri: str) -> None:
    runs = load_runs(tracking_uri=uri)
    types = {name: str(dtype) for name, dtype in runs.dtypes.items()}
    assert [types[name] for name in ("seed", "epochs", "filters", "parameters", "workers")] == ["int64"] + ["Int64"] * 4
    assert [types[name] for name in ("test_accuracy", "epochs_trained", "callback_loss")] == ["float64"] * 3
    assert types["smoke"] == types["git_dirty"] == "boolean"
    assert types["start_time"] == types["end_time"] == "datetime64[ms, UTC]"
    dense, cnn = (runs[runs["arm"] == arm].iloc[0] for arm in ("dense", "cnn"))
    assert pd.isna(dense["filters"]) and pd.isna(dense["callback_loss"]) and cnn["filters"] == 32
    assert cnn["callback_loss"] == 0.01 and cnn["split"] == "given" and not cnn["smoke"]


def test_epochs_are_those_of_the_runs_with_their_study_arm_and_seed(uri: str) -> None:
    epochs = load_epochs(tracking_uri=uri)
    assert list(epochs)[:5] == ["study", "arm", "seed", "run_id", "epoch"]
    assert epochs["epoch"].tolist() == [1, 2] * 4
    assert epochs.groupby("run_id")["test_loss"].last().to_dict() == (
        load_runs(tracking_uri=uri).set_index("run_id")["test_loss"].to_dict()
    )


@pytest.mark.parametrize("published", [False, True])
def test_the_figures_take_the_frames_as_they_are(uri: str, published: bool) -> None:
    where = {"published": True} if published else {"tracking_uri": uri}
    runs, epochs = (load("baseline_study", **where) for load in (load_runs, load_epochs))
    arms = ["dense", "cnn"]
    for figure in (
        figures.scores_by_arm(runs, arms),
        figures.seconds_by_arm(runs, arms),
        figures.curves_by_arm(epochs, arms),
    ):
        assert figures.png(figure).startswith(b"\x89PNG")


SIZES = {config.training_images for study in STUDIES for config in study.arms.values()}


def test_published_runs_have_the_columns_and_types_of_a_stores(uri: str) -> None:
    published, stored = load_runs(published=True), load_runs(tracking_uri=uri)
    assert published.dtypes.to_dict() == stored.dtypes.to_dict()
    assert published["epochs"].notna().all() and set(published["training_images"]) == SIZES


def test_an_unknown_study_gets_one_line_that_names_the_nearest(uri: str) -> None:
    with pytest.raises(StudyError) as caught:
        load_runs("baselin_study", tracking_uri=uri)
    said = "there are no runs of 'baselin_study' (did you mean 'baseline_study'?); there are of: baseline_study"
    assert str(caught.value) == said


def test_without_a_store_one_line_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^there is no store at [^\n]* yet; record a run first"):
        load_epochs(tracking_uri=database(tmp_path))


def test_importing_the_package_and_what_reads_loads_nothing_slow() -> None:
    code = (
        "import sys, fashion_cnn; from fashion_cnn import Timer, load_runs; "
        "print({'tensorflow', 'keras', 'mlflow', 'matplotlib', 'pandas'} & set(sys.modules)); fashion_cnn.nonsense"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert said.stdout == "set()\n"
    assert said.stderr.endswith("AttributeError: module 'fashion_cnn' has no attribute 'nonsense'\n")


def test_all_that_people_import_is_there() -> None:
    import fashion_cnn

    assert {"ModelBuilder", "Timer", "StopAtLoss", "load_runs", "load_epochs", "load_network"} <= set(
        fashion_cnn.__all__
    )
    assert set(fashion_cnn.__all__) <= set(dir(fashion_cnn))
    assert all(callable(getattr(fashion_cnn, name)) for name in fashion_cnn.__all__)
