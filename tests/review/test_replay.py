"""Replays of recorded runs: real processes, a real store, a made-up data set; and what may go wrong on the way."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from experiments import POST_RESULTS
from fashion_cnn.config import CNN
from fashion_cnn.data import FASHION_MNIST, Dataset
from fashion_cnn.environment import machine
from fashion_cnn.events import Identity
from fashion_cnn.evidence.record import BASIS, RECORD_FORMAT, RULES, Record
from fashion_cnn.evidence.selection import Selection
from fashion_cnn.intervals import prediction_interval
from fashion_cnn.reports.published import record_tables
from fashion_cnn.review.cases import Case, Machine, blank_comparison, data_changes, not_replayable
from fashion_cnn.review.comparison import Change
from fashion_cnn.review.others import among, in_store
from fashion_cnn.review.pack import make_bundle
from fashion_cnn.review.replay import _judged, _Training, records_of
from fashion_cnn.sources import code_sha256
from fashion_cnn.store.tracking import Store
from fashion_cnn.study import Study
from tests.science.test_checkout import git
from tests.support.command import REPOSITORY, Lab
from tests.support.made_up import write_made_up
from tests.support.recorded import FINGERPRINT, MACHINE, record
from tests.support.servers import descendants, is_alive
from tests.support.tampering import rehashed, with_artifact, with_row
from tests.support.watch import refusing

TRAINING_IMAGES = "train-images-idx3-ubyte"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_made_up(tmp_path_factory.mktemp("data"), train=330, test=64)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Lab:
    """A store with two runs of one trajectory: of three epochs and of one."""
    made = Lab(tmp_path_factory.mktemp("lab"), data)
    made.call("train", "--filters", 4, "--epochs", 3, "--name", "three")
    made.call("train", "--filters", 4, "--epochs", 1, "--name", "one")
    return made


@pytest.fixture(scope="module")
def three(lab: Lab) -> str:
    """The id of the longer run."""
    return str(lab.runs().set_index("arm").loc["three", "run_id"])


@pytest.fixture
def copy(lab: Lab, tmp_path: Path) -> Lab:
    """A copy of the store that may be changed, artifacts and all."""
    shutil.copytree(lab.folder, tmp_path / "copy")
    copied = Lab(tmp_path / "copy", lab.data)
    for table, column in (("runs", "artifact_uri"), ("logged_models", "artifact_location")):
        change(copied, f"UPDATE {table} SET {column} = replace({column}, '{lab.folder}', '{copied.folder}')")
    return copied


def change(lab: Lab, statement: str, *values: object) -> None:
    with sqlite3.connect(lab.folder / "mlflow.db") as database:
        assert database.execute(statement, values).rowcount > 0
    database.close()


def place(lab: Lab, run_id: str, artifact: str) -> Path:
    """Where a run's artifact lies."""
    (uri,) = lab.runs().query("run_id == @run_id")["artifact_uri"]
    return Path(uri.removeprefix("file://"), artifact)


