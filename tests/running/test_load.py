"""How busy a machine is with other things than the workers of one call."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fashion_cnn.running.load import CALL, Usage, other_load, usage

BURN = "import time\nwhile time.process_time() < 0.6: pass\nprint(flush=True)\ninput()"
TICK = 0.05  # seconds: the system counts in hundredths, and a process has several


def burnt(variables: dict[str, str], call: str) -> float:
    """The CPU seconds that `usage` takes for the call's own when a process with these variables uses 0.6."""
    before = usage(call)
    process = subprocess.Popen(
        [sys.executable, "-c", BURN], env={**os.environ, **variables}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        after = usage(call)
    finally:
        process.communicate(b"\n")
    assert before is not None and after is not None
    assert after.busy - before.busy >= 0.6 - TICK
    return after.own - before.own


def test_a_worker_of_the_same_call_is_no_other_load() -> None:
    assert burnt({CALL: "this one"}, "this one") >= 0.6 - TICK


def test_any_other_process_is() -> None:
    assert burnt({CALL: "another"}, "this one") < 0.5


def test_the_load_is_what_others_used_by_the_time_that_passed() -> None:
    assert other_load(Usage(10, 100, 40), Usage(14, 110, 44)) == pytest.approx(6 / 4)
    assert other_load(Usage(10, 100, 40), Usage(14, 104, 44.5)) == 0


def test_where_the_system_does_not_tell_it_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("fashion_cnn.running.load._PROC", tmp_path)
    assert usage() is None
    assert other_load(None, Usage(1, 1, 1)) is None and other_load(Usage(1, 1, 1), Usage(1, 1, 1)) is None
