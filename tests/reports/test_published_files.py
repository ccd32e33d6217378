"""The published files have room, and hold what the networks answered and what their feature maps were drawn from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import POST_RESULTS, RESULTS, STUDIES
from fashion_cnn.config import CNN
from fashion_cnn.evidence.predictions import PREDICTIONS, Predictions, from_bytes
from fashion_cnn.reports import publish as publishing
from fashion_cnn.reports import published as results
from fashion_cnn.reports.dashboard import refresh
from fashion_cnn.reports.images import NONE_KEPT
from fashion_cnn.reports.page import StudyView, render_report
from fashion_cnn.store.artifacts import maps_in_grid
from fashion_cnn.store.tracking import Store
from fashion_cnn.store.views import VIEW
from fashion_cnn.study import Study
from tests.support.published import (
    ARRAYS,
    BASELINE,
    POST,
    SEEDS,
    SHAPES,
    STUDY,
    file_problems,
    parts,
    published,
    records,
)
from tests.support.recorded import put, record
from tests.support.scripted import PIXEL, open_store
from tests.support.tampering import rehashed, with_artifact

LONG = Study("long_study", "How long?", {f"{n} epochs": replace(CNN, epochs=n) for n in range(1, 21)})


def test_epochs_stand_by_study_and_in_one_file_where_all_runs_are_of_the_first_format(files: dict[str, bytes]) -> None:
    assert results.epoch_tables(files) == ["epochs/baseline_study.csv", "epochs/epochs_study.csv"]
    assert results.epoch_tables(published(records(0, format=1))) == ["epochs.csv"]
    assert results.epoch_tables(published([*records(0, format=1), *records(1)])) == results.epoch_tables(files)


def test_no_file_is_over_a_mebibyte_with_many_runs_and_epochs() -> None:
    """660 runs of 33 arms; 4,200 of 7,000 epochs in one study."""
    short = Study(
        "short_study", "How short?", {f"{n} epochs": replace(CNN, epochs=n, filters=16) for n in range(4, 17)}
    )
    seen = records(*range(20), studies=(LONG, short))
    files = results.record_tables(seen)
    assert len(seen) == 660 and sum(len(one.epochs) for one in seen) == 6_800
    assert max(map(len, files.values())) < results.LARGEST
    assert len(results.published_records(files)) == 660


def test_what_the_networks_answered_is_published_once_for_each_weights(files: dict[str, bytes]) -> None:
    names = {name for name in files if name.startswith(results.PREDICTED)}
    found = results.published_records(files)
    assert names == {f"predictions/{str(one.row['weights_sha256'])[:16]}.npz" for one in found}
    by_id = {one.row["run_id"]: one for one in records()}
    for one in found:
        theirs, ours = (from_bytes(each.artifacts[PREDICTIONS]) for each in (by_id[one.row["run_id"]], one))
        assert np.array_equal(theirs.classes, ours.classes) and ours.true_class_probability is None


def test_what_was_published_is_written_again_byte_for_byte(files: dict[str, bytes]) -> None:
    assert results.record_tables(results.published_records(files)).items() <= files.items()


def listed(files: dict[str, bytes]) -> dict[str, bytes]:
    """With the list of files made anew, as a careful forger would."""
    left = {name: content for name, content in files.items() if name != results.MANIFEST}
    return {**left, results.MANIFEST: results.manifest(left)}


def test_another_answer_is_found_by_the_accuracy(files: dict[str, bytes]) -> None:
    name = next(name for name in files if name.startswith(results.PREDICTED))
    changed = Predictions(from_bytes(files[name]).classes[::-1]).to_bytes()
    found = file_problems(listed({**files, name: changed}), STUDY)
    assert len(found) == 1 and ": test_accuracy: " in found[0] and "but predictions.npz says" in found[0]


def test_a_missing_answer_and_one_of_no_run_are_found(files: dict[str, bytes]) -> None:
    name = next(name for name in files if name.startswith(results.PREDICTED))
    moved = {**files, "predictions/0123456789abcdef.npz": files[name]}
    del moved[name]
    found = file_problems(listed(moved), STUDY)
    assert "predictions/0123456789abcdef.npz is of no published run" in found
    assert any("artifacts.predictions.npz: missing" in line for line in found)


def test_a_missing_table_of_epochs_is_found(files: dict[str, bytes]) -> None:
    left = {name: content for name, content in files.items() if name != "epochs/baseline_study.csv"}
    assert "epochs/baseline_study.csv is missing" in file_problems(left, STUDY)
    none = {name: content for name, content in files.items() if not name.startswith(results.EPOCHS_OF)}
    assert file_problems(none, STUDY) == ["epochs.csv is missing"]


def test_two_runs_of_the_same_weights_must_have_answered_alike() -> None:
    first = records(0)[0]
    other = Predictions(from_bytes(first.artifacts[PREDICTIONS]).classes[::-1]).to_bytes()
    with pytest.raises(results.ResultsError, match="answered the test images otherwise than another run of the same"):
        results.record_tables([first, rehashed(with_artifact(first, PREDICTIONS, other))])


def test_pages_say_what_holds_for_other_images_and_where_nothing_is_known() -> None:
    told = parts((BASELINE,), results.published_records(published(records(studies=(BASELINE,)), (BASELINE,))))
    said = told["images"]()
    assert f"| `baseline_study` | test accuracy: cnn higher than dense | {SEEDS} | " in said
    assert "crossed bootstrap's interval" in said and "| `baseline_study` | dense | 7 | " in said
    old = records(studies=(BASELINE,), format=1)
    before = parts((BASELINE,), results.published_records(published(old, (BASELINE,))))
    assert before["images"]() == NONE_KEPT


def test_the_report_has_the_interval_over_seeds_and_images() -> None:
    from fashion_cnn.evidence.images import answers_of
    from fashion_cnn.evidence.tables import frames
    from fashion_cnn.evidence.verdicts import verdicts_of

    pages = []
    for seen in (records(studies=(BASELINE,)), records(studies=(BASELINE,), format=1)):
        runs, epochs = frames(seen)
        view = StudyView.of(BASELINE, runs, epochs, answers_of(seen))
        pages.append(render_report([view], verdicts=verdicts_of([BASELINE], runs, epochs, POST), made_at="now"))
    new, old = pages
    assert "Over seeds and images" in new and "Flip between two seeds, mean" in new
    assert "Over seeds and images" not in old
    assert "These runs have no predictions, or only one seed has: nothing is said here of other test images." in old


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes the time of an update."""
    monkeypatch.setattr(publishing, "data_set", lambda _: None)
    monkeypatch.setattr(publishing, "study_figures", lambda *_: {})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


