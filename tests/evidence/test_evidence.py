"""A record is evidence when it holds all that the rules ask for and nowhere contradicts itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashion_cnn.architecture import parameter_count
from fashion_cnn.config import CNN, DENSE
from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.record import HASHES, MODEL, RULES, TEXTS, Record, Rule, missing
from fashion_cnn.study import Study
from tests.support.recorded import CURVES, MACHINE, record
from tests.support.tampering import rehashed, with_artifact, with_row

STUDY = Study("baseline_study", "Which network?", {"cnn": replace(CNN, epochs=2)})
WHOLE = rehashed(with_artifact(record(STUDY, "cnn"), MODEL, b"a network"))
FIELD = attrgetter("field")
STATES = json.loads(WHOLE.artifacts["trajectory.json"])["epochs"]


def without(field: str, whole: Record = WHOLE) -> Record:
    """The record without what a rule asks for; of what there is one an epoch, the last is gone."""
    return put(field, None, whole)


def put(field: str, value: Any, whole: Record = WHOLE) -> Record:
    """The record with something else in a rule's place, or (None) nothing."""
    kind, _, name = field.partition(".")
    if kind == "artifacts":
        return with_artifact(whole, name, value)
    if kind == "row":
        return with_row(whole, **{name: value})
    if kind == "machine":
        return rehashed(whole, environment={"machine": {**MACHINE, name: value}})
    if kind == "epochs":
        last = {**whole.epochs[-1], name: math.nan if value is None else value}  # as a frame has it
        return replace(whole, epochs=[*whole.epochs[:-1], last])
    return rehashed(whole, trajectory={"epochs": [*STATES[:-1], {**STATES[-1], name: value}]})


def row(**values: Any) -> Record:
    return with_row(WHOLE, **values)


def wrong(rule: Rule) -> Any:
    """A value that is there and is not as the rule wants it."""
    if rule.field.startswith("artifacts."):
        return b"something else"
    return math.inf if isinstance(WHOLE.row.get(rule.field[4:]), float) or rule.field.startswith("epochs.") else ""


class TestCompleteness:
    def test_a_whole_record_lacks_nothing_and_contradicts_itself_nowhere(self) -> None:
        assert missing(WHOLE) == [] and contradictions(WHOLE) == []

    # Without that one it is a record of the first format: see test_record_formats.py.
    @pytest.mark.parametrize("rule", [rule for rule in RULES if rule.field != "row.record_format"], ids=FIELD)
    def test_what_a_rule_asks_for_is_missed_where_it_is_not_there(self, rule: Rule) -> None:
        lacks = {lack.field: lack for lack in missing(without(rule.field))}
        expected = {rule.field}
        if rule.field == "row.epochs_trained":  # without it nobody knows how many epochs there must be
            expected |= {other.field for other in RULES if other.each_epoch}
        if rule.field == "artifacts.trajectory.json":
            expected |= {"states.weights_sha256"}
        if rule.field == "artifacts.environment.json":
            expected |= {"machine.processor"}
        assert set(lacks) == expected
        assert lacks[rule.field].found == ("1 of it" if rule.each_epoch else "missing")

    @pytest.mark.parametrize("rule", RULES, ids=FIELD)
    def test_what_a_rule_asks_for_is_missed_where_something_else_is_in_its_place(self, rule: Rule) -> None:
        assert rule.field in {lack.field for lack in missing(put(rule.field, wrong(rule)))}

    def test_a_smoke_run_is_no_evidence(self) -> None:
        assert [lack.field for lack in missing(row(smoke="true"))] == ["row.smoke"]

    def test_another_data_set_is_no_evidence(self) -> None:
        (lack,) = missing(row(data_sha256="d" * 64))
        assert str(lack) == f"row.data_sha256: '{'d' * 64}'; wanted: that of Fashion-MNIST"

    def test_a_changed_tree_needs_its_diff(self) -> None:
        dirty = row(git_dirty="true")
        assert [lack.field for lack in missing(dirty)] == ["row.git_dirty"]
        assert missing(with_artifact(dirty, "code.diff", b"--- a\n+++ b\n")) == []

    def test_an_epoch_too_many_is_told(self) -> None:
        (lack, *_) = missing(replace(WHOLE, epochs=[*WHOLE.epochs, WHOLE.epochs[-1]]))
        assert str(lack) == "epochs.loss: 3 of it; wanted: a finite number, 2 of it"

    @pytest.mark.parametrize("value", [math.inf, 1.8e308, math.nan, "0.5", None])
    def test_a_metric_must_be_a_finite_number(self, value: Any) -> None:
        assert "epochs.test_loss" in {lack.field for lack in missing(put("epochs.test_loss", value))}


