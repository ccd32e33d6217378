"""What programs read: every field has the type that its page says, and nothing is a text that is a number."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from experiments import STUDIES
from fashion_cnn.cli.answers import EPOCH_FIELDS, RUN_FIELDS, SCHEMA, json_text, run_values
from fashion_cnn.evidence.record import RECORD_FORMAT
from tests.support.command import REPOSITORY, Lab
from tests.support.recorded import put, record

BASELINE, CALLBACK = STUDIES[0], STUDIES[4]
TYPES = {"text": str, "whole number": int, "number": float, "boolean": bool}
VALUES = {
    "study": "baseline_study",
    "arm": "dense",
    "seed": 7,
    "smoke": False,
    "git_dirty": False,
    "workers": 2,
    "record_format": RECORD_FORMAT,
    "epochs": 10,
    "epochs_trained": 10,
    "parameters": 101_770,
    "learning_rate": 0.001,
    "callback_loss": None,
    "filters": None,
    "padding": None,
    "augmentation": "none",
    "imported": False,
    "status": "FINISHED",
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("typed"), Path("none"))
    for study, arm, seed in ((BASELINE, "dense", 7), (CALLBACK, "stop at loss 0.19", 1)):
        put(lab.store(), record(study, arm, seed), study.question)
    return lab


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def typed(values: dict[str, Any], fields: Any) -> bool:
    return list(values) == list(fields) and all(
        value is None or type(value) is fields[name] for name, value in values.items()
    )


def test_the_page_documents_every_field_with_its_type() -> None:
    page = (REPOSITORY / "docs" / "compare.md").read_text(encoding="utf-8")
    said = {
        name: TYPES[of]
        for names, of in re.findall(r"^\| ((?:`\w+` ?)+) \| ([a-z ]+) \|", page, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    assert said == RUN_FIELDS
    assert f"`schema`, now {SCHEMA}:" in page, "a field that changes its type raises SCHEMA"


def test_runs_as_json_have_numbers_booleans_and_null(lab: Lab) -> None:
    told = json.loads(lab.call("list", "--json"))
    assert told["schema"] == SCHEMA == 1 and len(told["runs"]) == 2
    assert all(typed(run, RUN_FIELDS) for run in told["runs"])
    first, second = sorted(told["runs"], key=lambda run: str(run["study"]))
    assert {name: first[name] for name in VALUES} == VALUES
    assert (second["callback_loss"], second["filters"], second["padding"]) == (0.19, 32, "valid")


def test_exported_cells_are_numbers_booleans_and_empty(lab: Lab, tmp_path: Path) -> None:
    assert "runs.csv: 2 rows" in lab.call("export", "--output", tmp_path)
    listed = json.loads(lab.call("list", "--json"))["runs"]
    for row, run in zip(rows(tmp_path / "runs.csv"), listed, strict=True):
        assert row == {
            name: "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in run.items()
        }
    epochs = rows(tmp_path / "epochs.csv")
    assert list(epochs[0]) == list(EPOCH_FIELDS) and [row["epoch"] for row in epochs[:2]] == ["1", "2"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", "many"),
        ("seed", "1e999"),
        ("git_dirty", "unknown"),
        ("filters", "none"),
        ("loss", math.nan),
        ("arm", ""),
    ],
)
def test_what_is_no_value_of_its_type_is_null(name: str, value: Any) -> None:
    assert run_values({**record(BASELINE, "dense").row, name: value})[name] is None


def test_json_has_no_number_that_json_does_not_have() -> None:
    told = json.loads(json_text({"a": math.nan, "b": [math.inf, 1.5], "c": {"d": -math.inf}}))
    assert told == {"schema": SCHEMA, "a": None, "b": [None, 1.5], "c": {"d": None}}


def test_the_seed_of_a_checked_run_is_a_number(lab: Lab) -> None:
    (run_id,) = (run["run_id"] for run in json.loads(lab.call("list", "baseline_study", "--json"))["runs"])
    told = json.loads(lab.call("check", run_id[:8], "--json"))
    assert (told["schema"], told["run_id"], told["seed"], told["complete"]) == (SCHEMA, run_id, 7, True)


class TestSelected:
    """Which runs `list` tells."""

    def arms(self, lab: Lab, *words: object) -> list[str]:
        return [run["arm"] for run in json.loads(lab.call("list", "--json", *words))["runs"]]

    def test_by_study_arm_status_and_number(self, lab: Lab) -> None:
        assert self.arms(lab, "--study", "baseline_study") == ["dense"]
        assert self.arms(lab, "--study", "baseline_study", "--study", "callback_study", "--arm", "dense") == ["dense"]
        assert self.arms(lab, "--status", "running") == []
        assert len(self.arms(lab, "--status", "finished")) == 2
        assert self.arms(lab, "--limit", 1) == self.arms(lab)[-1:]

    def test_of_an_arm_that_nobody_recorded_is_told_in_one_line(self, lab: Lab) -> None:
        said = lab.complaint("list", "--arm", "dens")
        assert "no run of an arm 'dens' is recorded (did you mean 'dense'?); there are: " in said

    def test_a_pipe_gets_cells_between_tabs(self, lab: Lab) -> None:
        said = lab.call("list", "baseline_study").splitlines()
        names, cells = (line.split("\t") for line in said)
        row = dict(zip(names, cells, strict=True))
        assert len(row["run id"]) == 32 and re.fullmatch(r"2026-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", row["started"])
        assert (row["study"], row["arm"], row["status"], row["seed"]) == ("baseline_study", "dense", "finished", "7")
