"""What no training leaves is refused, of one record and of many; what two trainings may share is not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashion_cnn.config import CNN, trajectory_sha256
from fashion_cnn.data import CLASS_NAMES
from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.plausibility import RULES, implausible
from fashion_cnn.evidence.record import BASIS, PER_CLASS, Record, missing
from fashion_cnn.evidence.together import implausible_together, seeds_left_out
from fashion_cnn.study import Study
from tests.support.recorded import record
from tests.support.tampering import as_seed, forged, rehashed, with_artifact, with_row

ARMS = {
    "cnn": replace(CNN, epochs=3),
    "longer": replace(CNN, epochs=5),
    "frozen": replace(CNN, epochs=3, order="frozen"),
}
STUDY = Study("made_up_study", "Is it made up?", {**ARMS, "16 filters": replace(CNN, epochs=3, filters=16)})
WHOLE = record(STUDY, "cnn")


def trajectory(**values: Any) -> Record:
    """With other values in the second epoch of `trajectory.json`, None for nothing, and the table as it was."""
    epochs = json.loads(WHOLE.artifacts["trajectory.json"])["epochs"]
    epochs[1] = {name: value for name, value in {**epochs[1], **values}.items() if value is not None}
    return rehashed(WHOLE, trajectory={"epochs": epochs})


def counts(change: Callable[[list[list[Any]]], None]) -> Record:
    table = json.loads(WHOLE.artifacts[PER_CLASS])
    change(table["data"])
    return rehashed(WHOLE, per_class=table)


def many_images(rows: list[list[Any]]) -> None:
    for place, row in enumerate(rows):  # the same accuracy
        row[1:] = [count * 10**8 for count in row[1:]]
        assert sum(row[2:]) == row[1], place


def moved_class(rows: list[list[Any]]) -> None:
    """One image less of one class, and one more of another; as many right answers, and as many images."""
    wrong = 3  # the first class' answers with the second
    rows[0][1] -= 1
    rows[0][wrong] -= 1
    rows[1][1] += 1
    rows[1][4] += 1


def rates(rows: list[list[Any]]) -> Record:
    """With the columns that records have beside the counts, right but for the given rows' recall."""
    table = json.loads(WHOLE.artifacts[PER_CLASS])
    counts = [row[2:] for row in table["data"]]
    sums = [sum(column) for column in zip(*counts, strict=True)]
    table["columns"] += ["recall", "precision"]
    for place, row in enumerate(table["data"]):
        row += [counts[place][place] / 1_000, counts[place][place] / sums[place]]
    for place, value in rows:
        table["data"][place][-2] = value
    return rehashed(WHOLE, per_class=table)


def half_images(rows: list[list[Any]]) -> None:
    rows[0][2] += 0.5
    rows[0][3] -= 0.5


def swapped(rows: list[list[Any]]) -> None:
    rows[0], rows[1] = rows[1], rows[0]


