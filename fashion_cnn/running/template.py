"""A process that has imported TensorFlow and never used it: workers are forked from it, without importing it again.

`python -m fashion_cnn.running.template FD` takes orders from the socket that it inherits as file descriptor FD: a byte
with two file descriptors, a worker's connection and the file that takes what it prints. It answers with the worker's
process id, and later tells with which status it ended. It ends with its caller, and its workers end with it.

A fork copies the calling thread only. So this process has one, and refuses to fork where it has more.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Final, NoReturn

from fashion_cnn.environment import own_command

MESSAGE: Final = struct.Struct("!qq")  # a process id, and what became of it
STARTED: Final = 1000  # no exit status
REFUSED: Final = 0  # no process id
LOST_STATUS: Final = -signal.SIGKILL  # of a worker whose template has died, which ended it
PR_SET_PDEATHSIG: Final = 1  # of Linux' prctl


class TemplateError(RuntimeError):
    """No worker can be forked: the caller starts a fresh process instead."""


class Template:
    """The template as its caller sees it. One for each set of variables; it never outlives the caller."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """Start it; it needs some seconds before it answers.

        Args:
            variables: of its process and of every worker.

        Raises:
            TemplateError: the system does not start it.
        """
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # keeps messages apart
        with theirs, self._closed_on_failure():
            self._process = subprocess.Popen(
                own_command("fashion_cnn.running.template", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Without these NumPy's matrix products and Arrow's memory would each start a thread.
                env={**variables, "OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"},
                start_new_session=True,
            )
        self._statuses: dict[int, int] = {}

    @contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._control.close()
            raise TemplateError(f"it cannot be started ({error})") from None

    def fork(self, connection: int, output: int) -> Forked:
        """Fork a worker.

        Args:
            connection: file descriptor of the worker's end of its connection.
            output: of the file that takes what it prints.

        Raises:
            TemplateError: the template has died, or has threads.
        """
        try:
            self._control.settimeout(None)
            socket.send_fds(self._control, [b"f"], [connection, output])
            while True:
                pid, status = self._received()
                if pid == REFUSED:
                    raise TemplateError("the template has more than one thread")
                if status == STARTED:
                    return Forked(pid, self)
                self._statuses[pid] = status
        except OSError as error:
            raise TemplateError(f"the template is gone ({error})") from None

    def status(self, pid: int, timeout: float | None) -> int | None:
        """The status with which a worker ended, negative for a signal; None where it has not within the time."""
        try:
            while pid not in self._statuses:
                self._control.settimeout(timeout)
                ended, status = self._received()
                self._statuses[ended] = status
        except (TimeoutError, BlockingIOError):  # the latter where it shall not wait at all
            return None
        except OSError:
            return LOST_STATUS
        return self._statuses[pid]

    def stop(self) -> None:
        """End it, also while it still imports, and with it whatever workers it has."""
        self._control.close()
        self._process.kill()
        self._process.wait()

    def _received(self) -> tuple[int, int]:
        message = self._control.recv(MESSAGE.size)
        if not message:
            raise OSError("it closed its end")
        pid, status = MESSAGE.unpack(message)
        return pid, status


@dataclass(frozen=True)
class Forked:
    """A forked worker's process, used as `subprocess.Popen` is."""

    pid: int
    template: Template

    def terminate(self) -> None:
        """Ask it to end."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self._send(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, negative for a signal.

        Raises:
            TimeoutExpired: it has not ended within the time, in seconds.
        """
        status = self.template.status(self.pid, timeout)
        if status is None:
            raise subprocess.TimeoutExpired(["worker"], timeout or 0.0)
        return status

    def _send(self, number: int) -> None:
        # Its id is another's only after the template has told that it ended.
        if self.template.status(self.pid, 0.0) is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def serve_forks(control: socket.socket) -> None:
    """Fork a worker for each order, until the other end closes."""
    _end_with_parent()
    import fashion_cnn.figures
    import fashion_cnn.training  # noqa: F401
    from fashion_cnn.running.worker import imported_code_sha256

    imported_code_sha256()  # what is imported here is what its workers run, though the files be changed by then
    gc.freeze()  # what stays is not looked through for garbage, so its pages are not copied by each worker

    workers: dict[int, int] = {}  # their process ids by a descriptor that becomes readable when the process ends
    while True:
        for ready in wait([control, *workers]):
            if isinstance(ready, int):
                os.close(ready)
                pid, status = os.waitpid(workers.pop(ready), 0)
                control.send(MESSAGE.pack(pid, os.waitstatus_to_exitcode(status)))
                continue
            order, descriptors, *_ = socket.recv_fds(control, 1, 2)
            if not order:
                return
            pid = _fork([control.fileno(), *workers], *descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            if pid != REFUSED:
                workers[os.pidfd_open(pid)] = pid
            control.send(MESSAGE.pack(pid, STARTED))


def _fork(ours: Sequence[int], connection: int, output: int) -> int:
    """The process id of a new worker, which does not get these descriptors of ours, or REFUSED."""
    if _threads() > 1:
        return REFUSED
    pid = os.fork()
    if pid == 0:
        try:
            for descriptor in ours:
                os.close(descriptor)
            _work(connection, output)
        finally:
            os._exit(1)
    return pid


def _work(connection: int, output: int) -> NoReturn:
    """What a worker does, in its own session, and its end."""
    from fashion_cnn.running.worker import serve

    _end_with_parent()
    os.setsid()  # so that Ctrl-C reaches the caller alone
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    status = 1
    try:
        serve(Connection(connection))
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _end_with_parent() -> None:
    """Have the system end this process with its parent, whatever it is at then."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _threads() -> int:
    """How many threads this process has, also those that Python does not know."""
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return 2  # it cannot be known


if __name__ == "__main__":
    serve_forks(socket.socket(fileno=int(sys.argv[1])))
