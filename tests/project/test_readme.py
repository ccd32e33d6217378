"""What the documents tell a user to do is what works, and what they name is there."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache

import pytest

from experiments import SCRIPTS
from tests.support.command import REPOSITORY
from tests.support.documents import GENERATED, shell_lines, slugs, tree_of

PAGES = (REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md")))
TEXTS = {page.relative_to(REPOSITORY).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
README, SERVER_PAGE = TEXTS["README.md"], TEXTS["docs/server.md"]
TREE = tree_of(TEXTS["docs/design.md"])
QUESTIONS = ("a new metric", "a new artifact", "a new kind of claim", "a new executor", "a new column of the report")
A_RUNS_NUMBER = re.compile(r"(?<![\d.])0\.(?:\d{4,}|[89]\d\b)|\b\d\d(?:\.\d+)? ?%")
NOT_A_RUNS = {"90 %", "95 %"}  # of intervals

each_page = pytest.mark.parametrize("name", TEXTS)


def links(name: str) -> list[str]:
    """The addresses that a page links or shows, those of the web left out."""
    return [address for address in re.findall(r"\]\(([^)\s]+)", TEXTS[name]) if not address.startswith("http")]


@each_page
def test_every_file_that_is_linked_or_shown_is_there(name: str) -> None:
    addresses = links(name)
    assert addresses
    for address in addresses:
        path, _, heading = address.partition("#")
        target = ((REPOSITORY / name).parent / path).resolve() if path else REPOSITORY / name
        assert target.exists(), address
        assert not heading or heading in slugs(target.read_text(encoding="utf-8")), address


def test_every_page_of_docs_is_linked_in_the_readme() -> None:
    assert {f"docs/{path.name}" for path in (REPOSITORY / "docs").iterdir()} <= set(links("README.md"))


def test_the_readme_is_read_in_minutes() -> None:
    assert len(README.encode()) <= 9 * 1024
    assert len(README.splitlines()) <= 130
    answer = next(part for part in GENERATED.findall(README) if part.startswith("| the post says"))
    assert 1 <= len(answer.splitlines()) - 2 <= 8
    assert README.count("![") == 1


@each_page
def test_no_page_is_long(name: str) -> None:
    assert len(TEXTS[name].splitlines()) <= 250


@each_page
def test_no_number_of_a_run_is_typed(name: str) -> None:
    assert A_RUNS_NUMBER.search("an accuracy of 0.91") and A_RUNS_NUMBER.search("91 %")
    assert {found[0] for found in A_RUNS_NUMBER.finditer(GENERATED.sub("", TEXTS[name]))} <= NOT_A_RUNS


def test_every_module_stands_in_the_tree_and_nothing_else() -> None:
    modules = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "fashion_cnn").rglob("*.py")}
    assert sorted(name for name in modules - set(TREE) if not name.endswith(("__init__.py", "__main__.py"))) == []
    assert [name for name in TREE if not (REPOSITORY / name).exists()] == []


def test_every_line_of_the_tree_says_what_its_files_own() -> None:
    assert [name for name, owns in TREE.items() if len(owns) < 5] == []


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_tree_has_the_files_to_change_for(question: str) -> None:
    (row,) = re.findall(rf"^\| {question} \| (.*) \|$", TEXTS["CONTRIBUTING.md"], re.MULTILINE)
    files = re.findall(r"\]\(([^)]+)\)", row)
    assert files and [name for name in files if name.endswith(".py") and name not in TREE] == []
    assert [name for name in files if not (REPOSITORY / name).exists()] == []


@cache
def help_of(*command: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "experiments", *command, "--help"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def test_every_command_that_is_named_exists() -> None:
    named = {name for text in TEXTS.values() for name in re.findall(r"fashion-cnn ([a-z]+)", text)}
    assert len(named) > 8
    assert [name for name in sorted(named) if not re.search(rf"^    {name} ", help_of(), re.MULTILINE)] == []


def test_every_command_is_documented() -> None:
    commands = re.findall(r"^    ([a-z]+) ", help_of(), re.MULTILINE)
    assert len(commands) > 8
    everything = "\n".join(TEXTS.values())
    assert [name for name in commands if f"fashion-cnn {name}" not in everything] == []


def test_every_study_is_described() -> None:
    assert [name for name in SCRIPTS if f"| `{name}`" not in TEXTS["docs/run.md"]] == []


@each_page
def test_every_option_of_a_command_line_exists(name: str) -> None:
    for line in shell_lines(TEXTS[name]):
        if called := re.search(r"fashion-cnn ([a-z]+)(.*)|experiments/\w+_study\.py(.*)", line):
            command, options = called[1] or "run", called[2] or called[3] or ""
            for option in re.findall(r"(?<!\S)--[a-z-]+", options):
                assert re.search(rf"{option}\b", help_of(command)), line


def test_every_make_target_that_is_named_exists() -> None:
    targets = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    named = {name for text in TEXTS.values() for name in re.findall(r"(?:`|^)make ([a-z]+)\b", text, re.MULTILINE)}
    assert len(named) > 5
    assert [name for name in named if not re.search(rf"^{name}:", targets, re.MULTILINE)] == []
