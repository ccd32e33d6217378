"""Where workers run: jobs in, events out. The local executor starts a fresh process for each job on this machine.

The package `cluster` has the one that starts them on other machines.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol, TypeVar

from fashion_cnn.environment import fingerprint, fingerprint_sha256, worker_variables
from fashion_cnn.events import Event, Failed, Job

GRACE = 5.0  # seconds from SIGTERM to SIGKILL
POLL = 0.5  # seconds that whoever listens to workers waits at a time


class ExecutorError(RuntimeError):
    """No worker can be started as asked: one line that says why and what is allowed."""


@dataclass(frozen=True)
class Ended:
    """A worker's process is gone."""

    error: str | None = None
    """Why, where it did not end well."""
    by_signal: bool = False
    """Whether a signal ended it, as the system does when memory runs out: another try may go well."""
    lost: bool = False
    """Whether it went down with its machine, by no fault of its own."""


@dataclass(frozen=True)
class Place:
    """Machines of one environment, on which workers can be started."""

    environment: Mapping[str, Any] = field(repr=False, compare=False)
    """The fingerprint of a worker there."""
    environment_sha256: str
    workers: int
    """How many fit there side by side."""
    machines: tuple[str, ...] = ()
    """Their names."""


Handle = TypeVar("Handle", bound=Hashable)


class Executor(Protocol[Handle]):
    """Where workers run: jobs in, events out. Each job has a fresh process, wherever that is."""

    def places(self, threads: int) -> Sequence[Place]:
        """Where workers of so many threads can run now; one entry per environment.

        Raises:
            ExecutorError: nowhere.
        """
        ...

    def start(self, job: Job, output: Path, environment_sha256: str | None = None) -> Handle:
        """Start a job.

        Args:
            job: what to do.
            output: the file that takes what the process prints, where it runs on this machine.
            environment_sha256: of the place to run it at; None is any.

        Raises:
            ExecutorError: no machine of this environment is left.
        """
        ...

    def events(self, timeout: float) -> Iterator[tuple[Handle, Event | Ended]]:
        """What workers said until now, those of each worker in order; waits up to `timeout` seconds for something."""
        ...

    def cancel(self, worker: Handle) -> None:
        """End one worker; `events` tells when it is gone."""
        ...

    def stop(self) -> None:
        """End every worker and wait for it."""
        ...


def default_workers(threads: int, device: str = "cpu") -> int:
    """How many runs of so many threads this machine's cores carry; a GPU carries one."""
    return 1 if device == "gpu" else max(1, len(os.sched_getaffinity(0)) // threads)


@dataclass(eq=False)
class Worker:
    """One job's process."""

    process: subprocess.Popen[bytes]
    connection: Connection
    output: Path
    """What the process prints."""
    failed: bool = False
    """Whether it said so itself."""


class LocalExecutor:
    """A fresh process per job, in a session of its own, so that Ctrl-C reaches the runner alone.

    Each holds the other end of a socket and ends with it, so none outlives the runner.
    """

    def __init__(self, device: str = "cpu") -> None:
        """An executor whose workers use `cpu` or `gpu`."""
        self._device = device
        self._workers: list[Worker] = []
        self._places: dict[int, Place] = {}

    def places(self, threads: int) -> Sequence[Place]:
        """This machine; see `Executor.places`."""
        cores = len(os.sched_getaffinity(0))
        if threads > cores:
            raise ExecutorError(f"threads is {threads}, but this machine has {cores}; allowed: 1 to {cores}")
        if threads not in self._places:
            environment = fingerprint(threads, self._device)
            workers, name = default_workers(threads, self._device), platform.node()
            self._places[threads] = Place(environment, fingerprint_sha256(environment), workers, (name,))
        return [self._places[threads]]

    def start(self, job: Job, output: Path, environment_sha256: str | None = None) -> Worker:
        """Start a job on this machine; see `Executor.start`."""
        ours, theirs = Pipe()
        with theirs, output.open("wb") as printed:
            process = subprocess.Popen(
                [sys.executable, "-m", "fashion_cnn.running.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                env=worker_variables(os.environ, self._device),
                start_new_session=True,
            )
        worker = Worker(process, ours, output)
        self._workers.append(worker)
        with suppress(OSError):  # the process is gone already: `events` tells how it ended
            ours.send(job)
        return worker

    def events(self, timeout: float) -> Iterator[tuple[Worker, Event | Ended]]:
        """What workers said until now; waits up to `timeout` seconds for something."""
        ready = wait([worker.connection for worker in self._workers], timeout)
        for worker in [worker for worker in self._workers if worker.connection in ready]:
            try:
                event: Event = worker.connection.recv()
            except (EOFError, OSError):
                yield worker, self._end(worker)
                continue
            worker.failed = worker.failed or isinstance(event, Failed)
            yield worker, event

    def cancel(self, worker: Worker) -> None:
        """End one worker; `events` tells when it is gone."""
        worker.process.terminate()

    def stop(self) -> None:
        """End every worker and wait for it."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in list(self._workers):
            try:
                worker.process.wait(GRACE)
            except subprocess.TimeoutExpired:
                worker.process.kill()
            self._end(worker)

    def _end(self, worker: Worker) -> Ended:
        self._workers.remove(worker)
        worker.connection.close()
        status = worker.process.wait()
        if status == 0 or worker.failed:
            return Ended()
        if -status == signal.SIGKILL:
            return Ended("the worker was ended by SIGKILL, as the system does when memory runs out", by_signal=True)
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        last = worker.output.read_text(errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
        return Ended(f"the worker was ended {how}: {last[0]}", by_signal=status < 0)
