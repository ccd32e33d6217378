"""The notebooks: in step with their text twins and the published results, and running from top to bottom."""

from __future__ import annotations

import json
import os
import platform
import re
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments import POST_RESULTS, RESULTS, STUDIES
from fashion_cnn.download import find
from fashion_cnn.reports import publish as publishing
from fashion_cnn.reports import readme as summary
from fashion_cnn.reports.published import verdicts_over, with_records

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
EXECUTE = NOTEBOOKS / "execute.py"
NAMES = ("compare_runs", "fashion_mnist_cnn")
LARGEST = 2**20  # bytes
A_RUNS_NUMBER = re.compile(r"(?<![\d.])0\.(?:\d{4,}|[89]\d\b)|\b\d\d(?:\.\d+)? ?%")
NOT_A_RUNS = {"0.0027", "0.92", "95 %"}  # the arithmetic of a test set's error, and of intervals

Notebook = dict[str, Any]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def notebook(name: str) -> Notebook:
    return read(NOTEBOOKS / f"{name}.ipynb")


def read(path: Path) -> Notebook:
    notebook: Notebook = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def code_cells(notebook: Notebook) -> list[dict[str, Any]]:
    """The code cells; there are some."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 5
    return cells


def outputs(notebook: Notebook) -> Iterator[tuple[str, str]]:
    """What the cells put out: kind and text; a picture's text is its base64."""
    for cell in code_cells(notebook):
        for output in cell["outputs"]:
            if output["output_type"] == "stream":
                yield output["name"], "".join(output["text"])
            else:
                yield from ((kind, "".join(content)) for kind, content in output["data"].items())


def shape(notebook: Notebook) -> list[list[str]]:
    """Of each code cell the kinds of its outputs."""
    return [
        [kind for output in cell["outputs"] for kind in output.get("data", {output.get("name"): ""})]
        for cell in code_cells(notebook)
    ]


def assert_ran_from_top_to_bottom(notebook: Notebook) -> None:
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert {output["output_type"] for cell in cells for output in cell["outputs"]} == {"stream", "display_data"}


def test_every_notebook_has_a_twin_and_is_tested_here() -> None:
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(NAMES)
    assert {path.stem for path in NOTEBOOKS.glob("*.py")} == {*NAMES, EXECUTE.stem}


def test_a_notebook_has_the_cells_of_its_twin(name: str, notebook: Notebook) -> None:
    made = runpy.run_path(str(EXECUTE))["cells_of"](NOTEBOOKS / f"{name}.py")
    ours, theirs = (
        [(cell["id"], cell["cell_type"], "".join(cell["source"])) for cell in one["cells"]] for one in (notebook, made)
    )
    assert ours == theirs, "python notebooks/execute.py makes it anew"
    assert notebook["metadata"] == made["metadata"]


def test_the_committed_outputs_are_those_of_all_cells_in_order_without_an_error(notebook: Notebook) -> None:
    assert_ran_from_top_to_bottom(notebook)
    assert {kind for kind, _ in outputs(notebook)} <= {
        "stdout",
        "text/plain",
        "text/html",
        "text/markdown",
        "image/png",
    }
    assert not any(cell["metadata"] for cell in notebook["cells"])


def test_the_committed_outputs_name_no_path_and_no_machine(notebook: Notebook) -> None:
    folders = [
        "/work",
        "/home",
        "/root",
        "/tmp",
        "/Users",
        tempfile.gettempdir(),
        str(Path.home()),
        str(NOTEBOOKS.parent),
    ]
    nodes = {platform.node(), *pd.read_csv(RESULTS / "runs.csv")["node"]}
    words = [re.escape(word) for word in (*folders, *nodes) if len(word) > 1]
    sought = re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)|file://|site-packages")
    assert sought.search("in /tmp/somewhere/else")
    texts = [text for kind, text in outputs(notebook) if kind != "image/png"]
    assert texts and [text for text in texts if sought.search(text)] == []


