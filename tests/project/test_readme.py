"""What the README tells a user to do is what works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import REPOSITORY, Lab

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_every_file_that_is_linked_or_shown_is_there() -> None:
    linked = [place for place in re.findall(r"\]\(([^)#\s]+)", README) if not place.startswith("http")]
    assert len(linked) > 4
    assert [place for place in linked if not (REPOSITORY / place).exists()] == []


def test_every_module_stands_in_the_tree() -> None:
    tree = README.partition("## The tree")[2]
    modules = {path.name for path in (REPOSITORY / "fashion_cnn").glob("*.py")} - {"__init__.py", "__main__.py"}
    assert sorted(name for name in modules if name not in tree) == []


def test_every_command_that_is_named_exists() -> None:
    help = subprocess.run(
        [sys.executable, "-m", "experiments", "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    named = set(re.findall(r"fashion-cnn ([a-z]+)", README))
    assert len(named) > 8
    assert [name for name in sorted(named) if not re.search(rf"^    {name} ", help, re.MULTILINE)] == []
    targets = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?:`|^)make ([a-z]+)\b", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", targets, re.MULTILINE), target


@pytest.mark.slow
def test_the_readmes_study_is_one_that_runs(tmp_path: Path, made_up: Path) -> None:
    (code,) = re.findall(r"```python\n(\"\"\"Does a larger batch.*?)```", README, re.DOTALL)
    script = tmp_path / "batch_study.py"
    script.write_text(code, encoding="utf-8")
    lab = Lab(tmp_path, made_up)
    done = subprocess.run(
        [sys.executable, script, "--smoke", "--arms", "batches of 128"],
        cwd=tmp_path, env=lab.variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = lab.runs("batch_study")
    assert list(runs["arm"]) == ["batches of 128"] and list(runs["status"]) == ["FINISHED"]
