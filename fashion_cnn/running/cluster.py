"""The executor for many machines: one Ray task a trajectory, whose events stream back to the one recorder.

A task starts a worker on its node just as the local executor does, in a fresh process with the same variables, and
passes on what it says. So a node needs Python and the packages of the locks, but neither the store nor a shared disk:
the code comes with the task, and the data set through Ray where the node has none.

Ray places the tasks. Tasks that are lost with their node are not Ray's to repeat, for it would begin again where the
lost one began: the runner starts them again from the last state that arrived.
"""

from __future__ import annotations

import math
import os
import platform
import queue
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import chdir, suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fashion_cnn.data import FASHION_MNIST, MADE_UP_LABEL, DataError, find, load
from fashion_cnn.environment import LIBRARIES, PACKAGE, VARIABLES, fingerprint, fingerprint_sha256
from fashion_cnn.events import Event, Job, Started
from fashion_cnn.running.executor import GRACE, Ended, ExecutorError, LocalExecutor, Place

POLL = 0.5  # seconds
CONNECT = 5.0  # seconds that a cluster may take to answer at all
LOOK = 120.0  # seconds that a node may take to tell its environment; it may have to start Python first
ARRIVAL = 60.0  # seconds that an event may take from its node to here
FRESH = 5.0  # seconds for which the list of nodes is good
ABSENCE = 20.0  # seconds that the head may be away; after 60 Ray would end this process as it stands
OBJECT_STORE = 512 * 2**20  # bytes, of a cluster of our own: events pass through it
NODE_ID = "ray.io/node-id"  # the label that each node has
PACKAGES = "pip install --require-hashes -r requirements.lock -r requirements-cluster.lock"


