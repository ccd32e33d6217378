"""docs/add-a-study.md, done on a copy of the repository as a person would: what it names is all that it takes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import REPOSITORY, Lab

pytestmark = pytest.mark.slow

PAGE = (REPOSITORY / "docs" / "add-a-study.md").read_text(encoding="utf-8")
OF_BOTH = (
    *("tests/science/test_study.py", "tests/science/test_config.py", "tests/project/test_readme.py"),
    *("tests/evidence/test_power.py", "tests/evidence/test_record_formats.py", "tests/evidence/test_inert.py"),
    *("tests/evidence/test_evidence.py", "tests/cli/test_answers.py"),
)
"""The tests of studies and settings, of documents and results, and of formats of records, that train nothing."""
DROPPED = ("train", "--dropout", "0.5", "--filters", "2", "--seed", "3")
TRAIN = """
import json, sys
from pathlib import Path
from tests.support.command import Lab

lab = Lab(Path(sys.argv[1]), Path(sys.argv[2]))
said = [lab.call(*words) for words in json.loads(sys.argv[3])]
runs = lab.runs("ad_hoc").sort_values("start_time")
said.append(lab.call("replay", runs["run_id"].iloc[-1]))
print(json.dumps({"said": said, "runs": runs.astype(object).where(runs.notna(), None).to_dict("records")}))
"""


class Copy:
    """A copy of the repository, in which a person works."""

    def __init__(self, folder: Path, lab: Lab) -> None:
        self.folder, self.lab = folder, lab
        listing = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        names = subprocess.run(listing, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
        for name in filter(None, names.split("\0")):
            if (path := REPOSITORY / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, folder / name)

    def python(self, *words: object, status: int = 0) -> str:
        """Run Python in the copy, with its packages; returns what it printed, errors last."""
        variables = {**self.lab.variables, "PYTHONPATH": str(self.folder), "XDG_CACHE_HOME": str(self.lab.folder)}
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=self.folder, env=variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def command(self, *words: object, status: int = 0) -> str:
        return self.python("-m", "experiments", *words, status=status)

    def register(self, name: str) -> None:
        scripts = self.folder / "experiments" / "__init__.py"
        text = scripts.read_text(encoding="utf-8")
        scripts.write_text(re.sub(r"(SCRIPTS = \(.*?)\)", rf'\1    "{name}",\n)', text, flags=re.DOTALL), "utf-8")

    def shell(self, words: str) -> None:
        variables = {**os.environ, "GIT_CEILING_DIRECTORIES": str(self.folder.parent)}
        subprocess.run(words, shell=True, cwd=self.folder, env=variables, check=True)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, made_up: Path) -> Copy:
    lab = Lab(tmp_path_factory.mktemp("lab"), made_up)
    lab.store()
    return Copy(tmp_path_factory.mktemp("copy"), lab)


def blocks(kind: str) -> list[str]:
    """The page's fenced blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def written(copy: Copy) -> str:
    """Which pages were written after the copy had got a study more."""
    script = copy.folder / "experiments" / "batch_study.py"
    script.write_text(blocks("python")[0], encoding="utf-8")
    copy.python(script, "--smoke", "--arms", "batches of 128")
    copy.register("batch_study")
    return copy.command("results", "--pages")


def test_a_study_takes_a_script_and_one_line(copy: Copy, written: str) -> None:
    runs = copy.lab.runs("batch_study")
    assert list(runs["arm"]) == ["batches of 128"] and list(runs["status"]) == ["FINISHED"]
    assert "docs/run.md written" in written
    assert "| `batch_study` (ours) | What do batches of" in (copy.folder / "docs" / "run.md").read_text("utf-8")
    copy.python("-m", "ruff", "check", "experiments")


@pytest.mark.usefixtures("engine", "written")  # `engine` for load_network, which runs operations in this process
def test_a_setting_takes_the_places_that_the_page_names_and_no_other(copy: Copy) -> None:
    before = json.loads((copy.folder / "fashion_cnn" / "known_answers.json").read_text("utf-8"))
    (words,) = re.findall(r"^(awk .*)$", PAGE, re.MULTILINE)
    copy.shell(words)
    copy.python("-m", "ruff", "check", "fashion_cnn")
    copy.python("-m", "fashion_cnn.known_answers", "--write")
    after = json.loads((copy.folder / "fashion_cnn" / "known_answers.json").read_text("utf-8"))
    assert after["code_sha256"] != before["code_sha256"]
    if after["versions"] == before["versions"]:  # else the file is another machine's
        assert {name: answer for name, answer in after["answers"].items() if name != "dropout"} == before["answers"]
    # Of what is published and of the study's pages: the page says it of both.
    assert "all of it holds. Not published yet: batch_study" in copy.command("results", "--check")
    copy.python("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *OF_BOTH)

    batches, study = blocks("python")
    script = copy.folder / "experiments" / "dropout_study.py"
    script.write_text(re.sub(r"^STUDY = .*?^\)\n", lambda _: study, batches, flags=re.DOTALL | re.MULTILINE), "utf-8")
    copy.python(script, "--smoke")
    copy.register("dropout_study")
    runs = json.loads(copy.command("list", "dropout_study", "--json"))["runs"]
    assert {run["arm"]: run["dropout"] for run in runs} == {"dropout 0.0": 0.0, "dropout 0.5": 0.5}
    assert {run["status"] for run in runs} == {"FINISHED"} and len({run["weights_sha256"] for run in runs}) == 2

    told = _trained(copy)
    first, resumed = told["runs"]
    assert first["weights_sha256"] != resumed["weights_sha256"] and resumed["reused_epochs"] == 1
    for row in (first, resumed):
        assert (row["dropout"], row["status"], row["arithmetic"]) == ("0.5", "FINISHED", "portable")
        assert row["record_format"] == "3"
    assert told["said"][-1].startswith("EXACT: ad_hoc: dropout=0.5, ")  # both epochs at once, in a process of its own

    from fashion_cnn.review.network import load_network

    run_id = told["runs"][1]["run_id"]
    assert load_network(copy.lab.store(), run_id).count_params() == int(told["runs"][1]["parameters"])
    assert copy.lab.artifact(run_id, "figures/feature_maps.png").stat().st_size > 10_000


def _trained(copy: Copy) -> dict[str, Any]:
    """What comes of a run with dropout that is made an epoch longer, and of its replay."""
    words = [[*DROPPED, "--epochs", epochs] for epochs in ("1", "2")]
    said = copy.python("-c", TRAIN, copy.lab.folder, copy.lab.data, json.dumps(words))
    told: dict[str, Any] = json.loads(next(line for line in said.splitlines() if line.startswith('{"said"')))
    return told
