"""What the hash of the code covers: each line that can change a number, and nothing else."""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fashion_cnn import config, sources
from fashion_cnn.sources import NUMBER_MODULES, PACKAGE, canonical_sha256, code_files, code_sha256, files_sha256

MODULE = '''
"""A module."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

RATE = 0.001  # of Adam


def setting(default, *, help):
    return default


class Network:
    """A network."""

    units: int = setting(128, help="units of the hidden layer")
    """How many."""

    def scaled(self, values: list[float], by: float = 2.0) -> list[float]:
        """Values, scaled."""
        if by < 0:
            raise ValueError(f"by is {by!r}; allowed: at least 0")
        return [value * by for value in values]
'''


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"""A module."""', '"""A module, told in other words."""'),
        ('    """A network."""\n', ""),
        ('    """How many."""\n', '    """So many."""\n'),
        ("  # of Adam", ""),
        ("values: list[float], by: float = 2.0) -> list[float]", "values, by=2.0)"),
        ("units: int =", "units: 'int | None' ="),
        ('help="units of the hidden layer"', 'help="other words"'),
        ('f"by is {by!r}; allowed: at least 0"', '"a negative number"'),
        ("    from collections.abc import Sequence", "    from typing import Sequence"),
        ("\n\n\nclass", "\n\n\n\nclass"),
        ("[value * by for value in values]", "[\n            value * by\n            for value in values\n        ]"),
    ],
)
def test_what_changes_no_number_changes_no_hash(before: str, after: str) -> None:
    assert before in MODULE
    assert canonical_sha256(MODULE.replace(before, after, 1)) == canonical_sha256(MODULE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("0.001", "0.002"),
        ("0.001", "1"),
        ("value * by", "by * value"),
        ("by: float = 2.0", "by: float = 3.0"),
        ("128", "64"),
        ("if by < 0", "if by <= 0"),
        ("ValueError", "TypeError"),
        ("import math", "import cmath"),
        ("for value in values", "for value in values[1:]"),
        ("scaled", "stretched"),
    ],
)
def test_what_may_change_a_number_changes_the_hash(before: str, after: str) -> None:
    assert before in MODULE
    assert canonical_sha256(MODULE.replace(before, after, 1)) != canonical_sha256(MODULE)


def test_the_encoding_and_the_line_ends_of_a_file_change_no_hash() -> None:
    said = "# -*- coding: latin-1 -*-\nNAME = 'é'\n"
    plain = canonical_sha256("NAME = 'é'\n")
    for source in (
        said.encode("latin-1"),
        said.replace("\n", "\r\n").encode("latin-1"),
        b"\xef\xbb\xbfNAME = '\xc3\xa9'",
    ):
        assert canonical_sha256(source) == plain


SAYS = (ast.Assign, ast.AugAssign, ast.Return, ast.Delete, ast.Assert, ast.AnnAssign)


def statements(source: str) -> Iterator[tuple[int, int]]:
    """The first and last line of each simple statement that says something about numbers, from 1 on."""
    for node in ast.walk(ast.parse(source)):
        is_call = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
        if isinstance(node, ast.stmt) and (is_call or isinstance(node, SAYS)):
            yield node.lineno, node.end_lineno or node.lineno


@pytest.mark.parametrize("name", NUMBER_MODULES)
def test_each_statement_of_a_module_counts(name: str) -> None:
    source = (PACKAGE / f"{name}.py").read_text(encoding="utf-8")
    whole, lines, silent = canonical_sha256(source), source.splitlines(), []
    for first, last in statements(source):
        indent = len(lines[first - 1]) - len(lines[first - 1].lstrip())
        kept = [*lines[: first - 1], " " * indent + "pass", *lines[last:]]
        if canonical_sha256("\n".join(kept)) == whole:
            silent.append(lines[first - 1].strip())
    assert silent == []


def test_the_hash_covers_these_modules_and_no_other(tmp_path: Path) -> None:
    copy = shutil.copytree(PACKAGE, tmp_path / "fashion_cnn", ignore=shutil.ignore_patterns("__pycache__"))

    def change(path: Path) -> str:
        with path.open("a", encoding="utf-8") as file:
            file.write("\nCHANGED = 1\n")
        return code_sha256(copy)

    covered = {copy / f"{name}.py" for name in NUMBER_MODULES}
    others = set(copy.rglob("*.py")) - covered
    assert len(others) > len(covered) and {change(path) for path in others} == {code_sha256()}
    found = [code_sha256(), *(change(path) for path in covered)]
    assert len(set(found)) == 1 + len(covered)


def test_they_import_nothing_else_of_the_project() -> None:
    for name in NUMBER_MODULES:
        tree = ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
        imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        ours = {module.partition(".")[2] for module in imported if module.partition(".")[0] == "fashion_cnn"}
        assert ours <= set(NUMBER_MODULES), name


def test_the_hash_is_of_what_was_imported_not_of_what_lies_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "config.py"
    other.write_text("EPOCHS = 1\n", encoding="utf-8")
    here = code_files()["config.py"]
    monkeypatch.setattr(config, "__file__", str(other))
    assert code_files()["config.py"] == canonical_sha256("EPOCHS = 1\n") != here
    assert code_files(PACKAGE)["config.py"] == here


OTHERS = ("python3.11", "python3.12", "python3.13")


def other_pythons() -> list[str]:
    """Other installed versions of Python than this, of those that the project supports."""
    found = []
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for name in OTHERS:
        installed = sorted(pyenv.glob(f"versions/{name.removeprefix('python')}.*/bin/{name}"))
        path = str(installed[-1]) if installed else shutil.which(name)
        if path and name != f"python3.{sys.version_info.minor}":
            ask = "import sys; print(*sys.version_info[:2])"
            told = subprocess.run([path, "-c", ask], capture_output=True, text=True, check=False)
            if told.returncode == 0 and told.stdout.split() == name.removeprefix("python").split("."):
                found.append(path)
    return found


def test_the_hash_is_the_same_on_another_version_of_python() -> None:
    pythons = other_pythons()
    if not pythons:
        pytest.skip(f"no other of {', '.join(OTHERS)} is installed")
    code = f"import sys; sys.path.insert(0, {str(PACKAGE)!r}); import sources; print(sources.code_sha256())"
    for python in pythons:
        told = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
        assert told.stdout.strip() == code_sha256(sources.PACKAGE), python


def test_the_hash_of_files_is_that_of_their_lines_in_order() -> None:
    assert files_sha256({"b": "2", "a": "1"}) == hashlib.sha256(b"1  a\n2  b\n").hexdigest()
