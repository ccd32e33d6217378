from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import pytest

from experiments import POST_RESULTS, STUDIES
from fashion_cnn.claims import Equivalent, Higher, Lower, NotTested, Stops
from fashion_cnn.config import CNN, DENSE
from fashion_cnn.evidence.selection import select
from fashion_cnn.evidence.verdicts import CAVEATS, Verdicts, verdicts
from fashion_cnn.reports.page import (
    Exploratory,
    StudyView,
    arm_table,
    difference,
    moment,
    number,
    post_comparison,
    render_report,
    study_figures,
)
from fashion_cnn.study import Study

if TYPE_CHECKING:
    from playwright.sync_api import Browser

STUDY = Study(
    "made_up_study",
    "Is it made up?",
    {"one": CNN, "two": replace(CNN, filters=16), "flat": DENSE},
    claims=(
        Higher("test_accuracy", "one", than="two", says="One is better", note="It says so twice."),
        Lower("test_loss", "one", than="two", says="One is better"),
        Equivalent("test_accuracy", "two", "flat", within=0.005, says="Two is flat", source="ours"),
        Stops("one", before=20, says="One stops"),
        NotTested("More data is needed", why="There is no more."),
    ),
)
EVIL = '<b onclick="x(\'">& evil</b>'
HASHES = ("config_sha256", "weights_sha256", "data_sha256", "code_sha256", "environment_sha256")
VOID = {"meta", "link", "img", "br", "hr", "input"}
MADE_AT = "2026-11-22 12:00 UTC"
_count = itertools.count()


def run(arm: str = "one", seed: int = 0, accuracy: float = 0.9, loss: float = 0.3, **changes: Any) -> dict[str, Any]:
    """A finished run as a row of `Store.runs`, newer than those made before it."""
    now = next(_count)
    config = STUDY.arms.get(arm, CNN)
    return {
        **{"run_id": f"{now:032x}", "name": f"{arm} · seed {seed}", "status": "FINISHED", "start_time": now * 60_000},
        **{"study": STUDY.name, "arm": arm, "seed": str(seed), "smoke": "false", "reuse": "on", "node": "here"},
        **{name: name[0] * 64 for name in HASHES},
        **{"config_sha256": config.sha256(), "git_commit": "0123456789abcdef" * 2, "git_dirty": "false"},
        **{"stop_reason": "epochs", "test_accuracy": accuracy, "test_loss": loss, "accuracy": 0.95, "loss": 0.15},
        **{"epochs_trained": 10.0, "fit_seconds": 100.0, "fit_cpu_seconds": 90.0},
        **changes,
    }


def frame(*runs: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(runs), columns=list(run()))


def epochs_of(runs: pd.DataFrame, last: int = 3) -> pd.DataFrame:
    rows = [
        {"run_id": run_id, "epoch": epoch, "loss": 1 / epoch, "accuracy": 0.8, "test_loss": 0.4, "test_accuracy": 0.8}
        for run_id in runs["run_id"]
        for epoch in range(1, last + 1)
    ]
    return pd.DataFrame(rows, columns=["run_id", "epoch", "loss", "accuracy", "test_loss", "test_accuracy"])


def records(*runs: dict[str, Any], study: Study = STUDY, **others: Any) -> StudyView:
    return StudyView(study, frame(*runs), epochs_of(frame(*runs)), **others)


def text_of(html: str) -> str:
    """What a reader sees, in plain quotes and dashes."""
    plain = str.maketrans({"\N{RIGHT SINGLE QUOTATION MARK}": "'", "\N{EN DASH}": "-"})
    return " ".join(Page(html).text.split()).translate(plain)


def post(**columns: Any) -> pd.DataFrame:
    made = {"study": STUDY.name, "arm": "one", "epoch": [1, 2], "epoch_seconds": [14, 17], "loss": [0.5, 0.25]}
    made |= {"accuracy": [0.8, 0.9], "test_loss": [math.nan, 0.35], "test_accuracy": [math.nan, 0.88]}
    return pd.DataFrame(made | columns)


