"""The timer: what it tells, and which clocks it trusts."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo
from types import SimpleNamespace

import pytest

from fashion_cnn import timing
from fashion_cnn.timing import Timer

pytestmark = pytest.mark.fault("clock")

CLOCK = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


def set_clocks(monkeypatch: pytest.MonkeyPatch, wall: list[float], cpu: list[float]) -> None:
    """Let the monotonic clocks show these seconds, one a look."""
    clocks = SimpleNamespace(perf_counter=iter(wall).__next__, process_time=iter(cpu).__next__)
    monkeypatch.setattr(timing, "time", clocks)


def test_it_tells_started_ended_and_elapsed_in_this_order() -> None:
    lines: list[str] = []
    with Timer(emit=lines.append):
        lines.append("the block")
    assert re.fullmatch(
        rf"Started: {CLOCK}\nthe block\nEnded: {CLOCK}\nElapsed: \d:\d\d:\d\d(\.\d+)?", "\n".join(lines)
    )


def test_it_prints_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    with Timer():
        pass
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["Started", "Ended", "Elapsed"]


def test_it_is_silent_without_emit_and_measures_all_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clocks(monkeypatch, [10.0, 12.5], [1.0, 1.25])
    with Timer(emit=None) as timer:
        pass
    assert (timer.seconds, timer.cpu_seconds, timer.elapsed) == (2.5, 0.25, timedelta(seconds=2.5))
    assert capsys.readouterr() == ("", "")


def test_a_block_that_raises_is_timed_and_its_exception_goes_on() -> None:
    lines: list[str] = []
    timer = Timer(emit=lines.append)
    with pytest.raises(ZeroDivisionError), timer:
        _ = 1 / 0
    assert timer.ended is not None
    assert lines[-1] == f"Elapsed: {timer.elapsed}"


def test_a_wall_clock_that_is_set_back_does_not_change_how_long_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = iter((12, 11))

    class SetBack(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> SetBack:
            return cls(2024, 5, 1, next(hours))

    monkeypatch.setattr(timing, "datetime", SetBack)
    set_clocks(monkeypatch, [100.0, 101.0], [0.0, 0.5])
    with Timer(emit=None) as timer:
        pass
    assert timer.started and timer.ended and timer.ended < timer.started
    assert timer.elapsed == timedelta(seconds=1)


def test_each_use_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clocks(monkeypatch, [0.0, 5.0, 20.0, 21.0], [0.0, 4.0, 4.0, 4.5])
    timer = Timer(emit=None)
    with timer:
        pass
    first = timer.ended
    with timer:
        assert first is not None and timer.ended is None
    assert (timer.seconds, timer.cpu_seconds) == (1.0, 0.5)


def test_the_times_are_none_before_the_first_use() -> None:
    timer = Timer(emit=None)
    assert (timer.started, timer.ended, timer.elapsed) == (None, None, timedelta(0))


def test_the_clock_times_know_their_zone() -> None:
    with Timer(emit=None) as timer:
        pass
    assert timer.started and timer.ended
    assert timer.started.tzinfo and timer.started <= timer.ended
