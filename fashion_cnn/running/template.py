"""A process that has imported TensorFlow and never used it: workers are forked from it, without importing it again.

`python -m fashion_cnn.running.template FD` takes orders from the socket that it inherits as file descriptor FD: a byte
with two file descriptors, a worker's connection and the file that takes what it prints. It answers with the worker's
process id, and later tells with which status it ended. When the other end closes, it ends; its workers have a
lifeline of their own.

A fork copies the calling thread only. So this process has one, and refuses to fork where it has more.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, NoReturn

MESSAGE: Final = struct.Struct("!qq")  # a process id, and what became of it
STARTED: Final = 1000  # no exit status
REFUSED: Final = 0  # no process id
LOST_STATUS: Final = -signal.SIGKILL  # of a worker whose template has died: taken for a kill, so it is tried again


class TemplateError(RuntimeError):
    """No worker can be forked: the caller starts a fresh process instead."""


class Template:
    """The template as its caller sees it. One for each set of variables; it never outlives the caller."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """Start it; it needs some seconds before it answers.

        Args:
            variables: of its process and of every worker.
        """
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "fashion_cnn.running.template", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Without these NumPy's matrix products and Arrow's memory would each start a thread.
                env={**variables, "OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"},
                start_new_session=True,
            )
        self._statuses: dict[int, int] = {}

    def fork(self, connection: int, output: int) -> Forked:
        """Fork a worker.

        Args:
            connection: file descriptor of the worker's end of its connection.
            output: of the file that takes what it prints.

        Raises:
            TemplateError: the template has died, or has threads.
        """
        try:
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
        self._control.settimeout(timeout)
        try:
            while pid not in self._statuses:
                ended, status = self._received()
                self._statuses[ended] = status
        except TimeoutError:
            return None
        except OSError:
            return LOST_STATUS
        finally:
            self._control.settimeout(None)
        return self._statuses[pid]

    def stop(self) -> None:
        """End it and wait for that."""
        self._control.close()
        self._process.wait()

    def _received(self) -> tuple[int, int]:
        content = b""
        while len(content) < MESSAGE.size:
            part = self._control.recv(MESSAGE.size - len(content))
            if not part:
                raise OSError("it closed its end")
            content += part
        pid, status = MESSAGE.unpack(content)
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
    import fashion_cnn.running.worker
    import fashion_cnn.training  # noqa: F401

    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # any handler: it makes the pipe readable
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(reading, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is control:
                    order, descriptors, *_ = socket.recv_fds(control, 1, 2)
                    if not order:
                        return
                    control.sendall(MESSAGE.pack(*_forked(control, (reading, writing), descriptors)))
                else:
                    os.read(reading, 1024)
            for pid, status in _ended():
                control.sendall(MESSAGE.pack(pid, status))


def _forked(control: socket.socket, pipe: tuple[int, int], descriptors: list[int]) -> tuple[int, int]:
    if _threads() > 1:
        for descriptor in descriptors:
            os.close(descriptor)
        return REFUSED, STARTED
    pid = os.fork()
    if pid == 0:
        control.close()
        for descriptor in pipe:
            os.close(descriptor)
        _work(*descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    return pid, STARTED


def _work(connection: int, output: int) -> NoReturn:
    """What a worker does, in its own session, and its end."""
    from fashion_cnn.running.worker import serve

    status = 1
    try:
        os.setsid()  # so that Ctrl-C reaches the caller alone
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(output, 1)
        os.dup2(output, 2)
        serve(Connection(connection))
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _ended() -> list[tuple[int, int]]:
    """The children that have ended since this was last asked, with their statuses."""
    found: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        found.append((pid, os.waitstatus_to_exitcode(status)))


def _threads() -> int:
    """How many threads this process has, also those that Python does not know."""
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return 2  # it cannot be known


if __name__ == "__main__":
    serve_forks(socket.socket(fileno=int(sys.argv[1])))
