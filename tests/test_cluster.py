"""Past one machine, with the real parts: PostgreSQL, an MLflow server with accounts, a Ray cluster of two nodes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from fashion_cnn.evidence import contradictions, missing
from fashion_cnn.replay import SMOKE_RULES, records_of
from fashion_cnn.trajectories import Trajectory
from tests.command import Lab
from tests.made_up import write_made_up
from tests.servers import (
    ADMINISTRATOR,
    LOOPBACK,
    Cluster,
    Node,
    TrackingServer,
    is_alive,
    postgresql,
    postgresql_binaries,
    ray_cluster,
    tracking_server,
)

SMOKE = ("run", "filter_study", "--smoke")
ARMS = ("16 filters", "32 filters")
LONG = ("run", "filter_study", "--arms", *ARMS, "--first-seed", 7)  # about half a second an epoch on `data`
PATIENCE = 60_000  # ms


@dataclass(frozen=True)
class Team:
    """What a team has besides its members' machines."""

    server: TrackingServer
    cluster: Cluster


@dataclass(frozen=True)
class Member(Lab):
    """A member's machine: its own trajectories, the team's store and cluster."""

    team: Team
    user: str = ADMINISTRATOR
    password: str | None = None

    @property
    def uri(self) -> str:
        return self.team.server.uri

    @property
    def variables(self) -> dict[str, str]:
        kept = {"FASHION_CNN_TRAJECTORIES": str(self.folder / "trajectories")}
        return {**super().variables, **self.team.server.variables(self.user, self.password), **kept, **LOOPBACK}

    def on_cluster(self, *words: object) -> tuple[object, ...]:
        return (*words, "--executor", "ray", "--address", self.team.cluster.address)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_made_up(tmp_path_factory.mktemp("data"), train=4000, test=64)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    binaries = postgresql_binaries()
    for there, name, remedy in (
        (binaries, "PostgreSQL", "apt-get install postgresql"),
        (find_spec("ray") and find_spec("psycopg"), "the extras", "make extras"),
    ):
        if not there:
            assert "CI" not in os.environ, f"CI must install {name}"
            pytest.skip(f"not on this machine: {name}; {remedy}")
    assert binaries

    @contextmanager
    def served() -> Iterator[TrackingServer]:
        folder = tmp_path_factory.mktemp("server")
        with postgresql(binaries) as database, tracking_server(database, folder) as server:
            yield server

    @contextmanager
    def clustered() -> Iterator[Cluster]:
        with tempfile.TemporaryDirectory(prefix="ray-") as folder, ray_cluster(Path(folder), nodes=2) as cluster:
            yield cluster

    with ExitStack() as stack, ThreadPoolExecutor() as pool:  # both take their time
        server, cluster = pool.submit(stack.enter_context, served()), pool.submit(stack.enter_context, clustered())
        found = Team(server.result(), cluster.result())
        with pytest.MonkeyPatch.context() as patch:
            for name, value in found.server.variables().items():
                patch.setenv(name, value)
            patch.setenv("FASHION_CNN_TRAJECTORIES", str(tmp_path_factory.mktemp("trajectories")))
            yield found


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory, data: Path, team: Team) -> Member:
    return Member(tmp_path_factory.mktemp("member"), data, team)


@pytest.fixture(scope="module")
def smoke(member: Member) -> str:
    """What was printed by a smoke study that went through all of it."""
    return member.call_process(*member.on_cluster(*SMOKE))


