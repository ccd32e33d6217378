"""Names come from people, folders and servers: they are refused or shown as text, and lead nowhere else."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fashion_cnn.config import DENSE
from fashion_cnn.events import CutDone, Drawn
from fashion_cnn.store.address import StoreError, resolve
from fashion_cnn.store.artifacts import listed
from fashion_cnn.store.files import TrajectoryError
from fashion_cnn.store.trajectories import Trajectory
from fashion_cnn.study import Study, StudyError
from tests.support.command import REPOSITORY, Lab
from tests.support.scripted import database, header_and_record, open_store, record_one

pytestmark = pytest.mark.fault("names")

REFUSED = ("", "   ", "a\0b", "two\nlines", "tab\tstop", "\x1b[31mred", "right\u202eleft", "hidden\u200b", "x" * 10_000)
MARKUP = "<img src=x onerror=alert(1)> [l](javascript:alert(1)) ![p](http://127.0.0.1:9/p) **b** `c` &amp; #1"
ALLOWED = ("../../../outside", "..", "/etc/passwd", "👟 ünï", "'; DROP TABLE runs; --", "$(touch mark)", MARKUP)
FOREIGN = "\x1b]0;title\x07\x1b[31mred\nbaseline_study: dense · seed 0: complete"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store in which runs have the names that are allowed, and one that another program gave."""
    folder = tmp_path_factory.mktemp("around") / "store"
    store = open_store(folder)
    for seed, arm in enumerate((*ALLOWED, "foreign")):
        record_one(store, replace(DENSE, epochs=1), seed, arm=arm)
    (foreign,) = (row["run_id"] for row in store.runs().to_dict("records") if row["arm"] == "foreign")
    store.client.set_tag(foreign, "arm", FOREIGN)
    store.client.set_tag(foreign, "mlflow.runName", FOREIGN)
    return folder


@pytest.fixture
def lab(folder: Path, tmp_path: Path) -> Lab:
    return Lab(folder, tmp_path)


@pytest.fixture
def trajectory(tmp_path: Path) -> Iterator[Trajectory]:
    store = SimpleNamespace(address=resolve(database(tmp_path), REPOSITORY))
    trajectory, _ = header_and_record(store)  # type: ignore[arg-type]  # only its address is asked for
    yield trajectory
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trajectories"]
    assert len(list((tmp_path / "trajectories").iterdir())) == 1


@pytest.mark.parametrize("name", REFUSED)
def test_an_arms_name_that_is_no_line_of_text_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(StudyError, match="cannot be an arm's name: use 1 to 120 printable characters") as caught:
        Study("s", "?", {name: DENSE})
    assert str(caught.value).isprintable() and len(str(caught.value)) < 200


def test_a_runs_name_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", tmp_path)
    said = lab.call("train", "--name", "x" * 10_000, status=2)
    assert said.startswith("error: 'xxx") and said.count("\n") == 1
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "A", "", "x" * 61, "é", "a b", "a\n"])
def test_a_studys_name_that_would_not_be_a_folders_is_refused(name: str) -> None:
    with pytest.raises(StudyError, match="cannot be a study's name"):
        Study(name, "?", {"a": DENSE})


def test_what_is_recorded_stays_in_the_stores_folder(folder: Path) -> None:
    assert {path.name for path in folder.parent.iterdir()} == {"store"}
    assert {path.name for path in folder.iterdir()} == {"mlflow.db", "mlflow.db.lock", "artifacts", "trajectories"}
    assert {path.name for path in (folder / "artifacts").iterdir()} == {"baseline_study"}
    assert not (REPOSITORY / "mark").exists()


def test_names_come_back_as_they_were_given(lab: Lab) -> None:
    assert set(ALLOWED) < set(lab.runs()["arm"])


def test_markup_stays_text_in_the_description_that_mlflow_shows(lab: Lab) -> None:
    (run_id,) = (row["run_id"] for row in lab.runs().to_dict("records") if row["arm"] == MARKUP)
    note = lab.store().client.get_run(run_id).data.tags["mlflow.note.content"]
    escaped = r"\[l\](javascript:alert(1)) \!\[p\](http://127.0.0.1:9/p) \*\*b\*\* \`c\` &amp;amp; \#1"
    assert f"Arm **&lt;img src=x onerror=alert(1)&gt; {escaped}**" in note


