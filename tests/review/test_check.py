"""`check` holds a run against the others of its store; two that no training leaves together count in no table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments import STUDIES
from fashion_cnn.evidence.record import Record
from tests.support.command import Lab
from tests.support.recorded import put, record
from tests.support.tampering import as_seed, forged, rehashed

STUDY = STUDIES[0]
HONEST = record(STUDY, "dense", 0)


def checked(lab: Lab, one: Record, status: int) -> list[str]:
    """What `check` says against a record that is brought into the store beside others."""
    run_id = put(lab.store(), one, STUDY.question)
    found = json.loads(lab.call("check", run_id, "--json", status=status))
    return [f"{each['field']}: {each['other']}" for each in found["contradictions"]]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path, tmp_path)


def test_a_seed_with_the_weights_of_another_is_named_and_neither_counts(lab: Lab) -> None:
    first = put(lab.store(), HONEST, STUDY.question)
    put(lab.store(), record(STUDY, "dense", 1), STUDY.question)
    assert checked(lab, as_seed(HONEST, 2), 1) == [
        f"weights_sha256: run {first} has the same with seed 0",
        f"scores: run {first} has the same to the last digit with another seed",
    ]
    said = json.loads(lab.call("claims", STUDY.name, "--json"))["studies"][0]
    assert said["left_out"] == {"an incomplete record": 2} and said["taken"] == 1


def test_a_record_that_no_training_leaves_is_told_and_one_that_training_leaves_is_not(lab: Lab) -> None:
    assert checked(lab, HONEST, 0) == []
    told = checked(lab, forged(rehashed(record(STUDY, "cnn", 1)), test_loss=-3.0), 1)
    assert "test_loss: training gives a loss from 0 to 16.12, where every answer is a sure mistake" in told
