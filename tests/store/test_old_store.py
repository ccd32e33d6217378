"""A store that the code before the rooms wrote: it is listed, checked, replayed, sent and resumed by the code of today.

`tests/samples/README.md` tells how it was made. On a processor or under packages other than its own, nothing can be
resumed or compared to the last bit: there it is read all the same, and what is asked for is trained anew beside it.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections import OrderedDict
from pathlib import Path

import pytest

from fashion_cnn.environment import fingerprint, fingerprint_sha256
from fashion_cnn.sources import code_sha256
from tests.samples.study import SAMPLE
from tests.support.command import REPOSITORY, Lab

ARCHIVE = REPOSITORY / "tests" / "samples" / "store-before-rooms.tar.xz"
pytestmark = pytest.mark.timeout(900)

FINISHED = {("dense", "0"), ("cnn", "0")}
UNSENT, KILLED = ("dense", "1"), ("long cnn", "1")
EPOCHS_OF_THE_KILLED = 4


@pytest.fixture
def lab(tmp_path: Path, made_up: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The sample in a folder that it was not made in, and the study that it is of."""
    monkeypatch.setattr("tests.support.command.STUDIES", (SAMPLE,))
    # MLflow remembers where a run's artifacts lie, for as long as the process lives; here the same run lies elsewhere.
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._artifact_repos_cache", OrderedDict())
    with tarfile.open(ARCHIVE) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Debian's Python 3.11.2 has none yet
        archive.extractall(tmp_path / "store")
    return Lab(tmp_path / "store", made_up)


@pytest.fixture(scope="module")
def same() -> bool:
    """Whether code and environment are those that the sample was made with: only then can bits be promised."""
    with tarfile.open(ARCHIVE) as archive:
        member = next(one for one in archive if one.name.endswith("header.json"))
        header = archive.extractfile(member)
        assert header is not None
        identity = json.load(header)["identity"]
    here = {"code_sha256": code_sha256(), "environment_sha256": fingerprint_sha256(fingerprint(threads=1))}
    return here.items() <= dict(identity).items()


def statuses(lab: Lab) -> dict[tuple[str, str], str]:
    return {(row["arm"], row["seed"]): row["status"] for row in lab.runs().to_dict("records")}


def test_it_is_listed_and_its_artifacts_are_found_where_it_is_now(lab: Lab) -> None:
    said = lab.call("list")
    assert f"artifacts are taken from {lab.folder / 'artifacts'} now; they were recorded in /var/tmp/sample" in said
    assert "2 lost: said to be running" in said
    assert statuses(lab) == {**dict.fromkeys(FINISHED, "FINISHED"), UNSENT: "RUNNING", KILLED: "RUNNING"}


def checked(lab: Lab, arm: str, seed: str) -> list[str]:
    """What `check` has against a run, besides that made-up data are no evidence."""
    (row,) = lab.runs().query("arm == @arm and seed == @seed and status == 'FINISHED'").to_dict("records")
    said = lab.call("check", row["run_id"], status=1).splitlines()[:-1]
    made_up = ("missing: a smoke run: never counts", f"missing: data_sha256 is '{row['data_sha256']}'; ")
    assert [line for line in said if line.startswith(made_up)] == said[:2]
    return said[2:]


def test_its_finished_runs_are_complete_and_consistent_by_their_own_format(lab: Lab) -> None:
    lab.call("list")  # which says where the artifacts are now
    assert lab.runs()["record_format"].isna().all()
    for arm, seed in FINISHED:
        assert checked(lab, arm, seed) == []


def test_what_was_not_sent_is_sent(lab: Lab) -> None:
    assert "2 runs sent" in lab.call("sync")
    assert statuses(lab) == {**dict.fromkeys({*FINISHED, UNSENT}, "FINISHED"), KILLED: "KILLED"}
    assert checked(lab, *UNSENT) == []
    assert lab.runs()["record_format"].isna().all()


def test_it_is_exported_with_the_columns_of_its_time(lab: Lab) -> None:
    lab.call("export", "--output", lab.folder / "exported")
    columns = (lab.folder / "exported" / "runs.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert "environment_sha256" in columns and not {"record_format", "arithmetic"} & set(columns)


@pytest.mark.slow
def test_a_replay_gives_its_weights_to_the_last_bit(lab: Lab, same: bool) -> None:
    lab.call("sync")
    if same:
        assert "3 runs from 3 trainings: 3 EXACT." in lab.call("replay", "--all", SAMPLE.name)
        return
    run_id = lab.runs().query("arm == 'dense' and seed == '0'")["run_id"].item()
    replay = subprocess.run(
        lab.command("replay", run_id), cwd=REPOSITORY, env=lab.variables, capture_output=True, text=True, check=False
    )
    assert replay.stdout.startswith(("EXACT: ", "NOT COMPARABLE: ")), replay.stdout + replay.stderr


@pytest.mark.slow
def test_a_run_resumes_what_was_killed_and_makes_nothing_twice(lab: Lab, same: bool) -> None:
    before = lab.runs().set_index("run_id")["weights_sha256"]
    said = lab.call("run", SAMPLE.name, "--arms", "dense", "long cnn", "--first-seed", 1)
    assert (f"long cnn · seed 1: starting after epoch {EPOCHS_OF_THE_KILLED}" in said) is same
    said = lab.call("run", SAMPLE.name, "--arms", "dense", "cnn")
    assert ("2 runs were recorded already" in said) is same
    runs = lab.runs()
    if same:
        assert set(runs["run_id"]) == set(before.index) and set(runs["status"]) == {"FINISHED"}
        assert checked(lab, *KILLED) == []
    else:
        assert len(runs) == 2 * len(before) and (runs["status"] == "FINISHED").sum() == 2 * len(before) - 1
    finished = before.dropna()
    assert runs.set_index("run_id")["weights_sha256"][finished.index].equals(finished)
