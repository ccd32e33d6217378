"""The house rules that no linter knows: nothing scrolls, each module says what it is, no headings within one."""

from __future__ import annotations

import ast
import re

from tests.support.command import REPOSITORY

CLASS, FUNCTION, MODULE, TESTS = 200, 50, 410, 600  # lines, at most
HEADING = re.compile(r"^ *# *(?:-{2,}|={2,}|~{2,}|\*{2,}).*", re.MULTILINE)

SOURCES = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8")
    for folder in ("fashion_cnn", "experiments", "tests")
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
}
CODE = [name for name in SOURCES if not name.startswith("tests/")]


def lines(node: ast.stmt) -> int:
    """How many lines a class or a function has, without its decorators."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def too_long(source: str) -> list[str]:
    """The classes and functions of a module that are too long, each with its lines."""
    limits: dict[type[ast.AST], int] = {ast.ClassDef: CLASS, ast.FunctionDef: FUNCTION, ast.AsyncFunctionDef: FUNCTION}
    return [
        f"{node.name}: {lines(node)}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and lines(node) > limits[type(node)]
    ]


def test_there_is_something_to_look_at() -> None:
    assert len(CODE) > 50 and "tests/project/test_house.py" in SOURCES


def test_no_class_function_or_module_scrolls() -> None:
    assert {name: found for name in CODE if (found := too_long(SOURCES[name]))} == {}
    assert {name: count for name in CODE if (count := len(SOURCES[name].splitlines())) > MODULE} == {}


def test_no_test_file_scrolls() -> None:
    names = set(SOURCES) - set(CODE)
    assert {name: count for name in names if (count := len(SOURCES[name].splitlines())) >= TESTS} == {}


def test_every_module_says_what_it_is() -> None:
    assert [name for name in CODE if not ast.get_docstring(ast.parse(SOURCES[name]))] == []


def test_what_would_need_a_heading_is_a_module_of_its_own() -> None:
    assert {name: found for name in CODE if (found := HEADING.findall(SOURCES[name]))} == {}


def test_a_class_or_function_that_is_too_long_is_named() -> None:
    body = [f"    a{number} = {number}\n" for number in range(FUNCTION)]
    assert too_long("".join(["def short():\n", *body[1:]])) == []
    assert too_long("".join(["def long():\n", *body])) == [f"long: {FUNCTION + 1}"]
    assert too_long("".join(["class Long:\n", *body, *body, *body, *body])) == [f"Long: {CLASS + 1}"]


def test_a_heading_is_known_by_its_rule() -> None:
    assert HEADING.search("x = 1\n    # -- writing --\n")
    assert not HEADING.search("x = 1  # what is - and what is not\n")