def test_a_config_has_as_many_parameters_as_keras_counts() -> None:
    assert (parameter_count(CNN), parameter_count(DENSE)) == (113_386, 101_770)
    assert parameter_count(replace(CNN, additional_convolutions=0, filters=16)) == 160 + (13**2 * 16 + 1) * 128 + 1290


def epoch(place: int, **values: Any) -> Record:
    epochs = [dict(one) for one in WHOLE.epochs]
    epochs[place - 1].update(values)
    return replace(WHOLE, epochs=epochs)


def state(place: int, **values: Any) -> Record:
    states = [dict(one) for one in STATES]
    states[place - 1].update(values)
    return rehashed(WHOLE, trajectory={"epochs": states})


def environment(**values: Any) -> Record:
    stored = json.loads(WHOLE.artifacts["environment.json"])
    return rehashed(WHOLE, environment={name: {**stored[name], **change} for name, change in values.items()})


def table() -> Record:
    stored = json.loads(WHOLE.artifacts["per_class.json"])
    stored["data"][0][2] -= 100
    stored["data"][0][3] += 100
    return rehashed(WHOLE, per_class=stored)


CONTRADICTORY: dict[str, tuple[Callable[[], Record], str, int | None]] = {
    "a param that is no config's": (lambda: row(filters="many"), "params", None),
    "another param": (lambda: row(filters="16"), "filters", None),
    "another param than was hashed": (lambda: row(learning_rate="0.002"), "config_sha256", None),
    "another hash of the config": (lambda: row(config_sha256="e" * 64), "config_sha256", None),
    "another config.json": (lambda: rehashed(WHOLE, config={"padding": "same"}), "padding", None),
    "another seed": (lambda: row(seed="1"), "seed", None),
    "another count of parameters": (lambda: row(parameters="113387"), "parameters", None),
    "another trajectory": (lambda: row(trajectory_sha256="e" * 64), "trajectory_sha256", None),
    "another data set": (lambda: row(data_sha256="e" * 64), "data_sha256", None),
    "another code": (lambda: row(code_sha256="e" * 64), "code_sha256", None),
    "another environment": (lambda: row(environment_sha256="e" * 64), "environment_sha256", None),
    "another field of the environment": (
        lambda: environment(fingerprint={"python": "3.13.6"}),
        "environment_sha256",
        None,
    ),
    "another arithmetic": (lambda: row(arithmetic="native"), "arithmetic", None),
    "another commit": (lambda: row(git_commit="d" * 40), "git_commit", None),
    "a tree said to be changed": (lambda: row(git_dirty="true"), "git_dirty", None),
    "another setting of the trajectory": (
        lambda: rehashed(WHOLE, trajectory={"settings": {**CNN.training_settings(), "filters": 16}}),
        "filters",
        None,
    ),
    "another file of the data set": (
        lambda: rehashed(WHOLE, trajectory={"data_files": {"t10k-images-idx3-ubyte": "e" * 64}}),
        "data_sha256",
        None,
    ),
    "fewer images": (lambda: rehashed(WHOLE, trajectory={"images": [512, 256]}), "data_sha256", None),
    "another module": (
        lambda: rehashed(WHOLE, trajectory={"code_files": {"training.py": "e" * 64}}),
        "code_sha256",
        None,
    ),
    "another time": (lambda: row(trace_seconds=1.5), "trace_seconds", None),
    "another memory": (lambda: row(peak_memory_mib=701.0), "peak_memory_mib", None),
    "another number of epochs": (lambda: row(epochs_trained=3.0), "epochs_trained", None),
    "an epoch too many": (lambda: replace(WHOLE, epochs=[*WHOLE.epochs, {"epoch": 3}]), "epochs", None),
    "a digit of an epoch's metric": (lambda: epoch(1, loss=math.nextafter(STATES[0]["loss"], 1)), "loss", 1),
    "a digit of a state's metric": (lambda: state(1, test_accuracy=0.851), "test_accuracy", 1),
    "another epoch's number": (lambda: state(2, epoch=3), "epoch", 2),
    "a digit of the last value": (lambda: row(test_loss=0.36), "test_loss", None),
    "other weights at the cut": (lambda: row(weights_sha256="e" * 64), "weights_sha256", None),
    "other weights of the last state": (lambda: state(2, weights_sha256="e" * 64), "weights_sha256", None),
    "a sum that is none": (lambda: row(fit_cpu_seconds=4.75), "fit_cpu_seconds", None),
    "another reason to stop": (lambda: row(stop_reason="callback"), "the stop", None),
    "another confusion matrix": (lambda: table(), "test_accuracy", None),
    "a changed artifact": (lambda: with_artifact(WHOLE, "requirements.txt", b"numpy==2.5\n"), "requirements.txt", None),
    "a changed figure": (
        lambda: with_artifact(WHOLE, CURVES, b"another"),
        CURVES,
        None,
    ),
    "a changed model": (lambda: with_artifact(WHOLE, MODEL, b"another"), MODEL, None),
    "a removed artifact": (
        lambda: with_artifact(WHOLE, CURVES, None),
        CURVES,
        None,
    ),
    "an added artifact": (lambda: with_artifact(WHOLE, "figures/more.png", b"more"), "figures/more.png", None),
    "another list of hashes": (lambda: with_artifact(WHOLE, HASHES, b"{}"), "artifacts_sha256", None),
    "another hash of the list": (lambda: row(artifacts_sha256="e" * 64), "artifacts_sha256", None),
}


