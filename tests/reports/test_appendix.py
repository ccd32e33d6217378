"""The artifact appendix and the history's generated parts: every claim with its command, the compute, what is stale."""

from __future__ import annotations

import csv
import io
import re
import shlex
import shutil
from argparse import Namespace
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from experiments import POST_RESULTS, RESULTS, STUDIES
from fashion_cnn.claims import NotTested
from fashion_cnn.cli import compare, review, run
from fashion_cnn.cli.actions import Commands, Project
from fashion_cnn.evidence.record import Record
from fashion_cnn.intervals import prediction_interval
from fashion_cnn.reports import publish as publishing
from fashion_cnn.reports import published as results
from fashion_cnn.reports.basis import INTERIM, PILOTS
from fashion_cnn.study import Study
from tests.support.command import REPOSITORY
from tests.support.published import SEEDS, STUDY, published, records
from tests.support.published import parts as made_of
from tests.support.tampering import with_row

Parts = dict[str, Callable[[], str]]
FIRST = 4


def parts(found: list[Record], studies: tuple[Study, ...] = STUDY, pilot: bytes = b"") -> Parts:
    return made_of(studies, found, pilot=pilot)


def rows(table: str) -> list[list[str]]:
    """The cells of a table's rows; the study's name, told once, in each."""
    lines = [line.strip("|").split(" | ") for line in table.splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in line] for line in lines]
    for above, below in pairwise(cells):
        below[0] = below[0] or above[0]
    return cells


def taken_by_the_command_line(command: str) -> Namespace:
    commands = Commands(Project(STUDIES, POST_RESULTS, RESULTS))
    for user in (run, compare, review):
        user.add_commands(commands)
    program, *words = shlex.split(command.strip("`"))
    assert program == ".venv/bin/fashion-cnn"
    return commands.parse(words)


@pytest.fixture(scope="module")
def everything() -> Parts:
    """Of all studies as they are, with three seeds."""
    return parts(records(*range(FIRST, FIRST + 3), studies=STUDIES), STUDIES)


def test_every_claim_of_every_study_stands_there_once_with_a_command_that_trains_its_arms(everything: Parts) -> None:
    found = rows(everything["claim_commands"]())
    stated = {
        (f"`{study.name}`", claim.says if isinstance(claim, NotTested) else f"{claim.says}: {claim}"): (study, claim)
        for study in STUDIES
        for claim in study.claims
    }
    assert sorted((row[0], row[1]) for row in found) == sorted(stated)
    for row in found:
        study, claim = stated[row[0], row[1]]
        options = taken_by_the_command_line(row[4])
        if isinstance(claim, NotTested):
            assert row[2] == "not tested"
            continue
        assert options.study == [study.name] and set(options.arms or study.arms) == set(claim.arms)
        assert (options.first_seed, options.seeds) == (FIRST, 3)


def test_every_study_stands_there_with_its_command_and_all_of_them_last(everything: Parts) -> None:
    *each, last = rows(everything["study_commands"]())
    assert [taken_by_the_command_line(row[3]).study for row in each] == [[study.name] for study in STUDIES]
    assert taken_by_the_command_line(last[3]).study == [] and last[0] == "all together"


def minutes(files: dict[str, bytes], column: str, *studies: str) -> float:
    """Of the published file alone: each trajectory takes as long as its longest run."""
    longest: dict[str, float] = {}
    for row in csv.DictReader(io.StringIO(files[results.RUNS].decode())):
        if not studies or row["study"] in studies:
            key = row["run_id"] if row["reuse"] == "off" else row["trajectory_sha256"]
            longest[key] = max(longest.get(key, 0.0), float(row[column]))
    return sum(longest.values()) / 60


def test_the_compute_is_the_sum_over_trainings_as_another_way_finds_it(files: dict[str, bytes]) -> None:
    made = parts(results.published_records(files))
    for row in rows(made["study_commands"]()):
        names = [] if row[0] == "all together" else [row[0].strip("`")]
        found = [f"{minutes(files, column, *names):,.1f}" for column in ("fit_cpu_seconds", "fit_seconds")]
        assert row[4:] == found
    told = re.search(r"These took ([\d.]+) hours of CPU time, and ([\d.]+) hours one after", made["compute"]())
    assert told is not None
    assert told.groups() == tuple(f"{minutes(files, column) / 60:.2f}" for column in ("fit_cpu_seconds", "fit_seconds"))


def test_a_run_without_reuse_is_a_training_of_its_own() -> None:
    alone = [with_row(one, reuse="off") if one.row["arm"] == "5 epochs" else one for one in records()]
    together, apart = (rows(parts(found)["study_commands"]())[1] for found in (records(), alone))
    assert (together[2], apart[2]) == (str(SEEDS), str(2 * SEEDS)) and float(apart[4]) > float(together[4])
    files = published(alone)
    assert apart[4] == f"{minutes(files, 'fit_cpu_seconds', 'epochs_study'):,.1f}"


def test_the_tolerance_is_that_of_as_many_other_seeds() -> None:
    found = records()
    of_arm = {
        arm: [one.row["test_accuracy"] for one in found if (one.row["study"], one.row["arm"]) == (STUDY[0].name, arm)]
        for arm in ("cnn", "dense")
    }
    differences = np.subtract(of_arm["cnn"], of_arm["dense"])
    half = float(special.stdtrit(SEEDS - 1, 0.975)) * differences.std(ddof=1) * np.sqrt(2 / SEEDS)
    low, high = (f"{differences.mean() + sign * half:+.4f}".replace("-", "\N{MINUS SIGN}") for sign in (-1, 1))
    row = rows(parts(found)["claim_commands"]())[0]
    assert row[1].endswith("test accuracy: cnn higher than dense") and row[3] == f"{low} to {high}"