ONE: dict[str, tuple[Callable[[], Record], str, int | None]] = {
    "a training accuracy of 1.7": (lambda: forged(WHOLE, accuracy=1.7), "accuracy", 3),
    "a training accuracy between two images": (lambda: forged(WHOLE, accuracy=0.85 + 1e-7), "accuracy", 3),
    "a test accuracy below 0": (lambda: forged(WHOLE, test_accuracy=-0.1), "test_accuracy", 3),
    "a test accuracy between two images": (lambda: forged(WHOLE, 0, test_accuracy=0.89005), "test_accuracy", 1),
    "a test accuracy of the row": (lambda: with_row(WHOLE, test_accuracy=0.12345), "test_accuracy", None),
    "a test loss of -3": (lambda: forged(WHOLE, test_loss=-3.0), "test_loss", 3),
    "a test loss above that of sure mistakes": (lambda: forged(WHOLE, test_loss=16.2), "test_loss", 3),
    "a training loss below 0": (lambda: forged(WHOLE, 1, loss=-1e-9), "loss", 2),
    "an infinite loss": (lambda: forged(WHOLE, loss=math.inf), "loss", 3),
    "the largest float for a loss": (lambda: forged(WHOLE, loss=1.7976931348623157e308), "loss", 3),
    "a truth value for a loss": (lambda: trajectory(loss=True), "loss", 2),
    "seconds below 0": (lambda: forged(WHOLE, 0, epoch_seconds=-1.0), "epoch_seconds", 1),
    "a sum of seconds below 0": (lambda: with_row(WHOLE, trace_seconds=-2.5), "trace_seconds", None),
    "memory below 0": (lambda: with_row(WHOLE, peak_memory_mib=-1.0), "peak_memory_mib", None),
    "half an epoch": (lambda: with_row(WHOLE, epochs_trained=2.5), "epochs_trained", None),
    "more reused epochs than epochs": (lambda: with_row(WHOLE, reused_epochs=4.0), "reused_epochs", None),
    "a metric that is NaN in trajectory.json": (
        lambda: trajectory(test_loss=math.nan),
        "trajectory.json, test_loss",
        2,
    ),
    "a metric that trajectory.json lacks": (lambda: trajectory(accuracy=None), "trajectory.json, accuracy", 2),
    "a truth value for a metric": (lambda: trajectory(accuracy=True), "trajectory.json, accuracy", 2),
    "a run's metric that is NaN": (
        lambda: rehashed(WHOLE, trajectory={"run": {"fit_seconds": math.nan}}),
        "trajectory.json, fit_seconds",
        None,
    ),
    "an end before its start": (
        lambda: with_row(WHOLE, end_time=WHOLE.row["start_time"] - 1),
        "end_time",
        None,
    ),
    "a start before time was counted": (lambda: with_row(WHOLE, start_time=-1), "start_time", None),
    "an epoch that ended before time was counted": (lambda: forged(WHOLE, 1, ended_at=-1), "ended_at", 2),
    "a commit of one digit": (lambda: with_row(WHOLE, git_commit="f" * 40), "git_commit", None),
    "a commit of 39 digits": (lambda: with_row(WHOLE, git_commit="0123456789abc" * 3), "git_commit", None),
    "a commit that is a word": (lambda: with_row(WHOLE, git_commit="main"), "git_commit", None),
    "10^12 images": (lambda: counts(many_images), PER_CLASS, None),
    "an image of another class": (lambda: counts(moved_class), f"{PER_CLASS}, {CLASS_NAMES[0]}", None),
    "another recall": (lambda: rates([[1, 0.99]]), f"{PER_CLASS}, recall of {CLASS_NAMES[1]}", None),
    "half images": (lambda: counts(half_images), PER_CLASS, None),
    "classes out of order": (lambda: counts(swapped), PER_CLASS, None),
    "images that are no sum of answers": (lambda: counts(lambda rows: rows[0].__setitem__(1, 999)), PER_CLASS, None),
    "images below 0": (
        lambda: counts(lambda rows: rows[0].__setitem__(slice(3, 5), [rows[0][3] + 5, -5])),
        PER_CLASS,
        None,
    ),
}


@pytest.mark.parametrize("what", ONE)
def test_no_training_leaves(what: str) -> None:
    make, field, epoch = ONE[what]
    found = list(implausible(make()))
    assert (field, epoch) in {(breach.field, breach.epoch) for breach in found}
    assert set(found) <= set(contradictions(make()))


def test_each_rule_is_broken_by_one_of_these() -> None:
    told = {breach.other for make, *_ in ONE.values() for breach in implausible(make())}
    silent = [
        rule.name for rule in RULES if f"training gives {rule.told.format(trained=60_000, tested=10_000)}" not in told
    ]
    assert silent == []


