"""Two records side by side: what they were made with, and the first epoch and quantity that differ."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fashion_cnn.config import CNN
from fashion_cnn.evidence.record import Record
from fashion_cnn.review import difference as module
from fashion_cnn.review.difference import RunDifference, difference
from fashion_cnn.study import Study
from tests.support.recorded import CODE, FINGERPRINT, MACHINE, record
from tests.support.tampering import rehashed, with_artifact, with_row

STUDY = Study("filter_study", "How many?", {f"{n} filters": replace(CNN, filters=n, epochs=2) for n in (32, 64)})
KINDS = ["settings", "seed", "data", "code", "environment", "machine", "arithmetic"]


@pytest.fixture
def one() -> Record:
    return record(STUDY, "32 filters")


def told(found: RunDifference, kind: str) -> list[str]:
    return [change.told("first", "second") for change in found.changes[kind] or ()]


def test_a_run_differs_from_itself_in_nothing(one: Record) -> None:
    found = difference(one, one)
    assert list(found.changes) == KINDS and not any(found.changes.values())
    lines = list(found.lines())
    assert lines[0] == f"first: filter_study: 32 filters · seed 0 ({one.row['run_id']})"
    assert lines[2:-1] == [f"{kind}: the same" for kind in KINDS]
    assert lines[-1] == "epochs: the same to the last bit in all 2 that both have"


def test_settings_and_seed_are_named_and_the_first_epoch_that_differs(one: Record) -> None:
    other = record(STUDY, "64 filters", 3)
    found = difference(one, other)
    assert told(found, "settings") == ["filters: first 32, second 64"]
    assert told(found, "seed") == ["seed: first 0, second 3"]
    losses = one.states()[0]["loss"], other.states()[0]["loss"]
    assert f"first difference: epoch 1, loss: first {losses[0]}, second {losses[1]} (" in "\n".join(found.lines())


def test_of_a_shorter_run_the_epochs_that_both_have_are_compared(one: Record) -> None:
    longer = rehashed(one, trajectory={"epochs": [*one.states(), one.states()[-1]]})
    lines = list(difference(one, longer).lines())
    assert lines[-2:] == ["epochs: the same to the last bit in all 2 that both have", "epochs: first 2, second 3"]


def test_files_of_the_data_and_images_of_a_trial_are_named(one: Record) -> None:
    files = {**one.json("trajectory.json")["data_files"], "train-labels-idx1-ubyte": "e" * 64}
    other = with_row(rehashed(one, trajectory={"data_files": files, "images": [512, 256]}), data_sha256="d" * 64)
    assert told(difference(one, other), "data") == [
        f"train-labels-idx1-ubyte: first SHA-256 {files_of(one)[:16]}…, second SHA-256 {'e' * 16}…",
        "images: first nothing, second [512, 256]",
    ]


def files_of(one: Record) -> str:
    return str(one.json("trajectory.json")["data_files"]["train-labels-idx1-ubyte"])


def test_environment_machine_and_arithmetic_are_told_apart(one: Record) -> None:
    fingerprint = {**FINGERPRINT, "arithmetic": "native", "tensorflow": "2.20.0", "processor": "another"}
    machine = {**MACHINE, "processor": "another", "load": 9.0}
    found = difference(one, rehashed(one, environment={"fingerprint": fingerprint, "machine": machine}))
    assert told(found, "environment") == ["tensorflow: first 2.21.0, second 2.20.0"]
    assert told(found, "machine") == ["processor: first a made-up processor, second another"]
    assert told(found, "arithmetic") == ["arithmetic: first portable, second native"]


def test_a_record_of_the_first_format_is_native_and_only_what_both_name_is_compared(one: Record) -> None:
    old = record(STUDY, "32 filters", format=1, processor="an old one")
    found = difference(old, one)
    assert told(found, "arithmetic") == ["arithmetic: first native, second portable"]
    assert told(found, "environment") == []
    assert told(found, "machine") == ["processor: first an old one, second a made-up processor"]


def test_what_a_record_lacks_is_not_called_the_same(one: Record) -> None:
    bare = with_artifact(with_artifact(one, "environment.json", None), "trajectory.json", None)
    found = difference(one, with_row(bare, environment_sha256=None, data_sha256=None))
    lines = list(found.lines())
    for kind in ("data", "environment", "machine", "arithmetic"):
        assert f"{kind}: not compared; one of the records lacks it" in lines
    assert "epochs: not compared; one of the records has none" in lines


def other_code(one: Record, *names: str) -> Record:
    files = {**CODE, **dict.fromkeys(names, "e" * 64)}
    return with_row(rehashed(one, trajectory={"code_files": files}), code_sha256="c" * 64)


def test_modules_that_differ_are_named_also_where_their_commits_are_not_at_hand(one: Record) -> None:
    found = difference(one, other_code(one, "models.py"))
    assert [change.part for change in found.changes["code"] or ()] == ["models.py"]
    assert found.source == "" and len(found.notes) == 2
    assert found.notes[0].startswith("source: no diff; the code of the first is not at hand here: commit 0123456789")


def test_a_run_that_ended_before_its_record_was_whole_can_be_compared_with_other_code(one: Record) -> None:
    artifacts = {name: content for name, content in one.artifacts.items() if name != "trajectory.json"}
    lacking = replace(one, artifacts=artifacts)
    for both in ((lacking, other_code(one, "models.py")), (other_code(one, "models.py"), lacking)):
        assert [change.part for change in difference(*both).changes["code"] or ()] == ["code_sha256"]


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, Path]:
    """The number-deciding modules of two commits, which are found by the record's code."""
    first, second = tmp_path / "a", tmp_path / "b"
    for package in (first, second):
        (package / "fashion_cnn").mkdir(parents=True)
        (package / "fashion_cnn" / "config.py").write_text("EPOCHS = 10\n")
        (package / "fashion_cnn" / "terminal.py").write_text(f"NAME = {package.name!r}\n")

    def recorded_package(of: Record, _: Any) -> Path:
        return second if of.row["code_sha256"] == "c" * 64 else first

    monkeypatch.setattr(module, "recorded_package", recorded_package)
    return first, second


