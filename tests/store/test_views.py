"""The views and the description of a study's experiment: what they show, and what a person changed stays."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments import POST_RESULTS
from fashion_cnn.evidence.selection import select
from fashion_cnn.evidence.statistics import decide
from fashion_cnn.evidence.verdicts import with_counted_times
from fashion_cnn.reports.dashboard import refresh
from fashion_cnn.reports.markdown import evidence
from fashion_cnn.reports.publish import import_runs
from fashion_cnn.reports.stored import recorded
from fashion_cnn.store import grid, views
from fashion_cnn.store.description import NOTE, signed
from fashion_cnn.store.tracking import Store
from fashion_cnn.store.views import HERE, PUBLISHED, VIEW
from tests.support.published import BASELINE, published, records
from tests.support.recorded import put, record
from tests.support.scripted import PIXEL, open_store

KEYS = ("by-arm", "feature-maps", "seeds", "cost")
LAYERS = ("pooling_2", "convolution_1", "pooling_1", "convolution_2")
TWICE = {"minutes": 60}  # recorded later than the others


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with two seeds of each arm and all that no average may hold; two other seeds are imported."""
    folder = tmp_path_factory.mktemp("store")
    made = open_store(folder)
    for arm in BASELINE.arms:
        for seed in (0, 1):
            whole = record(BASELINE, arm, seed)
            maps = [grid.Picture(f"{grid.MAPS}/{layer}", epoch, 1, PIXEL) for layer in LAYERS for epoch in (0, 1, 5)]
            files = grid.files(str(seed), maps if arm == "cnn" else [])
            put(made, replace(whole, artifacts={**whole.artifacts, **files}), BASELINE.question, **grid.SHOWN)
        put(made, record(BASELINE, arm, 0), BASELINE.question, smoke="true")
        put(made, record(BASELINE, arm, 1, **TWICE), BASELINE.question, reuse="off")
        put(made, record(BASELINE, arm, 0), BASELINE.question, code_sha256="0" * 64)
        failed = put(made, record(BASELINE, arm, 2), BASELINE.question)
        made.client.set_terminated(failed, "FAILED")
    for name, content in published(records(4, 5, studies=(BASELINE,)), (BASELINE,)).items():
        path = folder / "results" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert import_runs(made, [BASELINE], folder / "results") == 4
    assert refresh(made, [BASELINE], POST_RESULTS) == []
    yield made


def experiment(store: Store) -> Any:
    return store.client.get_experiment(store.experiment(BASELINE.name, BASELINE.question))


def state(store: Store, key: str) -> dict[str, Any]:
    view = json.loads(experiment(store).tags[VIEW + key])
    packed = view["state"].removeprefix("deflate;")
    found: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return found


def test_each_source_has_its_views_and_none_without_pictures_has_feature_maps(store: Store) -> None:
    found = {tag.removeprefix(VIEW) for tag in experiment(store).tags if tag.startswith(VIEW)}
    assert found == {f"{key}-here" for key in KEYS} | {f"{key}-published" for key in KEYS} - {"feature-maps-published"}


def test_by_arm_shows_the_runs_that_claims_takes_and_no_others(store: Store) -> None:
    frames = recorded(store, [BASELINE])
    chosen, left_out = select(frames.runs, BASELINE, frames.incomplete)
    reasons = {"smoke run": 2, "not finished": 2, "another code": 2, "an older duplicate": 2}
    assert dict(left_out) == {**reasons, "published, recorded elsewhere": 4}
    shown = store.client.search_runs([experiment(store).experiment_id], state(store, "by-arm-here")["searchFilter"])
    assert {run.info.run_id for run in shown} == set(chosen["run_id"]) and len(chosen) == 4
    theirs = store.client.search_runs(
        [experiment(store).experiment_id], state(store, "by-arm-published")["searchFilter"]
    )
    assert {(run.data.tags["arm"], run.data.tags["seed"]) for run in theirs} == {
        (arm, seed) for arm in BASELINE.arms for seed in ("4", "5")
    }


def test_the_axes_hold_all_values_but_those_of_the_first_epoch(store: Store) -> None:
    chosen, _ = select(store.runs([BASELINE.name]), BASELINE)
    later = store.epochs(list(chosen["run_id"])).query("epoch > 1")
    charts = {chart.get("metricKey"): chart for chart in state(store, "by-arm-here")["compareRunCharts"]}
    for metric in ("test_accuracy", "test_loss"):
        reach = charts[metric]["range"]
        assert reach["yMin"] < later[metric].min() and later[metric].max() < reach["yMax"]
        assert later[metric].max() - later[metric].min() > 0.8 * (reach["yMax"] - reach["yMin"])


