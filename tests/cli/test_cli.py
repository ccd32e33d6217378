"""The command line: every wrong word gets one clear line and status 2, and nothing is half recorded."""

from __future__ import annotations

import io
import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from experiments import POST_RESULTS, SCRIPTS, STUDIES
from fashion_cnn.cli import console
from fashion_cnn.cli import run as commands
from fashion_cnn.config import CNN, DENSE
from fashion_cnn.study import Study
from tests.support.command import REPOSITORY, Lab
from tests.support.made_up import write_made_up
from tests.support.recorded import put, record


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    data = write_made_up(tmp_path_factory.mktemp("data"), train=64, test=32)
    return Lab(tmp_path_factory.mktemp("lab"), data)


def complaint(lab: Lab, *words: object, **variables: str) -> str:
    """The one line that a wrong call prints; in this process, which spares importing MLflow."""
    printed, errors = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, {**lab.variables, **variables}),
        redirect_stdout(printed),
        redirect_stderr(errors),
    ):
        try:
            status: object = console(STUDIES, POST_RESULTS, lab.published, [str(word) for word in words])
        except SystemExit as end:
            status = end.code
    assert status == 2, (status, printed.getvalue(), errors.getvalue())
    lines = errors.getvalue().strip().splitlines()
    assert len(lines) == 1 and printed.getvalue() == "", (printed.getvalue(), errors.getvalue())
    return lines[0]


WRONG = {
    ("run", "filters_study"): "there is no study 'filters_study' (did you mean 'filter_study'?)",
    ("run", "filter_study", "--arms", "16 filter"): "there is no arm '16 filter' (did you mean '16 filters'?)",
    ("run", "--seeds", "0"): "'0' is not allowed: give a whole number of at least 1",
    ("run", "--seeds", "-3"): "give a whole number of at least 1",
    ("run", "--seeds", "many"): "give a whole number of at least 1",
    ("run", "--workers", "0"): "give a whole number of at least 1",
    ("run", "--first-seed", "-1"): "give a whole number of at least 0",
    ("run", "--first-seed", "4294967296"): "seed is 4294967296; allowed: a whole number from 0 to 4,294,967,295",
    ("run", "--seed", "3"): "fashion-cnn run: there is no option '--seed' (did you mean '--seeds'?)",
    ("train", "--seeds=3"): "fashion-cnn train: there is no option '--seeds' (did you mean '--seed'?)",
    ("gc", "--dry-runs"): "fashion-cnn gc: there is no option '--dry-runs' (did you mean '--dry-run'?)",
    ("gc", "now"): "fashion-cnn gc: 'now' is one word too many; see fashion-cnn gc --help",
    ("ui", "--port", "70000"): "'70000' is not allowed: give a whole number from 1 to 65535",
    ("list", "--limit", "0"): "fashion-cnn list: argument --limit: '0' is not allowed",
    ("list", "--status", "done"): "fashion-cnn list: argument --status: invalid choice: 'done'",
    ("results", "nothing_study"): "there is no study 'nothing_study'",
    ("results", "filter_study", "--pages"): "are about all of the published results: name no study",
    ("runn",): "there is no command 'runn' (did you mean 'run'?)",
    ("train", "--filters", "0"): "filters is 0; allowed: a whole number from 1 to 1,024",
    ("train", "--filters", "many"): "filters is 'many'; allowed: a whole number",
    ("train", "--additional-convolutions", "3"): "at most 2 fit",
    ("train", "--model", "cnnn"): "model is 'cnnn'; allowed: dense or cnn",
    ("train", "--threads", "1000"): "threads is 1000, but this machine has",
    ("train", "--name", "two\nlines"): "cannot be an arm's name",
    ("list", "nothing_study"): "there is no study 'nothing_study'",
    ("claims", "nothing_study"): "there is no study 'nothing_study'",
}


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_a_wrong_word_is_told_in_one_line(lab: Lab, words: tuple[str, ...]) -> None:
    if words[0] == "list":
        lab.store()
    assert WRONG[words] in complaint(lab, *words)
    assert not lab.trajectories()


def test_the_process_of_a_wrong_call_prints_the_line_and_ends_with_2(lab: Lab) -> None:
    process = lab.start("runn")
    printed, errors = process.communicate(timeout=600)
    assert (process.returncode, printed) == (2, "")
    assert errors.count("\n") == 1 and WRONG["runn",] in errors


