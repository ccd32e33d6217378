"""`bundle` and `verify` on the command line: what they print, their status, and that no secret is packed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import STUDIES
from fashion_cnn.evidence.tables import COLUMNS, EPOCH_COLUMNS
from tests.support.bundles import (
    files_of,
    first_run,
    in_runs,
    next_number,
    zipped,
)
from tests.support.command import Lab
from tests.support.recorded import COMMIT, CURVES, put, record

TOKEN = "tok-3f9a1c77d2e84b65"
CALLBACK = next(study for study in STUDIES if study.name == "callback_study")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A store with two arms of two seeds, a smoke run, and a run whose table was lost; a token all around them."""
    folder = tmp_path_factory.mktemp("lab") / TOKEN  # part of the store's address, and so of the arguments
    folder.mkdir()
    made = Lab(folder, folder)
    store = made.store()
    planted = {"mlflow.source.name": f"run --token {TOKEN}", "mlflow.user": TOKEN, "error": TOKEN, "note": TOKEN}
    for arm in CALLBACK.arms:
        for seed in range(2):
            one = record(CALLBACK, arm, seed)
            secret = {**one.artifacts, "secret.txt": TOKEN.encode()}
            listed = json.loads(secret["hashes.json"]) | {"secret.txt": hashlib.sha256(TOKEN.encode()).hexdigest()}
            secret["hashes.json"] = json.dumps(listed).encode()
            row = {**one.row, "artifacts_sha256": hashlib.sha256(secret["hashes.json"]).hexdigest()}
            put(store, replace(one, row=row, artifacts=secret), CALLBACK.question, **planted)
    put(store, record(CALLBACK, "10 epochs", 2), CALLBACK.question, smoke="true")
    damaged = record(CALLBACK, "10 epochs", 3)
    lost = {name: content for name, content in damaged.artifacts.items() if name != "per_class.json"}
    put(store, replace(damaged, artifacts=lost), CALLBACK.question)
    drawn = record(CALLBACK, "10 epochs", 4)
    put(store, replace(drawn, artifacts={**drawn.artifacts, CURVES: b"another picture"}), CALLBACK.question)
    os.environ["SERVICE_TOKEN"] = TOKEN
    yield made
    del os.environ["SERVICE_TOKEN"]


@pytest.fixture(scope="module")
def made(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A bundle that the command wrote, and what it printed."""
    path = tmp_path_factory.mktemp("made") / "new" / "callback.zip"
    return path, lab.call("bundle", "callback_study", "--output", path)


def test_the_command_packs_complete_records_and_tells_what_is_left_out_and_the_digest(made: tuple[Path, str]) -> None:
    path, printed = made
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert "callback_study: 4 runs; left out: smoke run (1), an incomplete record (2)" in printed
    assert ": artifacts.per_class.json: missing; wanted: a JSON object" in printed
    assert f": {CURVES}: {hashlib.sha256(b'a picture').hexdigest()}, but the artifact's own SHA-256 says" in printed
    assert f"MiB, SHA-256 {digest}" in printed
    assert f"fashion-cnn verify {path} --expect {digest}" in printed
    assert os.listdir(path.parent) == ["callback.zip"]


def test_a_bundle_from_a_store_holds_and_is_the_same_again(lab: Lab, made: tuple[Path, str], tmp_path: Path) -> None:
    path, _ = made
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    answer = json.loads(lab.call("bundle", "callback_study", "--output", tmp_path / "again.zip", "--json"))
    assert answer["sha256"] == digest
    told = answer["studies"]["callback_study"]
    assert told["runs"] == 4
    assert told["left_out"] == {"smoke run": 1, "an incomplete record": 2}
    assert sorted(reason.partition(":")[0] for reason in told["incomplete"].values()) == [
        *("artifacts.per_class.json", "figures/learning_curves.png")
    ]
    answer = json.loads(lab.call("verify", path, "--expect", digest.upper(), "--json"))
    assert answer["holds"] is True and answer["findings"] == []
    assert answer["runs"] == 4


def test_no_secret_reaches_a_bundle(lab: Lab, made: tuple[Path, str]) -> None:
    content = made[0].read_bytes()  # stored, not deflated: what is in a file is in these bytes
    assert TOKEN in lab.runs("callback_study").to_csv()
    assert COMMIT.encode() in content
    assert TOKEN.encode() not in content
    assert str(lab.folder.parent).encode() not in content
    assert b"mlflow.user" not in content


def test_another_digest_than_expected_ends_with_1(lab: Lab, made: tuple[Path, str]) -> None:
    printed = lab.call("verify", made[0], "--expect", "0" * 64, status=1)
    assert f"{made[0]}: it does not hold: 1 finding\n" in printed
    assert f"but {'0' * 64} is expected" in printed


def test_what_was_changed_ends_with_1_and_is_named(lab: Lab, made: tuple[Path, str], tmp_path: Path) -> None:
    files = files_of(made[0].read_bytes())
    in_runs("loss", next_number)(files)
    (tmp_path / "changed.zip").write_bytes(zipped(files))
    printed = lab.call("verify", tmp_path / "changed.zip", status=1)
    assert "runs.csv: changed: its SHA-256 is" in printed
    assert f"records/{first_run(files)}: loss: " in printed


@pytest.mark.usefixtures("undrawn")
def test_wrong_use_is_told_in_one_line_and_ends_with_2(lab: Lab, made: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    for words, told in (
        (("verify", tmp_path / "none.zip"), "none.zip: there is no such file"),
        (("verify", tmp_path), "it is no file"),
        (("verify", tmp_path / "text.zip"), "text.zip: no zip that can be read"),
        (("verify", made[0], "--expect", "12"), "'12' is no SHA-256; allowed: 64 digits"),
        (("bundle", "filter_study", "--output", tmp_path / "x.zip"), "no complete record to bundle"),
        (("bundle", "callback_study", "--output", tmp_path), "cannot be written"),
        (("bundle", "fliter_study"), "did you mean 'filter_study'?"),
    ):
        printed = lab.call(*words, status=2)
        assert told in printed
        assert printed.count("\n") == 1
    assert os.listdir(tmp_path) == ["text.zip"]


def test_the_columns_are_an_allow_list_of_what_is_no_secret() -> None:
    assert {"artifact_uri", "experiment_id", "error", "drawing_error"}.isdisjoint({*COLUMNS, *EPOCH_COLUMNS})
