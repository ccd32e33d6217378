"""Where workers run: jobs in, events out. The local executor starts a fresh process for each job on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path

from fashion_cnn.environment import worker_variables
from fashion_cnn.events import Event, Failed, Job

GRACE = 5.0  # seconds from SIGTERM to SIGKILL


@dataclass(frozen=True)
class Ended:
    """A worker's process is gone."""

    error: str | None = None
    """Why, where it did not end well."""


@dataclass(eq=False)
class Worker:
    """One job's process."""

    process: subprocess.Popen[bytes]
    connection: Connection
    output: Path
    """What the process prints."""
    failed: bool = field(default=False)


class LocalExecutor:
    """A fresh process a job, in a session of its own, so that Ctrl-C reaches the runner alone.

    Each holds the other end of a socket and ends with it, so none outlives the runner.
    """

    def __init__(self, device: str = "cpu") -> None:
        """An executor whose workers use `cpu` or `gpu`."""
        self._device = device
        self._workers: list[Worker] = []

    def start(self, job: Job, output: Path) -> Worker:
        """Start a job.

        Args:
            job: what to do.
            output: the file that takes what the process prints.
        """
        ours, theirs = Pipe()
        with theirs, output.open("wb") as printed:
            process = subprocess.Popen(
                [sys.executable, "-m", "fashion_cnn.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                env=worker_variables(os.environ, self._device),
                start_new_session=True,
            )
        worker = Worker(process, ours, output)
        self._workers.append(worker)
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
        if status < 0:
            return Ended(f"the worker was ended by {signal.Signals(-status).name}{_hint(-status)}")
        last = worker.output.read_text(errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
        return Ended(f"the worker ended with status {status}: {last[0]}")


def _hint(number: int) -> str:
    return ", as the system does when memory runs out" if number == signal.SIGKILL else ""
