"""The report's page: what it says, and its form."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest

from fashion_cnn.claims import Higher, NotTested
from fashion_cnn.config import CNN, DENSE
from fashion_cnn.evidence.verdicts import CAVEATS
from fashion_cnn.reports.page import (
    Exploratory,
    render_report,
    study_figures,
)
from fashion_cnn.study import Study

if TYPE_CHECKING:
    from playwright.sync_api import Browser

from tests.support.pages import EVIL, HASHES, MADE_AT, STUDY, Page, records, run, said, text_of


@pytest.fixture(scope="module")
def full() -> str:
    """A page with everything that one can have."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 28, 28), dtype=np.uint8)
    maps = {arm: {"convolution_1": rng.random((2, 26, 26, 4), np.float32)} for arm in ("one", "two")}
    many = rng.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    data = Exploratory(many, np.arange(40) % 2, np.arange(10) % 2, ("bag", EVIL))
    first = records(
        *(run(arm, seed, 0.9 + seed / 100) for arm in STUDY.arms for seed in range(6)),
        run(smoke="true"),
        run(status="FAILED", stop_reason=EVIL, test_accuracy=math.nan, name=EVIL),
        run("one", 7, git_dirty="true", weights_sha256=math.nan),
        activations=maps,
        images=images,
        indices=(0, 23),
        class_name=EVIL,
    )
    claims = (Higher("loss", EVIL, than="plain", says=EVIL, note=EVIL), NotTested("plain", why=EVIL))
    evil = Study("evil_study", EVIL, {EVIL: CNN, "plain": DENSE}, claims)
    runs = [run(EVIL, study="evil_study", config_sha256=CNN.sha256(), git_commit=EVIL)]
    studies = [first, records(*runs, study=evil), records(study=replace(STUDY, name="empty_study"))]
    return render_report(studies, verdicts=said(*studies), made_at=MADE_AT, exploratory=data)


def test_a_report_of_no_studies_is_a_page() -> None:
    assert Page(render_report([], made_at=MADE_AT)).wrong == []


def test_a_store_without_runs_is_said_so() -> None:
    html = render_report([records()], made_at=MADE_AT)
    assert "The store has no runs of this study" in text_of(html)
    assert "No run of this study is recorded. fashion-cnn run made_up_study makes them." in text_of(html)
    assert not Page(html).all("svg", "img")


def test_a_store_of_smoke_runs_is_said_so() -> None:
    html = render_report([records(run(smoke="true"), run(smoke="true", status="FAILED"))], made_at=MADE_AT)
    assert "The store has only smoke runs" in text_of(html)
    assert "Only smoke runs are recorded (2)" in text_of(html)
    assert "Left out: smoke run (2)." in text_of(html)
    assert not Page(html).all("svg", "img")


def test_a_study_without_a_finished_run_is_said_so() -> None:
    html = render_report([records(run(status="FAILED", stop_reason="killed"), run(smoke="true"))], made_at=MADE_AT)
    assert "None of the 2 recorded runs can stand in a table" in text_of(html)
    assert "failed: killed" in text_of(html)


def test_runs_that_were_left_out_are_counted_with_the_reason_and_listed_with_it(full: str) -> None:
    text = text_of(full)
    assert "The tables and figures take 19 of 21 recorded runs" in text
    assert "Left out: smoke run (1), not finished (1)." in text
    assert "no: smoke run" in text
    assert "no: not finished" in text


def test_it_states_what_the_spread_is_over_and_whose_times_they_are(full: str) -> None:
    text = text_of(full)
    assert "n is the number of seeds" in text
    assert "are over seeds, for this training set and this test set" in text
    assert "Times are those of the machine that trained" in text
    assert "trained on 1 machine." in text


def test_a_run_has_its_id_its_commit_and_its_whole_hashes() -> None:
    one = run(git_dirty="true", git_commit="abc" * 13)
    html = render_report([records({**one, "status": "FAILED"})], made_at=MADE_AT)
    codes = {code.get("title") for code in Page(html).all("code")}
    assert {one["name"], one["git_commit"], *(one[name] for name in HASHES)} <= codes
    assert f"{one['run_id']} one 0 failed" in text_of(html)
    assert "abcabcabcabc dirty" in text_of(html)


