"""The table of faults: `python -m tests.faults.table` writes it into tests/README.md.

Its texts are those of `promises.toml`; its tests are those that carry a fault's name as a mark. The marks are read from
the source, so that no test need be imported.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PROMISES = TESTS / "faults" / "promises.toml"
README = TESTS / "README.md"
BEGIN, END = "<!-- faults: begin -->\n", "<!-- faults: end -->\n"
HEAD = "| fault | what is promised | the tests that show it | the message the user sees |\n|---|---|---|---|\n"


@dataclass(frozen=True)
class Promise:
    """What is promised of one fault."""

    fault: str
    promise: str
    message: str
    """Markdown; values within code stand in braces."""

    def templates(self) -> list[list[str]]:
        """The parts of each quoted message that the code must hold to the letter."""
        quoted = re.findall(r"`([^`]+)`", self.message)
        return [[part for part in re.split(r"\{[^}]*\}|…", text) if part.strip()] for text in quoted]


@dataclass(frozen=True)
class Marked:
    """A test, a class or a whole file that carries a fault's name."""

    fault: str
    path: str
    """Of the file, from the folder of the tests."""
    test: str
    """Empty for a whole file."""
    note: str


def promises(path: Path = PROMISES) -> dict[str, Promise]:
    """The promises by the names of their faults, in the order of the table."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        name: Promise(**{field: " ".join(text.split()) for field, text in table.items()})
        for name, table in tables.items()
    }


def marked(folder: Path = TESTS) -> list[Marked]:
    """What carries a fault's name, file by file in the order of their paths.

    Raises:
        ValueError: a mark is not written as `pytest.mark.fault("name")`, perhaps with a `note`.
    """
    found = []
    for path in sorted(folder.rglob("test_*.py")):
        name = path.relative_to(folder).as_posix()
        for test, mark in _marks(ast.parse(path.read_text(encoding="utf-8"))):
            texts = [*mark.args, *(keyword.value for keyword in mark.keywords)]
            values = [text.value for text in texts if isinstance(text, ast.Constant) and isinstance(text.value, str)]
            named = [keyword.arg for keyword in mark.keywords]
            if len(mark.args) != 1 or len(values) != len(texts) or named not in ([], ["note"]):
                raise ValueError(f'{name}, line {mark.lineno}: write pytest.mark.fault("name", note="…")')
            found.append(Marked(values[0], name, test, values[1] if named else ""))
    return found


def _marks(module: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """The marks of a file, and what carries each: a test, a class, or the file itself."""
    for statement in module.body:
        if isinstance(statement, ast.Assign) and [ast.unparse(one) for one in statement.targets] == ["pytestmark"]:
            yield from (("", mark) for mark in _calls(statement.value))
        if isinstance(statement, ast.ClassDef | ast.FunctionDef):
            yield from ((statement.name, mark) for one in statement.decorator_list for mark in _calls(one))
        for inner in statement.body if isinstance(statement, ast.ClassDef) else ():
            if isinstance(inner, ast.FunctionDef):
                yield from ((inner.name, mark) for one in inner.decorator_list for mark in _calls(one))


def _calls(expression: ast.expr) -> Iterator[ast.Call]:
    for node in ast.walk(expression):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault":
            yield node


def table(promised: Mapping[str, Promise], tests: Sequence[Marked]) -> str:
    """The table as Markdown, a row for each promise.

    Raises:
        ValueError: a test names a fault of which nothing is promised.
    """
    if unknown := sorted({f"{one.fault} ({one.path})" for one in tests if one.fault not in promised}):
        raise ValueError(f"no promise in {PROMISES.name}: {', '.join(unknown)}")
    rows = []
    for name, promise in promised.items():
        message = re.sub(r"`[^`]+`", lambda quoted: re.sub(r"[{}]", "", quoted[0]), promise.message)
        shown = _shown([one for one in tests if one.fault == name])
        cells = (text.replace("|", r"\|") for text in (promise.fault, promise.promise, shown, message))
        rows.append(f"| {' | '.join(cells)} |\n")
    return HEAD + "".join(rows)


def _shown(tests: Sequence[Marked]) -> str:
    """The tests of a row: each file once, with those of its tests that are meant."""
    files: dict[str, list[Marked]] = {}
    for one in tests:
        files.setdefault(one.path, []).append(one)
    return "; ".join(": ".join(filter(None, (f"`{path}`", _named(here)))) for path, here in files.items())


def _named(tests: Sequence[Marked]) -> str:
    return ", ".join(f"`{one.test}`" + (f" ({one.note})" if one.note else "") for one in tests if one.test)


def filled(readme: str, content: str) -> str:
    """The README with a table between its two marks."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{README.name} lacks {BEGIN.strip()} or {END.strip()}")
    return f"{before}{begin}{content}{end}{after}"


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    README.write_text(filled(text, table(promises(), marked())), encoding="utf-8")
