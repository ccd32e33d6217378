"""Bundles whose records no training leaves, or that state and hold what they must not: all tables, hashes and the
manifest made to fit, as a forger would who has this code.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest

from fashion_cnn.claims import Equivalent, Higher
from fashion_cnn.config import CNN
from fashion_cnn.evidence.record import PER_CLASS, Record
from fashion_cnn.evidence.selection import Selection
from fashion_cnn.evidence.tables import to_json
from fashion_cnn.review.archive import ArchiveError, unpack
from fashion_cnn.review.stated import Here
from fashion_cnn.review.verify import CANNOT_TELL, NOT_EXPECTED, verify
from fashion_cnn.study import Study
from tests.support.bundles import STUDY, Files, Tampering, files_of, first_run, packed, records, said, sealed
from tests.support.tampering import as_seed, forged, rehashed, with_artifact, with_row

RECORDS = records()


def rewritten(*changed: Record, left_out: tuple[tuple[str, int], ...] = (), study: Study = STUDY) -> bytes:
    """A bundle in which these records take the place of the ones with their ids, or are added."""
    by_id = {str(one.row["run_id"]): one for one in (*RECORDS, *changed)}
    return packed(Selection(study, list(by_id.values()), list(left_out)))


def of(arm: str, seed: int) -> Record:
    return next(one for one in RECORDS if (one.row["arm"], one.row["seed"]) == (arm, str(seed)))


def images(one: Record) -> Record:
    table = json.loads(one.artifacts[PER_CLASS])
    table["data"] = [[row[0], *(count * 10**8 for count in row[1:])] for row in table["data"]]
    return rehashed(one, per_class=table)


def commit(one: Record, text: str) -> Record:
    checkout = {"commit": text, "dirty": False, "remote": None}
    return with_row(rehashed(one, environment={"checkout": checkout}), git_commit=text)


def twice(one: Record) -> Record:
    """A config.json whose first seed is another one than the last, which Python reads."""
    return rehashed(with_artifact(one, "config.json", one.artifacts["config.json"].replace(b"{", b'{"seed": 9,', 1)))


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("forge", "told"),
    [
        (lambda: forged(of("cnn", 0), test_loss=-3.0), "test_loss, epoch 3: -3.0, but training gives a loss from 0"),
        (lambda: forged(of("cnn", 0), accuracy=1.7), "accuracy, epoch 3: 1.7, but training gives a share of 60000"),
        (lambda: forged(of("cnn", 0), 0, test_accuracy=0.98765), "test_accuracy, epoch 1: 0.98765, but training gives"),
        (lambda: forged(of("cnn", 0), 0, epoch_seconds=-1.0), "epoch_seconds, epoch 1: -1.0, but training gives"),
        (lambda: images(of("cnn", 0)), "per_class.json: 1000000000000, but training gives 10000 test images"),
        (lambda: commit(of("cnn", 0), "f" * 40), f"git_commit: '{'f' * 40}', but training gives a commit of git"),
        (lambda: with_row(of("cnn", 0), end_time=5), "end_time: 5, but training gives an end after its start"),
        (lambda: forged(of("longer", 0), 1, test_accuracy=0.5), "trajectory_sha256, epoch 2: "),
        (lambda: as_seed(of("cnn", 0), 6), f"but run {of('cnn', 0).row['run_id']} has the same with seed 0"),
        (lambda: twice(of("cnn", 0)), "artifacts.config.json: "),
    ],
)
def test_a_record_that_no_training_leaves_is_refused(forge: Callable[[], Record], told: str) -> None:
    outcome = verify(rewritten(forge()))
    assert told in said(outcome)
    assert "changed" not in said(outcome) and "claims.json" not in said(outcome)  # all else was made to fit


@pytest.mark.usefixtures("undrawn")
def test_a_run_given_as_ten_seeds_is_refused() -> None:
    copies = [as_seed(of(arm, 0), seed) for arm in STUDY.arms for seed in range(1, 10)]
    outcome = verify(packed(Selection(STUDY, [*(of(arm, 0) for arm in STUDY.arms), *copies], [])))
    assert sum("has the same with seed 0" in str(finding) for finding in outcome.findings) >= 36


@pytest.mark.usefixtures("undrawn")
def test_the_worst_seed_of_an_arm_is_missed_unless_it_is_told_that_runs_were_left_out() -> None:
    worst = min((one for one in RECORDS if one.row["arm"] == "cnn"), key=lambda one: float(one.row["test_accuracy"]))
    kept = [one for one in RECORDS if one is not worst]
    (found,) = verify(packed(Selection(STUDY, kept, [("smoke run", 2)]))).findings
    assert str(found).startswith(f"runs.csv: made_up_study lacks runs (cnn, seed {worst.row['seed']}), more than left_")
    assert verify(packed(Selection(STUDY, kept, [("not finished", 1)]))).holds


def emptied(files: Files) -> None:
    files["left_out.json"] = to_json({})


def no_reasons(files: Files) -> None:
    files["left_out.json"] = to_json({"made_up_study": {}})


def fewer(files: Files) -> None:
    files["left_out.json"] = to_json({"made_up_study": {"smoke run": -2}})


def supported_twice(files: Files) -> None:
    """The first verdict is what a person reads, the last one what Python does."""
    files["claims.json"] = files["claims.json"].replace(b'"verdict":', b'"verdict": "supported", "verdict":', 1)


def added(name: str, content: bytes) -> Tampering:
    def tamper(files: Files) -> None:
        files[name] = content

    return tamper


def in_file(name: str, before: bytes, after: bytes) -> Tampering:
    def tamper(files: Files) -> None:
        assert before in files[name]
        files[name] = files[name].replace(before, after, 1)

    return tamper


def formula(files: Files) -> None:
    run_id = first_run(files).encode()
    name = f"{run_id.decode()},"
    files["runs.csv"] = files["runs.csv"].replace(name.encode(), run_id + b",=cmd|'/c calc'!A0", 1)


SCORES = "figures/made_up_study/scores.svg"


@pytest.mark.parametrize(
    ("tamper", "told"),
    [
        pytest.param(emptied, "left_out.json: it does not name made_up_study", id="emptied left_out.json"),
        pytest.param(no_reasons, "README.txt: it does not say of the runs what", id="reasons less"),
        pytest.param(fewer, "left_out.json: it must say for each study how many", id="a count below 0"),
        pytest.param(supported_twice, "the key 'verdict' is there twice", id="a verdict twice"),
        pytest.param(
            in_file("studies.json", b'"arms"', b'"arms": {}, "arms"'), "the key 'arms' is there twice", id="arms twice"
        ),
        pytest.param(added("run.sh", b"#!/bin/sh\n"), "run.sh: it does not belong in a bundle", id="a script"),
        pytest.param(added("README.md", b"# Hello"), "README.md: it does not belong", id="another README"),
        pytest.param(added("figures/no/scores.svg", b"<svg/>"), "scores.svg: it does not belong", id="a figure more"),
        pytest.param(added("figures/made_up_study/x.html", b"<p>"), "x.html: it does not belong", id="a page more"),
        pytest.param(
            in_file("report.html", b"</body>", b"<script>alert(1)</script></body>"),
            "report.html: it would run '<script'",
            id="a page with a script",
        ),
        pytest.param(in_file("report.html", b"<h1", b"<h1 onclick='x()'"), "<h1> has onclick", id="a page that acts"),
        pytest.param(
            in_file("report.html", b"</body>", b"<img src='https://example.org/x.png'></body>"),
            "<img> leads to 'https://example.org/x.png'",
            id="a page that loads",
        ),
        pytest.param(in_file(SCORES, b"</svg>", b"<script/></svg>"), f"{SCORES}: it would run ", id="a picture"),
        pytest.param(in_file("README.txt", b"24 runs", b"240 runs"), "README.txt: it does not say of", id="a count"),
    ],
)  # fmt: skip
def test_what_does_not_belong_or_is_told_otherwise_is_refused(bundle: bytes, tamper: Tampering, told: str) -> None:
    files = files_of(bundle)
    tamper(files)
    assert told in said(verify(sealed(files)))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lambda bundle: b"#!/bin/sh\nrm -r ~\n" + bundle, id="before it"),
        pytest.param(lambda bundle: bundle + b"<script>", id="after it"),
        pytest.param(lambda bundle: bundle[:-2] + struct.pack("<H", 3) + b"abc", id="as its comment"),
    ],
)
def test_bytes_beside_the_zip_are_refused(bundle: bytes, content: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ArchiveError, match="allowed: the zip alone"):
        unpack(content(bundle))


CLAIMS = STUDY.claims


@pytest.mark.parametrize(
    ("here", "told"),
    [
        (replace(STUDY, claims=CLAIMS[:2] + CLAIMS[3:]), "claims what this checkout does not: claim Equivalent"),
        (
            replace(STUDY, claims=(*CLAIMS, Higher("accuracy", "cnn", than="dense", says="It is best."))),
            "made_up_study does not claim what this checkout does: claim Higher, says It is best.",
        ),
        (
            replace(STUDY, claims=(*CLAIMS[:2], replace(CLAIMS[2], within=0.05), *CLAIMS[3:])),  # type: ignore[arg-type]
            "within 0.05",
        ),
        (replace(STUDY, claims=(replace(CLAIMS[0], source="ours"), *CLAIMS[1:])), "source ours"),
        (replace(STUDY, arms={**STUDY.arms, "cnn": replace(CNN, epochs=4)}), "the arm 'cnn' is {"),
        (replace(STUDY, arms={**STUDY.arms, "more": CNN}), "the arm 'more' is not there; in this checkout it is {"),
    ],
)
def test_what_this_checkout_states_otherwise_is_a_failure(bundle: bytes, here: Study, told: str) -> None:
    outcome = verify(bundle, here=Here([here]))
    assert not outcome.holds and told in said(outcome)
    assert isinstance(CLAIMS[2], Equivalent) and verify(bundle, here=Here([STUDY])).holds


def test_other_words_and_studies_that_are_not_here_are_noted(bundle: bytes) -> None:
    reworded = replace(STUDY, question="Another?", claims=(replace(CLAIMS[0], note="Read this."), *CLAIMS[1:]))
    for here, told in (
        (reworded, "the question or the notes of made_up_study are not worded as"),
        (replace(STUDY, name="other_study"), "made_up_study is no study of this checkout"),
    ):
        outcome = verify(bundle, here=Here([here]))
        assert outcome.holds and told in "\n".join(outcome.notes)


@pytest.mark.parametrize("name", ["post_results.csv", "requirements.lock"])
def test_files_of_the_repository_that_it_never_had_are_refused(bundle: bytes, name: str) -> None:
    asked: list[bytes] = []

    def never(content: bytes) -> bool:
        asked.append(content)
        return False

    (found,) = verify(bundle, here=Here(own={name: never})).findings
    assert str(found).startswith(f"{name}: not this repository's") and asked == [files_of(bundle)[name]]
    assert verify(bundle, here=Here(own={name: lambda _: True})).holds


def test_a_cell_that_a_spreadsheet_would_run_is_refused(bundle: bytes) -> None:
    files = files_of(bundle)
    formula(files)
    assert "runs.csv: row 2: name is \"=cmd|'/c calc'!A0" in said(verify(sealed(files)))


def test_it_says_last_what_no_look_at_the_file_can_tell_and_asks_for_the_expected_digest(bundle: bytes) -> None:
    without = verify(bundle)
    assert str(without).splitlines()[-1] == without.cannot_tell == f"{CANNOT_TELL} {NOT_EXPECTED}"
    expected = verify(bundle, expected=hashlib.sha256(bundle).hexdigest())
    assert str(expected).splitlines()[-1] == expected.as_dict()["cannot_tell"] == CANNOT_TELL
    words = ("Nothing was trained again", "only replay proves", "fashion-cnn import FILE", "fashion-cnn replay RUN_ID")
    for word in (*words, "replay --published"):
        assert word in CANNOT_TELL
    assert "--expect SHA256" in NOT_EXPECTED


def test_a_page_and_figures_as_they_are_made_run_nothing(bundle: bytes) -> None:
    assert "report.html" in files_of(bundle) and said(verify(bundle)) == ""
    assert verify(sealed(files_of(bundle))).holds
