"""The nodes of a cluster and the environment of each."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from fashion_cnn.environment import LIBRARIES, Arithmetic, fingerprint_sha256
from fashion_cnn.running.cluster.connection import RayConnection, ended_by, is_late, one_of
from fashion_cnn.running.cluster.relay import node_environment
from fashion_cnn.running.executor import ExecutorError, Place

LOOK = 120.0  # seconds that a node may take to tell its environment; it may have to start Python first
FRESH = 5.0  # seconds for which the list of nodes is good
PACKAGES = "pip install --require-hashes -r requirements.lock -r requirements-cluster.lock"


@dataclass(frozen=True)
class Node:
    """What is known of a node of the cluster."""

    id: str
    name: str
    cpus: int
    environment: Mapping[str, Any] = field(default_factory=dict)
    """The fingerprint of a worker of one thread there."""
    many: Mapping[str, Any] = field(default_factory=dict)
    """That of a worker of more threads."""
    note: str = ""
    """Why the first is not portable."""

    def place(self, threads: int) -> Place:
        """The node as a place for workers of so many threads."""
        environment = {**(self.environment if threads == 1 else self.many), "threads": threads}
        return Place(environment, fingerprint_sha256(environment), self.cpus // threads, (self.name,), self.note)


class Nodes:
    """Asks each node for its environment, once, and keeps the list of those that can be used."""

    def __init__(self, connection: RayConnection, variables: Mapping[str, str], arithmetic: Arithmetic | None) -> None:
        """Nodes of a cluster.

        Args:
            connection: to it.
            variables: that workers get besides their own.
            arithmetic: of the runs; None is the portable one, for those nodes that can, if any can.
        """
        self._connection, self._variables, self._arithmetic = connection, variables, arithmetic
        self.left_out: dict[str, str] = {}
        """The nodes that do not give the bits of the others, by name, and why."""
        self.forget()

    def forget(self) -> None:
        """Ask all of them again, the next time."""
        self._answers: dict[str, Future[dict[str, Any]]] = {}
        self._alive: dict[str, Node] = {}
        self._looked = -math.inf

    def alive(self) -> Mapping[str, Node]:
        """The nodes that live, have CPUs and can be used, by id; at most `FRESH` seconds old.

        Of those that are there at first, all must answer and have what a worker needs. Nobody waits for one that
        joins later, and one that does not answer then, or lacks something, is left out.

        Raises:
            ExecutorError: the cluster is gone, or one of its first nodes cannot be used.
        """
        ray = self._connection.ray
        if time.monotonic() < self._looked + FRESH:
            return self._alive
        if self._connection.head_answers():
            nodes = [
                Node(node["NodeID"], node["NodeManagerHostname"], int(node["Resources"].get("CPU", 0)))
                for node in ray.nodes()
                if node["Alive"]
            ]
            first = not self._answers
            for node in nodes:
                if node.cpus and node.id not in self._answers:
                    self._answers[node.id] = self._ask(node)
            if first:
                wait(self._answers.values())
            known = [node for node in (self._known(node, first) for node in nodes) if node]
            self._alive = {node.id: node for node in self._alike(known)}
        self._looked = time.monotonic()
        return self._alive

    def _alike(self, nodes: Sequence[Node]) -> list[Node]:
        """The nodes that train in the arithmetic of this call: the portable ones, where there are any."""
        portable = [node for node in nodes if node.environment["arithmetic"] == "portable"]
        if self._arithmetic == "native" or not (portable or self._arithmetic == "portable"):
            return list(nodes)
        self.left_out |= {node.name: node.note for node in nodes if node not in portable}
        return portable

    def _ask(self, node: Node) -> Future[dict[str, Any]]:
        """A node's environment, when it answers; a thread waits for it, for Ray's calls lose a signal's exception."""
        ray, future = self._connection.ray, Future[dict[str, Any]]()
        task = ray.remote(num_cpus=0, label_selector=one_of(node.id))(node_environment)
        reference = task.remote(self._variables, self._arithmetic)

        def fetch() -> None:
            try:
                future.set_result(ray.get(reference, timeout=LOOK))
            except Exception as error:
                if is_late(error):
                    with suppress(Exception):
                        ray.cancel(reference)
                future.set_exception(error)

        threading.Thread(target=fetch, daemon=True).start()
        return future

    def _known(self, node: Node, first: bool) -> Node | None:
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
            ended = ended_by(error)
            if first and is_late(error):
                raise ExecutorError(
                    f"the node {node.name} has not answered for {LOOK:.0f} seconds; see to it, or run ray stop there"
                ) from error
            if first and not ended.lost:
                raise ExecutorError(f"the node {node.name} cannot be used: {ended.error}") from error
            if ended.lost and not is_late(error):
                del self._answers[node.id]  # where it lives all the same, it is asked again
            return None
        lacking = [name for name in LIBRARIES if environment["one"][name] == "not installed"]
        if lacking and first:
            raise ExecutorError(f"the node {node.name} lacks {', '.join(lacking)}; there, too, run {PACKAGES}")
        if lacking:
            return None
        return replace(node, environment=environment["one"], many=environment["many"], note=environment["note"])
