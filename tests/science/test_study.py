"""Studies and plans are values: what is to be trained follows from them alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from experiments import STUDIES
from fashion_cnn.architecture import multiply_adds
from fashion_cnn.claims import Higher
from fashion_cnn.config import CNN, DENSE, FIELDS
from fashion_cnn.running.plan import Run, epoch_work, expected_epochs, plan, rerun_command, select_runs
from fashion_cnn.sample import epoch_steps
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
    "data_study": [
        "7,500 images",
        "15,000 images",
        "30,000 images",
        "60,000 images",
        "60,000 images and their mirror images",
        "7,500 images, equal steps",
        "15,000 images, equal steps",
        "30,000 images, equal steps",
        "60,000 images and their mirror images, equal steps",
    ],
    "split_study": ["dense", "5 epochs", "10 epochs", "0 additional convolutions"],
    "order_study": [
        "fresh order, 10 epochs",
        "frozen order, 10 epochs",
        "fresh order, 20 epochs",
        "frozen order, 20 epochs",
    ],
}


RUNS = sum(len(study.arms) for study in STUDIES)
TRAJECTORIES = len(
    {
        tuple(getattr(config, name) for name in FIELDS if name not in ("epochs", "callback_loss"))
        for study in STUDIES
        for config in study.arms.values()
    }
)
STEPS = 18_750  # of ten epochs of 60,000 images in batches of 32


def test_the_studies_have_the_arms_of_the_contract() -> None:
    """A study that was added has arms of its own."""
    assert {study.name: list(study.arms) for study in STUDIES if study.name in ARMS} == ARMS


def test_the_studies_of_one_seed_are_as_many_trajectories_as_configs_without_their_stopping_rules() -> None:
    todo = plan(select_runs(STUDIES))
    assert (len(todo.runs), len(todo.trajectories)) == (RUNS, TRAJECTORIES)
    assert len({run.key() for run in todo.runs}) == RUNS > TRAJECTORIES


def test_the_arms_of_equal_steps_have_as_many_as_all_images_in_ten_epochs() -> None:
    (study,) = select_studies(STUDIES, ["data_study"])
    steps = {arm: config.epochs * epoch_steps(config) for arm, config in study.arms.items()}
    assert steps["60,000 images"] == STEPS
    # The last step of an epoch is not full with fewer images, which makes it a few more.
    equal = {arm: count for arm, count in steps.items() if arm.endswith("equal steps")}
    assert len(equal) == 4 and all(STEPS <= count <= STEPS * 1.003 for count in equal.values())
    assert {config.epochs for arm, config in study.arms.items() if arm not in equal} == {10}


def test_both_arms_of_a_number_of_images_are_one_trajectory() -> None:
    (study,) = select_studies(STUDIES, ["data_study"])
    planned = plan(select_runs([study])).trajectories
    assert sorted(each.epochs for each in planned) == [10, 10, 20, 40, 80]
    assert sorted(each.whole_epochs for each in planned) == [10, 10, 10, 10, 20]


def test_an_epoch_of_fewer_images_is_less_work_and_one_with_mirror_images_twice_as_much() -> None:
    whole = epoch_work(CNN)
    assert epoch_work(replace(CNN, augmentation="mirror")) == pytest.approx(2 * whole)
    assert epoch_work(replace(CNN, training_images=7_500)) == pytest.approx(whole / 8, rel=0.002)
    assert epoch_work(replace(CNN, split="drawn")) == whole


def test_a_trial_is_planned_with_the_few_images_that_it_has() -> None:
    trial = plan(select_runs(STUDIES[:1], smoke=True), images=512).trajectories
    assert {(each.epochs, each.steps) for each in trial} == {(2, 32)}
    whole = plan(select_runs(STUDIES[:1], smoke=True)).trajectories
    assert [each.work for each in trial] == pytest.approx([each.work * 512 / 60_000 for each in whole])


def test_the_longest_trajectory_comes_first() -> None:
    work = [planned.work for planned in plan(select_runs(STUDIES)).trajectories]
    assert work == sorted(work, reverse=True)


def test_the_default_network_is_trained_once_for_the_runs_of_most_studies() -> None:
    (shared,) = (each for each in plan(select_runs(STUDIES)).trajectories if each.config == replace(CNN, epochs=20))
    assert len({run.study.name for run in shared.runs}) >= 7
    assert len(shared.runs) == sum(
        replace(config, epochs=10, callback_loss=None) == CNN for study in STUDIES for config in study.arms.values()
    )


def test_seeds_share_nothing() -> None:
    assert len(plan(select_runs(STUDIES, seeds=range(3))).trajectories) == 3 * TRAJECTORIES


def test_without_reuse_each_run_is_trained_alone() -> None:
    assert len(plan(select_runs(STUDIES), reuse=False).trajectories) == RUNS


def test_what_is_recorded_is_left_out_and_told() -> None:
    runs = select_runs(STUDIES)
    todo = plan(runs, {runs[0].key(), runs[5].key()})
    assert len(todo.runs) == RUNS - 2 and todo.recorded == (runs[0], runs[5])


def test_without_reuse_what_is_recorded_is_made_again() -> None:
    runs = select_runs(STUDIES)
    assert len(plan(runs, {run.key() for run in runs}, reuse=False).runs) == RUNS


def test_nothing_to_do_is_an_empty_plan() -> None:
    assert plan([]).trajectories == ()


def test_a_smoke_run_is_at_most_two_epochs() -> None:
    assert {run.config.epochs for run in select_runs(STUDIES, smoke=True)} == {2}


def test_arms_can_be_chosen_by_name() -> None:
    runs = select_runs(STUDIES, arms=["10 epochs"])
    assert [run.study.name for run in runs] == [study.name for study in STUDIES if "10 epochs" in study.arms]
    assert {run.arm for run in runs} == {"10 epochs"}


def test_an_unknown_arm_is_told_the_nearest() -> None:
    with pytest.raises(StudyError, match=r"no arm '16 filter' .did you mean '16 filters'"):
        select_runs(STUDIES, arms=["16 filter"])


def test_an_unknown_study_is_told_the_nearest() -> None:
    with pytest.raises(StudyError, match=r"no study 'filters_study' .did you mean 'filter_study'"):
        select_studies(STUDIES, ["filters_study"])


def test_no_name_selects_all_studies_in_order() -> None:
    assert select_studies(STUDIES, []) == select_studies(STUDIES, ["all"]) == list(STUDIES)
    assert [study.name for study in select_studies(STUDIES, ["filter_study", "baseline_study"])] == [
        "baseline_study",
        "filter_study",
    ]


@pytest.mark.parametrize("name", ["", "all", "Upper", "with space", "../up", "a" * 61, "ümlaut", "a\nb"])
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


@pytest.mark.parametrize("question", ["", "why? " * 1000, None])
def test_a_question_is_text_that_fits_a_description(question: Any) -> None:
    with pytest.raises(StudyError, match="the question of one must be text of 1 to 1000 characters"):
        Study("one", question, {"cnn": CNN})


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