def test_what_training_gives_instead_is_told() -> None:
    (found,) = implausible(forged(WHOLE, 0, accuracy=1.7))
    assert str(found) == "accuracy, epoch 1: 1.7, but training gives a share of 60000 training images"


def test_a_record_as_training_leaves_it_breaks_no_rule() -> None:
    assert [*implausible(WHOLE), *implausible(rates([]))] == [] and implausible_together([WHOLE]) == {}


def test_the_images_of_a_smoke_run_are_its_own() -> None:
    smoke = rehashed(WHOLE, trajectory={"images": [512, 256]})
    assert "accuracy" in {breach.field for breach in implausible(smoke)}
    few = [forged(smoke, place, accuracy=500 / 512, test_accuracy=0.75) for place in range(3)]
    assert all((breach.field, breach.epoch) != ("accuracy", 3) for breach in implausible(few[2]))


@pytest.mark.parametrize(
    ("changes", "trained"),
    [({"training_images": 7_500}, 7_500), ({"augmentation": "mirror"}, 120_000), ({"split": "drawn"}, 60_000)],
    ids=["fewer", "mirrored", "drawn"],
)
def test_an_accuracy_is_a_share_of_the_images_that_an_epoch_goes_through(changes: dict[str, Any], trained: int) -> None:
    study = Study("images_study", "How many?", {"other": replace(CNN, epochs=3, **changes)})
    whole = record(study, "other")
    assert [*implausible(whole), *contradictions(whole), *missing(whole)] == []
    (breach,) = implausible(forged(whole, 0, accuracy=0.5 + 1 / 240_000))
    assert breach.other == f"training gives a share of {trained} training images"
    assert [*implausible(forged(whole, 0, accuracy=0.5 + 1 / trained))] == []


def test_a_drawn_test_set_has_classes_of_other_sizes_and_a_given_one_has_not() -> None:
    study = Study("images_study", "Which?", {"drawn": replace(CNN, epochs=3, split="drawn")})
    for whole, breaches in ((record(study, "drawn"), 0), (WHOLE, 2)):
        table = json.loads(whole.artifacts[PER_CLASS])
        moved_class(table["data"])
        assert len([*implausible(rehashed(whole, per_class=table))]) == breaches


def test_shares_of_a_data_set_of_unknown_size_are_only_held_against_0_and_1() -> None:
    made_up = with_row(WHOLE, data_sha256="d" * 64)
    assert [*implausible(forged(made_up, accuracy=0.123456789))] == []
    assert {breach.field for breach in implausible(forged(made_up, accuracy=1.1))} == {"accuracy"}


@settings(max_examples=100)
@given(st.integers(0, 60_000), st.integers(1, 60_000))
def test_every_share_of_images_is_one(right: int, images: int) -> None:
    smoke = rehashed(WHOLE, trajectory={"images": [images, 10_000]})
    share = min(right, images) / images
    assert all(
        breach.epoch != 1 for breach in implausible(forged(smoke, 0, accuracy=share)) if breach.field == "accuracy"
    )


def test_a_table_without_whole_numbers_gives_no_accuracy() -> None:
    table = json.loads(WHOLE.artifacts[PER_CLASS])
    table["data"][0][2] = math.nan
    assert {"test_accuracy", PER_CLASS} <= {found.field for found in contradictions(rehashed(WHOLE, per_class=table))}


def test_versions_that_the_environment_does_not_have_are_a_contradiction() -> None:
    (found,) = contradictions(rehashed(with_artifact(WHOLE, "requirements.txt", b"numpy==2.4.6\ntensorflow==2.20.0\n")))
    assert str(found) == "requirements.txt, tensorflow: 2.20.0, but environment.json says 2.21.0"


@pytest.mark.parametrize("name", ["config.json", "environment.json", "trajectory.json", PER_CLASS])
def test_json_with_a_key_twice_is_none(name: str) -> None:
    content = WHOLE.artifacts[name]
    twice = with_artifact(WHOLE, name, content.replace(b"{", b'{"seed": 1, "seed": 0, ', 1))
    assert twice.json(name) is None
    assert f"artifacts.{name}" in {lack.field for lack in missing(twice)}


