"""The doctor: each thing it looks at, as it should be and otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fashion_cnn import known_answers
from fashion_cnn.environment import Choice, EnvironmentFault
from fashion_cnn.review import doctor
from fashion_cnn.review.doctor import Check, checks
from tests.support.command import Lab

NAMES = ("Python", "packages", "data set", "store", "memory", "bits")


@pytest.fixture
def look(tmp_path: Path, made_up: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Check]]:
    """Looks at this machine, without computing the known answers, and gives the checks by name."""
    monkeypatch.setattr(doctor, "choose", lambda _: Choice("portable"))
    monkeypatch.setattr(known_answers, "differing", lambda *, quick: [])
    return lambda: {check.name: check for check in checks("sqlite:///here", tmp_path / "not" / "yet", str(made_up))}


def test_a_machine_that_is_set_up_passes_but_for_made_up_data(look: Callable[[], dict[str, Check]]) -> None:
    found = look()
    assert tuple(found) == NAMES
    assert [name for name, check in found.items() if not check.holds] == ["data set"]
    assert "made up" in found["data set"].text
    assert found["store"].text.startswith("sqlite:///here; ")
    assert found["bits"].text.startswith("this machine gives the published bits")


def test_another_version_than_the_lock_s_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        "# made by a tool\nnumpy==1.0 \\\n    --hash=sha256:00\nnot-there==2 \\\n"
        "colorama==0.4 ; sys_platform == 'win32' \\\n",
        encoding="utf-8",
    )
    check = doctor._packages(lock)
    assert not check.holds
    assert "numpy is " in check.text and ", not 1.0; not-there is missing, not 2; make setup" in check.text


def test_outside_a_clone_there_is_no_lock(tmp_path: Path) -> None:
    check = doctor._packages(tmp_path / "requirements.lock")
    assert not check.holds and "no clone of the repository" in check.text


def test_a_missing_data_set_is_told_and_not_downloaded(look: Callable[[], dict[str, Check]], tmp_path: Path) -> None:
    found = {check.name: check for check in checks("", tmp_path, str(tmp_path / "empty"))}
    assert not found["data set"].holds and str(tmp_path / "empty") in found["data set"].text


def test_too_little_room_and_memory_are_told(
    look: Callable[[], dict[str, Check]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "ROOM", 2**80)
    monkeypatch.setattr(doctor, "MEMORY", 2**40)
    found = look()
    assert not found["store"].holds and not found["memory"].holds


def test_a_machine_that_answers_otherwise_names_the_problem(
    look: Callable[[], dict[str, Check]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_answers, "differing", lambda *, quick: ["64 filters"])
    bits = look()["bits"]
    assert not bits.holds and bits.text == "this machine does not give the published bits: 64 filters"


def test_a_machine_that_cannot_compute_them_says_why(
    look: Callable[[], dict[str, Check]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*, quick: bool) -> list[str]:
        raise EnvironmentFault("answers are known for tensorflow 9 only")

    monkeypatch.setattr(known_answers, "differing", fail)
    assert not look()["bits"].holds
    monkeypatch.setattr(doctor, "choose", lambda _: Choice("native", "this processor has no AVX2"))
    assert look()["bits"].text.startswith("this processor has no AVX2: this machine trains as native")


def test_the_command_prints_a_line_each_and_ends_with_1_where_one_does_not_hold(
    tmp_path: Path, made_up: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_answers, "differing", lambda *, quick: [])  # test_known_answers.py computes them
    lab = Lab(tmp_path, made_up)
    told = json.loads(lab.call("doctor", "--json", "--data-dir", made_up, status=1))["checks"]
    assert tuple(check["name"] for check in told) == NAMES
    assert not (tmp_path / "mlflow.db").exists()