def test_environments_code_and_data_are_counted() -> None:
    html = render_report([records(run(), run("two"), run(smoke="true", environment_sha256="f" * 64))], made_at=MADE_AT)
    assert f"environment {'e' * 64} 2 2 environment {'f' * 64} 1 0 code {'c' * 64} 3 2" in text_of(html)


def test_sentences_stand_with_their_parts_numbers_notes_and_verdicts() -> None:
    accuracies = {"one": 0.92, "two": 0.90, "flat": 0.90}
    runs = [
        run(arm, seed, accuracy + seed % 3 * 0.0001 * len(arm), loss=0.3 - accuracy / 10)
        for arm, accuracy in accuracies.items()
        for seed in range(6)
    ]
    made = records(*runs)
    text = text_of(render_report([made], verdicts=said(made), made_at=MADE_AT))
    assert "the post's One is betterIt says so twice. supported" in text
    assert "ours Two is flat supported" in text
    assert "the post's More data is neededThere is no more. not tested" in text
    assert text.count("One is betterIt says so twice. supported") == 2
    numbers = "6 +0.0200 in all +0.0200 to +0.0200 0.0000 6 of 6 < 0.0001 1.0000 supported"
    assert f"test accuracy: one higher than two {numbers}" in text
    needs = "about 7 seeds would decide at this estimate and spread"
    assert f"one ends before epoch 20 6 1.00 0.46 to 1.00 - 6 of 6 0.0781 1.0000 undecided{needs}" in text
    assert "More data is neededThere is no more. not tested" in text


def test_too_few_seeds_have_dashes_for_what_they_cannot_say() -> None:
    made = records(run("one"), run("two"))
    text = text_of(render_report([made], verdicts=said(made), made_at=MADE_AT))
    assert "test accuracy: one higher than two 1 +0.0000 - - 0 of 1, 1 equal - - too few seeds" in text
    assert "test accuracy: two within 0.005 of flat 0 - - - - - - too few seeds" in text


def test_it_says_once_how_far_the_verdicts_hold_and_how_many_of_the_posts_numbers_miss(full: str) -> None:
    text = text_of(full)
    for caveat in CAVEATS:
        assert text.count(caveat) == 1
    outside = "Outside of the 95 % prediction interval for one more of our runs"
    given = "give or take half a last digit (by chance alone: 0.0), and 1 as printed (by chance: 0."
    assert f"{outside}: 1 of the post's 2 test results, {given}" in text
    assert "Outside of such intervals: 3 of the post's 4 numbers of an epoch's training loss or accuracy" in text


def test_without_verdicts_neither_claims_nor_the_posts_numbers_are_shown() -> None:
    text = text_of(render_report([records(run())], made_at=MADE_AT))
    assert "Claims" not in text and "Verdicts" not in text and "The post's numbers" not in text


def test_feature_maps_stand_side_by_side_and_who_has_none_is_named(full: str) -> None:
    pictures = [image["alt"] for image in Page(full).all("img")]
    for arm, index in itertools.product(("one", "two"), (0, 23)):
        assert (
            sum(
                re.fullmatch(rf"convolution_1 of {arm}, channel \d, for test image {index}", alt) is not None
                for alt in pictures
            )
            == 1
        )
    assert "No maps are kept of: flat." in text_of(full)
    assert "flat: feature maps, which no dense network has" in text_of(full)


def test_a_slider_over_epochs_shows_each_arms_last_maps_and_needs_no_script() -> None:
    png = b"\x89PNG made up"
    sheets = {"one": {1: {"pooling_1": png}, 5: {"pooling_1": png}}, "two": {1: {"pooling_1": png}}}
    html = render_report([records(run(), run("two"), sheets=sheets)], made_at=MADE_AT)
    page = Page(html)
    stops = [one for one in page.all("input") if one["name"] == "made_up_study-epochs"]
    assert [one["class"] for one in stops] == ["stop-0", "stop-1"] and ["checked" in one for one in stops] == [
        False,
        True,
    ]
    assert [one["class"] for one in page.all("span") if one.get("class", "").startswith("at ")] == [
        "at at-0",
        "at at-1",
        "at at-0 at-1",  # it has none after epoch 5
    ]
    assert ".stop-1:checked ~ .sheet .at-1 { display: block; }" in html and not page.all("script")