@dataclass(frozen=True)
class _Node:
    """What is known of a node of the cluster."""

    id: str
    name: str
    cpus: int
    environment: Mapping[str, Any] = field(default_factory=dict)
    """The fingerprint of a worker of one thread there."""

    def place(self, threads: int) -> Place:
        """The node as a place for workers of so many threads."""
        environment = {**self.environment, "threads": threads}
        return Place(environment, fingerprint_sha256(environment), self.cpus // threads, (self.name,))


@dataclass(eq=False)
class Task:
    """One job on its way through the cluster."""

    nodes: frozenset[str]
    """The ids of those that it may run on."""
    events: Any
    """Ray's generator."""
    listener: threading.Thread | None = None


class RayExecutor:
    """Jobs as tasks of a Ray cluster; see `executor.Executor`. It is connected from its first use until `stop`."""

    def __init__(self, address: str | None, data_dir: Path) -> None:
        """An executor for a cluster.

        Args:
            address: of its head, as HOST:PORT, or `auto` for the one that runs on this machine. None is RAY_ADDRESS,
                and where that is not set, a cluster of this machine alone, on loopback only, that ends with `stop`.
            data_dir: the data set's folder, for nodes that do not have it.

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
        self._data_dir = data_dir
        # What the user chose here holds for every worker, as it does for local ones.
        self._variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
        self._ray: Any = None
        self._environment: Any = None
        self._relay: Any = None
        self._data: tuple[Mapping[str, str], list[Any]] | None = None
        self._head = "", 0
        self._seen_head = -math.inf
        self._answers: dict[str, Future[dict[str, Any]]] = {}
        self._alive: dict[str, _Node] = {}
        self._looked = -math.inf
        self._tasks: set[Task] = set()
        self._said: queue.Queue[tuple[Task, Event | Ended]] = queue.Queue()

    # -- where ---------------------------------------------------------------------------------------------

    def places(self, threads: int) -> Sequence[Place]:
        """The nodes that live, by environment; see `Executor.places`."""
        nodes = self._nodes().values()
        groups: dict[str, list[Place]] = {}
        for node in nodes:
            if node.cpus >= threads:
                place = node.place(threads)
                groups.setdefault(place.environment_sha256, []).append(place)
        if not nodes:
            raise ExecutorError("no node of the cluster answers; ray status tells of them")
        if not groups:
            most = max(node.cpus for node in nodes)
            raise ExecutorError(f"threads is {threads}, but no node of the cluster has more than {most} CPUs")
        return [
            replace(
                group[0],
                workers=sum(place.workers for place in group),
                machines=tuple(name for place in group for name in place.machines),
            )
            for group in groups.values()
        ]

    def _nodes(self) -> Mapping[str, _Node]:
        """The nodes that live and have CPUs, by id; those that are new are asked for their environment.

        Of those that are there at first, all must answer and have what a worker needs. Nobody waits for one that
        joins later, and one that does not answer then, or lacks something, is left out.

        Raises:
            ExecutorError: the cluster is gone, or one of its first nodes cannot be used.
        """
        ray = self._connected()
        if time.monotonic() < self._looked + FRESH or not self._sees_head():
            return self._alive
        found = [
            _Node(node["NodeID"], node["NodeManagerHostname"], int(node["Resources"].get("CPU", 0)))
            for node in ray.nodes()
            if node["Alive"]
        ]
        first = not self._answers
        for node in found:
            if node.cpus and node.id not in self._answers:
                self._answers[node.id] = self._asked(node)
        if first:
            wait(self._answers.values())
        known = [self._known(node, first) for node in found]
        self._alive = {node.id: node for node in known if node}
        self._looked = time.monotonic()
        return self._alive

    def _asked(self, node: _Node) -> Future[dict[str, Any]]:
        """A node's environment, when it answers; a thread waits for it, for Ray's calls lose a signal's exception."""
        reference = self._environment.options(label_selector=_one_of(node.id)).remote(self._variables)
        future, ray = Future[dict[str, Any]](), self._ray

        def fetch() -> None:
            try:
                future.set_result(ray.get(reference, timeout=LOOK))
            except Exception as error:
                if _is_late(error):
                    with suppress(Exception):
                        ray.cancel(reference)
                future.set_exception(error)

        threading.Thread(target=fetch, daemon=True).start()
        return future

    def _known(self, node: _Node, first: bool) -> _Node | None:
        """A node with its environment, or None where it cannot be used or has not answered yet.

        Raises:
            ExecutorError: one of the first nodes lives, but cannot be used.
        """
        answer = self._answers.get(node.id)
        if answer is None or not answer.done():
            return None
        try:
            environment = answer.result()
        except Exception as error:
            ended = _ended(error)
            if first and _is_late(error):
                raise ExecutorError(
                    f"the node {node.name} has not answered for {LOOK:.0f} seconds; see to it, or run ray stop there"
                ) from error
            if first and not ended.lost:
                raise ExecutorError(f"the node {node.name} cannot be used: {ended.error}") from error
            if ended.lost and not _is_late(error):
                del self._answers[node.id]  # where it lives all the same, it is asked again
            return None
        lacking = [name for name in LIBRARIES if environment[name] == "not installed"]
        if lacking and first:
            raise ExecutorError(f"the node {node.name} lacks {', '.join(lacking)}; there, too, run {PACKAGES}")
        return None if lacking else replace(node, environment=environment)

    def _sees_head(self) -> bool:
        """Whether the head answers now: Ray's own calls would wait for it, and in the end end this process.

        Raises:
            ExecutorError: it has not for long.
        """
        try:
            socket.create_connection(self._head, CONNECT).close()
        except OSError as error:
            self._looked = time.monotonic()
            if self._looked < self._seen_head + ABSENCE:
                return False
            host, port = self._head
            raise ExecutorError(
                f"the head of the Ray cluster at {host}:{port} is gone ({error}); once there is one again, the same "
                "command goes on from the last epoch that arrived"
            ) from None
        self._seen_head = time.monotonic()
        return True

    # -- jobs and events -----------------------------------------------------------------------------------

    def start(self, job: Job, output: Path, environment_sha256: str | None = None) -> Task:
        """Start a job on a node of this environment; what it prints stays there. See `Executor.start`."""
        ray = self._connected()
        threads = int(job.settings["threads"])
        nodes = frozenset(
            node.id
            for node in self._nodes().values()
            if node.cpus >= threads and environment_sha256 in (None, node.place(threads).environment_sha256)
        )
        if not nodes:
            raise ExecutorError("no node of the environment that this trajectory needs is left in the cluster")
        if self._data is None:
            # Within a list Ray hands on the reference: only a node that lacks the data set is to fetch it.
            self._data = load(self._data_dir).file_sha256, [ray.put(_files(self._data_dir))]
        relay = self._relay.options(num_cpus=threads, label_selector=_one_of(*nodes))
        task = Task(nodes, relay.remote(job, *self._data, self._variables))
        task.listener = threading.Thread(target=self._listen, args=(task,), daemon=True)
        self._tasks.add(task)
        task.listener.start()
        return task

    def events(self, timeout: float) -> Iterator[tuple[Task, Event | Ended]]:
        """What tasks said until now; see `Executor.events`."""
        for task in [task for task in self._tasks if not task.nodes & self._nodes().keys()]:
            # One that was still waiting for its node would wait for ever.
            self.cancel(task)
            self._said.put((task, Ended("every node that it could run on was lost", lost=True)))
        # The listeners wait for Ray, this thread for them: Ray's calls lose a signal's exception.
        with suppress(queue.Empty):
            task, event = self._said.get(timeout=timeout)
            while True:
                if task in self._tasks:
                    if isinstance(event, Ended):
                        self._tasks.remove(task)
                    yield task, event
                task, event = self._said.get_nowait()

    def cancel(self, worker: Task) -> None:
        """End one task; `events` tells when it is gone."""
        self._connected().cancel(worker.events)

    def stop(self) -> None:
        """End every task, wait for it, and let go of the cluster."""
        if self._ray is None:
            return
        until = time.monotonic() + GRACE
        for task in self._tasks:
            self.cancel(task)
        for task in self._tasks:
            if task.listener:
                task.listener.join(max(0.0, until - time.monotonic()))
        self._tasks.clear()
        # Ray ends what is left of our tasks, as it does when this process is killed.
        self._ray.shutdown()
        self._ray = self._data = None
        self._answers, self._alive, self._looked = {}, {}, -math.inf

    def _listen(self, task: Task) -> None:
        """Wait for what one task says, and pass it on."""
        ray = self._ray
        try:
            for reference in task.events:
                event = ray.get(reference, timeout=ARRIVAL)
                self._said.put((task, event))
                if isinstance(event, Ended):
                    return  # Ray may be let go of from now on
            self._said.put((task, Ended("the task ended before its worker did")))
        except Exception as error:  # whatever it is, the runner must hear of it
            if _is_late(error):
                # Slow, not gone: it would keep its CPU, and train beside the one that takes its place.
                with suppress(Exception):
                    ray.cancel(task.events)
            self._said.put((task, _ended(error)))

    # -- the cluster ---------------------------------------------------------------------------------------

    def _connected(self) -> Any:
        """Ray, connected.

        Raises:
            ExecutorError: the cluster does not answer.
        """
        if self._ray is not None:
            return self._ray
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # A listener that is late after `stop` would connect again, wait for a minute, and end this process.
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
        except Exception as error:  # many kinds; each is that the cluster is not there or another
            cluster = f"the Ray cluster at {self._address}" if self._address else "a Ray cluster of this machine"
            raise ExecutorError(f"{cluster} cannot be used: {_line(error)}") from error
        finally:
            if threading.current_thread() is threading.main_thread():
                # Ray's own would end this process with status 15.
                signal.signal(signal.SIGTERM, terminated)
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        self._head = host, int(port)
        self._environment = ray.remote(num_cpus=0)(_environment)
        self._relay = ray.remote(num_returns="streaming", max_retries=0, scheduling_strategy="SPREAD")(_relay)
        self._ray = ray
        return ray


def _one_of(*nodes: str) -> dict[str, str]:
    """What makes Ray choose one of these nodes for a task."""
    return {NODE_ID: f"in({','.join(sorted(nodes))})"}


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


def _ended(error: Exception) -> Ended:
    """How a task ended that Ray could not bring to its end."""
    from ray.exceptions import RayTaskError, RuntimeEnvSetupError, TaskCancelledError

    if isinstance(error, TaskCancelledError):
        return Ended("the task was cancelled")
    # An error of the task's own, which it would have on another node, too.
    if isinstance(error, RayTaskError | RuntimeEnvSetupError):
        return Ended(f"the task could not be done on its node: {_line(error)}")
    return Ended(f"the task was lost with its node ({type(error).__name__})", lost=True)


def _is_late(error: Exception) -> bool:
    """Whether this is Ray's own waiting that ended, and not an error of the task."""
    from ray.exceptions import GetTimeoutError

    return isinstance(error, GetTimeoutError)


def _line(error: Exception) -> str:
    """An error in one line; of a task's error the cause."""
    cause = getattr(error, "cause", None)
    text = " ".join(str(cause if isinstance(cause, Exception) else error).split())
    return text[:300] or type(error).__name__


def _files(folder: Path) -> dict[str, bytes]:
    """The data set's files by name, as they are."""
    names = (*(f"{name}.gz" for name in FASHION_MNIST.file_sha256), MADE_UP_LABEL)
    return {name: path.read_bytes() for name in names if (path := folder / name).exists()}


# -- what runs on a node -------------------------------------------------------------------------------------------


def _environment(variables: Mapping[str, str]) -> dict[str, Any]:
    """The fingerprint of a worker of one thread on this node."""
    return fingerprint(threads=1, variables={**os.environ, **variables})


def _relay(
    job: Job, file_sha256: Mapping[str, str], files: Sequence[Any], variables: Mapping[str, str]
) -> Iterator[Event | Ended]:
    """Do a job in a fresh process on this node, and pass on what it says.

    Args:
        job: its `data_dir` is the driver's.
        file_sha256: of the data set's decompressed files.
        files: the data set in Ray's object store, for a node that does not have it.
        variables: that the user set for all workers.
    """
    import ray

    os.environ.update(variables)
    node = f"{platform.node()}/{ray.get_runtime_context().get_node_id()[:8]}"
    executor = LocalExecutor(job.device)
    # Started elsewhere, the process cannot take a folder of this node's for our code.
    with tempfile.TemporaryDirectory(prefix="fashion-cnn-") as aside, chdir(aside):
        data_dir = _data_dir(job.data_dir, file_sha256, files, Path(aside))
        executor.start(replace(job, data_dir=str(data_dir)), Path(aside, "worker.log"))
        try:
            event: Event | Ended | None = None
            while not isinstance(event, Ended):
                for _, event in executor.events(POLL):
                    yield replace(event, node=node) if isinstance(event, Started) else event
        finally:
            executor.stop()


def _data_dir(given: str, file_sha256: Mapping[str, str], files: Sequence[Any], aside: Path) -> Path:
    """The folder of the data set on this node: one that it has, else a copy from Ray's object store.

    What is found must be the driver's data set to the last bit; the worker checks the copy when it loads it.
    """
    found: list[Path] = [Path(given)]
    with suppress(DataError):
        found += [folder] if (folder := find()) else []
    for folder in found:
        with suppress(DataError):
            if load(folder).file_sha256 == file_sha256:
                return folder
    import ray

    for name, content in ray.get(files[0]).items():
        (aside / name).write_bytes(content)
    return aside