def said(*studies: StudyView, printed: pd.DataFrame | None = None) -> Verdicts:
    runs, epochs = (pd.concat([getattr(one, name) for one in studies]) for name in ("runs", "epochs"))
    return verdicts([one.study for one in studies], runs, epochs, post() if printed is None else printed)


class Page(HTMLParser):
    """What a browser would find, and whatever is not well-formed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str], tuple[str, ...]]] = []
        self.text = ""
        self.wrong: list[str] = []
        self.feed(html)
        self.close()
        self.wrong += [f"<{tag}> is never closed" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.wrong += [
            f"{tag} has {name} twice" for name in {one for one, _ in attrs if [n for n, _ in attrs].count(one) > 1}
        ]
        self.tags.append((tag, {name: value or "" for name, value in attrs}, tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if "svg" not in self.open:
            self.wrong.append(f"<{tag}/> outside of SVG")
        self.tags.append((tag, {name: value or "" for name, value in attrs}, tuple(self.open)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1] != tag:
            self.wrong.append(f"</{tag}> closes {self.open[-1:]} at {self.getpos()}")
        else:
            self.open.pop()
        self.text += " " * (tag in ("td", "th", "p", "li"))

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def all(self, *names: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes, _ in self.tags if tag in names]


@pytest.fixture(scope="module")
def full() -> str:
    """A page with everything that one can have."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 28, 28), dtype=np.uint8)
    maps = {arm: {"convolution_1": rng.random((2, 26, 26, 4), np.float32)} for arm in ("one", "two")}
    many = rng.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    data = Exploratory(many, np.arange(40) % 2, np.arange(10) % 2, ("bag", EVIL))
    first = records(
        *(run(arm, seed, 0.9 + seed / 100) for arm in STUDY.arms for seed in range(3)),
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


# -- which runs the tables take -----------------------------------------------------------------------------------


def test_of_no_runs_none_are_chosen_and_none_left_out() -> None:
    chosen, left_out = select(frame(), STUDY)
    assert chosen.empty
    assert left_out == []


def test_a_smoke_run_and_what_is_not_finished_are_left_out_and_counted() -> None:
    chosen, left_out = select(
        frame(run(smoke="true"), run(status="FAILED"), run(status="KILLED"), run(status="RUNNING"), run("two"))
    )
    assert list(chosen["arm"]) == ["two"]
    assert dict(left_out) == {"smoke run": 1, "not finished": 3}


def test_a_failed_smoke_run_is_counted_once() -> None:
    _, left_out = select(frame(run(smoke="true", status="FAILED"), run()))
    assert left_out == [("smoke run", 1)]


def test_of_two_records_of_an_arm_and_seed_the_newest_is_taken_whatever_it_reused_and_wherever_it_stands() -> None:
    old, new = run(reuse="on"), run(reuse="off")
    for runs in (frame(old, new), frame(new, old)):
        chosen, left_out = select(runs)
        assert list(chosen["run_id"]) == [new["run_id"]]
        assert left_out == [("an older duplicate", 1)]


def test_the_code_with_the_most_arms_and_seeds_is_taken_though_another_is_newer_or_has_more_duplicates() -> None:
    wanted = [run(seed=0), run(seed=1)]
    others = [run(seed=0, code_sha256="other") for _ in range(5)]
    chosen, left_out = select(frame(*wanted, *others))
    assert list(chosen["run_id"]) == [one["run_id"] for one in wanted]
    assert left_out == [("another code", 5)]


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("code_sha256", "another code"),
        ("environment_sha256", "another environment"),
        ("data_sha256", "another data set"),
    ],
)
def test_of_two_that_have_as_many_runs_the_newest_is_taken(column: str, reason: str) -> None:
    old, new = {**run(), column: "other"}, run()
    chosen, left_out = select(frame(new, old))
    assert list(chosen["run_id"]) == [new["run_id"]]
    assert left_out == [(reason, 1)]


def test_a_run_whose_environment_was_never_recorded_can_be_taken() -> None:
    chosen, left_out = select(frame(run(environment_sha256=None)))
    assert len(chosen) == 1
    assert left_out == []