@pytest.mark.usefixtures("undrawn")
def test_activations_of_the_first_seed_are_published_and_imported_with_the_run(store: Store, tmp_path: Path) -> None:
    for seed in (0, 1):
        for arm in BASELINE.arms:
            maps = {"activations.npz": ARRAYS, "figures/feature_maps.png": PIXEL}
            one = record(BASELINE, arm, seed)
            put(store, rehashed(replace(one, artifacts={**one.artifacts, **maps})), BASELINE.question)
    folder = tmp_path / "results"
    publishing.update(store, STUDIES, folder, POST_RESULTS)
    (kept,) = (folder / "activations").iterdir()
    assert kept.read_bytes() == ARRAYS and (folder / "feature_maps" / f"{kept.stem}.png").exists()
    assert publishing.update(store, STUDIES, folder, POST_RESULTS).added == 0 and kept.exists()
    assert file_problems(publishing.read_files(folder), STUDIES) == []

    other = open_store(tmp_path / "other")
    assert publishing.import_runs(other, STUDIES, folder) == 4
    runs = other.runs()
    of_cnn = runs[(runs["arm"] == "cnn") & (runs["seed"] == "0")]["run_id"].item()
    path = other.artifact(of_cnn, "activations.npz")
    assert path is not None and path.read_bytes() == ARRAYS
    assert [other.artifact(run_id, "predictions.npz") is None for run_id in runs["run_id"]] == [False] * 4
    where = dict(runs[["run_id", "artifact_uri"]].to_numpy())
    shown = {run_id: set(maps_in_grid(other, uri).values()) for run_id, uri in where.items()}
    assert {run_id: maps for run_id, maps in shown.items() if maps} == {of_cnn: {(layer, 5) for layer in SHAPES}}
    refresh(other, STUDIES, POST_RESULTS)
    experiment = other.client.get_experiment(other.experiment(BASELINE.name, BASELINE.question))
    assert f"{VIEW}feature-maps-published" in experiment.tags