def test_a_bare_call_lists_the_commands_and_the_version_is_told(lab: Lab) -> None:
    bare = lab.call_process()
    assert [group in bare for group in ("\nrun experiments:\n", "\ncompare runs:\n", "\nreview results:\n")] == 3 * [
        True
    ]
    assert max(map(len, bare.splitlines())) <= 80
    assert re.fullmatch(r"fashion-cnn \d+\.\d+\.\d+\n", lab.call_process("--version"))


@pytest.mark.parametrize("command", ["run", "train", "list", "gc", "replay", "results"])
def test_a_commands_help_has_an_example(lab: Lab, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        console(STUDIES, Path("post.csv"), Path("results"), [command, "--help"])
    assert ended.value.code == 0
    assert f"\n\nexample: fashion-cnn {command} " in capsys.readouterr().out


COMPLETED = {
    "re": ["report", "replay", "results"],
    "run filt": ["filter_study "],
    "run --arms 16": ["16\\ filters "],
    "train --arithmetic p": ["portable "],
    "list --lim": ["--limit "],
    "results epo": ["epochs_study "],
}


@pytest.mark.parametrize("words", COMPLETED)
def test_a_shell_completes_words(lab: Lab, words: str, tmp_path: Path) -> None:
    line = f"fashion-cnn {words}"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    asked |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "words"), "COMP_TYPE": "9"}
    subprocess.run(lab.command(), cwd=REPOSITORY, env={**lab.variables, **asked}, check=True, capture_output=True)
    assert (tmp_path / "words").read_text().split("\n") == COMPLETED[words]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, lab: Lab) -> tuple[Lab, str, str]:
    """A store with a run of 16 filters and seed 3, and one that has no config; their ids."""
    made = Lab(tmp_path_factory.mktemp("like"), lab.data)
    one = record(Study("baseline_study", "Which?", {"cnn": replace(CNN, filters=16, epochs=2)}), "cnn", 3)
    run_id = put(made.store(), one, "Which?")
    experiment = made.store().experiment("baseline_study", "Which?")
    tags = {"study": "baseline_study", "trajectory_sha256": "0" * 64}
    bare = made.store().client.create_run(experiment, tags=tags).info.run_id
    return made, run_id, bare


