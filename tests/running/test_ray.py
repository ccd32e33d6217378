"""The executor of a Ray cluster, on this machine alone or with a Ray that a test plays."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fashion_cnn.environment import Arithmetic, fingerprint
from fashion_cnn.running.cluster.executor import RayExecutor, Task
from fashion_cnn.running.executor import Ended, ExecutorError
from fashion_cnn.running.progress import environment_lines
from tests.support.command import Lab
from tests.support.servers import (
    descendants,
    is_alive,
    listening,
)

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="make extras")


def test_without_an_address_a_cluster_of_this_machine_is_started_on_loopback_and_ends_with_the_call(
    data: Path, tmp_path: Path
) -> None:
    lab = Lab(tmp_path, data)
    lab.store()
    call = lab.start("train", "--model", "dense", "--epochs", 2, "--executor", "ray")
    started, heard = set[int](), set[str]()
    while call.poll() is None:
        started.update(descendants(call.pid))
        heard.update(*(listening(number) for number in {call.pid, *started}))
        time.sleep(0.4)
    printed, errors = call.communicate()
    assert call.returncode == 0, f"{printed}\n{errors}"
    (run,) = lab.runs("ad_hoc").to_dict("records")
    assert run["status"] == "FINISHED" and "/" in run["node"]
    assert started and heard == {"127.0.0.1"}
    until = time.monotonic() + 20
    while left := [number for number in started if is_alive(number)]:
        assert time.monotonic() < until, f"left behind: {left}"
        time.sleep(0.1)


class FakedNodes:
    """A Ray whose nodes answer, or not."""

    class Nodes:
        def __init__(self, *names: str, silent: str = "") -> None:
            self.names, self.silent = list(names), silent
            self.told: dict[str, tuple[Arithmetic, str]] = {}
            self.asked: list[str] = []
            self.cancelled: list[str] = []
            self.over = threading.Event()

        def nodes(self) -> list[dict[str, Any]]:
            return [
                {"NodeID": name, "NodeManagerHostname": name, "Resources": {"CPU": 1}, "Alive": True}
                for name in self.names
            ]

        def remote(self, num_cpus: int, label_selector: Mapping[str, str]) -> Any:
            (name,) = (name for name in self.names if name in str(label_selector))
            return lambda function: SimpleNamespace(remote=lambda variables, arithmetic: name)

        def get(self, reference: str, timeout: float) -> Any:
            self.asked.append(reference)
            if reference == self.silent:
                self.over.wait(timeout)
                raise import_module("ray.exceptions").GetTimeoutError
            arithmetic, note = self.told.get(reference, ("portable", ""))
            return {
                "one": fingerprint(1, arithmetic=arithmetic),
                "many": fingerprint(2, arithmetic="native"),
                "note": note,
            }

        def cancel(self, reference: str) -> None:
            self.cancelled.append(reference)

    def executor(
        self,
        nodes: Nodes,
        data: Path,
        monkeypatch: pytest.MonkeyPatch,
        patience: float,
        arithmetic: Arithmetic | None = None,
    ) -> RayExecutor:
        executor = RayExecutor(None, data, arithmetic)
        executor._connection._ray = nodes
        monkeypatch.setattr(executor._connection, "head_answers", lambda: True)
        monkeypatch.setattr("fashion_cnn.running.cluster.nodes.LOOK", patience)
        monkeypatch.setattr("fashion_cnn.running.cluster.nodes.FRESH", 0.0)
        return executor


@pytest.mark.fault("node-silent")
class TestANodeThatDoesNotAnswer(FakedNodes):
    def test_one_that_is_there_at_first_is_told_and_asked_no_more(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        nodes = self.Nodes("one", "two", silent="two")
        with pytest.raises(ExecutorError, match=r"the node two has not answered .* ray stop"):
            self.executor(nodes, data, monkeypatch, 0.1).places(threads=1)
        assert nodes.cancelled == ["two"]

    def test_nobody_waits_for_one_that_joins_later(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        nodes = self.Nodes("one", silent="two")
        executor = self.executor(nodes, data, monkeypatch, 60.0)
        assert [place.machines for place in executor.places(threads=1)] == [("one",)]
        nodes.names.append("two")
        for _ in range(3):
            assert [place.machines for place in executor.places(threads=1)] == [("one",)]
        assert nodes.asked == ["one", "two"] and not executor._nodes._answers["two"].done()
        nodes.over.set()


class TestNodesOfOtherBits(FakedNodes):
    def mixed(self, monkeypatch: pytest.MonkeyPatch, data: Path, arithmetic: Arithmetic | None) -> RayExecutor:
        nodes = self.Nodes("one", "two", "three")
        nodes.told["two"] = ("native", "this machine answers otherwise than is known: dense")
        return self.executor(nodes, data, monkeypatch, 60.0, arithmetic)

    def test_those_that_answer_as_is_known_are_one_environment_and_the_other_is_left_out_and_named(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        executor = self.mixed(monkeypatch, data, None)
        (place,) = executor.places(threads=1)
        assert place.machines == ("one", "three") and place.workers == 2
        (line,) = environment_lines(executor)
        assert line == "two: left out, because this machine answers otherwise than is known: dense"

    def test_where_none_answers_as_is_known_all_are_native(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        nodes = self.Nodes("one")
        nodes.told["one"] = ("native", "this processor has no AVX2")
        executor = self.executor(nodes, data, monkeypatch, 60.0)
        assert [place.environment["arithmetic"] for place in executor.places(threads=1)] == ["native"]
        assert list(environment_lines(executor)) == ["arithmetic: native, because this processor has no AVX2"]

    def test_where_portable_was_asked_for_that_is_an_error(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        nodes = self.Nodes("one")
        nodes.told["one"] = ("native", "this processor has no AVX2")
        with pytest.raises(ExecutorError, match=r"one: this processor has no AVX2\); use --arithmetic native"):
            self.executor(nodes, data, monkeypatch, 60.0, "portable").places(threads=1)


def test_after_its_end_nobody_listens_to_a_task_for_ray_would_connect_again_by_itself(data: Path) -> None:
    class Done:
        def get(self, reference: object, timeout: float) -> object:
            return Ended()

    executor, task = RayExecutor(None, data), Task(frozenset(), iter(["its end", "asked for after it"]))
    executor._listen(Done(), task)
    assert list(task.events) == ["asked for after it"] and executor._said.get_nowait() == (task, Ended())


@pytest.mark.fault("node-dies")
def test_a_task_whose_event_is_late_is_cancelled_before_another_takes_its_place(data: Path) -> None:
    exceptions = import_module("ray.exceptions")
    cancelled: list[object] = []

    class Slow:
        def get(self, reference: object, timeout: float) -> object:
            raise exceptions.GetTimeoutError

        def cancel(self, events: object) -> None:
            cancelled.append(events)

    executor, task = RayExecutor(None, data), Task(frozenset(), iter(["an event"]))
    executor._listen(Slow(), task)
    assert cancelled == [task.events]
    _, ended = executor._said.get_nowait()
    assert isinstance(ended, Ended) and ended.lost
