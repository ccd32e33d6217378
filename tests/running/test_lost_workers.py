"""Workers that go down with their machines, or before they start."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fashion_cnn.config import DENSE
from fashion_cnn.events import EpochDone, Job
from fashion_cnn.running.executor import Ended, ExecutorError, LocalExecutor, Place
from fashion_cnn.running.results import CallResult
from fashion_cnn.running.runner import LOSSES, run
from fashion_cnn.running.session import Options, Session
from fashion_cnn.study import Study
from tests.support.command import Lab
from tests.support.templates import shared_template


class Unlucky(LocalExecutor):
    """Its first workers go down with their machines, which are of another environment unless there are none such.

    Or the machines are gone already when a worker is to be started on them.
    """

    def __init__(self, losses: int, *, elsewhere: bool = False, gone: bool = False) -> None:
        super().__init__()
        self.losses, self.elsewhere, self.gone = losses, elsewhere, gone
        self.lost: list[object] = []

    def places(self, threads: int) -> Sequence[Place]:
        here = super().places(threads)
        if not self.elsewhere or self.losses == 0:
            return here
        return [Place({**here[0].environment, "processor": "another"}, "e" * 64, 8), *here]

    def start(self, job: Job, output: Path, environment_sha256: str | None = None) -> Any:
        if self.losses == 0:
            return super().start(job, output, environment_sha256)
        self.losses -= 1
        if self.gone:
            raise ExecutorError("the machine is gone")
        self.lost.append(object())
        return self.lost[-1]

    def events(self, timeout: float) -> Iterator[tuple[Any, Any]]:
        while self.lost:
            yield self.lost.pop(), Ended("the machine is gone", lost=True)
        yield from super().events(timeout)


class Vanishing(LocalExecutor):
    """The folder of what it trains is gone once its first epoch is over."""

    def start(self, job: Job, output: Path, environment_sha256: str | None = None) -> Any:
        self.folder = output.parent
        return super().start(job, output, environment_sha256)

    def events(self, timeout: float) -> Iterator[tuple[Any, Any]]:
        for worker, event in super().events(timeout):
            if isinstance(event, EpochDone):
                shutil.rmtree(self.folder, ignore_errors=True)
            yield worker, event


@pytest.fixture(autouse=True)
def _one_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fashion_cnn.running.executor.Template", shared_template)


@pytest.mark.fault("node-dies")
class TestAWorkerThatIsLost:
    def made(self, lab: Lab, executor: LocalExecutor, name: str, seed: int) -> tuple[CallResult, pd.DataFrame]:
        session = Session(Options(data_dir=str(lab.data), tracking_uri=lab.uri, workers=1))
        session.executor = executor
        study = Study(name, "What does a lost worker cost?", {"dense": replace(DENSE, epochs=1)})
        try:
            return run(session, session.plan([study], (), [seed])), lab.runs(name)
        finally:
            executor.stop()

    @pytest.mark.parametrize(("gone", "seed"), [(False, 0), (True, 3)], ids=["in mid-run", "before its start"])
    def test_another_takes_its_place_and_the_run_is_recorded_once(self, lab: Lab, gone: bool, seed: int) -> None:
        outcome, runs = self.made(lab, Unlucky(1, gone=gone), f"once_{seed}", seed)
        assert outcome.failed == 0 and list(runs["status"]) == ["FINISHED"]

    def test_a_trajectory_that_loses_every_worker_is_given_up(self, lab: Lab) -> None:
        executor = Unlucky(100)
        outcome, runs = self.made(lab, executor, "always", 1)
        assert outcome.failed == 1 and executor.losses == 100 - LOSSES - 1
        kept = runs[["status", "stop_reason", "error"]].to_numpy().tolist()
        assert kept == [["KILLED", "lost", "the machine is gone"]]

    def test_one_whose_folder_vanished_has_failed_and_is_told(
        self, lab: Lab, capsys: pytest.CaptureFixture[str]
    ) -> None:
        outcome, _ = self.made(lab, Vanishing(), "vanished", 5)
        assert (outcome.failed, [result.status for result in outcome.results]) == (1, ["failed"])
        assert "dense · seed 5" in (said := capsys.readouterr().err) and "trains it again" in said
        outcome, runs = self.made(lab, LocalExecutor(), "vanished", 5)
        assert outcome.failed == 0 and "FINISHED" in set(runs["status"])

    @pytest.mark.parametrize(("gone", "seed"), [(False, 2), (True, 4)], ids=["in mid-run", "before its start"])
    def test_where_no_machine_of_its_environment_is_left_it_is_trained_anew_in_another(
        self, lab: Lab, gone: bool, seed: int
    ) -> None:
        outcome, runs = self.made(lab, Unlucky(1, elsewhere=True, gone=gone), f"elsewhere_{seed}", seed)
        assert (outcome.made, outcome.failed) == (1, 0)
        assert list(runs["status"]) == ["KILLED", "FINISHED"]
        assert runs["environment_sha256"].nunique() == runs["trajectory_sha256"].nunique() == 2
