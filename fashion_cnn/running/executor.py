"""Where workers run: jobs in, events out. The local executor has a process for each job on this machine.

The package `cluster` has the one that starts them on other machines.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar
from uuid import uuid4

from fashion_cnn.environment import (
    Arithmetic,
    EnvironmentFault,
    choose,
    cores,
    fingerprint,
    fingerprint_sha256,
    own_command,
    worker_variables,
)
from fashion_cnn.events import Event, Failed, Job, Problems
from fashion_cnn.known_answers import settled
from fashion_cnn.running.load import CALL
from fashion_cnn.running.template import Template, TemplateError

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
    note: str = field(default="", compare=False)
    """Why they do not train in the portable arithmetic, or nothing."""


Handle = TypeVar("Handle", bound=Hashable)


class Executor(Protocol[Handle]):
    """Where workers run: jobs in, events out. Each job has a process of its own, wherever that is."""

    @property
    def left_out(self) -> Mapping[str, str]:
        """Machines that would give other bits than the others and are not used, by name, and why."""
        ...

    def places(self, threads: int) -> Sequence[Place]:
        """Where workers of so many threads can run now; one entry per environment.

        Raises:
            ExecutorError: nowhere.
        """
        ...

    def prepare(self) -> None:
        """Do ahead what workers need before they start, where that takes a while; returns at once."""
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
    return 1 if device == "gpu" else max(1, cores() // threads)


class Process(Protocol):
    """A worker's process, started afresh or forked."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    def terminate(self) -> None:
        """Ask it to end."""
        ...

    def kill(self) -> None:
        """End it."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, negative for a signal.

        Raises:
            TimeoutExpired: it has not ended within the time, in seconds.
        """
        ...


class Channel(Protocol):
    """What a worker says: a connection, or what is read like one."""

    def fileno(self) -> int:
        """The file descriptor that becomes readable when there is something."""
        ...

    def recv(self) -> Any:
        """The next event.

        Raises:
            EOFError: there will be none.
        """
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


Launch = Callable[[Job, IO[bytes]], tuple[Process, Channel]]
"""Starts a job's process, given the file that takes what it prints."""


@dataclass(eq=False)
class Worker:
    """One job's process."""

    process: Process
    connection: Channel
    output: Path
    """What the process prints."""
    failed: bool = False
    """Whether it said so itself."""


class LocalExecutor:
    """A process per job, in a session of its own, so that Ctrl-C reaches the runner alone.

    It is forked from a template that has imported TensorFlow and never used it; on a GPU, and where that cannot be
    done, it is a fresh one. Each holds the other end of a socket and ends with it, so none outlives the runner.
    """

    def __init__(
        self,
        device: str = "cpu",
        arithmetic: Arithmetic | None = None,
        *,
        forks: bool = True,
        launch: Launch | None = None,
    ) -> None:
        """An executor.

        Args:
            device: of its workers, `cpu` or `gpu`.
            arithmetic: of their runs; None is the portable one where this machine can.
            forks: whether workers are forked from a template, which pays where there are several.
            launch: starts something else than a worker of this code.
        """
        self._launch = launch or self._launch_worker
        self._device, self._arithmetic, self._forks = device, arithmetic, forks
        self._call = os.environ.get(CALL) or uuid4().hex
        self._workers: list[Worker] = []
        self._places: dict[int, Place] = {}
        self._templates: dict[Arithmetic, Template] = {}
        self.left_out: Mapping[str, str] = {}

    def places(self, threads: int) -> Sequence[Place]:
        """This machine; see `Executor.places`."""
        if threads > (count := cores()):
            raise ExecutorError(f"threads is {threads}, but this machine has {count}; allowed: 1 to {count}")
        if threads not in self._places:
            choice = settled(self._arithmetic, threads=threads, device=self._device, solve=self._solve)
            environment = fingerprint(threads, self._device, choice.arithmetic)
            workers, name = default_workers(threads, self._device), platform.node()
            self._places[threads] = Place(environment, fingerprint_sha256(environment), workers, (name,), choice.reason)
        return [self._places[threads]]

    def prepare(self) -> None:
        """Start the template that workers are forked from; see `Executor.prepare`."""
        with suppress(TemplateError, EnvironmentFault):  # the latter is told by `places`
            self._template(choose(self._arithmetic, device=self._device).arithmetic)

    def _solve(self, names: Sequence[str]) -> Mapping[str, str]:
        """Have a worker solve problems; see `known_answers.Solve`."""
        with tempfile.TemporaryFile() as printed:
            process, connection = self._launch_worker(Problems(tuple(names)), printed)
            try:
                said: Any = connection.recv()
            except (EOFError, OSError):
                said = Failed("the worker ended before it had")
            finally:
                connection.close()
                process.wait()
        if isinstance(said, Failed):
            raise EnvironmentFault(f"the known answers could not be computed: {said.reason}")
        answers: Mapping[str, str] = said
        return answers

    def start(self, job: Job, output: Path, environment_sha256: str | None = None) -> Worker:
        """Start a job on this machine; see `Executor.start`."""
        with output.open("wb") as printed:
            process, connection = self._launch(job, printed)
        worker = Worker(process, connection, output)
        self._workers.append(worker)
        return worker

    def _launch_worker(self, job: Job | Problems, printed: IO[bytes]) -> tuple[Process, Channel]:
        """Fork a worker, or start a fresh one, and give it its job."""
        ours, theirs = Pipe()
        with theirs:
            try:
                process: Process = self._template(job.arithmetic).fork(theirs.fileno(), printed.fileno())
            except TemplateError:
                process = subprocess.Popen(
                    own_command("fashion_cnn.running.worker", str(theirs.fileno())),
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=printed,
                    env=self._variables(job.arithmetic),
                    start_new_session=True,
                )
        with suppress(OSError):  # the process is gone already: `events` tells how it ended
            ours.send(job)
        return process, ours

    def _template(self, arithmetic: Arithmetic) -> Template:
        """What workers of an arithmetic are forked from.

        Raises:
            TemplateError: a GPU's driver does not outlive a fork, or this system cannot fork from another process.
        """
        if not self._forks or self._device != "cpu" or sys.platform != "linux":
            raise TemplateError("workers are not forked here")
        if arithmetic not in self._templates:
            self._templates[arithmetic] = Template(self._variables(arithmetic))
        return self._templates[arithmetic]

    def _variables(self, arithmetic: Arithmetic) -> dict[str, str]:
        """Of a worker's process."""
        return {**worker_variables(os.environ, self._device, arithmetic), CALL: self._call}

    def events(self, timeout: float) -> Iterator[tuple[Worker, Event | Ended]]:
        """What workers said until now; waits up to `timeout` seconds for something."""
        channels: list[Any] = [worker.connection for worker in self._workers]
        ready = wait(channels, timeout)
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
        for template in self._templates.values():
            template.stop()
        self._templates.clear()

    def _end(self, worker: Worker) -> Ended:
        self._workers.remove(worker)
        worker.connection.close()
        status = worker.process.wait()
        if status == 0 or worker.failed:
            return Ended()
        if -status == signal.SIGKILL:
            return Ended("the worker was ended by SIGKILL, as the system does when memory runs out", by_signal=True)
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        last = ["it printed nothing"]
        with suppress(OSError):  # its folder is gone
            last = worker.output.read_text(errors="replace").strip().splitlines()[-1:] or last
        return Ended(f"the worker was ended {how}: {last[0]}", by_signal=status < 0)