def test_the_committed_tables_are_those_of_the_published_results() -> None:
    notebook = read(NOTEBOOKS / "fashion_mnist_cnn.ipynb")
    tables = [text for kind, text in outputs(notebook) if kind == "text/markdown"]
    published = publishing.read(RESULTS)
    verdicts = verdicts_over(STUDIES, published, POST_RESULTS.read_bytes())
    every = summary.parts(STUDIES, published, verdicts, {})
    expected = [every["basis"](), every["counts"](), every["surprises"]()]
    for study in with_records(STUDIES, published):
        made = summary.parts([study], published, verdicts.of([study]), {})
        expected += [made["arms"](), made["claims"]()]
    assert sorted(tables) == sorted(expected), "python notebooks/execute.py makes it anew"


def test_a_notebook_is_small(name: str) -> None:
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size < LARGEST


def test_no_number_of_a_run_stands_in_the_text(notebook: Notebook) -> None:
    assert A_RUNS_NUMBER.search("an accuracy of 0.91") and A_RUNS_NUMBER.search("91 %")
    texts = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    assert {found[0] for text in texts for found in A_RUNS_NUMBER.finditer(text)} <= NOT_A_RUNS


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("fashion_mnist_cnn", marks=pytest.mark.real_data), "compare_runs"])
def test_a_notebook_runs_to_the_end_in_an_empty_home_and_gives_what_is_committed(name: str, tmp_path: Path) -> None:
    data = find()
    assert data is not None or name == "compare_runs", "the real data set is missing: make setup"
    variables = {**os.environ, "HOME": str(tmp_path / "home"), "FASHION_MNIST_DIR": str(data or "")}
    variables |= {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'store' / 'mlflow.db'}"}
    for left in ("JUPYTER_PATH", "JUPYTER_CONFIG_DIR", "IPYTHONDIR", "VIRTUAL_ENV"):
        variables.pop(left, None)
    (tmp_path / "home").mkdir()
    # Not this Python's folder in PATH: the kernel must be this Python's all the same.
    made = subprocess.run(
        [sys.executable, EXECUTE, "--to", tmp_path, name],
        cwd=tmp_path, env={**variables, "PATH": os.defpath}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "Warning" not in made.stderr, "what it trains would be no evidence, for example"
    executed, committed = read(tmp_path / f"{name}.ipynb"), read(NOTEBOOKS / f"{name}.ipynb")
    assert_ran_from_top_to_bottom(executed)
    assert shape(executed) == shape(committed)
    assert texts(executed) == texts(committed), "python notebooks/execute.py makes it anew"
    if name == "compare_runs":
        assert any("published runs imported" in text for _, text in outputs(executed))
        assert [path.name for path in (tmp_path / "store").glob("artifacts/*")] == []  # it went into another store


def texts(notebook: Notebook) -> list[str]:
    """What the cells say, but those that train here: on another processor their last digits may be others."""
    cells = [cell for cell in notebook["cells"] if "live" not in "".join(cell["source"])]
    return [text for kind, text in outputs({"cells": cells}) if kind != "image/png"]


@pytest.mark.slow
def test_a_cell_that_fails_ends_it_with_the_traceback_and_writes_nothing(tmp_path: Path) -> None:
    twin = (NOTEBOOKS / "compare_runs.py").read_text(encoding="utf-8")
    head = twin[: twin.index("# %% [markdown]")]
    (tmp_path / "compare_runs.py").write_text(f"{head}# %%\nprint(1)\n\n# %%\n1 / 0\n", encoding="utf-8")
    copy = tmp_path / EXECUTE.name
    copy.write_bytes(EXECUTE.read_bytes())
    made = subprocess.run([sys.executable, copy, "compare_runs"], capture_output=True, text=True, timeout=600)
    assert made.returncode == 1 and "ZeroDivisionError" in made.stderr
    assert not list(tmp_path.glob("*.ipynb*")) and not list(tmp_path.glob(".*"))