class TestLike:
    """A run that starts from a recorded one."""

    def planned(self, recorded: tuple[Lab, str, str], monkeypatch: pytest.MonkeyPatch, *words: object) -> Any:
        """The config and the seed of the run that would be trained."""
        lab, run_id, _ = recorded
        taken: list[Any] = []

        def plan(studies: Sequence[Study], _: Any, seeds: Sequence[int], __: Any) -> int:
            taken.extend([*studies[0].arms.values(), *seeds])
            return 0

        monkeypatch.setattr(commands, "_record", plan)
        lab.call("train", "--like", run_id[:8], *words)
        return tuple(taken)

    def test_its_settings_and_seed_are_taken(self, recorded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.planned(recorded, monkeypatch) == (replace(CNN, filters=16, epochs=2), 3)

    def test_given_ones_replace_them(self, recorded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.planned(recorded, monkeypatch, "--filters", 64, "--seed", 0)
        assert found == (replace(CNN, filters=64, epochs=2), 0)

    def test_another_network_leaves_out_what_it_does_not_have(
        self, recorded: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert self.planned(recorded, monkeypatch, "--model", "dense") == (replace(DENSE, epochs=2), 3)

    def test_a_run_that_is_not_recorded_or_has_no_config_is_told_in_one_line(self, recorded: Any) -> None:
        lab, _, bare = recorded
        assert "has no recorded run" in lab.complaint("train", "--like", "f" * 32)
        assert f"run {bare} has no config and seed" in lab.complaint("train", "--like", bare)


def test_a_data_folder_that_lacks_a_file_is_named_with_the_file(lab: Lab, tmp_path: Path) -> None:
    folder = write_made_up(tmp_path)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    said = complaint(lab, "run", "--data-dir", folder)
    assert "t10k-labels-idx1-ubyte.gz" in said and str(folder) in said


def test_a_server_that_does_not_answer_is_named(lab: Lab) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        said = complaint(lab, "run", "--tracking-uri", address)
    assert f"the tracking server {address} does not answer" in said


def test_a_password_in_a_stores_address_is_never_printed(lab: Lab) -> None:
    said = complaint(lab, "run", "--tracking-uri", "http://me:s3cret@127.0.0.1:1")
    assert "s3cret" not in said and "127.0.0.1:1" in said


def test_a_store_that_is_a_plain_file_is_refused_and_kept(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("my only notes, much longer than sixteen bytes")
    said = complaint(lab, "run", "--tracking-uri", f"sqlite:///{tmp_path / 'notes.txt'}")
    assert "is no SQLite database" in said
    assert (tmp_path / "notes.txt").read_text().startswith("my only notes")


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/x", "ftp://x", "sqlite://"])
def test_an_address_that_is_no_store_is_told_what_is(lab: Lab, uri: str) -> None:
    said = complaint(lab, "run", "--tracking-uri", uri)
    assert "sqlite:///PATH" in said


def test_a_store_that_is_not_there_is_not_made_by_reading(lab: Lab, tmp_path: Path) -> None:
    said = complaint(lab, "list", "--tracking-uri", f"sqlite:///{tmp_path / 'none.db'}")
    assert "record a run first" in said
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(lab: Lab) -> None:
    # /proc takes no files, not even root's.
    said = complaint(lab, "run", "--tracking-uri", "sqlite:////proc/fashion/mlflow.db")
    assert "/proc/fashion cannot be written" in said


def test_an_export_that_cannot_be_written_is_named(lab: Lab) -> None:
    lab.store()
    assert "/proc/out cannot be written" in complaint(lab, "export", "--output", "/proc/out")


def test_a_gpu_that_is_not_there_is_told(lab: Lab) -> None:
    assert "use --device cpu" in complaint(lab, "run", "--device", "gpu", PATH="")


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_runs_as_a_file_and_as_a_module(lab: Lab, script: str) -> None:
    study = __import__(f"experiments.{script}", fromlist=["STUDY"]).STUDY
    for words in ([f"experiments/{script}.py"], ["-m", f"experiments.{script}"]):
        planned = script == SCRIPTS[0] and words[0] != "-m"  # a plan takes the time to import MLflow
        asked = "--dry-run" if planned else "--help"
        done = subprocess.run(
            [sys.executable, "-W", "error::RuntimeWarning", *words, asked],
            cwd=REPOSITORY,
            env=lab.variables,
            capture_output=True,
            text=True,
            check=True,
        )
        if asked == "--help":
            assert all(arm in " ".join(done.stdout.split()) for arm in study.arms)
        else:
            assert f"{len(study.arms)} runs to record" in done.stdout


@pytest.mark.parametrize("words", [["-m", "experiments"], ["experiments/filter_study.py"]])
def test_help_starts_without_tensorflow_mlflow_or_matplotlib(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words, "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"tensorflow", "keras", "mlflow", "matplotlib", "pandas", "scipy", "numpy", "rich"}


@pytest.mark.fault("nobody-reads")
@pytest.mark.parametrize("buffered", ["", "1"], ids=["in blocks", "at once"])
@pytest.mark.parametrize(("command", "status"), [("list", 0), ("sync", 1)])
def test_a_closed_pipe_is_no_error_and_hides_none(
    tmp_path: Path, made_up: Path, command: str, status: int, buffered: str
) -> None:
    lab = Lab(tmp_path, made_up)
    damaged = lab.store().address.trajectories / "0123456789abcdef" / "header.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{", encoding="utf-8")
    (damaged.parent / "runs").mkdir()
    (damaged.parent / "runs" / f"{'a' * 32}.json").write_text("{", encoding="utf-8")
    variables = {**lab.variables, "PYTHONUNBUFFERED": buffered}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        lab.command(command), env=variables, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (status, "")


@pytest.mark.fault("nobody-reads")
def test_a_run_whose_output_nobody_reads_is_made_all_the_same(lab: Lab) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = lab.command("train", "--filters", 4, "--epochs", 1, "--name", "unread")
    done = subprocess.run(command, cwd=REPOSITORY, env=lab.variables, stdout=writer, stderr=writer, check=False)
    os.close(writer)
    assert done.returncode == 0
    runs = lab.runs("ad_hoc").set_index("arm")
    assert runs.loc["unread", "status"] == "FINISHED"


@pytest.mark.fault("nobody-reads")
def test_a_closed_pipe_hides_no_failure() -> None:
    code = "import sys; from fashion_cnn.terminal import shown; sys.exit(shown(1, lambda: print('it does not hold')))"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