@pytest.mark.usefixtures("undrawn")
def test_a_report_of_the_published_results_shows_what_is_published_to_look_at(store: Store, tmp_path: Path) -> None:
    for arm in BASELINE.arms:
        maps = {"activations.npz": ARRAYS, "figures/feature_maps.png": PIXEL}
        one = record(BASELINE, arm, 0)
        put(store, rehashed(replace(one, artifacts={**one.artifacts, **maps})), BASELINE.question)
    folder = tmp_path / "results"
    publishing.update(store, STUDIES, folder, POST_RESULTS)
    (view, *others), verdicts = publishing.published_views(STUDIES, folder, POST_RESULTS, None)
    assert set(view.sheets) == {"cnn"} and set(view.sheets["cnn"][5]) == set(SHAPES) == set(view.activations["cnn"])
    page = render_report([view, *others], verdicts=verdicts, made_at="now", published=True)
    assert "convolution 2 of cnn after epoch 5" in page

    (path,) = (folder / "activations").iterdir()
    path.write_bytes(ARRAYS[:1000])
    (view, *others), verdicts = publishing.published_views(STUDIES, folder, POST_RESULTS, None)
    assert not view.sheets and "feature maps" in render_report([view, *others], verdicts=verdicts, made_at="now")

    path.unlink()  # as it was before activations were published
    (view, *_), _ = publishing.published_views(STUDIES, folder, POST_RESULTS, None)
    assert {epoch: list(shown) for epoch, shown in view.sheets["cnn"].items()} == {5: ["all_layers"]}


def test_a_report_shows_the_published_figures_of_runs_and_draws_them_where_the_tables_were_changed(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    def page(files: dict[str, bytes]) -> str:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
        views, verdicts = publishing.published_views(STUDY, tmp_path, POST_RESULTS, None)
        return render_report(views, verdicts=verdicts, made_at="now", published=True)

    figure = "figures/baseline_study/seconds.svg"
    told = listed({**files, figure: b'<svg xmlns="http://www.w3.org/2000/svg"><text>as published</text></svg>'})
    assert "<text>as published</text></svg>" in page(told)
    head, *rows = told[results.RUNS].splitlines(keepends=True)
    assert "<text>as published</text></svg>" not in page({**told, results.RUNS: head + b"".join(reversed(rows))})


@pytest.mark.usefixtures("undrawn")
def test_results_of_the_first_format_are_brought_up_to_date_beside_new_ones(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    for name, content in published(records(0, 1, studies=(BASELINE,), format=1), (BASELINE,)).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    one = record(BASELINE, "cnn", 2)
    put(store, one, BASELINE.question)
    merged = publishing.update(store, (BASELINE,), folder, POST_RESULTS)
    assert (merged.added, len(merged.records)) == (1, 5)
    assert not (folder / "epochs.csv").exists() and (folder / "epochs" / "baseline_study.csv").exists()
    assert len(list((folder / "predictions").iterdir())) == 1


def test_the_repositorys_own_results_are_read_in_whichever_layout_they_have() -> None:
    files = publishing.read_files(RESULTS)
    listed = json.loads(files[results.MANIFEST])["files"]
    assert set(results.epoch_tables(files)) == {name for name in listed if name.startswith("epochs")} != set()
