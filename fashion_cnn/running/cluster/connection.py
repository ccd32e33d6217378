"""The connection to a Ray cluster: making it, noticing that its head is gone, and what Ray's errors mean."""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
import time
from importlib.util import find_spec
from typing import Any

from fashion_cnn.running.executor import Ended, ExecutorError
from fashion_cnn.sources import PACKAGE

CONNECT = 5.0  # seconds that a cluster may take to answer at all
ABSENCE = 20.0  # seconds that the head may be away; after 60 Ray would end this process as it stands
OBJECT_STORE = 512 * 2**20  # bytes, of a cluster of our own: events pass through it
NODE_ID = "ray.io/node-id"  # the label that each node has


class RayConnection:
    """This process' connection to a cluster, from its first use until it is closed."""

    def __init__(self, address: str | None) -> None:
        """Connects to nothing yet.

        Args:
            address: of the head, as HOST:PORT, or `auto` for the one that runs on this machine. None is RAY_ADDRESS,
                and where that is not set, a cluster of this machine alone, on loopback only, that ends with `close`.

        Raises:
            ExecutorError: Ray is not installed, or the address cannot be one.
        """
        if find_spec("ray") is None:
            raise ExecutorError(
                "--executor ray needs Ray, which is not installed here: make extras installs it, "
                "or pip install '.[cluster]'"
            )
        self._address = address or os.environ.get("RAY_ADDRESS")
        if self._address and self._address != "auto":
            _check_address(self._address)
        self._ray: Any = None
        self._head = "", 0
        self._seen_head = -math.inf

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._ray is not None

    @property
    def ray(self) -> Any:
        """The module `ray`, connected.

        Raises:
            ExecutorError: the cluster does not answer.
        """
        if self._ray is None:
            self._ray = self._connect()
        return self._ray

    def close(self) -> None:
        """Let go of the cluster; Ray ends what is left of our tasks, as it does when this process is killed."""
        self._ray.shutdown()
        self._ray = None

    def head_answers(self) -> bool:
        """Whether the head answers now: Ray's own calls would wait for it, and in the end end this process.

        Raises:
            ExecutorError: it has not answered for `ABSENCE` seconds.
        """
        try:
            socket.create_connection(self._head, CONNECT).close()
        except OSError as error:
            if time.monotonic() < self._seen_head + ABSENCE:
                return False
            host, port = self._head
            raise ExecutorError(
                f"the head of the Ray cluster at {host}:{port} is gone ({error}); once there is one again, the same "
                "command goes on from the last epoch that arrived"
            ) from None
        self._seen_head = time.monotonic()
        return True

    def _connect(self) -> Any:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # A listener that is late after `close` would connect again, wait for a minute, and end this process.
        os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
        if self._address is None:
            # The only way to have Ray listen on loopback; it must be set before Ray is imported.
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        import ray

        own = {"include_dashboard": False, "object_store_memory": OBJECT_STORE} if self._address is None else {}
        terminated = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(
                self._address or "local",
                runtime_env={"py_modules": [str(PACKAGE)]},
                log_to_driver=False,
                configure_logging=False,
                logging_level="error",
                **own,
            )
        except Exception as error:  # many kinds; each means that the cluster is not there or is another kind
            cluster = f"the Ray cluster at {self._address}" if self._address else "a Ray cluster of this machine"
            raise ExecutorError(f"{cluster} cannot be used: {_line(error)}") from error
        finally:
            if threading.current_thread() is threading.main_thread():
                # Ray's own handler would end this process with status 15.
                signal.signal(signal.SIGTERM, terminated)
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        self._head = host, int(port)
        return ray


def one_of(*nodes: str) -> dict[str, str]:
    """The label selector that makes Ray choose one of these nodes, given by id, for a task."""
    return {NODE_ID: f"in({','.join(sorted(nodes))})"}


def ended_by(error: Exception) -> Ended:
    """How a task ended that Ray could not complete."""
    from ray.exceptions import RayTaskError, RuntimeEnvSetupError, TaskCancelledError

    if isinstance(error, TaskCancelledError):
        return Ended("the task was cancelled")
    # An error of the task's own, which it would have on another node, too.
    if isinstance(error, RayTaskError | RuntimeEnvSetupError):
        return Ended(f"the task could not be done on its node: {_line(error)}")
    return Ended(f"the task was lost with its node ({type(error).__name__})", lost=True)


def is_late(error: Exception) -> bool:
    """Whether an answer was not there in time, in contrast to an error of the task."""
    from ray.exceptions import GetTimeoutError

    return isinstance(error, GetTimeoutError)


def _check_address(address: str) -> None:
    """Refuse at once what Ray would try for minutes.

    Raises:
        ExecutorError: no HOST:PORT, or nobody listens there.
    """
    if "://" in address:
        raise ExecutorError(
            f"{address} is not an address that events can stream to: Ray's client protocol does not carry them; start "
            "the command on a machine of the cluster and give --address HOST:PORT or auto"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ExecutorError(f"{address!r} is no address of a Ray cluster; allowed: HOST:PORT, or auto")
    try:
        socket.create_connection((host, int(port)), CONNECT).close()
    except (OSError, OverflowError) as error:
        raise ExecutorError(
            f"no Ray cluster answers at {address} ({error}); start one there with ray start --head, or name another "
            "with --address"
        ) from None


def _line(error: Exception) -> str:
    """An error in one line; the cause, where a task raised it."""
    cause = getattr(error, "cause", None)
    text = " ".join(str(cause if isinstance(cause, Exception) else error).split())
    return text[:300] or type(error).__name__