# Many records together.


def fields(*records: Record) -> dict[str, list[str]]:
    """The rules that some records break together, by the name of the run."""
    names = {str(one.row["run_id"]): str(one.row["name"]) for one in records}
    found = implausible_together(records)
    return {names[run_id]: [breach.field for breach in breaches] for run_id, breaches in found.items()}


def in_environment(one: Record, **values: Any) -> Record:
    """The record as another environment would leave it that computes the same weights."""
    row = {**one.row, "environment_sha256": "e" * 64, "run_id": "e" * 32, **values}
    config = one.config()
    assert config is not None
    row["trajectory_sha256"] = trajectory_sha256(config, int(row["seed"]), **{name: row[name] for name in BASIS})
    return replace(one, row=row)


def with_states(one: Record, other: Record, *places: int) -> Record:
    """The record with some states of another: its weights and its scores."""
    states = json.loads(other.artifacts["trajectory.json"])["epochs"]
    for place in places:
        kept = {name: states[place][name] for name in ("loss", "accuracy", "test_loss", "test_accuracy")}
        one = forged(one, place, **kept, weights_sha256=states[place]["weights_sha256"])
    return one


EQUIVALENT: dict[str, Callable[[], list[Record]]] = {
    "another stopping rule": lambda: [WHOLE, record(STUDY, "longer")],
    "a fresh and a frozen order in epoch 1": lambda: [WHOLE, with_states(record(STUDY, "frozen"), WHOLE, 0)],
    "another arithmetic whose kernels compute the same": lambda: [WHOLE, in_environment(WHOLE)],
    "the same again, which took another time": lambda: [
        WHOLE,
        with_row(forged(WHOLE, epoch_seconds=99.0, epoch_cpu_seconds=9.0), run_id="a" * 32, reuse="off"),
    ],
    "another code": lambda: [
        WHOLE,
        with_row(forged(WHOLE, test_loss=0.25), run_id="a" * 32, code_sha256="c" * 64, trajectory_sha256="7" * 64),
    ],
    "a network that learned nothing": lambda: [
        forged(WHOLE, 0, loss=14.5, accuracy=0.1, test_loss=14.5, test_accuracy=0.1),
        forged(record(STUDY, "cnn", 1), 0, loss=14.5, accuracy=0.1, test_loss=14.5, test_accuracy=0.1),
    ],
    "weights that are no numbers": lambda: [
        forged(one, loss=math.nan, weights_sha256="9" * 64) for one in (WHOLE, record(STUDY, "cnn", 1))
    ],
    "seeds and arms of their own": lambda: [record(STUDY, arm, seed) for arm in STUDY.arms for seed in range(3)],
}


@pytest.mark.parametrize("what", EQUIVALENT)
def test_two_records_may_share(what: str) -> None:
    records = EQUIVALENT[what]()
    assert len({one.row["run_id"] for one in records}) == len(records)
    assert fields(*records) == {}


def test_the_same_weights_under_two_seeds_are_refused_and_both_runs_named() -> None:
    copy = as_seed(WHOLE, 1)
    assert fields(WHOLE, copy) == {name: ["weights_sha256", "scores"] for name in ("cnn · seed 0", "cnn · seed 1")}
    (found, _) = implausible_together([WHOLE, copy])[str(WHOLE.row["run_id"])]
    assert str(found).endswith(f", but run {copy.row['run_id']} has the same with seed 1")


