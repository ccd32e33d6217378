"""Studies and plans are values: what is to be trained follows from them alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from experiments import STUDIES
from fashion_cnn.architecture import multiply_adds
from fashion_cnn.claims import Higher
from fashion_cnn.config import CNN, DENSE
from fashion_cnn.running.plan import Run, expected_epochs, plan, rerun_command, select_runs
from fashion_cnn.study import AD_HOC, Study, StudyError, select_studies

ARMS = {
    "baseline_study": ["dense", "cnn"],
    "epochs_study": ["5 epochs", "10 epochs", "15 epochs", "20 epochs"],
    "filter_study": ["16 filters", "32 filters", "64 filters"],
    "depth_study": [
        "0 additional convolutions",
        "1 additional convolution",
        "2 additional convolutions",
        "1 additional convolution, same padding",
        "3 additional convolutions, same padding",
    ],
    "callback_study": ["stop at loss 0.19", "10 epochs"],
    "order_study": [
        "fresh order, 10 epochs",
        "frozen order, 10 epochs",
        "fresh order, 20 epochs",
        "frozen order, 20 epochs",
    ],
}


def test_the_studies_have_the_arms_of_the_contract() -> None:
    assert {study.name: list(study.arms) for study in STUDIES} == ARMS


def test_the_studies_of_one_seed_are_nine_trajectories() -> None:
    todo = plan(select_runs(STUDIES))
    assert len(todo.runs) == 20 and len(todo.trajectories) == 9


def test_the_longest_trajectory_comes_first() -> None:
    work = [planned.work for planned in plan(select_runs(STUDIES)).trajectories]
    assert work == sorted(work, reverse=True)


def test_the_default_network_is_trained_once_for_eleven_runs_and_with_a_frozen_order_once_for_two() -> None:
    shared = [planned for planned in plan(select_runs(STUDIES)).trajectories if len(planned.runs) > 1]
    assert sorted(len(planned.runs) for planned in shared) == [2, 11]
    assert {planned.epochs for planned in shared} == {20}


def test_seeds_share_nothing() -> None:
    assert len(plan(select_runs(STUDIES, seeds=range(3))).trajectories) == 27


def test_without_reuse_each_run_is_trained_alone() -> None:
    assert len(plan(select_runs(STUDIES), reuse=False).trajectories) == 20


def test_what_is_recorded_is_left_out_and_told() -> None:
    runs = select_runs(STUDIES)
    todo = plan(runs, {runs[0].key(), runs[5].key()})
    assert len(todo.runs) == 18 and todo.recorded == (runs[0], runs[5])


def test_without_reuse_what_is_recorded_is_made_again() -> None:
    runs = select_runs(STUDIES)
    assert len(plan(runs, {run.key() for run in runs}, reuse=False).runs) == 20


def test_nothing_to_do_is_an_empty_plan() -> None:
    assert plan([]).trajectories == ()


def test_a_smoke_run_is_at_most_two_epochs() -> None:
    assert {run.config.epochs for run in select_runs(STUDIES, smoke=True)} == {2}


def test_arms_can_be_chosen_by_name() -> None:
    runs = select_runs(STUDIES, arms=["10 epochs"])
    assert [run.study.name for run in runs] == ["epochs_study", "callback_study"]


def test_an_unknown_arm_is_told_the_nearest() -> None:
    with pytest.raises(StudyError, match=r"no arm '16 filter' .did you mean '16 filters'"):
        select_runs(STUDIES, arms=["16 filter"])


def test_an_unknown_study_is_told_the_nearest() -> None:
    with pytest.raises(StudyError, match=r"no study 'filters_study' .did you mean 'filter_study'"):
        select_studies(STUDIES, ["filters_study"])


def test_no_name_selects_all_studies_in_order() -> None:
    assert select_studies(STUDIES, []) == list(STUDIES)
    assert [study.name for study in select_studies(STUDIES, ["filter_study", "baseline_study"])] == [
        "baseline_study",
        "filter_study",
    ]


@pytest.mark.parametrize("name", ["", "Upper", "with space", "../up", "a" * 61, "ümlaut", "a\nb"])
def test_a_name_that_cannot_be_a_studys_is_refused(name: str) -> None:
    with pytest.raises(StudyError, match="cannot be a study's name"):
        Study(name, "?", {"a": CNN})


@pytest.mark.parametrize("arm", ["", "  ", "a\nb", "a\0b", "a" * 121, "\x1b[31m"])
def test_a_name_that_cannot_be_an_arms_is_refused(arm: str) -> None:
    with pytest.raises(StudyError, match="cannot be an arm's name"):
        Study("s", "?", {arm: CNN})


def test_a_study_without_arms_is_refused() -> None:
    with pytest.raises(StudyError, match="has no arms"):
        Study("s", "?", {})


def test_a_claim_about_an_arm_that_there_is_not_is_refused_with_the_nearest() -> None:
    claim = Higher("test_accuracy", "wide", than="narow", says="Wide is better")
    arms = {"wide": CNN, "narrow": replace(CNN, filters=8)}
    with pytest.raises(StudyError, match=r"s claims 'Wide is better' of 'narow' .did you mean 'narrow'.*wide; narrow"):
        Study("s", "?", arms, (claim,))
    assert Study("s", "?", arms, (replace(claim, than="narrow"),)).claims[0].arms == ("wide", "narrow")


def test_a_run_that_stops_at_a_loss_is_expected_to_be_shorter_than_its_limit() -> None:
    assert expected_epochs(replace(CNN, epochs=100, callback_loss=0.19)) == 10
    assert expected_epochs(replace(CNN, epochs=4, callback_loss=0.19)) == 4


def test_arithmetic_of_the_posts_networks() -> None:
    assert multiply_adds(DENSE) == 784 * 128 + 128 * 10
    convolutions = 26 * 26 * 32 * 9 + 11 * 11 * 32 * 9 * 32
    assert multiply_adds(CNN) == convolutions + 800 * 128 + 128 * 10


def test_the_command_that_reruns_a_run_names_study_arm_and_seed() -> None:
    run = Run(STUDIES[2], "16 filters", 3, STUDIES[2].arms["16 filters"])
    assert rerun_command(run, smoke=False) == "fashion-cnn run filter_study --arms '16 filters' --first-seed 3"


def test_the_command_that_reruns_a_single_run_gives_what_differs() -> None:
    study = Study(AD_HOC, "?", {"x": replace(CNN, filters=8, callback_loss=0.5)})
    run = Run(study, "x", 1, study.arms["x"])
    command = "fashion-cnn train --name x --callback-loss 0.5 --filters 8 --seed 1 --smoke"
    assert rerun_command(run, smoke=True) == command