class TestConsistency:
    @pytest.mark.parametrize("what", CONTRADICTORY)
    def test_a_record_contradicts_itself_by(self, what: str) -> None:
        make, field, place = CONTRADICTORY[what]
        found = contradictions(make())
        assert (field, place) in {(one.field, one.epoch) for one in found}

    def test_both_sides_of_a_contradiction_are_told_in_full_precision(self) -> None:
        (found,) = contradictions(epoch(1, loss=0.5))
        assert str(found) == f"loss, epoch 1: 0.5, but trajectory.json says {STATES[0]['loss']}"

    def test_what_was_not_read_is_not_missed(self) -> None:
        part = {name: content for name, content in WHOLE.artifacts.items() if name in TEXTS}
        assert contradictions(replace(WHOLE, artifacts=part, whole=False)) == []
        assert contradictions(replace(WHOLE, artifacts=part)) != []

    def test_what_is_missing_is_no_contradiction(self) -> None:
        bare = replace(WHOLE, artifacts={}, epochs=[], row={**WHOLE.row, "status": "KILLED"})
        assert contradictions(bare) == [] and missing(bare) != []

    def test_a_record_from_before_the_parts_were_kept_is_still_at_one_with_itself(self) -> None:
        trajectory = json.loads(WHOLE.artifacts["trajectory.json"])
        kept = {name: value for name, value in trajectory.items() if name not in ("data_files", "code_files", "run")}
        older = rehashed(with_artifact(WHOLE, "trajectory.json", json.dumps(kept).encode()))
        assert contradictions(older) == [] and missing(older) == []


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = sorted({key for name in TEXTS if name.endswith(".json") for key in json.loads(WHOLE.artifacts[name])})


@settings(max_examples=150)
@given(st.sampled_from([name for name in TEXTS if name.endswith(".json")]), st.sampled_from(KEYS), ODD)
def test_whatever_stands_in_an_artifact_is_told_and_never_an_error(name: str, key: str, odd: Any) -> None:
    stored = json.loads(WHOLE.artifacts[name])
    for value in (odd, {**stored, key: odd}, {**stored, "epochs": [odd, {key: odd}]}):
        changed = with_artifact(WHOLE, name, json.dumps(value).encode())
        missing(changed)
        assert value == stored or contradictions(changed)


@settings(max_examples=150)
@given(st.sampled_from(sorted(WHOLE.row)), st.none() | st.floats() | st.text(max_size=20))
def test_whatever_stands_in_a_row_or_an_epoch_is_never_an_error(name: str, odd: Any) -> None:
    rows = replace(WHOLE, row={**WHOLE.row, name: odd})
    for changed in (rows, put("epochs.loss", odd), put("epochs.epoch_seconds", odd)):
        missing(changed)
        contradictions(changed)


def test_a_number_longer_than_python_reads_is_no_error() -> None:
    assert contradictions(row(seed="9" * 5000)) and contradictions(row(filters="9" * 5000))
