"""What the runner itself ends is never taken for something that happened to it."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from fashion_cnn.running.executor import Ended
from fashion_cnn.running.runner import _Active, _Execution
from tests.support.scripted import header_and_record, open_store

pytestmark = pytest.mark.fault("disk-full-checkpoint")


def test_a_worker_ended_for_a_full_disk_is_not_tried_again_and_the_reason_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    trajectory, run = header_and_record(store)
    trajectory.save_run(run)
    full = OSError(errno.ENOSPC, "No space left on device")
    recorder = Mock()
    recorder.take.side_effect = full
    recorder.end.side_effect = lambda of, *how: of.end_runs(store.address.name, *how, "")
    planned = Mock(runs=[Mock(arm="dense")], seed=0)
    execution = _Execution(Mock(), recorder, Mock(), 1, Mock(), ())
    active = _Active(planned, Mock(), trajectory)
    execution._active["worker"] = active
    with monkeypatch.context() as while_full:
        while_full.setattr(type(trajectory), "save_run", Mock(side_effect=full))
        execution._take("worker", object())
    (left,) = trajectory.runs()
    assert left.status == "running"  # there was no room to say more
    execution._take("worker", _ended_by_sigterm())
    (ended,) = trajectory.runs()
    assert (ended.status, ended.error) == ("failed", str(full))
    assert not execution._again
    (told,) = execution._ended.values()
    assert told[0].error == str(full)


def _ended_by_sigterm() -> Any:
    return Ended("the worker was ended by SIGTERM", by_signal=True)
