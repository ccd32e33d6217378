"""A signal that asks to stop: nothing on its way takes it for a fault of its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fashion_cnn.cli.actions import guarded
from fashion_cnn.signals import Stopped, stoppable
from fashion_cnn.store import direct
from tests.support.scripted import open_store

pytestmark = pytest.mark.fault("signal")


def test_a_signal_while_the_store_is_asked_is_no_error_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    monkeypatch.setattr(direct, "experiments", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped, match=r"^stopped by SIGTERM; all is well$"), stoppable("all is well"):
        store.runs(["baseline_study"])


@pytest.mark.parametrize("debug", [False, True])
def test_a_signal_decides_the_status_whether_or_not_tracebacks_are_asked_for(
    capfd: pytest.CaptureFixture[str], debug: bool
) -> None:
    def action() -> int:
        with stoppable("all is well"):
            os.kill(os.getpid(), signal.SIGTERM)
        return 0

    assert guarded(action, debug) == 143
    assert capfd.readouterr().err == "stopped by SIGTERM; all is well\n"