def test_imported_runs_are_counted_apart() -> None:
    own, other = run(), run("two")
    view = records(own, other)
    view = replace(view, runs=view.runs.assign(published=[None, "a" * 32]))
    text = text_of(render_report([view], made_at=MADE_AT))
    assert "1 recorded run and 1 imported of 1 study." in text
    assert "The tables and figures take 1 of 1 recorded run and 1 imported:" in text
    alone = replace(view, runs=view.runs.iloc[1:])
    text = text_of(render_report([alone], made_at=MADE_AT))
    assert "The store has only imported runs" in text and "0 recorded runs and 1 imported of 1 study." in text


def test_a_report_of_the_published_runs_calls_them_so() -> None:
    text = text_of(render_report([records(run())], made_at=MADE_AT, published=True))
    assert "report of the published runs" in text and "1 published run of 1 study." in text
    with_empty = text_of(render_report([records(run()), records()], made_at=MADE_AT, published=True))
    assert "1 published run of 1 study." in with_empty


def test_a_verdict_is_a_word_in_a_colour_of_its_own(full: str) -> None:
    assert '<span class="verdict too-few-seeds">too few seeds</span>' in full


def test_figures_follow_the_pages_colours(full: str) -> None:
    svg = full[full.index("<svg") : full.index("</svg>")]
    assert "#000000" not in svg and "#ffffff" not in svg
    assert "color-mix(in srgb, var(--ink) 100%, var(--paper))" in svg


def test_a_figure_that_cannot_be_drawn_is_told_in_its_place() -> None:
    maps = {"one": {"convolution_1": np.ones((1, 26, 26, 4), np.float32)}}
    images = np.zeros((2, 28, 28), np.uint8)
    view = records(activations=maps, images=images, indices=(0, 23), class_name="Ankle boot")
    html = render_report([view], made_at=MADE_AT)
    assert "Not drawn: convolution_1 has maps of 1 images, but there are 2 images." in text_of(html)


def test_it_is_well_formed(full: str) -> None:
    assert full.startswith("<!DOCTYPE html>")
    assert Page(full).wrong == []


def test_markup_in_names_stays_text(full: str) -> None:
    page = Page(full)
    assert not page.all("b")
    assert not [attributes for _, attributes, _ in page.tags if "onclick" in attributes]
    text = text_of(full)
    assert f"evil_study: {EVIL}" in text  # the question
    assert f"training loss: {EVIL} higher than plain" in text  # a claim
    assert f"the post's {EVIL}{EVIL} too few seeds" in text  # a sentence
    assert f"failed: {EVIL}" in text  # a stop reason
    assert f"make of a test image ({EVIL})" in text  # a class
    assert EVIL in [code.get("title") for code in page.all("code")]  # a run's name, a commit
    assert any(EVIL in svg["aria-label"] for svg in page.all("svg"))  # an arm