def written(folder: Path) -> dict[str, str]:
    """The hash of every file in a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
class TestExact:
    def test_a_run_gives_the_same_bits_again_and_nothing_is_written(self, lab: Lab, three: str) -> None:
        before = written(lab.folder)
        said = lab.call("replay", three[:8])
        assert said.startswith("EXACT: ad_hoc: three · seed 0: 3 of 3 epochs replayed, each the same to the last bit")
        assert written(lab.folder) == before

    def test_runs_of_one_trajectory_are_trained_once_and_each_cut_is_checked(self, lab: Lab) -> None:
        said = lab.call("replay", "--all", "ad_hoc")
        assert "ad_hoc: 2 runs from 1 trainings: 2 EXACT." in said
        assert "1 of 1" in said and "3 of 3" in said

    @pytest.mark.usefixtures("undrawn")
    def test_a_run_that_came_in_a_bundle_gives_them_in_an_empty_store(
        self, lab: Lab, three: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Runs of another set are trials, and those are no evidence.
        found = [with_row(one, smoke="false") for one in records_of(lab.store(), [lab.store().run(three)], whole=False)]
        study = Study("ad_hoc", "Does it travel?", {"three": replace(CNN, filters=4, epochs=3)})
        bundle = make_bundle([Selection(study, found, [])], lock=b"numpy==2.4.6\n", post=POST_RESULTS.read_bytes())
        (tmp_path / "bundle.zip").write_bytes(bundle)
        wanted = tuple(rule for rule in RULES if rule.field != "row.data_sha256")
        monkeypatch.setattr("fashion_cnn.review.verify.RULES", wanted)
        elsewhere = Lab(tmp_path / "elsewhere", lab.data)
        assert elsewhere.call("import", tmp_path / "bundle.zip").startswith("1 runs imported")
        said = elsewhere.call("replay", three[:8])
        assert said.startswith("EXACT: ad_hoc: three · seed 0: 3 of 3 epochs replayed, each the same to the last bit")
        assert "of an imported run" in said

    def test_the_first_epochs_of_all_of_a_study_as_json(self, lab: Lab, three: str) -> None:
        said = lab.call("replay", "--all", "ad_hoc", "--epochs", 2, "--json")
        found = json.loads(said[: said.rindex("}") + 1])
        assert found["answers"] == {"EXACT": 2} and found["trainings"] == 1 and found["left_out"] == []
        replayed = {one["arm"]: one["replayed"] for one in found["runs"]}
        assert {arm: len(epochs) for arm, epochs in replayed.items()} == {"one": 1, "three": 2}
        recorded = lab.json_artifact(three, "trajectory.json")["epochs"]
        for ours, theirs in zip(replayed["three"], recorded, strict=False):
            assert ours.items() <= theirs.items() and len(ours) == 6


TAMPERED = {
    "an epoch's metric": (
        "UPDATE metrics SET value = value + 1e-9 WHERE key = 'loss' AND step = 1 AND run_uuid = ?",
        "loss, epoch 1: ",
    ),
    "a last value": (
        "UPDATE latest_metrics SET value = value - 1e-9 WHERE key = 'test_accuracy' AND run_uuid = ?",
        "test_accuracy: ",
    ),
    "a metric of the run": (
        "UPDATE latest_metrics SET value = value + 1 WHERE key = 'peak_memory_mib' AND run_uuid = ?",
        "peak_memory_mib: ",
    ),
    "a param": ("UPDATE params SET value = '64' WHERE key = 'filters' AND run_uuid = ?", "filters: 64, "),
    "another number of threads": ("UPDATE params SET value = '2' WHERE key = 'threads' AND run_uuid = ?", "threads: "),
    "the weights": (
        "UPDATE tags SET value = replace(value, substr(value, 1, 1), 'f') WHERE key = 'data_sha256' AND run_uuid = ?",
        "data_sha256: ",
    ),
}


@pytest.mark.slow
class TestInconsistent:
    @pytest.mark.parametrize("what", TAMPERED)
    def test_what_was_changed_in_the_store_is_named_and_nothing_is_trained(
        self, copy: Lab, three: str, what: str
    ) -> None:
        statement, named = TAMPERED[what]
        change(copy, statement, three)
        said = copy.call("replay", three, status=1)
        assert said.startswith("INCONSISTENT: ad_hoc: three · seed 0")
        assert f"the record contradicts itself: {named}" in said
        assert "starting" not in said

    def test_a_changed_artifact_is_named(self, copy: Lab, three: str) -> None:
        path = place(copy, three, "trajectory.json")
        text = path.read_text(encoding="utf-8")
        loss = json.loads(text)["epochs"][0]["loss"]
        path.write_text(text.replace(str(loss), str(loss + 0.001)), encoding="utf-8")
        said = copy.call("replay", three, status=1)
        assert "INCONSISTENT" in said and "trajectory.json: " in said and "loss, epoch 1: " in said

    def test_one_of_a_study_does_not_keep_the_others_from_being_replayed(self, copy: Lab, three: str) -> None:
        change(copy, "UPDATE metrics SET value = 0.5 WHERE key = 'loss' AND step = 2 AND run_uuid = ?", three)
        said = copy.call("replay", "--all", "ad_hoc", status=1)
        assert "ad_hoc: 2 runs from 1 trainings: 1 INCONSISTENT, 1 EXACT." in said
        assert "loss, epoch 2: 0.5" in said


@pytest.mark.slow
class TestAnotherEnvironment:
    def test_other_kernels_are_not_comparable_and_are_named(
        self, lab: Lab, three: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
        said = lab.call("replay", three, status=3)
        assert said.startswith("NOT COMPARABLE: ad_hoc: three · seed 0: recorded test accuracy 0.")
        assert ", replayed 0." in said.splitlines()[0] and "other bits in another environment, from epoch " in said
        assert "replayed in the native one: TF_ENABLE_ONEDNN_OPTS=0 chooses other kernels" in said
        assert "another environment: variables.TF_ENABLE_ONEDNN_OPTS: recorded 1, here 0" in said
        assert "0 other seeds" in said and "needs 6" in said

    def test_other_threads_are_named_whether_or_not_they_give_other_bits(self, lab: Lab, three: str) -> None:
        if len(os.sched_getaffinity(0)) < 2:
            pytest.skip("one core cannot run two threads")
        process = lab.start("replay", three, "--threads", 2, "--epochs", 1, "--json")
        found = json.loads(process.communicate(timeout=600)[0])
        assert (process.returncode, found["answer"]) in ((0, "EXACT"), (3, "NOT COMPARABLE"))
        assert (found["epochs"], found["recorded"], found["data"], found["code"]) == (1, 3, [], [])
        assert {"part": "threads", "recorded": 1, "here": 2} in found["environment"]
        assert {"part": "arithmetic", "recorded": "portable", "here": "native"} in found["environment"]


@pytest.mark.slow
class TestPublished:
    def publish(self, lab: Lab, folder: Path) -> Lab:
        """A lab that publishes the runs of another, as if they were of a study; its store is not there."""
        fresh = Lab(folder, lab.data)
        store = lab.store()
        found = [with_row(one, study="baseline_study") for one in records_of(store, lab.runs().to_dict("records"))]
        files = record_tables(found)
        for name, content in files.items():
            (fresh.published / name).parent.mkdir(parents=True, exist_ok=True)
            (fresh.published / name).write_bytes(content)
        return fresh

    def test_a_fresh_clone_trains_each_trajectory_once_and_needs_no_store(self, lab: Lab, tmp_path: Path) -> None:
        fresh = self.publish(lab, tmp_path / "fresh")
        said = fresh.call("replay", "--published")
        assert "EXACT: baseline_study: three · seed 0: 3 of 3 epochs replayed, each the same to the last bit; " in said
        assert "portable arithmetic, code " in said and "(2 runs are cut from it)" in said
        assert "\nEXACT 1 of 1\n" in said
        assert [path.name for path in fresh.folder.iterdir()] == ["results"]


@pytest.mark.slow
class TestDiff:
    def test_two_runs_are_compared_by_their_ids(self, lab: Lab, three: str) -> None:
        one = str(lab.runs().set_index("arm").loc["one", "run_id"])
        said = lab.call("diff", three[:8], one)
        assert "settings: epochs: first 3, second 1\n" in said and "code: the same\n" in said
        assert "epochs: the same to the last bit in all 1 that both have\nepochs: first 3, second 1\n" in said
        assert json.loads(lab.call("diff", three, three, "--json"))["differences"] == []

    def test_an_unknown_run_is_told_in_one_line(self, lab: Lab, three: str) -> None:
        assert "has no recorded run" in lab.complaint("diff", three, "f" * 32)


@pytest.mark.slow
class TestOtherData:
    @pytest.mark.parametrize("labelled", [True, False], ids=["labelled", "unlabelled"])
    def test_another_byte_is_different_and_its_file_is_named(
        self, lab: Lab, three: str, tmp_path: Path, labelled: bool
    ) -> None:
        folder = changed_byte(lab.data, tmp_path / "data", labelled)
        said = lab.call("replay", three, "--epochs", 1, "--data-dir", folder, status=1)
        assert said.startswith("DIFFERENT: ad_hoc: three · seed 0: other bits in the same environment")
        assert "first difference: epoch 1, loss: recorded " in said
        assert said.count("another data: ") == 1 and f"another data: {TRAINING_IMAGES}: recorded SHA-256" in said
        assert "cause: unknown" not in said

    def test_a_file_that_is_none_of_a_data_set_is_refused(self, lab: Lab, three: str, tmp_path: Path) -> None:
        folder = shutil.copytree(lab.data, tmp_path / "data")
        (folder / f"{TRAINING_IMAGES}.gz").write_bytes(b"no images")
        said = lab.call("replay", three, "--data-dir", folder, status=2)
        assert f"{TRAINING_IMAGES}.gz' is not a gzip file" in said and len(said.splitlines()) == 1


def changed_byte(source: Path, folder: Path, labelled: bool) -> Path:
    """A copy of a data set with one pixel changed; its label may tell the new hash."""
    shutil.copytree(source, folder)
    path = folder / f"{TRAINING_IMAGES}.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[16 + 5000] ^= 255
    path.write_bytes(gzip.compress(bytes(content)))
    label = json.loads((folder / "MADE_UP.json").read_text())
    if labelled:
        label["files"][TRAINING_IMAGES] = hashlib.sha256(content).hexdigest()
        (folder / "MADE_UP.json").write_text(json.dumps(label))
    return folder


@pytest.mark.slow
class TestOtherCode:
    @pytest.fixture
    def checkout(self, tmp_path: Path) -> Path:
        """A repository of its own, with a change in the package that is not committed."""
        folder = tmp_path / "checkout"
        for name in ("fashion_cnn", "experiments"):
            shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        git(folder, "init", "-q")
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", "one")
        with (folder / "fashion_cnn" / "models.py").open("a") as file:
            file.write("NOT_COMMITTED = 'but recorded as a diff'\n")
        return folder

    def call(self, lab: Lab, checkout: Path, *words: object) -> subprocess.CompletedProcess[str]:
        variables = {**lab.variables, "PYTHONPATH": str(checkout)}
        return subprocess.run(
            lab.command(*words), cwd=checkout, env=variables, capture_output=True, text=True, timeout=600, check=False
        )

    def test_a_record_of_other_code_is_replayed_by_the_recorded_code(
        self, tmp_path: Path, data: Path, checkout: Path
    ) -> None:
        lab = Lab(tmp_path / "lab", data)
        lab.store()
        made = self.call(lab, checkout, "train", "--model", "dense", "--epochs", 1)
        assert made.returncode == 0, made.stderr
        path = checkout / "fashion_cnn" / "training.py"
        text = path.read_text(encoding="utf-8")
        assert text.count(" = np.random.default_rng([seed,") == 1
        path.write_text(text.replace("rng([seed,", "rng([seed + 1,"), encoding="utf-8")
        run_id = lab.runs()["run_id"].iloc[0]

        replayed = self.call(lab, checkout, "replay", run_id)
        assert replayed.returncode == 0, replayed.stderr
        assert replayed.stdout.startswith("EXACT: ad_hoc: ")
        assert "trained by the recorded code, commit " in replayed.stdout

        shutil.rmtree(checkout / ".git")
        replayed = self.call(lab, checkout, "replay", run_id)
        assert replayed.returncode == 3, replayed.stderr
        said = replayed.stdout
        assert said.startswith("NOT COMPARABLE: ad_hoc: ") and "other bits by other code" in said
        assert said.count("another code: ") == 1 and "another code: training.py: recorded SHA-256" in said
        assert "the code that was recorded is not at hand here: commit " in said


@pytest.mark.slow
class TestWhatGoesWrong:
    def test_a_worker_that_fails_is_no_answer_about_the_record(
        self, lab: Lab, three: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", refusing(tmp_path / "fault", "tensorflow", "out of order"))
        said = lab.call("replay", three, status=1)
        assert "FAILED: ad_hoc: three · seed 0: the replay ended after 0 of 3 epochs" in said
        assert "out of order" in said and "Traceback" not in said

    def test_ctrl_c_ends_the_workers(self, lab: Lab, three: str) -> None:
        process = lab.start("replay", three)
        assert process.stderr is not None
        try:
            assert "starting" in process.stderr.readline()
            workers = descendants(process.pid)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=600)
        finally:
            process.kill()
        assert process.returncode == 130
        assert errors.strip() == "stopped by SIGINT; a replay writes nothing, so nothing is lost"
        assert workers and not any(is_alive(number) for number in workers)

    @pytest.mark.parametrize(
        ("words", "named"),
        [
            ((), "name one run, or with --all a study, or give --published"),
            (("0123456789", "--published"), "name one run, or with --all a study"),
            (("--all", "ad_hoc", "--published"), "name one run, or with --all a study"),
            (("0123456789", "--accept", "equivalent"), "--accept is about the arms of a study"),
            (("--all", "ad_hoc", "--accept", "equivalent", "--epochs", "1"), "--accept is about whole runs"),
            (("--published", "filter_stud"), "did you mean 'filter_study'?"),
            (("0123456789", "--all", "ad_hoc"), "name one run, or with --all a study"),
            (("0123456789",), "has no recorded run '0123456789'"),
            (("12345",), "give at least its first 6 digits"),
            (("../../etc",), "has no recorded run '../../etc'"),
            (("--all", "filter_stud"), "did you mean 'filter_study'?"),
            (("--all", "filter_study"), "filter_study has no recorded runs"),
        ],
    )
    def test_what_cannot_be_meant_is_told_in_one_line(self, lab: Lab, words: Sequence[str], named: str) -> None:
        said = lab.call("replay", *words, status=2)
        assert named in said and len(said.splitlines()) == 1

    def test_more_threads_than_cores_are_refused(self, lab: Lab, three: str) -> None:
        assert "but this machine has" in lab.call("replay", three, "--threads", 1000, status=2)

    def test_a_run_that_never_finished_has_nothing_to_compare(self, copy: Lab, three: str) -> None:
        client = copy.store().client
        experiment = client.get_experiment_by_name("ad_hoc")
        assert experiment is not None
        begun = client.get_run(three).data  # a run has these tags and params from its start
        kept = ("study", "arm", "seed", "config_sha256", "trajectory_sha256", *BASIS)
        tags = {name: begun.tags[name] for name in kept}
        made = client.create_run(experiment.experiment_id, tags=tags)
        for name, value in begun.params.items():
            client.log_param(made.info.run_id, name, value)
        client.set_terminated(made.info.run_id, "KILLED")
        said = copy.call("replay", made.info.run_id, status=2)
        assert "(killed) has no trajectory.json, so there is nothing to compare" in said
        assert len(said.splitlines()) == 1


@pytest.mark.slow
class TestCheck:
    def test_what_a_smoke_run_lacks_is_listed(self, lab: Lab, three: str) -> None:
        said = lab.call("check", three[:6], status=1)
        assert "missing: a smoke run: never counts" in said
        assert "contradiction" not in said and "no evidence as it stands." in said

    def test_as_json(self, copy: Lab, three: str) -> None:
        change(copy, "UPDATE metrics SET value = 0.5 WHERE key = 'accuracy' AND step = 2 AND run_uuid = ?", three)
        place(copy, three, "requirements.txt").unlink()
        found = json.loads(copy.call("check", three, "--json", status=1))
        assert (found["run_id"], found["complete"]) == (three, False)
        assert {"row.smoke", "artifacts.requirements.txt"} <= {one["field"] for one in found["missing"]}
        fields = {(one["field"], one["epoch"]) for one in found["contradictions"]}
        assert {("accuracy", 2), ("requirements.txt", None)} <= fields

    def test_an_unknown_run_is_told_in_one_line(self, lab: Lab) -> None:
        said = lab.call("check", "f" * 32, status=2)
        assert "has no recorded run" in said and len(said.splitlines()) == 1

    def test_a_start_that_two_runs_share_is_refused(self, copy: Lab) -> None:
        for place, run_id in enumerate(copy.runs()["run_id"][:2]):
            for table in ("runs", "tags"):
                change(copy, f"UPDATE {table} SET run_uuid = ? WHERE run_uuid = ?", f"abcdef{place}" + "0" * 25, run_id)
        said = copy.call("check", "ABCDEF", status=2)
        assert "the ids of 2 runs start with 'abcdef'" in said


class FakeStore:
    """Records without a store."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.by_run = {record.row["run_id"]: record for record in records}

    def runs(self, studies: Sequence[str]) -> pd.DataFrame:
        frame = pd.DataFrame([one.row for one in self.by_run.values()])
        return frame[frame["study"].isin(studies)]

    def epochs(self, run_ids: Sequence[str]) -> pd.DataFrame:
        return pd.DataFrame([{"run_id": one, **epoch} for one in run_ids for epoch in self.by_run[one].epochs])

    def records(
        self, rows: Sequence[Mapping[str, Any]], epochs: Mapping[str, Sequence[Mapping[str, float]]], *, whole: bool
    ) -> list[Record]:
        return [replace(self.by_run[row["run_id"]], row=row, epochs=epochs[row["run_id"]], whole=whole) for row in rows]


