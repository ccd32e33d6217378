"""The executor for many machines: one Ray task per trajectory, whose events stream back to the one recorder.

A task starts a worker on its node just as the local executor does, in a fresh process with the same variables, and
passes on what it says. So a node needs Python and the packages of the locks, but neither the store nor a shared disk:
the code comes with the task, and the data set through Ray where the node has none.

Ray places the tasks. Tasks that are lost with their node are not Ray's to repeat, for it would begin again where the
lost one began: the runner starts them again from the last state that arrived.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from fashion_cnn.data import load
from fashion_cnn.environment import VARIABLES, Arithmetic
from fashion_cnn.events import Event, Job
from fashion_cnn.running.cluster.connection import RayConnection, ended_by, is_late, one_of
from fashion_cnn.running.cluster.nodes import Nodes
from fashion_cnn.running.cluster.relay import data_files, relay
from fashion_cnn.running.executor import GRACE, Ended, ExecutorError, Place
from fashion_cnn.running.load import CALL

ARRIVAL = 60.0  # seconds that an event may take from its node to here


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

    def __init__(self, address: str | None, data_dir: Path, arithmetic: Arithmetic | None = None) -> None:
        """An executor for a cluster.

        Args:
            address: of its head; see `RayConnection`.
            data_dir: the data set's folder, for nodes that do not have it.
            arithmetic: of the runs; see `Nodes`.

        Raises:
            ExecutorError: Ray is not installed, or the address cannot be one.
        """
        self._connection = RayConnection(address)
        self._data_dir = data_dir
        # What the user chose here holds for every worker, as it does for local ones.
        chosen = {name: os.environ[name] for name in VARIABLES if name in os.environ}
        self._variables = {**chosen, CALL: uuid4().hex}
        self._nodes = Nodes(self._connection, self._variables, arithmetic)
        self._data: tuple[Mapping[str, str], list[Any]] | None = None
        self._tasks: set[Task] = set()
        self._said: queue.Queue[tuple[Task, Event | Ended]] = queue.Queue()

    def places(self, threads: int) -> Sequence[Place]:
        """The nodes that live, by environment; see `Executor.places`."""
        nodes = self._nodes.alive().values()
        groups: dict[str, list[Place]] = {}
        for node in nodes:
            if node.cpus >= threads:
                place = node.place(threads)
                groups.setdefault(place.environment_sha256, []).append(place)
        if not nodes:
            left_out = "; ".join(f"{name}: {why}" for name, why in self.left_out.items())
            raise ExecutorError(
                f"no node of the cluster can train in the portable arithmetic ({left_out}); use --arithmetic native"
                if left_out
                else "no node of the cluster answers; ray status tells of them"
            )
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

    @property
    def left_out(self) -> Mapping[str, str]:
        """The nodes that would give other bits than the others, by name, and why."""
        return self._nodes.left_out

    def prepare(self) -> None:
        """Nothing: a node's workers are started afresh. See `Executor.prepare`."""

    def start(self, job: Job, output: Path, environment_sha256: str | None = None) -> Task:
        """Start a job on a node of this environment; what it prints stays there. See `Executor.start`."""
        ray = self._connection.ray
        threads = int(job.settings["threads"])
        nodes = frozenset(
            node.id
            for node in self._nodes.alive().values()
            if node.cpus >= threads and environment_sha256 in (None, node.place(threads).environment_sha256)
        )
        if not nodes:
            raise ExecutorError("no node of the environment that this trajectory needs is left in the cluster")
        if self._data is None:
            # Within a list Ray hands on the reference: only a node that lacks the data set is to fetch it.
            self._data = load(self._data_dir).file_sha256, [ray.put(data_files(self._data_dir))]
        remote = ray.remote(
            num_returns="streaming",
            max_retries=0,
            scheduling_strategy="SPREAD",
            num_cpus=threads,
            label_selector=one_of(*nodes),
        )(relay)
        task = Task(nodes, remote.remote(job, *self._data, self._variables))
        task.listener = threading.Thread(target=self._listen, args=(ray, task), daemon=True)
        self._tasks.add(task)
        task.listener.start()
        return task

    def events(self, timeout: float) -> Iterator[tuple[Task, Event | Ended]]:
        """What tasks said until now; see `Executor.events`."""
        for task in [task for task in self._tasks if not task.nodes & self._nodes.alive().keys()]:
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
        self._connection.ray.cancel(worker.events)

    def stop(self) -> None:
        """End every task, wait for it, and let go of the cluster."""
        if not self._connection.is_open:
            return
        until = time.monotonic() + GRACE
        for task in self._tasks:
            self.cancel(task)
        for task in self._tasks:
            if task.listener:
                task.listener.join(max(0.0, until - time.monotonic()))
        self._tasks.clear()
        self._connection.close()
        self._data = None
        self._nodes.forget()

    def _listen(self, ray: Any, task: Task) -> None:
        """Wait for what one task says, and pass it on."""
        try:
            for reference in task.events:
                event = ray.get(reference, timeout=ARRIVAL)
                self._said.put((task, event))
                if isinstance(event, Ended):
                    return  # the connection may be closed from now on
            self._said.put((task, Ended("the task ended before its worker did")))
        except Exception as error:  # whatever it is, the runner must hear of it
            if is_late(error):
                # Slow, not gone: it would keep its CPU, and train beside the one that takes its place.
                with suppress(Exception):
                    ray.cancel(task.events)
            self._said.put((task, ended_by(error)))
