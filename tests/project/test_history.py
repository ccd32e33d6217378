"""What docs/history.md tells is what git has: each commit, its date, and the figures of what was thrown away."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
from typing import Any

import pytest

from tests.support.command import REPOSITORY
from tests.support.documents import GENERATED

PAGE = (REPOSITORY / "docs" / "history.md").read_text(encoding="utf-8")
COMMIT = re.compile(r"(?<![0-9a-f])[0-9a-f]{10}(?![0-9a-f])")
STATED, FIRST, INTERIM, TEN, COUNTED = "404b50685c", "42a8064ce7", "c0fab320c2", "65650af949", "93d7022200"


def git(*words: str) -> str:
    command = ["git", "-c", f"safe.directory={REPOSITORY}", "-C", str(REPOSITORY), *words]
    return subprocess.run(command, env={**os.environ, "TZ": "UTC"}, capture_output=True, text=True, check=True).stdout


@pytest.fixture(autouse=True, scope="module")
def history() -> None:
    try:
        shallow = git("rev-parse", "--is-shallow-repository").strip() == "true"
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git, or no checkout of it: nothing to compare docs/history.md with")
    if shallow:
        pytest.skip("the checkout is shallow: it lacks the commits that docs/history.md names")


def published(commit: str, name: str) -> str:
    return git("show", f"{commit}:experiments/results/{name}")


def runs(commit: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(published(commit, "runs.csv"))))


def sentences(commit: str) -> dict[tuple[str, str], dict[str, Any]]:
    studies = json.loads(published(commit, "claims.json"))["studies"]
    return {(study["study"], said["says"]): said for study in studies for said in study["sentences"]}


def test_every_commit_that_is_named_is_in_this_history() -> None:
    named = set(COMMIT.findall(PAGE))
    assert {STATED, FIRST, INTERIM, TEN, COUNTED} < named
    ancestors = {commit[:10] for commit in git("rev-list", "HEAD").split()}
    assert sorted(named - ancestors) == []
    assert re.findall(r"`[0-9a-f]{7,9}`|`[0-9a-f]{11,}`", PAGE) == []  # one form, which the test above reads


def test_commits_stand_in_order_with_their_own_dates() -> None:
    told = re.findall(r"^\| `([0-9a-f]{10})` \| (\d{4}-\d\d-\d\d \d\d:\d\d) \|", PAGE, re.MULTILINE)
    assert len(told) > 10 and [when for _, when in told] == sorted(when for _, when in told)
    for commit, when in told:
        date = git("show", "-s", "--date=format-local:%Y-%m-%d %H:%M", "--format=%cd", commit).strip()
        assert date == when, commit


def test_between_the_statements_and_ten_seeds_one_sentence_got_its_quotation_marks() -> None:
    diff = git("diff", "--unified=0", STATED, TEN, "--", "experiments/*_study.py")
    changed = [line for line in diff.splitlines() if re.match(r"[+-] ", line)]
    assert [re.sub(r"[^A-Za-z]", "", line) for line in changed] == [
        "Itisawaytostopwithoutguessingthenumberofepochs"
    ] * 2


def test_the_look_before_the_end_differs_in_the_verdict_that_is_told() -> None:
    interim, ten, counted = (sentences(commit) for commit in (INTERIM, TEN, COUNTED))
    assert [key for key in ten if ten[key]["verdict"] != counted[key]["verdict"]] == [] and ten.keys() == counted.keys()
    ((study, says),) = [key for key in ten if key in interim and interim[key]["verdict"] != ten[key]["verdict"]]
    assert study == "filter_study" and says.startswith("64 filters are as accurate as 32")
    assert (interim[study, says]["verdict"], ten[study, says]["verdict"]) == ("supported", "undecided")
    assert {part["n"] for said in interim.values() for part in said["parts"]} == {8, 9}
    assert (len(runs(INTERIM)), len(runs(TEN))) == (173, 200)
    assert f"publishes the {len(runs(INTERIM))} of these runs" in PAGE


def test_what_is_told_of_the_runs_that_were_thrown_away_is_what_their_commit_has() -> None:
    first, ten = runs(FIRST), {(row["study"], row["arm"], row["seed"]): row for row in runs(TEN)}
    longest: dict[str, dict[str, str]] = {}
    for row in sorted(first, key=lambda row: float(row["fit_cpu_seconds"])):
        longest[row["trajectory_sha256"]] = row
    cpu, wall = (sum(float(row[name]) for row in longest.values()) / 60 for name in ("fit_cpu_seconds", "fit_seconds"))
    assert (len(first), len(longest)) == (28, 10)
    assert f"ten trainings, {cpu:.0f} minutes of CPU time, {wall:.0f} one after another" in PAGE
    once = {(row["config_sha256"], row["seed"]): row for row in first}
    pairs = [(row, ten[row["study"], row["arm"], row["seed"]]) for row in once.values()]
    gains = [float(new["test_accuracy"]) - float(old["test_accuracy"]) for old, new in pairs]
    higher, lower = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    assert (
        f"({len(pairs)}, runs of" in PAGE and f"higher test accuracy in {higher} and the lower one in {lower}" in PAGE
    )
    assert not {row["weights_sha256"] for row in first} & {row["weights_sha256"] for row in ten.values()}


def test_the_pilots_verdicts_are_those_of_the_commit_that_published_them() -> None:
    with (REPOSITORY / "experiments" / "pilot_verdicts.csv").open(encoding="utf-8", newline="") as file:
        told = [tuple(row.values()) for row in csv.DictReader(file)]
    assert told == [
        (study, said["source"], says, said["verdict"], str(max((part["n"] for part in said["parts"]), default=0)))
        for (study, says), said in sentences(TEN).items()
    ]


def test_the_table_of_published_runs_is_generated() -> None:
    assert any(part.startswith("| commit | code | processor") for part in GENERATED.findall(PAGE))