STUDY = Study("baseline_study", "Which network?", {"cnn": replace(CNN, epochs=2)})


def of_seed(seed: int, **row: Any) -> Record:
    return with_row(record(STUDY, "cnn", seed), **row)


def others(*records: Record) -> list[str]:
    """The seeds of the records that the record of seed 0 is compared with, of a store or at hand."""
    stored, given = in_store(cast(Store, FakeStore(records))), among(records)
    found = [str(one.row["seed"]) for one in stored(of_seed(0))]
    assert [str(one.row["seed"]) for one in given(of_seed(0))] == found
    return found


class TestOtherSeeds:
    def test_complete_records_of_the_same_arm_count_and_the_replayed_one_does_not(self) -> None:
        assert others(*(of_seed(seed) for seed in range(8))) == ["1", "2", "3", "4", "5", "6", "7"]

    def test_another_arm_config_data_set_code_or_environment_does_not(self) -> None:
        named = ("arm", "study", "config_sha256", "data_sha256", "code_sha256", "environment_sha256")
        strange = [of_seed(seed, **{name: "another"}) for seed, name in enumerate(named, start=2)]
        assert others(of_seed(1), *strange) == ["1"]

    def test_one_that_lacks_something_or_contradicts_itself_or_has_not_ended_does_not(self) -> None:
        incomplete = with_artifact(of_seed(2), "requirements.txt", None)
        contradictory = of_seed(3, test_loss=0.36)
        assert others(of_seed(1), incomplete, contradictory, of_seed(4, status="RUNNING")) == ["1"]

    def test_of_a_seed_the_newest_record_counts_once(self) -> None:
        older = of_seed(1, run_id="a" * 32, start_time=5, end_time=5)
        assert others(older, of_seed(1), of_seed(2)) == ["1", "2"]

    def test_smoke_runs_are_compared_with_smoke_runs(self) -> None:
        smoke = [of_seed(seed, smoke="true") for seed in (1, 2)]
        found = list(among(smoke)(of_seed(0, smoke="true")))
        assert [one.row["seed"] for one in found] == ["1", "2"] and others(*smoke) == []