def test_feature_maps_are_those_of_the_lowest_seed_that_all_arms_have(store: Store) -> None:
    shown = state(store, "feature-maps-here")
    assert shown["searchFilter"].endswith("and params.seed = '0'")
    (shown_grid,) = (chart for chart in shown["compareRunCharts"] if not chart["deleted"])
    assert shown_grid["imageKeys"] == [
        f"feature_maps/{layer}" for layer in sorted(LAYERS, key=lambda name: (name[-1], name))
    ]
    assert shown_grid["step"] == BASELINE.arms["cnn"].epochs == 5


def test_the_description_has_the_numbers_and_verdicts_of_claims_and_leads_to_each_view(store: Store) -> None:
    frames, note = recorded(store, [BASELINE]), experiment(store).tags[NOTE]
    verdicts = frames.verdicts([BASELINE], POST_RESULTS)
    assert note.startswith(BASELINE.question) and verdicts.studies[0].sentences
    for sentence in verdicts.studies[0].sentences:
        assert f"- **{sentence.verdict}**: {sentence.says}" in note and evidence(sentence) in note
    of_published = frames.runs[frames.runs["published"].notna()].assign(published=None)
    chosen, _ = select(of_published, BASELINE)
    for sentence in decide(BASELINE.claims, with_counted_times(chosen)):
        assert evidence(sentence) in note
    printed = verdicts.test_results.query("arm == 'cnn' and measure == 'test_accuracy'").iloc[0]
    assert f"| {printed['printed']:.2f} | {printed['mean']:.4f} (" in note
    for key in ("by-arm-here", "feature-maps-here", "cost-published"):
        assert f"](#/experiments/{experiment(store).experiment_id}/runs?viewStateShareKey={key}&" in note


def test_what_a_person_changed_or_deleted_stays_and_a_new_run_changes_the_rest(store: Store) -> None:
    of_study = experiment(store)
    changed, deleted = VIEW + "seeds-here", VIEW + "cost-here"
    view = json.loads(of_study.tags[changed])
    theirs = json.dumps({**view, "name": "mine"})
    before = of_study.tags[VIEW + "by-arm-here"]
    store.client.set_experiment_tag(of_study.experiment_id, changed, theirs)
    store.client.delete_experiment_tag(of_study.experiment_id, deleted)
    store.client.set_experiment_tag(of_study.experiment_id, NOTE, "as the team describes it")
    colour = store.runs([BASELINE.name], (views.COLOUR,)).query("seed == '0' and smoke == 'false'").iloc[0]["run_id"]
    store.client.set_tag(colour, views.COLOUR, "#123456")
    put(store, record(BASELINE, "cnn", 3, lift=300), BASELINE.question)
    left = refresh(store, [BASELINE], POST_RESULTS)
    tags = experiment(store).tags
    assert tags[changed] == theirs and deleted not in tags and tags[NOTE] == "as the team describes it"
    assert tags[VIEW + "by-arm-here"] != before
    assert len(left) == 3 and store.client.get_run(colour).data.tags[views.COLOUR] == "#123456"


def test_a_run_that_counts_no_more_leaves_the_views(store: Store) -> None:
    newest = store.runs([BASELINE.name], (views.COUNTS,)).dropna(subset=[views.COUNTS]).iloc[-1]
    store.client.set_tag(newest["run_id"], "smoke", "true")
    refresh(store, [BASELINE], POST_RESULTS)
    assert views.COUNTS not in store.client.get_run(newest["run_id"]).data.tags


def test_a_text_is_known_until_a_letter_of_it_changes() -> None:
    (view, *_), text = views.views(HERE), signed("what came out")
    for written in (view.envelope(1), text):
        assert views.is_unchanged(written)
        for other in (written.replace("a", "b", 1), "", "[]", '{"written": 1}'):
            assert not views.is_unchanged(other)
    assert len(view.envelope(1)) < 5000 and view.envelope(1) == view.envelope(1)


def test_an_experiment_without_a_run_that_counts_says_so(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    put(store, record(BASELINE, "cnn", 0), BASELINE.question, smoke="true")
    refresh(store, [BASELINE], POST_RESULTS)
    tags = experiment(store).tags
    assert "No run counts yet" in tags[NOTE] and not any(tag.startswith(VIEW) for tag in tags)
    assert pd.read_csv(POST_RESULTS).shape[0] and PUBLISHED.filter != HERE.filter