def test_it_loads_nothing_and_runs_nothing(full: str) -> None:
    page = Page(full)
    assert not page.all("script", "iframe", "object", "embed", "base", "form")
    for _, attributes, _ in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
                assert value.startswith(("#", "data:"))
    assert "@import" not in full
    assert set(re.findall(r"url\((.)", full)) <= {"#"}
    policies = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_it_can_be_navigated_without_seeing_it(full: str) -> None:
    page = Page(full)
    assert page.all("html") == [{"lang": "en"}]
    assert [len(page.all(name)) for name in ("title", "h1", "header", "nav", "main", "footer")] == [1] * 6
    levels = [int(tag[1]) for tag, _, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes, _ in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [
        value for _, data, _ in page.tags for name, value in data.items() if name.endswith("href") and value[0] == "#"
    ]
    assert {"#main", "#summary", "#made_up_study", "#data"} <= set(targets)
    assert {target[1:] for target in targets} <= set(ids)
    assert set(re.findall(r"url\(#([^)]*)\)", full)) <= set(ids)
    assert {one["aria-labelledby"] for one in page.all("section", "nav")} <= set(ids)


def test_each_picture_has_a_text_and_a_caption(full: str) -> None:
    page = Page(full)
    assert len(page.all("svg")) == 3 * 2 + 1 + 1 + 2  # of studies, the differences of one, cost, data
    assert len(page.all("img")) == 2 + 2 * 2 + 1  # images, maps of two arms, the sheet of samples
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    assert len(page.all("figure")) == len(page.all("figcaption")) == len(page.all("svg")) + 1


def test_each_table_has_a_caption_and_heads_with_a_scope_and_scrolls_by_itself(full: str) -> None:
    page = Page(full)
    tables = [place for place, (tag, _, _) in enumerate(page.tags) if tag == "table"]
    assert len(tables) == 2 + 3 + 3 + 1 + 2 * 2 + 1
    for place in tables:
        assert page.tags[place + 1][0] == "caption"
        assert page.tags[place - 1][1]["tabindex"] == "0"
        assert page.tags[place - 1][1]["class"].split()[0] == "scroll"
    assert {head.get("scope") for head in page.all("th")} == {"col", "colgroup", "row", "rowgroup"}


def test_the_rows_of_a_table_are_as_wide_as_its_head(full: str) -> None:
    for table in re.findall(r"<table>.*?</table>", full, re.S):
        waiting: list[int] = []  # rows that a cell still spans, by cell
        widths = set()
        for row in re.findall(r"<tr>.*?</tr>", table, re.S):
            cells = [attributes for tag, attributes, _ in Page(row).tags if tag in ("th", "td")]
            spanning = len(waiting)
            widths.add(sum(int(cell.get("colspan", 1)) for cell in cells) + spanning)
            waiting = [left - 1 for left in waiting if left > 1]
            waiting += [int(cell["rowspan"]) - 1 for cell in cells if int(cell.get("rowspan", 1)) > 1]
        assert len(widths) == 1


def test_the_same_input_gives_the_same_page() -> None:
    runs = [run(arm, seed) for arm in STUDY.arms for seed in range(2)]
    views = records(*runs), records(*runs)
    first, second = (render_report([view], verdicts=said(view), made_at=MADE_AT) for view in views)
    assert first == second


def test_the_figures_of_a_study_are_files_with_the_same_bytes_each_time() -> None:
    maps = {"convolution_1": np.arange(2 * 26 * 26 * 4, dtype=np.float32).reshape(2, 26, 26, 4)}
    held = records(
        run(),
        run(seed=1, accuracy=0.91),
        activations={"one": maps},
        images=np.zeros((2, 28, 28), np.uint8),
        indices=[0, 23],
        class_name="Ankle boot",
    )
    drawn = study_figures(held)
    assert set(drawn) == {"scores.svg", "curves.svg", "seconds.svg", "feature_maps_0.png", "feature_maps_23.png"}
    assert drawn == study_figures(held)
    assert all(content.startswith((b"<svg", b"\x89PNG")) for content in drawn.values())


def test_a_study_without_runs_has_no_feature_maps_to_draw() -> None:
    assert not any(name.startswith("feature_maps") for name in study_figures(records()))


def test_a_thousand_runs_are_all_listed_and_folded_away() -> None:
    runs = [run(arm, seed, 0.9 + seed % 7 / 1000) for arm in ("one", "two") for seed in range(500)]
    made = records(*runs)
    html = render_report([made], verdicts=said(made), made_at=MADE_AT)
    page = Page(html)
    assert page.wrong == []
    assert {"open": ""} not in page.all("details")
    assert html.count('<th scope="row"><code') == 1000
    assert len(html) < 5 * 2**20


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_a_browser_shows_the_page_without_a_request_or_overflow(
    browser: Browser, full: str, tmp_path: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    (tmp_path / "report.html").write_text(full, encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, asked, said = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto((tmp_path / "report.html").as_uri())
    assert page.locator("h1").is_visible() and page.locator("table").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [url for url in asked if not url.startswith("data:")] == [page.url] and said == []
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in re.findall(r"\d+", light)[:3]) > 3 * 128) == (scheme == "light")
    context.close()