class TestTheMachine:
    def case(self, record: Record, data: Dataset, folder: Path) -> Case:
        return Machine(2, data, folder, folder).case(record, None, None)

    def test_a_record_is_compared_with_the_code_and_the_processor_here(
        self, made_up_data: Dataset, tmp_path: Path
    ) -> None:
        terms = self.case(native(0), made_up_data, tmp_path).comparison.terms
        assert terms is not None and (terms.arithmetic, terms.code_sha256, terms.commit) == (
            "native",
            code_sha256(),
            "",
        )
        assert (terms.recorded_on, terms.replayed_on) == (MACHINE["processor"], machine()["processor"])

    def test_a_record_of_the_first_format_names_its_processor_in_its_environment(
        self, made_up_data: Dataset, tmp_path: Path
    ) -> None:
        old = [record(STUDY, "cnn", format=1, processor="an old one"), record(STUDY, "cnn", format=1)]
        terms = [self.case(one, made_up_data, tmp_path).comparison.terms for one in old]
        assert [one.recorded_on for one in terms if one] == ["an old one", None]
        assert [bool(one.other_processor) for one in terms if one] == [True, False]


def native(seed: int) -> Record:
    """A record in the native arithmetic: no known answers are asked for before it is replayed."""
    fingerprint = {**FINGERPRINT, "arithmetic": "native"}
    return rehashed(of_seed(seed), environment={"fingerprint": fingerprint})


