"""Tables fit the terminal, break no word, and claim nothing that was not measured."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from experiments import POST_RESULTS, STUDIES
from fashion_cnn.claims import MEASURES
from fashion_cnn.cli import tables
from fashion_cnn.cli.answers import run_values
from fashion_cnn.evidence.record import Record, missing
from fashion_cnn.evidence.tables import frames
from fashion_cnn.evidence.verdicts import verdicts_of
from fashion_cnn.running.plan import plan, select_runs
from fashion_cnn.running.results import CallResult, RunResult
from fashion_cnn.terminal import Grid, console, counted, show
from tests.support.recorded import record
from tests.support.screens import on_screen

SEEDS = (0, 4_294_967_295)
RECORDS = [record(study, arm, seed, minutes=0) for study in STUDIES for arm in study.arms for seed in SEEDS]
SCORES = {"loss": 0.21, "accuracy": 0.92, "test_loss": 0.28, "test_accuracy": 0.9}
RESULTS = [
    RunResult(one.row["study"], one.row["arm"], int(one.row["seed"]), "recorded", 10, 83.3, SCORES) for one in RECORDS
]


def call(results: Sequence[RunResult], made: int = 0, **changes: Any) -> CallResult:
    values = {"made": made, "failed": 0, "unsent": 0, "trouble": None, **changes}
    return CallResult(results=tuple(results), **values)


def show_plan(width: int) -> str:
    todo = plan(select_runs(STUDIES))
    return on_screen(lambda: tables.show_plan(todo, seconds_per_work=0.07, measured=False, workers=2), width)


def show_list(width: int) -> str:
    runs = [run_values(one.row) for one in RECORDS]
    return on_screen(lambda: tables.show_runs(runs, of=len(runs), as_json=False), width)


SHOWN: dict[str, Callable[[int], str]] = {
    "plan": show_plan,
    "list": show_list,
    "closing": lambda width: on_screen(lambda: tables.show_results(call(RESULTS, 3), STUDIES, 21.4), width),
}


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("name", SHOWN)
def test_a_table_fits_and_breaks_no_word(name: str, width: int) -> None:
    shown = SHOWN[name](width)
    assert max(map(len, shown.splitlines())) <= width
    words = {word for study in STUDIES for arm in study.arms for word in (study.name, *arm.split())}
    seen = re.sub("[│┃:]", " ", shown).split()
    assert words - set(seen) == set()
    if name == "list":
        assert set(seen) >= {one.row["run_id"][:8] for one in RECORDS} and "2026-11-18" in seen
        assert ("A wider terminal shows: " in shown) is (width < 100)
    if name == "closing":
        assert set(seen) >= {"0.2800", "0.9000"}


@pytest.mark.parametrize("width", [80, 100, 160])
def test_verdicts_and_the_posts_numbers_fit_and_break_no_word(width: int) -> None:
    seven = [record(study, arm, seed) for study in STUDIES for arm in study.arms for seed in range(7)]
    verdicts = verdicts_of(STUDIES, *frames(seven), POST_RESULTS.read_bytes())
    shown = on_screen(lambda: tables.show_verdicts(verdicts, {}, as_json=False), width)
    assert max(map(len, shown.splitlines())) <= width
    seen = set(re.sub("[│┃]", " ", shown).split())
    assert {word for study in STUDIES for claim in study.claims for word in claim.says.split()} <= seen
    for row in verdicts.test_results.to_dict("records"):
        assert {f"{row['study']}:", f"{row['printed']:.2f}", *MEASURES[row["measure"]].split()} <= seen
        assert f"{row['low']:.4f} to {row['high']:.4f}" in shown
    assert ("A wider terminal shows: " in shown) is (width < 100)


@pytest.mark.parametrize("width", range(63, 90))
def test_no_word_is_broken_where_a_table_just_fits(width: int) -> None:
    row = ("9bc24f21", "16 filters", "finished", "13", "10", "0.2801", "0.8988", "2928.2", "2026-11-29")
    numbers = ("seed", "epochs", "test loss", "test accuracy", "seconds", "started")
    grid = Grid(("run id", "arm", "status"), numbers, [("one", "one", [row])], optional=("seconds", "epochs"))
    shown = on_screen(lambda: show(console(), grid), width)
    assert max(map(len, shown.splitlines())) <= width
    kept = [word for place, cell in enumerate(row) for word in cell.split() if place not in (4, 7)]
    assert set(shown.split()) >= set(kept)


def test_cells_that_hold_lines_and_tabs_stay_one_line_of_cells(capsys: pytest.CaptureFixture[str]) -> None:
    show(console(), Grid(("a", "b"), ("n",), [("x", "X: heading", [("1\n2", "with\ttab", "3"), ()])], about="part"))
    assert capsys.readouterr().out == "part\ta\tb\tn\nx\t1; 2\twith tab\t3\n"


def test_the_closing_lines_tell_the_wall_time_alone_and_a_command_that_a_shell_finds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    beside = Path(sys.executable).with_name("fashion-cnn")
    assert beside.exists()
    monkeypatch.chdir(beside.parent.parent)
    monkeypatch.setenv("PATH", str(tmp_path))
    tables.show_results(call(RESULTS[:1], made=1), STUDIES, 21.4)
    time, compare = capsys.readouterr().out.splitlines()[2:]
    assert time == "1 run made in 21.4 s, from start to end of this command."
    assert compare == f"Compare them: {beside.parent.name}/fashion-cnn ui"
    monkeypatch.setenv("PATH", str(beside.parent))
    tables.show_results(call(RESULTS[:1], made=1), STUDIES, 21.4)
    assert capsys.readouterr().out.splitlines()[-1] == "Compare them: fashion-cnn ui"


def test_a_call_and_a_plan_with_nothing_to_do_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show_results(call(RESULTS[:2]), STUDIES, 0.4)
    assert "Nothing to do: all 2 runs were recorded already.\n" in capsys.readouterr().out
    runs = select_runs(STUDIES[:1])
    done = plan(runs, {run.key() for run in runs})
    tables.show_plan(done, seconds_per_work=0.07, measured=False, workers=2)
    assert capsys.readouterr().out == "Nothing to do: all 2 runs were recorded already.\n"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"smoke": "true"}, "missing: a smoke run: never counts"),
        ({"status": "RUNNING"}, "missing: it is still running: counts once it has finished"),
        ({"git_commit": None}, "missing: git_commit is missing; it must be a commit"),
        ({"workers": ""}, "missing: workers is ''; it must be the tag as text"),
    ],
)
def test_check_speaks_to_people(changes: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    one = RECORDS[0]
    one = Record({**one.row, **changes}, one.epochs, one.artifacts)
    lacks = [lack for lack in missing(one) if lack.field.startswith("row.")]
    tables.show_check(one, lacks, (), as_json=False)
    assert capsys.readouterr().out.splitlines()[0] == said


def test_things_are_counted_in_words() -> None:
    assert [counted(number, "trajectory") for number in (0, 1, 2)] == [
        "0 trajectories",
        "1 trajectory",
        "2 trajectories",
    ]
    assert [counted(number, "run") for number in (1, 2)] == ["1 run", "2 runs"]
