"""The numbers of a report: what arms reached, beside what the post printed, and as text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from experiments import POST_RESULTS, STUDIES
from fashion_cnn.config import CNN
from fashion_cnn.reports.page import (
    StudyView,
    arm_table,
    moment,
    number,
    post_comparison,
    typeset,
)
from fashion_cnn.study import Study

if TYPE_CHECKING:
    pass

from tests.support.pages import frame, post, records, run, said


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


def compared(*studies: StudyView, printed: pd.DataFrame | None = None) -> pd.DataFrame:
    """The post's numbers of the first study's arms, among the runs of all."""
    return post_comparison(studies[0].study, said(*studies, printed=printed))


def test_the_post_is_compared_by_its_last_epoch_and_its_mean_seconds() -> None:
    runs = [run(seed=seed, accuracy=value, epochs_trained=5.0) for seed, value in enumerate((0.90, 0.92) * 3)]
    table = compared(records(*runs)).set_index("measure")
    assert table["printed"].to_dict() == {
        **{"test_accuracy": 0.88, "test_loss": 0.35, "accuracy": 0.9, "loss": 0.25},
        **{"epochs_trained": 2, "seconds_per_epoch": 15.5},
    }
    assert table.loc["test_accuracy", "mean"] == pytest.approx(0.91)
    assert table.loc["test_accuracy", "sd"] == pytest.approx(0.01 * math.sqrt(6 / 5))
    assert table.loc["test_accuracy", "inside"] is True
    assert table.loc["test_loss", "inside"] is False
    assert table.loc["loss", "mean"] == 0.5  # of the second epoch
    assert table.loc["seconds_per_epoch", "mean"] == 20
    assert table.loc["seconds_per_epoch", "inside"] is None
    assert set(table["n"]) == {6}


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


def test_the_numbers_of_a_claim_have_minus_signs_and_a_dash_where_there_are_none() -> None:
    assert typeset("-0.0123 to +0.0034") == "\N{MINUS SIGN}0.0123 to +0.0034"
    assert typeset("") == "\N{EN DASH}"


def test_a_moment_is_written_in_utc() -> None:
    assert moment(1795364723886) == "2026-11-22 16:25"
    assert moment(math.nan) == "\N{EN DASH}"