def test_other_seeds_fall_where_the_tolerance_says_in_19_of_20() -> None:
    random, n = np.random.default_rng(7), 20
    inside = 0
    for _ in range(4000):
        ours, theirs = random.normal(0.01, 0.003, (2, n))
        low, high = prediction_interval(ours.mean(), ours.std(ddof=1), n, of=n)
        inside += low <= theirs.mean() <= high
    assert 0.94 < inside / 4000 < 0.96


def test_a_replay_is_expected_to_be_exact_where_the_arithmetic_is_the_same(everything: Parts) -> None:
    def expected(found: list[Record]) -> str:
        return rows(parts(found)["replay_commands"]())[1][1]

    portable = expected(records(FIRST))
    assert portable.startswith("`EXACT 2 of 2` on every x86-64 processor with AVX2 that passes `doctor`")
    assert "`EXACT 2 of 2` on an old one; elsewhere" in expected(records(FIRST, format=1, processor="an old one"))


def test_the_origin_has_a_row_for_each_commit_and_machine() -> None:
    other = [with_row(one, git_commit="f00d" * 10, workers="8") for one in records(5, 6)]
    found = rows(parts([*records(0, 1, 2), *other])["origin"]())
    assert [(row[0], row[4], row[5], row[6], row[7]) for row in found] == [
        ("`0123456789`", "2", "0 to 2", "12", "6"),
        ("`f00df00df0`", "8", "5 to 6", "8", "4"),
    ]


def test_the_pilots_verdicts_stand_beside_the_present_ones() -> None:
    first, *_ = STUDY[0].claims
    lines = [["study", "source", "says", "verdict", "n"]]
    lines += [[STUDY[0].name, "post", first.says, "a verdict", "9"], [STUDY[0].name, "ours", "Gone", "supported", "9"]]
    written = io.StringIO(newline="")
    csv.writer(written).writerows(lines)
    now = rows(parts(records(), pilot=written.getvalue().encode())["pilot"]())
    assert [row[3:] for row in now] == [["9", "a verdict", "supported"], ["9", "supported", "no longer stated so"]]
    for seeds, told in (((0, 9), "Published now are the pilot's own seeds: 0, 9."), ((10,), "Published now are other")):
        assert parts(records(*seeds))["pilot"]().startswith(told)


@pytest.mark.parametrize(
    ("seeds", "told"),
    [
        (range(10), [PILOTS]),
        (range(10, 29), [INTERIM]),
        (range(10, 30), []),
        (range(11, 31), [INTERIM, "Seeds that were not planned count, too: 30."]),
        (range(8, 30), ["Seeds that were not planned count, too: 8, 9."]),
        (range(30, 32), [INTERIM, "Seeds that were not planned count, too: 30, 31."]),
    ],
)
def test_the_pilot_a_look_before_the_end_and_seeds_that_were_not_planned_are_told_as_such(
    seeds: range, told: list[str]
) -> None:
    said = parts(records(*seeds, studies=STUDY[:1]), STUDY[:1])["basis"]()
    known = (PILOTS, INTERIM, *(each for each in told if each.startswith("Seeds that")))
    assert [words for words in known if words in said] == told
    assert ("not planned" in said) == any("not planned" in each for each in told)


def test_a_study_that_lacks_planned_seeds_makes_all_of_it_a_look_before_the_end() -> None:
    one, other = STUDY[0], STUDY[1]
    both = [*records(*range(10, 30), studies=(one,)), *records(*range(10, 22), studies=(other,))]
    assert INTERIM in parts(both, (one, other))["basis"]()


def test_an_appendix_that_is_not_what_the_published_files_give_is_found(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "appendix.md"
    page.parent.mkdir()
    names = ("claim_commands", "study_commands", "replay_commands", "compute", "hardware", "data_files")
    marks = (f'<!-- [[[cog cog.outl(part("{name}")) ]]] -->\n<!-- [[[end]]] -->\n' for name in names)
    page.write_text("".join(marks), encoding="utf-8")
    (tmp_path / "README.md").write_text("# A page\n", encoding="utf-8")
    (tmp_path / "experiments").mkdir()
    for file in (REPOSITORY / "experiments").glob("pilot*.csv"):
        shutil.copy(file, tmp_path / "experiments")
    published_now, published_before = (tmp_path / name for name in ("now", "before"))
    for folder, found in ((published_now, records()), (published_before, records(*range(SEEDS - 1)))):
        for name, content in published(found).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    publishing.write_pages(STUDY, published_now, POST_RESULTS, tmp_path)
    told = ["docs/appendix.md differs from what is published; fashion-cnn results --pages writes it"]
    assert publishing.problems(STUDY, published_now, POST_RESULTS, tmp_path) == []
    assert publishing.problems(STUDY, published_before, POST_RESULTS, tmp_path) == told
    right = page.read_text(encoding="utf-8")
    changed = re.sub(r"\d(?= hours of CPU)", lambda digit: str((int(digit[0]) + 1) % 10), right, count=1)
    page.write_text(changed, encoding="utf-8")
    assert changed != right and publishing.problems(STUDY, published_now, POST_RESULTS, tmp_path) == told


def test_the_documents_have_every_part() -> None:
    pages = [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    assert [name for name in parts(records(0)) if f'part("{name}")' not in text] == []


def test_the_parts_are_made_where_a_study_is_not_published_yet() -> None:
    made = parts(records(0, studies=STUDY[:1]))
    names = ("claim_commands", "study_commands", "replay_commands", "compute", "hardware", "data_files", "origin")
    assert all(made[name]() for name in names)
    assert "from 2 trainings" in made["compute"]()