@pytest.mark.parametrize("words", [("list",), ("list", "--json"), ("check",), ("claims", "baseline_study")])
def test_no_name_acts_on_the_terminal_or_feigns_a_line(lab: Lab, words: tuple[str, ...]) -> None:
    (foreign,) = (row["run_id"] for row in lab.runs().to_dict("records") if "red" in row["arm"])
    said = lab.call(*words, *([foreign] if words == ("check",) else []))
    assert re.sub("[\n\t]", "", said).isprintable()  # the tabs stand between cells
    assert words != ("list",) or {line.count("\t") for line in said.splitlines()} == {9}
    assert not re.search("^baseline_study: dense", said, re.MULTILINE)
    assert words[0] == "claims" or "red" in said


def test_an_error_that_quotes_a_name_is_one_printable_line(lab: Lab) -> None:
    said = lab.call("check", "\x1b[31m\nred", status=2)
    assert said.count("\n") == 1 and said.strip().isprintable()


def test_the_report_shows_names_as_text(lab: Lab, tmp_path: Path) -> None:
    lab.call("report", "baseline_study", "--output", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert html.escape(MARKUP, quote=False).replace("&#39;", "'") in page.replace("&#39;", "'").replace("&#34;", '"')
    assert "<img src=x" not in page and "\x1b" not in page


def test_exported_names_stay_in_their_column(lab: Lab, tmp_path: Path) -> None:
    import pandas as pd

    lab.call("export", "--output", tmp_path / "out")
    assert set(ALLOWED) < set(pd.read_csv(tmp_path / "out" / "runs.csv")["arm"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["epochs.csv", "runs.csv"]


@pytest.mark.parametrize(
    "name", ["../outside", "/tmp/outside", "a/b", "a\0b", "a\nb", ".hidden", "", "x" * 10_000, "👟"]
)
def test_a_file_that_a_worker_names_so_is_refused_and_nothing_is_written(trajectory: Trajectory, name: str) -> None:
    before = sorted(trajectory.folder.rglob("*"))
    with pytest.raises(TrajectoryError, match="cannot be a file's name"):
        trajectory.save_cut(CutDone(1, "0" * 64, 0.1, 1.0, {"model.keras": b"m", name: b"x"}))
    with pytest.raises(TrajectoryError, match="cannot be a file's name"):
        trajectory.save_sheets(Drawn(1, {"convolution_1": b"m", name: b"x"}))
    assert sorted(trajectory.folder.rglob("*")) == before


def test_a_cut_whose_list_was_changed_to_name_another_file_is_refused(trajectory: Trajectory, tmp_path: Path) -> None:
    trajectory.save_cut(CutDone(1, "0" * 64, 0.1, 1.0, {"model.keras": b"m"}))
    path = trajectory.folder / "cuts" / "000001" / "cut.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "files": ["../../header.json"]}))
    with pytest.raises(TrajectoryError, match=r"'\.\./\.\./header\.json' cannot be a file's name"):
        trajectory.cut(1)


class Place:
    """Lists what it is told to, as a tracking server may."""

    def __init__(self, path: str) -> None:
        self.path = path

    def list_artifacts(self, folder: str | None) -> list[Any]:
        return [SimpleNamespace(path=self.path, is_dir=False)]


@pytest.mark.parametrize(
    "path", ["../outside", "/etc/passwd", "a/../../outside", "a/b", "a\\b", "a\0b", "a\nb", "..", "c:\\x"]
)
def test_an_artifact_that_a_store_lists_outside_of_the_folder_is_refused(path: str) -> None:
    with pytest.raises(StoreError, match="which is none of its folder") as caught:
        list(listed(Place(path)))
    assert str(caught.value).isprintable()


def test_an_artifact_that_lies_in_the_folder_is_listed() -> None:
    assert list(listed(Place("figures/learning curves · 1.png"), "figures")) == ["figures/learning curves · 1.png"]
    assert list(listed(Place("config.json"))) == ["config.json"]


@pytest.mark.parametrize("name", ["wh?t", "a%20b", "a\nb"])
def test_a_folder_whose_name_mlflow_would_take_for_something_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(StoreError, match="cannot be a store, because of the "):
        resolve(database(tmp_path / name), REPOSITORY)
    assert not list((tmp_path / name).iterdir())


def test_any_other_folder_holds_a_store_and_nothing_is_written_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "100% ünï #1; & 'so' on 👟"
    store = open_store(folder)
    record_one(store, replace(DENSE, epochs=1))
    (row,) = store.runs().to_dict("records")
    assert store.artifact(row["run_id"], "config.json") is not None
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