def test_a_run_given_ten_times_as_ten_seeds_is_refused_though_each_has_weights_of_its_own() -> None:
    copies = [as_seed(WHOLE, seed) for seed in range(1, 10)]
    other = [
        forged(forged(forged(copy, 0, weights_sha256=f"{place:064}"), 1, weights_sha256=f"{place:063}a"), 2,
               weights_sha256=f"{place:063}b")
        for place, copy in enumerate(copies)
    ]  # fmt: skip
    assert fields(WHOLE, *other) == {f"cnn · seed {seed}": ["scores"] * (9 if seed == 0 else 1) for seed in range(10)}


@pytest.mark.parametrize(("arm", "place", "setting"), [("16 filters", 2, "filters"), ("frozen", 1, "order")])
def test_the_same_weights_under_configs_that_are_not_equivalent_at_that_epoch_are_refused(
    arm: str, place: int, setting: str
) -> None:
    other = with_states(record(STUDY, arm), WHOLE, place)
    found = implausible_together([WHOLE, other])[str(other.row["run_id"])]
    assert [(breach.field, breach.epoch) for breach in found] == [("weights_sha256", place + 1), ("scores", place + 1)]
    assert f"has the same with another {setting}" in str(found[0])


def test_the_same_weights_after_two_epochs_are_refused() -> None:
    first = json.loads(WHOLE.artifacts["trajectory.json"])["epochs"][0]["weights_sha256"]
    (found,) = implausible_together([forged(WHOLE, weights_sha256=first)])[str(WHOLE.row["run_id"])]
    assert found.epoch == 3 and found.other.endswith("has the same after epoch 1")


@pytest.mark.parametrize("name", ["loss", "accuracy", "test_loss", "test_accuracy"])
def test_two_records_of_one_trajectory_with_other_scores_are_refused(name: str) -> None:
    other = with_row(forged(record(STUDY, "longer"), 1, **{name: 0.5}), run_id="a" * 32)
    found = fields(WHOLE, other)
    assert found["cnn · seed 0"] == ["weights_sha256 and environment", "trajectory_sha256"]


def test_two_records_of_one_trajectory_with_other_weights_are_refused() -> None:
    assert fields(WHOLE, forged(record(STUDY, "longer"), 1, weights_sha256="5" * 64))["cnn · seed 0"] == [
        "trajectory_sha256", "scores",
    ][:1]  # fmt: skip


def test_records_of_which_only_the_row_is_known_are_compared_by_their_last_state() -> None:
    copy = as_seed(WHOLE, 1)
    bare = replace(copy, artifacts={}, epochs=[])
    assert fields(WHOLE, bare)["cnn · seed 1"] == ["weights_sha256", "scores"]


@settings(max_examples=100)
@given(
    st.sampled_from(sorted(WHOLE.row)), st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
)
def test_whatever_a_row_holds_is_never_an_error(name: str, odd: Any) -> None:
    other = with_row(as_seed(WHOLE, 1), **{name: odd})
    list(implausible(other))
    implausible_together([WHOLE, other, replace(other, artifacts={}, epochs=[])])
    seeds_left_out([WHOLE, other])


def test_a_seed_that_one_arm_lacks_and_one_that_all_lack_are_told() -> None:
    records = [record(STUDY, arm, seed) for arm in ("cnn", "longer") for seed in (0, 1, 3, 4)]
    assert seeds_left_out(records[:3]) == {"made_up_study": ["cnn, seed 2"]}
    assert seeds_left_out(records[1:]) == {"made_up_study": ["cnn, seed 0", "cnn, seed 2", "longer, seed 2"]}
    full = [record(STUDY, arm, seed) for arm in ("cnn", "longer") for seed in range(10, 13)]
    assert seeds_left_out(full) == {} and seeds_left_out([]) == {}
    assert seeds_left_out(full[:-1]) == {"made_up_study": ["longer, seed 12"]}


def test_a_clean_checkout_has_no_diff() -> None:
    told = contradictions(with_artifact(WHOLE, "code.diff", b"--- a\n+++ b\n"))
    assert [str(one) for one in told if one.field == "git_dirty"] == ["git_dirty: false, but code.diff has changes"]
