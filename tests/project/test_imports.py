"""The import contracts of pyproject.toml refuse what they are there to refuse, and name it.

One copy of the packages gets every wrong import at once, each in a module of its own, and is checked once.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from tests.support.command import REPOSITORY

PLANTED = {
    "fashion_cnn/evidence/planted_upward.py": "from fashion_cnn.cli import tables",
    "fashion_cnn/running/planted_experiments.py": "from experiments import STUDIES",
    "fashion_cnn/reports/planted_mlflow.py": "import mlflow",
    "fashion_cnn/evidence/planted_keras.py": "import keras",
    "fashion_cnn/review/planted_circle.py": "from fashion_cnn.review import planted_back",
    "fashion_cnn/review/planted_back.py": "from fashion_cnn.review import planted_circle",
    "fashion_cnn/planted_nowhere.py": "",
    "experiments/planted_study.py": "from fashion_cnn.store import trajectories",
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What import-linter says of each broken contract, once all of that is planted."""
    copy = tmp_path_factory.mktemp("planted")
    for folder in ("fashion_cnn", "experiments"):
        shutil.copytree(REPOSITORY / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "results"))
    shutil.copy(REPOSITORY / "pyproject.toml", copy)
    for name, line in PLANTED.items():
        (copy / name).write_text(f"{line}\n", encoding="utf-8")
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    checked = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, check=False)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    printed = re.sub(r"\x1b\[[0-9;]*m", "", checked.stdout)
    _, *parts = re.split(r"^(.+)\n-+$", printed.partition("Broken contracts\n")[2], flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize(
    ("contract", "named"),
    [
        ("The rooms stand one above the other", "fashion_cnn.evidence.planted_upward -> fashion_cnn.cli"),
        ("The rooms stand one above the other", "planted_nowhere"),
        ("The package never imports the experiments", "fashion_cnn.running.planted_experiments -> experiments"),
        ("TensorFlow, MLflow, Ray and matplotlib stay", "fashion_cnn.reports.planted_mlflow -> mlflow"),
        ("TensorFlow, MLflow, Ray and matplotlib stay", "fashion_cnn.evidence.planted_keras -> keras"),
        ("What starts fast never reaches TensorFlow or MLflow", "fashion_cnn.evidence.planted_keras -> keras"),
        ("A study's script names a study", "experiments.planted_study -> fashion_cnn.store"),
        ("No circle of imports", "planted_circle"),
    ],
)
def test_a_wrong_import_is_refused_and_named(refused: dict[str, str], contract: str, named: str) -> None:
    (said,) = [said for name, said in refused.items() if name.startswith(contract)]
    assert named in said
