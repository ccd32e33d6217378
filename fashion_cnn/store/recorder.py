"""The one writer: appends each event to the trajectory's folder, and a thread sends the folder to the store.

Training never waits for the store: what it does not take now is sent again later, from the folder, by the same code.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from fashion_cnn.events import CutDone, Event, Failed, Started
from fashion_cnn.store.address import StoreError
from fashion_cnn.store.connection import PATIENCE, StoreBusy, tell_waiting
from fashion_cnn.store.entries import LOST, RunEntry, RunStatus
from fashion_cnn.store.files import TrajectoryError
from fashion_cnn.store.tracking import Store
from fashion_cnn.store.trajectories import Trajectory, trajectories

HEARTBEAT = 15.0  # seconds
RETRY = 5.0  # seconds after a send that failed


class Recorder:
    """Writes what workers say into trajectories' folders and has it sent. Use it as a context manager."""

    def __init__(self, store: Store) -> None:
        """A recorder for one store."""
        self._store, self._sender, self._heart = store, _Sender(store), _Heart(store)

    def __enter__(self) -> Recorder:
        """Start sending."""
        self._sender.start()
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send what is left, if the store takes it."""
        self._sender.close()
        self._heart.close()

    @property
    def trouble(self) -> str | None:
        """Why a trajectory is not sent as it is now, or None where all are."""
        return self._sender.trouble

    def begin(self, trajectory: Trajectory, runs: Sequence[RunEntry]) -> list[RunEntry]:
        """Note runs as running and start sending; returns those finished at once, as their cut is there already."""
        for run in runs:
            trajectory.save_run(run)
        finished = self._settle(trajectory)
        self._sender.notify(trajectory)
        self._heart.watch(trajectory)
        return finished

    def take(self, trajectory: Trajectory, event: Event) -> list[RunEntry]:
        """Write an event; returns the runs that it finished or failed.

        Raises:
            TrajectoryError: the event does not continue this trajectory.
            OSError: it could not be written.
        """
        if isinstance(event, Failed):
            return self.end(trajectory, "failed", "error", event.reason, event.traceback)
        if isinstance(event, Started) and event.identity != trajectory.header.identity:
            raise TrajectoryError(
                "the worker found other code, data or environment than the plan was made for; start again"
            )
        trajectory.keep(event)
        ended = self._settle(trajectory) if isinstance(event, CutDone) else []
        self._sender.notify(trajectory)
        return ended

    def end(
        self, trajectory: Trajectory, status: RunStatus, stop_reason: str, error: str, traceback: str = ""
    ) -> list[RunEntry]:
        """Mark the runs that are still running as failed or killed; returns them."""
        ended = trajectory.end_runs(self._store.address.name, status, stop_reason, error, traceback)
        self._sender.notify(trajectory)
        return ended

    def tidy(self, trajectory: Trajectory) -> list[RunEntry]:
        """Close the runs that a dead process left running, and send what it did not; returns those that were closed."""
        name = self._store.address.name
        left = [run for run in trajectory.runs(name) if run.status == "running"]
        if not (left or self._store.unsent(trajectory)) or not trajectory.acquire():
            return []
        closed = trajectory.end_runs(name, "killed", "lost", LOST)
        self.leave(trajectory)
        return closed

    def leave(self, trajectory: Trajectory) -> None:
        """Let go of a trajectory; its lock is given up when it has been sent, so that nobody sends it as well."""
        self._heart.leave(trajectory)
        self._sender.leave(trajectory)

    def _settle(self, trajectory: Trajectory) -> list[RunEntry]:
        runs = trajectory.runs(self._store.address.name)
        losses = [line.metrics["loss"] for line in trajectory.epochs()]
        kept = trajectory.cuts()
        cuts = [(run.run_config().cut(losses), run) for run in runs if run.status == "running"]
        ready = [(cut, run) for cut, run in cuts if cut is not None and cut.epoch in kept]
        finished: list[RunEntry] = []
        # The shortest first, so that each epoch is counted as trained for one run and as reused for the others.
        for cut, run in sorted(ready, key=lambda both: both[0]):
            carried = max((other.cut or 0 for other in (*runs, *finished) if other.status == "finished"), default=0)
            run = replace(run, stop_reason=cut.reason, cut=cut.epoch, reused_epochs=min(cut.epoch, carried))
            finished.append(replace(run, status="finished", error=None))
            trajectory.save_run(finished[-1])
        return finished


def sync(store: Store) -> tuple[int, str | None]:
    """Send what was not sent of every trajectory that nobody is at; gives how many runs were, and the last error."""
    sent, trouble = 0, None
    for trajectory in trajectories(store.address.trajectories):
        # Whatever is wrong with one folder, the others are sent.
        try:
            with trajectory.held() as had:
                if not had:
                    continue
                trajectory.end_runs(store.address.name, "killed", "lost", LOST)  # whoever made them holds no lock
                waiting = len(store.unsent(trajectory))
                try:
                    store.send(trajectory)
                finally:
                    sent += waiting - len(store.unsent(trajectory))
        except (StoreError, TrajectoryError, OSError) as error:
            trouble = str(error)
    return sent, trouble


def clean(store: Store, *, dry: bool = False) -> tuple[int, int]:
    """Drop what recorded runs no longer need, where all runs of a trajectory are finished and sent.

    A `dry` call drops nothing, and gives what another would.

    Returns:
        Bytes freed, and how many trajectories were left alone.
    """
    freed = left = 0
    for trajectory in trajectories(store.address.trajectories):
        with suppress(TrajectoryError, OSError), trajectory.held() as had:
            runs = trajectory.runs()
            if had and all(run.status == "finished" and trajectory.sent(run).is_all_of(run) for run in runs):
                freed += trajectory.clean(dry=dry)
                continue
        left += 1
    return freed, left


class _Heart(threading.Thread):
    """Beats for the runs of those trajectories that are watched, however long a send takes meanwhile."""

    def __init__(self, store: Store) -> None:
        super().__init__(name="heart", daemon=True)
        self._store = store
        self._watched: frozenset[Trajectory] = frozenset()
        self._woken = threading.Event()
        self._closing = False

    def watch(self, trajectory: Trajectory) -> None:
        self._watched |= {trajectory}
        self._woken.set()

    def leave(self, trajectory: Trajectory) -> None:
        self._watched -= {trajectory}

    def close(self) -> None:
        self._closing = True
        self._woken.set()
        self.join()

    def run(self) -> None:
        while not self._closing:
            for trajectory in self._watched:
                # What is wrong is reported when the trajectory is sent.
                with suppress(Exception):
                    self._beat(trajectory)
            self._woken.wait(HEARTBEAT)
            self._woken.clear()

    def _beat(self, trajectory: Trajectory) -> None:
        for run in trajectory.runs(self._store.address.name):
            sent = trajectory.sent(run)
            if run.status == "running" and sent.run_id is not None and not sent.done and not self._closing:
                self._store.beat(sent.run_id)


class _Sender(threading.Thread):
    """Sends folders, one after another, whenever they changed."""

    def __init__(self, store: Store) -> None:
        super().__init__(name="sender", daemon=True)
        self._store = store
        self._changed = threading.Condition()
        self._due: dict[Trajectory, float] = {}
        self._leaving: set[Trajectory] = set()
        self._closing = False
        self._until = math.inf
        self._announced = False
        self._troubles: dict[Trajectory, str] = {}

    @property
    def trouble(self) -> str | None:
        with self._changed:
            return next(iter(self._troubles.values()), None)

    def notify(self, trajectory: Trajectory) -> None:
        with self._changed:
            self._due[trajectory] = 0.0
            self._changed.notify()

    def leave(self, trajectory: Trajectory) -> None:
        with self._changed:
            self._leaving.add(trajectory)
        self.notify(trajectory)

    def close(self) -> None:
        """Send what is due, then stop: each folder is tried once more, or while another program holds the database."""
        with self._changed:
            self._closing, self._until = True, time.monotonic() + PATIENCE
            self._due = dict.fromkeys(self._due, 0.0)
            self._changed.notify()
        self.join()
        for trajectory in self._leaving:
            trajectory.release()

    def run(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                ready = [trajectory for trajectory, due in self._due.items() if due <= now]
                if not ready:
                    if self._closing and not self._due:
                        return
                    self._changed.wait(min(self._due.values()) - now if self._due else None)
                    continue
                for trajectory in ready:
                    del self._due[trajectory]
            for trajectory in ready:
                self._send(trajectory)

    def _send(self, trajectory: Trajectory) -> None:
        last = self._closing  # a send that began before is tried once more
        try:
            leaving = trajectory in self._leaving
            self._store.send(trajectory)
        except Exception as error:  # whatever is wrong with one folder, the others are sent
            known = isinstance(error, (StoreError, TrajectoryError, OSError))
            with self._changed:
                self._troubles[trajectory] = str(error) if known else f"{type(error).__name__}: {error}"
                waiting = isinstance(error, StoreBusy) and time.monotonic() < self._until
                if waiting or not last:
                    soon = self._closing and not waiting
                    self._due.setdefault(trajectory, 0.0 if soon else time.monotonic() + RETRY)
                if waiting and self._closing and not self._announced:
                    tell_waiting(self._store.address)
                    self._announced = True
            return
        with self._changed:
            self._troubles.pop(trajectory, None)
        if leaving:
            self._leaving.discard(trajectory)
            trajectory.release()