def test_runs_of_an_arm_that_is_gone_or_had_another_config_are_left_out() -> None:
    runs = frame(run("one"), run("gone"), run("two", config_sha256=CNN.sha256()))
    chosen, left_out = select(runs, STUDY)
    assert list(chosen["arm"]) == ["one"]
    assert dict(left_out) == {"not an arm of the study any more": 1, "another config than the arm has now": 1}


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1.7976931348623157e308])
def test_a_finished_run_without_a_score_is_counted_instead_of_averaged(loss: float) -> None:
    chosen, left_out = select(frame(run(loss=loss), run(seed=1)))
    assert list(chosen["seed"]) == ["1"]
    assert left_out == [("a score that is not a number", 1)]


def test_seeds_are_ordered_as_numbers() -> None:
    chosen, _ = select(frame(*(run(seed=seed) for seed in (10, 9, 100))))
    assert list(chosen["seed"]) == ["9", "10", "100"]


def test_studies_keep_their_own_records() -> None:
    chosen, left_out = select(frame(run(), run(study="other_study")))
    assert len(chosen) == 2
    assert left_out == []


# -- the table of arms --------------------------------------------------------------------------------------------


def test_an_arm_without_runs_has_a_row_of_n_0() -> None:
    table = arm_table(frame(run("one")), ["two", "one"])
    assert list(table["arm"]) == ["two", "one"]
    assert list(table["n"]) == [0, 1]
    assert table.iloc[0].drop(["arm", "n"]).isna().all()


def test_one_seed_has_a_mean_and_no_spread() -> None:
    row = arm_table(frame(run(accuracy=0.9)), ["one"]).iloc[0]
    assert row["test_accuracy_mean"] == 0.9
    assert row[["test_accuracy_sd", "test_accuracy_low", "test_accuracy_high"]].isna().all()


def test_mean_sd_and_interval_are_those_of_the_textbook() -> None:
    runs = frame(*(run(seed=seed, accuracy=value, loss=1 - value) for seed, value in enumerate((0.90, 0.91, 0.95))))
    row = arm_table(runs, ["one"]).iloc[0]
    sd = math.sqrt((0.02**2 + 0.01**2 + 0.03**2) / 2)
    half = 4.302653 * sd / math.sqrt(3)  # t(0.975, 2) from a printed table
    assert row["n"] == 3
    assert row["test_accuracy_mean"] == pytest.approx(0.92)
    assert row["test_accuracy_sd"] == pytest.approx(sd)
    assert (row["test_accuracy_low"], row["test_accuracy_high"]) == pytest.approx((0.92 - half, 0.92 + half), abs=1e-7)
    assert (row["test_loss_mean"], row["test_loss_sd"]) == pytest.approx((0.08, sd))


def test_the_interval_of_equal_seeds_is_a_point() -> None:
    row = arm_table(frame(*(run(seed=seed, accuracy=0.5) for seed in range(3))), ["one"]).iloc[0]
    assert tuple(row[["test_accuracy_sd", "test_accuracy_low", "test_accuracy_high"]]) == (0, 0.5, 0.5)


def test_epochs_and_seconds_are_told_by_mean_and_range() -> None:
    first = run(epochs_trained=7.0, fit_cpu_seconds=10.0, fit_seconds=12.0)
    second = run(seed=1, epochs_trained=8.0, fit_cpu_seconds=30.0, fit_seconds=32.0)
    row = arm_table(frame(first, second), ["one"]).iloc[0]
    assert tuple(row[["epochs_mean", "epochs_min", "epochs_max", "cpu_seconds", "wall_seconds"]]) == (7.5, 7, 8, 20, 22)


# -- the post's numbers -------------------------------------------------------------------------------------------


def compared(*studies: StudyView, printed: pd.DataFrame | None = None) -> pd.DataFrame:
    """The post's numbers of the first study's arms, among the runs of all."""
    return post_comparison(studies[0].study, said(*studies, printed=printed))


