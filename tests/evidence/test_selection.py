"""Which runs the tables take, and why the others are left out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from fashion_cnn.config import CNN
from fashion_cnn.evidence.selection import select

if TYPE_CHECKING:
    pass

from tests.support.pages import STUDY, frame, run


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


def test_a_run_that_is_left_out_anyway_may_have_a_seed_that_is_no_number() -> None:
    chosen, left_out = select(frame(run(smoke="true") | {"seed": "none"}, run(seed=1)))
    assert list(chosen["seed"]) == ["1"] and left_out == [("smoke run", 1)]


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
