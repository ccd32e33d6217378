"""The loop of both training and replaying: start workers up to a limit, and pass on what they say."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Generic, TypeVar

from fashion_cnn.config import RunConfig
from fashion_cnn.events import EpochDone, Event, Job
from fashion_cnn.running.executor import POLL, Ended, Executor
from fashion_cnn.running.plan import whole_epoch
from fashion_cnn.running.progress import TrainingProgress

Waiting = TypeVar("Waiting")
Work = TypeVar("Work")


class WorkerLoop(Generic[Work]):
    """The workers that are running, what each of them works on, and a bar for each."""

    def __init__(self, executor: Executor[Any], bars: TrainingProgress) -> None:
        """A loop without workers."""
        self._executor, self._bars = executor, bars
        self._active: dict[Any, Work] = {}

    @property
    def active(self) -> Collection[Work]:
        """What is being worked on."""
        return self._active.values()

    def start(
        self, work: Work, job: Job, output: Path, *, name: str, epochs: int, environment_sha256: str | None = None
    ) -> None:
        """Start a worker; its bar has this name and this many epochs. See `Executor.start` for the rest.

        Raises:
            ExecutorError: no machine of this environment is left.
        """
        worker = self._executor.start(job, output, environment_sha256)
        self._active[worker] = work
        done, part = job.state.epoch if job.state else 0, whole_epoch(RunConfig.from_mapping(job.settings))
        self._bars.begin(worker, name, epochs, done, part)

    def cancel(self, work: Work) -> None:
        """End the worker of this work, if it has one; its `Ended` still arrives."""
        for worker, its_work in self._active.items():
            if its_work is work:
                self._executor.cancel(worker)

    def run(
        self,
        waiting: deque[Waiting],
        begin: Callable[[Waiting], bool],
        take: Callable[[Work, Event | Ended], None],
        limit: Callable[[], int],
    ) -> None:
        """Start and listen until nothing is waiting and no worker is left.

        Args:
            waiting: what is to be worked on, in order; `begin` and `take` may add to it.
            begin: starts a worker, unless there is nothing to do. What it answers False to waits for another turn.
            take: is given each event of a worker; no more come after `Ended`.
            limit: how many workers may run now.
        """
        while waiting or self._active:
            room = limit()
            for _ in range(len(waiting)):
                if len(self._active) >= room:
                    break
                if not begin(item := waiting.popleft()):
                    waiting.append(item)
            if self._active:
                self._listen(take)
            elif waiting:
                time.sleep(POLL)

    def _listen(self, take: Callable[[Work, Event | Ended], None]) -> None:
        for worker, event in self._executor.events(POLL):
            if worker not in self._active:
                continue
            work = self._active[worker]
            if isinstance(event, Ended):
                del self._active[worker]
                self._bars.end(worker)
            elif isinstance(event, EpochDone):
                self._bars.epoch(worker, event.metrics)
            take(work, event)