def test_the_post_is_compared_by_its_last_epoch_and_its_mean_seconds() -> None:
    runs = [run(seed=seed, accuracy=value, epochs_trained=5.0) for seed, value in enumerate((0.90, 0.92))]
    table = compared(records(*runs)).set_index("measure")
    assert table["printed"].to_dict() == {
        **{"test_accuracy": 0.88, "test_loss": 0.35, "accuracy": 0.9, "loss": 0.25},
        **{"epochs_trained": 2, "seconds_per_epoch": 15.5},
    }
    assert table.loc["test_accuracy", "mean"] == pytest.approx(0.91)
    assert table.loc["test_accuracy", "sd"] == pytest.approx(0.02 / math.sqrt(2))
    assert table.loc["test_accuracy", "inside"] is True
    assert table.loc["test_loss", "inside"] is False
    assert table.loc["loss", "mean"] == 0.5  # of the second epoch
    assert table.loc["seconds_per_epoch", "mean"] == 20
    assert table.loc["seconds_per_epoch", "inside"] is None
    assert set(table["n"]) == {2}


def test_runs_of_any_study_and_arm_with_the_posts_config_count_but_a_seed_only_once() -> None:
    other = Study("other_study", "?", {"uno": CNN})
    mine = records(run(seed=0, accuracy=0.9), run("two", seed=5, accuracy=0.1))
    theirs = records(*(run("uno", seed, 0.92, study="other_study") for seed in (0, 1)), study=other)
    row = compared(mine, theirs).set_index("measure").loc["test_accuracy"]
    assert row["n"] == 2
    assert row["mean"] == pytest.approx(0.92)  # the newer of the two of seed 0


def test_runs_of_different_code_are_not_compared_together() -> None:
    other = Study("other_study", "?", {"uno": CNN})
    theirs = records(*(run("uno", seed, 0.5, study="other_study", code_sha256="old") for seed in (1, 2)), study=other)
    mine = records(*(run(seed=seed) for seed in (0, 1, 2)))
    assert set(compared(mine, theirs).set_index("measure").loc[["test_accuracy", "loss"], "n"]) == {3}


def test_arms_that_the_post_does_not_print_and_other_studies_are_not_compared() -> None:
    assert compared(records(run("two")), printed=post(arm="one", study="other_study")).empty
    assert set(compared(records(run("two")))["arm"]) == {"one"}


def test_the_posts_numbers_stand_without_ours() -> None:
    table = compared(records())
    assert set(table["n"]) == {0}
    assert table[["mean", "sd", "low", "high"]].isna().all(axis=None)
    assert all(inside is None for inside in table["inside"])


def test_each_arm_of_the_posts_file_is_an_arm_of_a_study() -> None:
    printed = pd.read_csv(POST_RESULTS)
    arms = {(study.name, arm) for study in STUDIES for arm in study.arms}
    assert set(zip(printed["study"], printed["arm"], strict=True)) <= arms


def test_the_posts_file_has_nine_test_results_and_97_epochs() -> None:
    empty = [records(study=study) for study in STUDIES]
    made = said(*empty, printed=pd.read_csv(POST_RESULTS))
    assert len(made.test_results) == 9 * 2
    assert len(made.epoch_results) == 97 * 2
    assert len(made.of([STUDIES[2]]).test_results) == 2 * 2


# -- numbers as text ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kind", "signed", "text"),
    [
        (math.nan, "score", False, "\N{EN DASH}"),
        (math.inf, "seconds", True, "\N{EN DASH}"),
        (0.9, "score", False, "0.9000"),
        (-0.0123, "score", True, "\N{MINUS SIGN}0.0123"),
        (0.0123, "score", True, "+0.0123"),
        (1234.56, "seconds", False, "1,234.6"),
        (1000, "count", False, "1,000"),
        (0.87, "plain", False, "0.87"),
        (10.0, "plain", False, "10"),
        (0.04321, "p", False, "0.0432"),
        (0.00009, "p", False, "< 0.0001"),
        (0.0, "p", False, "< 0.0001"),
        (math.nan, "p", False, "\N{EN DASH}"),
    ],
)
def test_a_number_is_written_so(value: float, kind: str, signed: bool, text: str) -> None:
    assert number(value, kind, signed) == text


