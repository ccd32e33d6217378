"""The table of faults in tests/README.md is what the tests' marks and the promises give, and quotes the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.faults.table import BEGIN, END, HEAD, README, Promise, filled, marked, promises, table
from tests.support.command import REPOSITORY


def texts_of_the_code() -> set[str]:
    """Every text that the code holds, those with values in them piece by piece."""
    files = [path for folder in ("fashion_cnn", "experiments", ".ci") for path in (REPOSITORY / folder).rglob("*.py")]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return {node.value for node in nodes if isinstance(node.value, str)}


def test_the_readme_has_the_table_that_the_marks_give() -> None:
    text = README.read_text(encoding="utf-8")
    assert text == filled(text, table(promises(), marked())), "python -m tests.faults.table writes it anew"


def test_every_promise_is_shown_by_a_test() -> None:
    assert len(promises()) >= 29
    assert sorted(set(promises()) - {one.fault for one in marked()}) == []


def test_every_message_that_is_quoted_is_one_of_the_codes() -> None:
    texts = texts_of_the_code()
    quoted = [(name, part) for name, one in promises().items() for parts in one.templates() for part in parts]
    assert len(quoted) > 60
    assert [(name, part) for name, part in quoted if not any(part in text for text in texts)] == []


PROMISES = {
    "a-fault": Promise("A | fault", "Nothing is lost", "`{five} things: {}told …`"),
    "another": Promise("B", "C", "none"),
}


def write(folder: Path, source: str) -> Path:
    (folder / "test_it.py").write_text(source, encoding="utf-8")
    return folder


def test_a_test_a_class_a_method_and_a_file_can_carry_a_fault(tmp_path: Path) -> None:
    source = """
import pytest
pytestmark = [pytest.mark.slow, pytest.mark.fault("another")]
@pytest.mark.slow
@pytest.mark.fault("a-fault", note="5 times")
def test_one(): ...
@pytest.mark.fault("a-fault")
class TestTwo:
    @pytest.mark.fault("a-fault")
    def test_three(self): ...
"""
    assert table(PROMISES, marked(write(tmp_path, source))) == HEAD + (
        "| A \\| fault | Nothing is lost | `test_it.py`: `test_one` (5 times), `TestTwo`, `test_three` "
        "| `five things: told …` |\n| B | C | `test_it.py` | none |\n"
    )


def test_a_message_is_checked_but_for_its_values() -> None:
    assert PROMISES["a-fault"].templates() == [[" things: ", "told "]]


def test_a_fault_of_which_nothing_is_promised_is_told(tmp_path: Path) -> None:
    source = "import pytest\n@pytest.mark.fault('a-falt')\ndef test_one(): ...\n"
    with pytest.raises(ValueError, match=r"no promise in promises\.toml: a-falt \(test_it\.py\)"):
        table(PROMISES, marked(write(tmp_path, source)))


@pytest.mark.parametrize("mark", ["fault()", "fault(NAME)", "fault('a', 'b')", "fault('a', why='b')"])
def test_a_mark_that_cannot_be_read_is_told(tmp_path: Path, mark: str) -> None:
    source = f"import pytest\n@pytest.mark.{mark}\ndef test_one(): ...\n"
    with pytest.raises(ValueError, match=r"test_it\.py, line 2: write pytest\.mark\.fault"):
        marked(write(tmp_path, source))


def test_only_what_is_between_the_marks_is_replaced() -> None:
    assert filled(f"before\n{BEGIN}old\n{END}after\n", "new\n") == f"before\n{BEGIN}new\n{END}after\n"
    with pytest.raises(ValueError, match="lacks"):
        filled("no mark at all", "new\n")
