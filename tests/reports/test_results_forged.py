"""Published results that no training leaves, or that hold what does not belong, with tables and manifest resealed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments import POST_RESULTS
from fashion_cnn.evidence import tables
from fashion_cnn.evidence.record import Record
from fashion_cnn.reports import published as results
from fashion_cnn.reports.publish import problems
from tests.support.command import REPOSITORY
from tests.support.published import SEEDS, STUDY, file_problems, published, records
from tests.support.recorded import record
from tests.support.tampering import as_seed, forged, rehashed, with_row

RECORDS = records()
FIVE = next(one for one in RECORDS if (one.row["arm"], one.row["seed"]) == ("5 epochs", "0"))


def told(*changed: Record) -> list[str]:
    """What is found of the results in which these records take the place of the ones with their ids, or are added."""
    by_id = {str(one.row["run_id"]): one for one in (*RECORDS, *changed)}
    return file_problems(published(list(by_id.values())), STUDY)


def commit(one: Record, text: str) -> Record:
    checkout = {"commit": text, "dirty": False, "remote": None}
    return with_row(rehashed(one, environment={"checkout": checkout}), git_commit=text)


@pytest.mark.parametrize(
    ("forge", "wanted"),
    [
        (lambda: forged(FIVE, test_loss=-3.0), "test_loss, epoch 5: -3.0, but training gives a loss from 0"),
        (lambda: forged(FIVE, accuracy=1.7), "accuracy, epoch 5: 1.7, but training gives a share of 60000 training"),
        (lambda: forged(FIVE, 0, epoch_cpu_seconds=-1.0), "epoch_cpu_seconds, epoch 1: -1.0, but training gives"),
        (lambda: commit(FIVE, "f" * 40), f"git_commit: '{'f' * 40}', but training gives a commit of git"),
        (lambda: with_row(FIVE, end_time=5), "end_time: 5, but training gives an end after its start"),
        (lambda: with_row(FIVE, end_time=10**20), "end_time: 100000000000000000000, but training gives"),
        (lambda: forged(FIVE, 2, test_accuracy=0.5), "trajectory_sha256, epoch 3: "),
        (lambda: as_seed(FIVE, SEEDS), "has the same with seed 0"),
    ],
)
def test_a_record_that_no_training_leaves_is_found(forge: Callable[[], Record], wanted: str) -> None:
    found = told(forge())
    assert any(wanted in line for line in found)
    assert not [line for line in found if line.startswith(("claims.json", "manifest"))]  # all else was made to fit


def test_a_run_given_as_ten_seeds_is_found() -> None:
    copies = [as_seed(FIVE, seed) for seed in range(1, 10)]
    found = file_problems(published([FIVE, *copies], STUDY[1:]), STUDY[1:])
    assert sum("has the same with seed 0" in line for line in found) >= 9


def test_the_worst_seed_of_an_arm_is_missed() -> None:
    worst = min((one for one in RECORDS if one.row["arm"] == "cnn"), key=lambda one: float(one.row["test_accuracy"]))
    left = published([one for one in RECORDS if one is not worst])
    (found,) = file_problems(left, STUDY)
    assert found.startswith(f"runs.csv: baseline_study lacks runs beside those it has (cnn, seed {worst.row['seed']})")


def test_the_worst_seed_of_an_arm_is_missed_though_another_environment_is_said_to_have_made_it() -> None:
    row = min((one.row for one in RECORDS if one.row["arm"] == "cnn"), key=lambda row: float(row["test_accuracy"]))
    relabelled = record(STUDY[0], "cnn", int(str(row["seed"])), processor="another")
    left = [one for one in RECORDS if one.row["run_id"] != row["run_id"]]
    (found,) = file_problems(published([*left, relabelled]), STUDY)
    assert found.startswith(f"runs.csv: baseline_study lacks runs beside those it has (cnn, seed {row['seed']})")


def test_a_verdict_that_is_there_twice_is_found(files: dict[str, bytes]) -> None:
    claims = files[results.CLAIMS].replace(b'"verdict":', b'"verdict": "supported", "verdict":', 1)
    changed = {**{name: files[name] for name in files if name != results.MANIFEST}, results.CLAIMS: claims}
    changed[results.MANIFEST] = results.manifest(changed)
    assert file_problems(changed, STUDY) == ["in its JSON the key 'verdict' is there twice"]


def test_packages_that_the_environment_does_not_have_are_found(files: dict[str, bytes]) -> None:
    environment = json.loads(files[results.ENVIRONMENT])
    for each in environment["environments"].values():
        each["packages"] = ["tensorflow==2.20.0"]
    changed = {name: files[name] for name in files if name != results.MANIFEST}
    changed[results.ENVIRONMENT] = tables.to_json(environment)
    changed[results.MANIFEST] = results.manifest(changed)
    found = file_problems(changed, STUDY)
    assert len(found) == len(RECORDS) and "requirements.txt, tensorflow: 2.20.0, but environment.json" in found[0]


def test_a_picture_with_a_script_is_found(files: dict[str, bytes]) -> None:
    figure = "figures/baseline_study/scores.svg"
    changed = {**{name: files[name] for name in files if name != results.MANIFEST}, figure: b"<svg><script/></svg>"}
    changed[results.MANIFEST] = results.manifest(changed)
    assert f"{figure}: it would run '<script'" in file_problems(changed, STUDY)


@pytest.mark.parametrize("name", ["run.sh", "README.md", "index.html", "figures/x.js", ".profile", "screenshots/a.svg"])
def test_a_file_that_does_not_belong_is_found(tmp_path: Path, name: str) -> None:
    for path, content in {**published(RECORDS[:1]), name: b"x"}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    found = problems(STUDY, tmp_path, POST_RESULTS, REPOSITORY)
    assert [line for line in found if "does not belong" in line] == [
        f"{name} does not belong to the published files: delete it"
    ]