def test_a_difference_has_its_sign_and_its_measures_decimals() -> None:
    assert difference(0.01234, 4) == "+0.0123"
    assert difference(-12.34, 1) == "\N{MINUS SIGN}12.3"
    assert difference(1.0, 2, signed=False) == "1.00"
    assert difference(None, 2) == "\N{EN DASH}"


def test_a_moment_is_written_in_utc() -> None:
    assert moment(1795364723886) == "2026-11-22 16:25"
    assert moment(math.nan) == "\N{EN DASH}"


# -- the page: what it says ---------------------------------------------------------------------------------------


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
    assert "The tables and figures take 10 of 12 recorded runs" in text
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
    assert "the post's One is better supported" in text
    assert "ours Two is flat supported" in text
    assert "the post's More data is needed not tested" in text
    assert "One is betterIt says so twice. supported" in text
    numbers = "6 +0.0200 in all +0.0200 to +0.0200 0.0000 6 of 6 < 0.0001 < 0.0001 1.0000 1.0000 supported"
    assert f"test accuracy: one higher than two {numbers}" in text
    assert "one ends before epoch 20 6 1.00 0.54 to 1.00 - 6 of 6 0.0156 0.0156 1.0000 1.0000 supported" in text
    assert "More data is neededThere is no more. not tested" in text


def test_too_few_seeds_have_dashes_for_what_they_cannot_say() -> None:
    made = records(run("one"), run("two"))
    text = text_of(render_report([made], verdicts=said(made), made_at=MADE_AT))
    assert "test accuracy: one higher than two 1 +0.0000 - - 0 of 1, 1 equal - - - - too few seeds" in text
    assert "test accuracy: two within 0.005 of flat 0 - - - - - - - - too few seeds" in text


def test_it_says_once_how_far_the_verdicts_hold_and_how_many_of_the_posts_numbers_miss(full: str) -> None:
    text = text_of(full)
    for caveat in CAVEATS:
        assert text.count(caveat) == 1
    outside = "Outside of the 95 % prediction interval for one more of our runs"
    assert f"{outside}: 1 of the post's 2 test results; chance alone would put at most 0.1 there." in text
    assert "Outside of such intervals: 3 of the post's 4 numbers of an epoch's training loss or accuracy" in text


def test_without_verdicts_neither_claims_nor_the_posts_numbers_are_shown() -> None:
    text = text_of(render_report([records(run())], made_at=MADE_AT))
    assert "Claims" not in text and "Verdicts" not in text and "The post's numbers" not in text


def test_feature_maps_stand_side_by_side_and_who_has_none_is_named(full: str) -> None:
    pictures = [image["alt"] for image in Page(full).all("img")]
    assert sum("a row for each of the arms one, two" in alt for alt in pictures) == 2
    assert "No maps are kept of: flat." in text_of(full)


def test_a_figure_that_cannot_be_drawn_is_told_in_its_place() -> None:
    maps = {"one": {"convolution_1": np.ones((1, 26, 26, 4), np.float32)}}
    images = np.zeros((2, 28, 28), np.uint8)
    view = records(activations=maps, images=images, indices=(0, 23), class_name="Ankle boot")
    html = render_report([view], made_at=MADE_AT)
    assert "Not drawn: convolution_1 has maps of 1 images, but there are 2 images." in text_of(html)


# -- the page: its form -------------------------------------------------------------------------------------------


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
    assert f"the post's {EVIL} too few seeds" in text  # a sentence
    assert f"failed: {EVIL}" in text  # a stop reason
    assert f"({EVIL}) as the arms see it" in text  # a class
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
    assert len(page.all("svg")) == 3 * 2 + 2
    assert len(page.all("img")) == 2 + 1
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    assert len(page.all("figure")) == len(page.all("figcaption")) == len(page.all("svg", "img"))


def test_each_table_has_a_caption_and_heads_with_a_scope_and_scrolls_by_itself(full: str) -> None:
    page = Page(full)
    tables = [place for place, (tag, _, _) in enumerate(page.tags) if tag == "table"]
    assert len(tables) == 2 + 3 + 3 + 1 + 2 * 2
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