def wait_until(reached: Callable[[], object], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 150
    while not reached():
        assert process.poll() is None and time.monotonic() < until, "it did not get so far"
        time.sleep(0.05)


def on(lab: Lab, node: Node) -> list[Trajectory]:
    """The trajectories that were trained on a node lately, and have come through an epoch."""
    trained = [one for one in lab.trajectories() if one.epochs()]
    return [one for one in trained if (said := one.started()) and said.node.endswith(node.id[:8])]


def complaint(lab: Lab, *words: object) -> str:
    """The one line by which a command says that it cannot be done."""
    said = lab.call(*words, status=2)
    assert said.startswith("error: ") and said.count("\n") == 1
    return said


class TestASmokeStudyThroughAllOfIt:
    def test_every_record_is_finished_and_complete(self, smoke: str, member: Member) -> None:
        rows = member.runs("filter_study").to_dict("records")
        assert sorted(row["arm"] for row in rows) == ["16 filters", "32 filters", "64 filters"]
        for record in records_of(member.store(), rows):
            assert record.row["status"] == "FINISHED"
            assert missing(record, SMOKE_RULES) == [] and contradictions(record) == []

    def test_the_artifacts_went_through_the_server(self, smoke: str, member: Member) -> None:
        for row in member.runs("filter_study").to_dict("records"):
            assert row["artifact_uri"].startswith("mlflow-artifacts:")
            assert member.json_artifact(row["run_id"], "config.json")["seed"] == 0

    def test_each_record_says_on_which_node_it_was_made(self, smoke: str, member: Member) -> None:
        nodes = {row["node"].rpartition("/")[2] for row in member.runs("filter_study").to_dict("records")}
        assert nodes == {node.id[:8] for node in member.team.cluster.nodes}

    def test_a_browser_shows_the_compared_runs_to_who_has_a_password(
        self, smoke: str, member: Member, browser: Browser
    ) -> None:
        printed = member.call("ui", "filter_study")
        address = re.search(r"filter_study: 3 runs compared:\n +(\S+)", printed)
        assert address
        user = member.team.server.variables()
        login = {"username": user["MLFLOW_TRACKING_USERNAME"], "password": user["MLFLOW_TRACKING_PASSWORD"]}
        context = browser.new_context(http_credentials=login)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(address[1])
        expect(page.get_by_text("Comparing 3 Runs from 1 Experiment")).to_be_visible(timeout=PATIENCE)
        for row in member.runs("filter_study").to_dict("records"):
            expect(page.get_by_text(row["run_id"]).first).to_be_visible(timeout=PATIENCE)
        context.close()


class TestWhatTheServerRefuses:
    def test_a_wrong_password_is_told_and_not_printed(self, member: Member) -> None:
        said = complaint(replace(member, password="open sesame"), *SMOKE)
        assert "MLFLOW_TRACKING_PASSWORD" in said and "open sesame" not in said

    def test_who_may_only_read_is_told_before_anything_is_trained(
        self, smoke: str, member: Member, tmp_path: Path
    ) -> None:
        guest = replace(member, folder=tmp_path, user="guest")
        assert len(guest.runs("filter_study")) == 3  # it may read
        said = complaint(guest, *SMOKE, "--first-seed", 5)
        assert "does not allow this user" in said and "EDIT" in said
        assert not any(password in said for password in member.team.server.passwords.values())
        assert not guest.trajectories()


class TestANodeThatDies:
    def test_its_trajectories_go_on_elsewhere_and_no_run_is_recorded_twice(
        self, member: Member, data: Path, tmp_path: Path
    ) -> None:
        lab, alone = replace(member, folder=tmp_path / "member"), Lab(tmp_path / "alone", data)
        nodes = member.team.cluster.nodes
        stopped = lab.start(*lab.on_cluster(*LONG))
        wait_until(lambda: all(on(lab, node) for node in nodes), stopped)
        workers = [number for node in nodes for number in node.workers()]
        variables = [Path(f"/proc/{number}/environ").read_bytes().split(b"\0") for number in workers]
        assert len(workers) == 2 and all(b"OMP_NUM_THREADS=1" in one for one in variables)  # Ray sets it
        stopped.send_signal(signal.SIGINT)
        _, errors = stopped.communicate(timeout=60)
        assert stopped.returncode == 130 and "Traceback" not in errors
        assert not any(is_alive(number) for number in workers)
        killed = lab.runs("filter_study").query("seed == '7'")
        assert set(killed["status"]) == {"KILLED"}

        done = {one.folder: len(one.epochs()) for one in lab.trajectories()}
        again = lab.start(*lab.on_cluster(*LONG))
        doomed = nodes.pop()
        wait_until(lambda: any(done[one.folder] < len(one.epochs()) < 9 for one in on(lab, doomed)), again)
        (lost,) = on(lab, doomed)
        doomed.kill()
        _, errors = again.communicate(timeout=200)
        assert again.returncode == 0, errors
        assert "it goes on elsewhere" in errors
        finished = lab.runs("filter_study").query("seed == '7'")
        assert sorted(finished["arm"]) == sorted(ARMS) and set(finished["status"]) == {"FINISHED"}
        assert set(finished["run_id"]) == set(killed["run_id"])
        assert lost.folder in {one.folder for one in on(lab, nodes[0])}
        epochs = lab.store().epochs(list(finished["run_id"]))
        assert Counter(epochs["run_id"]) == dict.fromkeys(finished["run_id"], 10)

        alone.call(*LONG)  # on the local executor, without OMP_NUM_THREADS
        weights = finished.set_index("arm")["weights_sha256"]
        assert dict(weights) == {arm: sha256 for (_, arm, _), sha256 in alone.weights().items()}