def test_their_source_is_shown_where_both_are_at_hand(one: Record, packages: tuple[Path, Path]) -> None:
    (packages[1] / "fashion_cnn" / "config.py").write_text("EPOCHS = 20\n")
    (packages[1] / "fashion_cnn" / "step.py").write_text("STEP = 1\n")
    found = difference(one, other_code(one, "config.py", "models.py"))
    assert [change.part for change in found.changes["code"] or ()] == ["config.py", "step.py"]
    assert found.source.splitlines()[:5] == [
        "--- first/config.py",
        "+++ second/config.py",
        "@@ -1 +1 @@",
        "-EPOCHS = 10",
        "+EPOCHS = 20",
    ]
    assert "+STEP = 1" in found.source and "NAME" not in found.source
    assert list(found.lines())[-1] == found.source


def test_a_source_that_acts_on_a_terminal_is_shown_without_that(one: Record, packages: tuple[Path, Path]) -> None:
    (packages[1] / "fashion_cnn" / "config.py").write_text("if 1:\n\tEPOCHS = 20  # \x1b[2J\n")
    source = difference(one, other_code(one, "config.py")).source
    assert "+\tEPOCHS = 20  # \N{REPLACEMENT CHARACTER}[2J" in source and "\x1b" not in source


def test_modules_that_say_the_same_are_not_called_different(one: Record, packages: tuple[Path, Path]) -> None:
    (packages[1] / "fashion_cnn" / "config.py").write_text("EPOCHS = 10  # as many as in the post\n")
    found = difference(one, other_code(one, "config.py"))
    assert found.changes["code"] == [] and found.source == ""
    assert found.notes == ["code: the hashes differ, but the modules that decide numbers say the same"]


def test_json_has_all_of_it_by_kind(one: Record) -> None:
    found = json.loads(json.dumps(difference(one, record(STUDY, "64 filters")).as_dict()))
    assert list(found["changes"]) == KINDS and found["changes"]["seed"] == []
    assert found["changes"]["settings"] == [{"part": "filters", "first": "32", "second": "64"}]
    assert found["differences"][0].keys() == {"epoch", "quantity", "first", "second", "by"}
    assert [run["arm"] for run in found["runs"]] == ["32 filters", "64 filters"] and found["epochs"] == [2, 2]
