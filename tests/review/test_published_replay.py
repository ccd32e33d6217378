"""The published runs replayed: what is trained, what is said of it, with which status. A script does the training."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fashion_cnn.evidence.record import Record
from fashion_cnn.review import replay as replaying
from fashion_cnn.review.cases import blank_comparison
from fashion_cnn.review.comparison import Comparison, Difference
from fashion_cnn.review.published import by_trajectory, marked, of_lowest_seed
from fashion_cnn.review.replay import ReplayError
from fashion_cnn.study import Study
from tests.support.command import Lab
from tests.support.published import STUDY, published, records
from tests.support.recorded import put, record
from tests.support.tampering import rehashed, with_row

ONE = STUDY[:1]  # dense and cnn: a trajectory each
States = list[Mapping[str, Any]]


def same(states: States) -> States:
    return states


def other_bits(states: States) -> States:
    return [{**state, "weights_sha256": "f" * 64} for state in states]


@pytest.fixture
def lab(tmp_path: Path, made_up: Path) -> Lab:
    return Lab(tmp_path, made_up)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[States], States]], list[int]]:
    """Has trainings give what an honest record of the longest run holds, changed; tells how many epochs each had."""

    def script(change: Callable[[States], States]) -> list[int]:
        trained: list[int] = []

        def train(trainings: Sequence[replaying._Training], *_: Any) -> None:
            for training in trainings:
                row = max((case.record for case in training.cases), key=lambda one: len(one.states())).row
                (study,) = [study for study in STUDY if study.name == row["study"]]
                honest = record(study, row["arm"], int(row["seed"]), format=1)
                training.epochs = change(honest.states())[: training.expected]
                trained.append(len(training.epochs))

        monkeypatch.setattr(replaying, "_train", train)
        return trained

    return script


def publish(lab: Lab, found: Sequence[Record], studies: tuple[Study, ...] = ONE) -> None:
    for name, content in published(list(found), studies).items():
        (lab.published / name).parent.mkdir(parents=True, exist_ok=True)
        (lab.published / name).write_bytes(content)


def forged(record: Record, accuracy: float) -> Record:
    """The record with another test accuracy at its end, wherever it stands."""
    *before, last = record.states()
    told = rehashed(record, trajectory={"epochs": [*before, {**last, "test_accuracy": accuracy}]})
    epochs = [*record.epochs[:-1], {**record.epochs[-1], "test_accuracy": accuracy}]
    return with_row(replace(told, epochs=epochs), test_accuracy=accuracy)


def test_each_trajectory_of_the_lowest_seed_is_trained_and_has_a_line(lab: Lab, scripted: Any) -> None:
    publish(lab, records(3, 0, 1, format=1, studies=ONE))
    trained = scripted(same)
    first, second, *_, last = lab.call("replay", "--published").splitlines()
    assert first.startswith("EXACT: baseline_study: dense · seed 0: 2 of 2 epochs replayed, each the same to the last")
    assert second.startswith("EXACT: baseline_study: cnn · seed 0: 2 of 2 epochs")
    assert "; native arithmetic, code " in second
    assert last == "EXACT 2 of 2" and trained == [2, 2]
    assert not (lab.folder / "mlflow.db").exists()


def test_a_published_record_of_today_is_evidence_as_it_stands(lab: Lab, scripted: Any) -> None:
    publish(lab, records(3, studies=ONE))
    scripted(other_bits)
    said = lab.call("replay", "--published", status=3)
    assert "of an imported run" in said and "no evidence as it stands" not in said


def test_the_first_epochs_are_a_quick_check(lab: Lab, scripted: Any) -> None:
    publish(lab, records(0, format=1, studies=ONE))
    trained = scripted(same)
    assert "1 of 2 epochs replayed" in lab.call("replay", "--published", "baseline_study", "--epochs", 1)
    assert trained == [1, 1]


def test_a_forged_accuracy_is_in_its_line_where_bits_differ(lab: Lab, scripted: Any) -> None:
    (of_seed_0,) = [one for one in records(0, format=1, studies=ONE) if one.row["arm"] == "cnn"]
    honest = [one for one in records(format=1, studies=ONE) if one.row["run_id"] != of_seed_0.row["run_id"]]
    publish(lab, [*honest, forged(of_seed_0, 0.9898)])
    scripted(other_bits)
    said = lab.call("replay", "--published", status=3).splitlines()
    (line,) = [line for line in said if ": cnn · seed 0: " in line]
    replayed = of_seed_0.row["test_accuracy"]
    assert line.startswith(
        f"NOT COMPARABLE: baseline_study: cnn · seed 0: recorded test accuracy 0.9898, replayed {replayed:.4f}; the "
        "recorded one lies outside of the other seeds' 95 % prediction interval ("
    )
    assert line.endswith(", n = 6)")
    assert sum(line.startswith("2 of 2: another environment: keras: recorded nothing, here ") for line in said) == 1
    assert sum(line.startswith("2 of 2: replayed in the native arithmetic, code ") for line in said) == 1
    assert said[-1] == "NOT COMPARABLE 2 of 2"


def test_a_shorter_run_that_was_forged_is_not_hidden_by_the_longest(lab: Lab, scripted: Any) -> None:
    whole = records(0, format=1)
    place = min(range(len(whole)), key=lambda one: (whole[one].row["study"] != "epochs_study", len(whole[one].epochs)))
    whole[place] = forged(whole[place], 0.5)
    publish(lab, whole, STUDY)
    trained = scripted(same)
    said = lab.call("replay", "--published", status=3)
    assert sorted(trained) == [2, 10] and "(3 runs are cut from it)" in said
    assert said.splitlines()[-1] == "EXACT 1 of 2, NOT COMPARABLE 1 of 2"


def test_a_record_that_contradicts_itself_decides_the_status(lab: Lab, scripted: Any) -> None:
    dense, cnn = records(0, format=1, studies=ONE)
    publish(lab, [dense, with_row(cnn, test_loss=0.5)])
    scripted(other_bits)
    said = lab.call("replay", "--published", status=1)
    assert "INCONSISTENT: baseline_study: cnn · seed 0: nothing was replayed" in said
    assert "the record contradicts itself: test_loss: 0.5" in said
    assert said.splitlines()[-1] == "NOT COMPARABLE 1 of 2, INCONSISTENT 1 of 2"


def test_as_json(lab: Lab, scripted: Any) -> None:
    publish(lab, records(format=1, studies=ONE))
    scripted(other_bits)
    found = json.loads(lab.call("replay", "--published", "--json", status=3))
    assert found["answers"] == {"NOT COMPARABLE": 2} and found["left_out"] == []
    for one in found["trajectories"]:
        assert one["runs"] == 1 and one["terms"]["arithmetic"] == "native"
        assert {result["score"]: result["seeds"] for result in one["results"]} == {"test_accuracy": 6, "test_loss": 6}


def test_a_study_that_is_not_published_is_told(lab: Lab) -> None:
    publish(lab, records(0, format=1, studies=ONE))
    assert "filter_study has no published runs" in lab.complaint("replay", "--published", "filter_study")
    with pytest.raises(ReplayError, match="epochs_study has no published runs"):
        of_lowest_seed(records(0, studies=ONE), STUDY)


def test_the_lowest_seed_is_that_of_the_chosen_studies() -> None:
    found = [*records(0, 10, studies=ONE), *records(2, 10, studies=STUDY[1:])]
    assert [one.row["seed"] for one in of_lowest_seed(found, STUDY[1:])] == ["2", "2"]
    assert {one.row["seed"] for one in of_lowest_seed(found, STUDY)} == {"0"}


def test_published_records_are_judged_as_imported_ones_are() -> None:
    (one,) = marked(records(0, studies=ONE)[:1])
    assert one.row["published"] == one.row["run_id"]


def test_the_worst_run_speaks_for_a_trajectory_and_of_equals_the_longest() -> None:
    def of(recorded: int, *differences: Difference) -> Comparison:
        blank = blank_comparison(records(0, studies=ONE)[0], None)
        return replace(blank, recorded=recorded, trajectory="a" * 64, differences=differences)

    wrong = Difference(1, "loss", 0.5, 0.6)
    (line,) = by_trajectory([of(5), of(10, wrong), of(15)])
    assert (line[0].recorded, line[0].answer, line[1]) == (10, "DIFFERENT", 3)
    ((longest, _),) = by_trajectory([of(5), of(15), of(10)])
    assert longest.recorded == 15


def test_of_a_study_whose_bits_differ_each_arm_is_equivalent_or_not_and_status_0_must_be_asked_for(
    lab: Lab, scripted: Any
) -> None:
    for one in records(*range(6), format=1, studies=ONE):
        if (one.row["arm"], one.row["seed"]) != ("dense", "5"):
            put(lab.store(), one, "Which?")
    scripted(other_bits)
    all_of_it = ("replay", "--all", "baseline_study")
    said = lab.call(*all_of_it, status=3).splitlines()
    arms = [line for line in said if "mean difference" in line]
    assert {line.split(", mean")[0] for line in arms} == {
        "NOT COMPARABLE: baseline_study: dense: n = 5",
        "EQUIVALENT: baseline_study: cnn: n = 6",
    }
    lab.call(*all_of_it, "--accept", "equivalent", status=3)  # the dense arm has too few seeds
    put(lab.store(), record(ONE[0], "dense", 5, format=1), "Which?")
    lab.call(*all_of_it, status=3)
    found = json.loads(lab.call(*all_of_it, "--accept", "equivalent", "--json"))
    assert {arm["arm"]: arm["answer"] for arm in found["arms"]} == {"dense": "EQUIVALENT", "cnn": "EQUIVALENT"}
    assert found["answers"] == {"NOT COMPARABLE": 12}