class TestJudged:
    def judged(self, accuracy: float, others: Sequence[Record], epochs: int | None = None) -> list[str]:
        """What is said of a record of seed 0 that claims a test accuracy, and whose bits differ in every epoch."""
        claimed = of_seed(0)
        states = [{**state, "test_accuracy": accuracy} for state in claimed.states()]
        claimed = rehashed(claimed, trajectory={"epochs": states})
        config = claimed.config()
        assert config is not None
        config = replace(config, epochs=epochs or config.epochs)
        blank = replace(blank_comparison(claimed, epochs), environment=(Change("arithmetic", "portable", "native"),))
        case = Case(claimed, config, 0, None, "cpu", "native", None, Identity("d", "c", "e"), blank)
        trained: list[Mapping[str, Any]] = [{**state, "weights_sha256": "f" * 64} for state in of_seed(0).states()]
        training = _Training([case], trained[: config.epochs])
        return list(_judged(among(others), case, training).lines())

    def test_a_forged_accuracy_is_in_the_first_line(self) -> None:
        first, *_ = self.judged(0.9898, [of_seed(seed) for seed in range(1, 10)])
        assert first.startswith(
            "NOT COMPARABLE: baseline_study: cnn · seed 0: recorded test accuracy 0.9898, replayed "
        )
        assert "the recorded one lies outside of the other seeds' 95 % prediction interval (" in first
        assert first.endswith(", n = 9)")

    def test_so_it_is_after_the_first_epochs_which_are_judged_by_where_others_were_then(self) -> None:
        others = [of_seed(seed) for seed in range(1, 8)]
        first, *_ = self.judged(0.9898, others, epochs=1)
        values = [one.epochs[0]["test_accuracy"] for one in others]
        low, high = prediction_interval(statistics.fmean(values), statistics.stdev(values), 7)
        assert "after epoch 1, recorded test accuracy 0.9898" in first
        assert first.endswith(f"({low:.4f} to {high:.4f}, n = 7)")

    def test_an_honest_one_is_inside(self) -> None:
        first, *_ = self.judged(of_seed(0).row["test_accuracy"], [of_seed(seed) for seed in range(1, 10)])
        assert "both lie inside the other seeds'" in first


def test_a_record_of_a_newer_format_is_not_replayed() -> None:
    reason = not_replayable(of_seed(0, record_format=str(RECORD_FORMAT + 1)))
    newer = f"row.record_format: '{RECORD_FORMAT + 1}'; wanted: at most {RECORD_FORMAT}; newer code recorded it"
    assert f"cannot be replayed: {newer}: update" in reason


class TestDataChanges:
    def test_a_record_of_the_real_set_that_names_no_files_is_compared_with_the_pinned_ones(
        self, made_up_data: Any
    ) -> None:
        found = data_changes({"data_sha256": FASHION_MNIST.sha256}, made_up_data)
        assert {one.part for one in found} == set(FASHION_MNIST.file_sha256)
        smoke = hashlib.sha256(f"{FASHION_MNIST.sha256} first 512 256\n".encode()).hexdigest()
        assert len(data_changes({"data_sha256": smoke, "images": [512, 256]}, made_up_data)) == 4

    def test_a_record_of_an_unknown_set_can_only_be_told_apart_as_a_whole(self, made_up_data: Any) -> None:
        (found,) = data_changes({"data_sha256": "e" * 64}, made_up_data)
        assert (found.part, found.recorded, found.here) == ("data_sha256", "e" * 64, made_up_data.sha256)

    def test_the_same_set_has_none(self, made_up_data: Any) -> None:
        assert data_changes({"data_sha256": made_up_data.sha256}, made_up_data) == []


def test_the_help_says_what_tensorflow_promises() -> None:
    said = subprocess.run([sys.executable, "-m", "experiments", "replay", "--help"], cwd=REPOSITORY,
                          capture_output=True, text=True, check=True).stdout  # fmt: skip
    assert "TensorFlow promises the same bits only for the same hardware and software" in " ".join(said.split())
