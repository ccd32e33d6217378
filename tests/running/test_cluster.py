"""Past one machine, with the real parts: PostgreSQL, an MLflow server with accounts, a Ray cluster of two nodes."""

from __future__ import annotations

import base64
import os
import re
import signal
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pandas as pd
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from playwright.sync_api import Browser, expect

from fashion_cnn.config import DENSE
from fashion_cnn.data import load
from fashion_cnn.environment import fingerprint
from fashion_cnn.events import CutDone, EpochDone, Job, Started
from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.record import EPOCH_METRICS, LIGHT, missing
from fashion_cnn.review.replay import SMOKE_RULES, records_of
from fashion_cnn.running.cluster import RayExecutor, Task
from fashion_cnn.running.executor import Ended, ExecutorError, LocalExecutor, Place
from fashion_cnn.running.runner import LOSSES, run
from fashion_cnn.running.session import Options, Outcome, Session
from fashion_cnn.store.trajectories import Trajectory
from fashion_cnn.study import Study
from tests.project.test_readme import README
from tests.support.command import Lab
from tests.support.made_up import write_made_up
from tests.support.servers import (
    GUEST,
    MEMBER,
    NAME,
    RAY_VARIABLES,
    Cluster,
    Node,
    TrackingServer,
    command_line,
    descendants,
    is_alive,
    listening,
    postgresql,
    postgresql_binaries,
    ray_cluster,
    tracking_server,
)

SMOKE = ("run", "baseline_study", "--smoke")
ARMS = ("16 filters", "32 filters")
LONG = ("run", "filter_study", "--arms", *ARMS, "--first-seed", 7)  # about half a second an epoch on `data`
PATIENCE = 60_000  # ms
T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """What a team has besides its members' machines."""

    server: TrackingServer
    strict: TrackingServer
    """Another one for the same records, where an account may only read unless it was granted more."""
    cluster: Cluster


@dataclass(frozen=True)
class Member(Lab):
    """A member's machine: its own trajectories, the team's store and cluster."""

    team: Team
    user: str = MEMBER
    password: str | None = None

    @property
    def uri(self) -> str:
        return self.team.server.uri

    @property
    def variables(self) -> dict[str, str]:
        kept = {"FASHION_CNN_TRAJECTORIES": str(self.folder / "trajectories")}
        return {**super().variables, **self.team.server.variables(self.user, self.password), **kept, **RAY_VARIABLES}

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
    def served() -> Iterator[tuple[TrackingServer, TrackingServer]]:
        one, other = tmp_path_factory.mktemp("server"), tmp_path_factory.mktemp("strict")
        with (
            postgresql(binaries) as database,
            tracking_server(database, one) as server,
            tracking_server(database, other, "READ", server.passwords) as strict,
        ):
            yield server, strict

    @contextmanager
    def clustered() -> Iterator[Cluster]:
        with tempfile.TemporaryDirectory(prefix="ray-") as folder, ray_cluster(Path(folder), nodes=2) as cluster:
            yield cluster

    with ExitStack() as stack, ThreadPoolExecutor() as pool:  # both take their time
        server, cluster = pool.submit(stack.enter_context, served()), pool.submit(stack.enter_context, clustered())
        found = Team(*server.result(), cluster.result())
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**found.server.variables(), **RAY_VARIABLES}.items():
                patch.setenv(name, value)
            patch.setenv("FASHION_CNN_TRAJECTORIES", str(tmp_path_factory.mktemp("trajectories")))
            yield found


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Lab:
    """A machine of its own."""
    return Lab(tmp_path_factory.mktemp("lab"), data)


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory, data: Path, team: Team) -> Member:
    return Member(tmp_path_factory.mktemp("member"), data, team)


@pytest.fixture(scope="module")
def smoke(member: Member) -> str:
    """What was printed by a smoke study that went through all of it."""
    return member.call_process(*member.on_cluster(*SMOKE))


def wait_until(reached: Callable[[], T], process: subprocess.Popen[str]) -> T:
    """Wait until something is true or not empty while a process runs; returns it."""
    until = time.monotonic() + 150
    while not (found := reached()):
        assert process.poll() is None and time.monotonic() < until, "it did not get so far"
        time.sleep(0.05)
    return found


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
        rows = member.runs("baseline_study").to_dict("records")
        assert sorted(row["arm"] for row in rows) == ["cnn", "dense"]
        for record in records_of(member.store(), rows):
            assert record.row["status"] == "FINISHED"
            assert missing(record, SMOKE_RULES) == [] and contradictions(record) == []

    def test_the_artifacts_went_through_the_server(self, smoke: str, member: Member) -> None:
        for row in member.runs("baseline_study").to_dict("records"):
            assert row["artifact_uri"].startswith("mlflow-artifacts:")
            assert member.json_artifact(row["run_id"], "config.json")["seed"] == 0

    def test_each_record_says_on_which_node_it_was_made(self, smoke: str, member: Member) -> None:
        nodes = {row["node"].rpartition("/")[2] for row in member.runs("baseline_study").to_dict("records")}
        assert nodes == {node.id[:8] for node in member.team.cluster.nodes}

    def test_its_epochs_come_in_one_answer_and_run_by_run_where_that_cannot_hold_them(
        self, smoke: str, member: Member, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store, ids = member.store(), list(member.runs("baseline_study")["run_id"])
        at_once = store.epochs(ids)
        assert set(at_once["run_id"]) == set(ids) and not at_once.isna().any(axis=None)
        monkeypatch.setattr("fashion_cnn.store.read.MOST", 1)
        pd.testing.assert_frame_equal(store.epochs(ids), at_once)

    def test_one_of_its_texts_that_a_run_lacks_keeps_nobody_from_reading_the_others(
        self, smoke: str, member: Member, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fashion_cnn.store.read.LIGHT", (*LIGHT, "lacking.txt"))  # as code.diff of a clean checkout
        rows = member.runs("baseline_study").to_dict("records")
        for record in records_of(member.store(), rows, whole=False):
            assert set(LIGHT) - {"code.diff"} <= set(record.artifacts) <= set(LIGHT)
            assert contradictions(record) == []

    def test_who_looks_whether_it_may_record_leaves_the_teams_words_alone(self, smoke: str, member: Member) -> None:
        store = member.store()
        experiment = store.experiment("baseline_study", "")
        store.client.set_experiment_tag(experiment, "mlflow.note.content", "as the team describes it")
        store.check_rights({"baseline_study": "another question"})
        assert store.client.get_experiment(experiment).tags["mlflow.note.content"] == "as the team describes it"

    def test_a_browser_shows_the_compared_runs_to_who_has_a_password(
        self, smoke: str, member: Member, browser: Browser
    ) -> None:
        printed = member.call("ui", "baseline_study")
        address = re.search(r"baseline_study: 2 runs compared:\n +(\S+)", printed)
        assert address
        user = member.team.server.variables()
        login = {"username": user["MLFLOW_TRACKING_USERNAME"], "password": user["MLFLOW_TRACKING_PASSWORD"]}
        context = browser.new_context(http_credentials=login)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(address[1])
        expect(page.get_by_text("Comparing 2 Runs from 1 Experiment")).to_be_visible(timeout=PATIENCE)
        for row in member.runs("baseline_study").to_dict("records"):
            expect(page.get_by_text(row["run_id"]).first).to_be_visible(timeout=PATIENCE)
        context.close()


def test_a_node_that_lacks_the_data_set_gets_it_through_rays_object_store(
    team: Team, data: Path, tmp_path: Path
) -> None:
    config = replace(DENSE, epochs=1)
    settings = config.canonical()
    job = Job(settings=settings, rules=(settings,), seed=0, data_dir="/nowhere", images=None)
    terminated = signal.getsignal(signal.SIGTERM)
    executor, events = RayExecutor(team.cluster.address, data), list[Any]()
    try:
        executor.start(job, tmp_path / "worker.log")
        while not any(isinstance(event, Ended) for event in events):
            events += [event for _, event in executor.events(1)]
    finally:
        executor.stop()
    assert [type(event) for event in events] == [Started, EpochDone, CutDone, Ended]
    assert events[0].identity.data_sha256 == load(data).sha256
    assert events[-1] == Ended()
    assert signal.getsignal(signal.SIGTERM) == terminated  # Ray's would end the process with a status of its own


class TestWhatTheServerRefuses:
    def test_a_wrong_password_is_told_and_not_printed(self, member: Member) -> None:
        said = complaint(replace(member, password="open sesame"), *SMOKE)
        assert "MLFLOW_TRACKING_PASSWORD" in said and "open sesame" not in said

    def test_who_may_only_read_is_told_before_anything_is_trained(
        self, smoke: str, member: Member, tmp_path: Path
    ) -> None:
        team = replace(member.team, server=member.team.strict)
        guest = replace(member, folder=tmp_path, user=GUEST, team=team)
        assert len(guest.runs("baseline_study")) == 2  # it may read
        said = complaint(guest, *SMOKE, "--first-seed", 5)
        assert "does not allow this user" in said and "EDIT" in said
        assert not any(password in said for password in member.team.server.passwords.values())
        assert not guest.trajectories()

    def test_a_name_that_the_server_does_not_go_by_is_told_as_that_and_not_as_a_lack_of_rights(
        self, member: Member
    ) -> None:
        host = member.uri.removeprefix("http://").replace("127.0.0.1", "localhost")
        said = complaint(member, *SMOKE, "--tracking-uri", f"http://{host}")
        assert f"does not go by the name {host}" in said and "--allowed-hosts" in said
        assert "EDIT" not in said

    @pytest.mark.parametrize(
        ("origin", "status"), [(f"https://{NAME}:{{port}}", 200), ("https://elsewhere.example.org", 403)]
    )
    def test_a_page_of_another_origin_but_not_that_of_the_servers_own_name(
        self, team: Team, origin: str, status: int
    ) -> None:
        port = urlsplit(team.server.uri).port
        asked = urllib.request.Request(
            f"{team.server.uri}/ajax-api/2.0/mlflow/experiments/search", b'{"max_results": 1}', method="POST"
        )
        login = base64.b64encode(f"{MEMBER}:{team.server.passwords[MEMBER]}".encode()).decode()
        told = {"Host": f"{NAME}:{port}", "Origin": origin.format(port=port), "Authorization": f"Basic {login}"}
        for name, value in {**told, "Content-Type": "application/json"}.items():
            asked.add_header(name, value)
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                assert answer.status == status
        except urllib.error.HTTPError as error:
            assert error.code == status
            error.close()


def test_the_server_is_started_as_readme_says(team: Team) -> None:
    _, _, said = README.partition("## A team's server")
    (told,) = re.findall(r"mlflow server (.*?)\n```", said, re.DOTALL)
    options = set(re.findall(r"--[a-z-]+", re.sub('".*"', "", told)))
    own = {"--workers"}  # for the tests' memory
    assert {word for word in team.server.command[:-1] if word.startswith("--")} == options | own


def test_a_sqlite_file_is_no_store_for_a_cluster_of_several_nodes(team: Team, lab: Lab) -> None:
    said = complaint(lab, *SMOKE, "--executor", "ray", "--address", team.cluster.address)
    assert "is a SQLite file" in said and "2 nodes" in said and "needs a tracking server" in said
    assert not lab.trajectories()


@pytest.mark.timeout(600)
class TestANodeThatDies:
    @pytest.mark.fault("node-dies")
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
        _, errors = stopped.communicate(timeout=120)
        assert stopped.returncode == 130 and "Traceback" not in errors
        assert not any(is_alive(number) for number in workers)
        killed = lab.runs("filter_study").query("seed == '7'")
        assert set(killed["status"]) == {"KILLED"}

        done = {one.folder: len(one.epochs()) for one in lab.trajectories()}
        again = lab.start(*lab.on_cluster(*LONG))
        doomed = nodes.pop()

        def going_on() -> list[Trajectory]:
            # An epoch more says that it was started there now: the other's last start there may be the first call's.
            return [one for one in on(lab, doomed) if done[one.folder] < len(one.epochs()) < 9]

        (lost,) = wait_until(going_on, again)
        done = {one.folder: len(one.epochs()) for one in lab.trajectories()}
        doomed.kill()
        _, errors = again.communicate(timeout=200)
        assert again.returncode == 0, errors
        (arm,) = [run.arm for run in lost.runs()]
        _, told, then = errors.partition("it goes on elsewhere")
        gone_on = re.search(rf"{arm} · seed 7: starting after epoch (\d+)", then)
        assert told and gone_on and int(gone_on[1]) >= done[lost.folder], errors
        finished = lab.runs("filter_study").query("seed == '7'")
        assert sorted(finished["arm"]) == sorted(ARMS) and set(finished["status"]) == {"FINISHED"}
        assert set(finished["run_id"]) == set(killed["run_id"])
        assert lost.folder in {one.folder for one in on(lab, nodes[0])}
        client = lab.store().client
        for record in records_of(lab.store(), finished.to_dict("records")):
            # As the server keeps them: `Store.epochs` would leave out an epoch that was sent with two times.
            for name in EPOCH_METRICS:
                sent = client.get_metric_history(record.row["run_id"], name)
                assert sorted(one.step for one in sent) == list(range(1, 11)), name
            assert missing(record, SMOKE_RULES) == [] and contradictions(record) == []

        # On the local executor, whose workers have no OMP_NUM_THREADS.
        alone.call("run", "filter_study", "--arms", arm, "--first-seed", 7)
        assert set(alone.weights().values()) == set(finished.query("arm == @arm")["weights_sha256"])


def test_two_members_record_at_once_and_each_run_is_recorded_once(team: Team, member: Member, tmp_path: Path) -> None:
    members = [replace(member, folder=tmp_path / name) for name in ("one", "another")]
    words = ("train", "--model", "dense", "--epochs", 2, "--name", "both", "--seed")
    calls = [one.start(*words, seed) for seed, one in enumerate(members)]
    for process in calls:
        _, errors = process.communicate(timeout=250)
        assert process.returncode == 0, errors
    runs = member.runs("ad_hoc").query("arm == 'both'")
    assert sorted(runs["seed"]) == ["0", "1"] and set(runs["status"]) == {"FINISHED"}
    assert [len(one.trajectories()) for one in members] == [1, 1]


class TestNodesOfOtherProcessors:
    def test_their_runs_are_told_apart_by_their_environment(self, member: Member) -> None:
        cluster = member.team.cluster
        while len(cluster.nodes) > 1:
            cluster.nodes.pop().kill()
        cluster.add_node(ONEDNN_MAX_CPU_ISA="SSE41")  # other kernels, as an older processor has them
        seed_three = (*SMOKE, "--first-seed", 3)
        printed = member.call_process(*member.on_cluster(*seed_three))
        assert "2 environments" in printed
        runs = member.runs("baseline_study").query("seed == '3'")
        assert len(runs) == 2 and set(runs["status"]) == {"FINISHED"}
        assert runs["environment_sha256"].nunique() == runs["trajectory_sha256"].nunique() == 2
        for record in records_of(member.store(), runs.to_dict("records")):
            variables = record.json("environment.json")["fingerprint"]["variables"]
            assert ("ONEDNN_MAX_CPU_ISA" in variables) == record.row["node"].endswith(cluster.nodes[1].id[:8])
            assert missing(record, SMOKE_RULES) == [] and contradictions(record) == []
        planned = member.call_process(*member.on_cluster(*seed_three), "--dry-run")
        assert "0 runs to record from 0 trajectories; 2 are recorded already." in planned


@pytest.mark.timeout(600)
@pytest.mark.fault("head-dies")
class TestAHeadThatDies:
    @pytest.fixture
    def own(self) -> Iterator[Cluster]:
        """A cluster that the others do not need any more."""
        with tempfile.TemporaryDirectory(prefix="ray-") as folder, ray_cluster(Path(folder), nodes=1) as cluster:
            yield cluster
            for number in descendants(cluster.holder.pid):  # without its head it cannot end in order
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)

    def test_the_command_ends_and_goes_on_from_the_last_epoch_once_it_is_called_again(
        self, member: Member, own: Cluster, tmp_path: Path
    ) -> None:
        # What a machine of the cluster has of another one that is the head: a process that it talks to.
        started = descendants(own.holder.pid)
        (head,) = [number for number in started if command_line(number).split(" ")[0].endswith("gcs_server")]
        lab = replace(member, folder=tmp_path, team=replace(member.team, cluster=own))
        words = ("train", "--filters", 16, "--epochs", 1000, "--seed", 12)  # longer than anybody waits for a head
        stopped = lab.start(*lab.on_cluster(*words))
        (trajectory,) = wait_until(lambda: [one for one in lab.trajectories() if len(one.epochs()) > 1], stopped)
        os.kill(head, signal.SIGKILL)
        _, errors = stopped.communicate(timeout=100)
        assert stopped.returncode == 2 and "Traceback" not in errors
        assert errors.splitlines()[-1].startswith("error: the head of the Ray cluster at 127.0.0.1:")
        (run,) = lab.runs("ad_hoc").query("seed == '12'").to_dict("records")
        assert (run["status"], run["stop_reason"]) == ("KILLED", "lost")
        assert run["error"].startswith("the head of the Ray cluster at 127.0.0.1:")

        done = len(trajectory.epochs())
        again = lab.start(*words)  # without a cluster
        wait_until(lambda: len(trajectory.epochs()) > done, again)
        again.send_signal(signal.SIGINT)
        _, errors = again.communicate(timeout=100)
        gone_on = re.search(r"seed 12: starting after epoch (\d+)", errors)
        assert gone_on and int(gone_on[1]) == done, errors
        assert list(lab.runs("ad_hoc").query("seed == '12'")["run_id"]) == [run["run_id"]]


# -- without that cluster ------------------------------------------------------------------------------------------


@pytest.mark.skipif(find_spec("ray") is None, reason="make extras")
def test_without_an_address_a_cluster_of_this_machine_is_started_on_loopback_and_ends_with_the_call(
    data: Path, tmp_path: Path
) -> None:
    lab = Lab(tmp_path, data)
    call = lab.start("train", "--model", "dense", "--epochs", 2, "--executor", "ray")
    started, heard = set[int](), set[str]()
    while call.poll() is None:
        started.update(descendants(call.pid))
        heard.update(*(listening(number) for number in {call.pid, *started}))
        time.sleep(0.2)
    printed, errors = call.communicate()
    assert call.returncode == 0, f"{printed}\n{errors}"
    (run,) = lab.runs("ad_hoc").to_dict("records")
    assert run["status"] == "FINISHED" and "/" in run["node"]
    assert started and heard == {"127.0.0.1"}
    until = time.monotonic() + 20
    while left := [number for number in started if is_alive(number)]:
        assert time.monotonic() < until, f"left behind: {left}"
        time.sleep(0.1)


@pytest.mark.skipif(find_spec("ray") is None, reason="make extras")
@pytest.mark.fault("node-silent")
class TestANodeThatDoesNotAnswer:
    """A Ray whose nodes answer, or not."""

    class Nodes:
        def __init__(self, *names: str, silent: str = "") -> None:
            self.names, self.silent = list(names), silent
            self.asked: list[str] = []
            self.cancelled: list[str] = []
            self.over = threading.Event()

        def nodes(self) -> list[dict[str, Any]]:
            return [
                {"NodeID": name, "NodeManagerHostname": name, "Resources": {"CPU": 1}, "Alive": True}
                for name in self.names
            ]

        def options(self, label_selector: Mapping[str, str]) -> Any:
            (name,) = (one for one in self.names if one in str(label_selector))
            return SimpleNamespace(remote=lambda variables: name)

        def get(self, reference: str, timeout: float) -> Any:
            self.asked.append(reference)
            if reference == self.silent:
                self.over.wait(timeout)
                raise import_module("ray.exceptions").GetTimeoutError
            return fingerprint(threads=1)

        def cancel(self, reference: str) -> None:
            self.cancelled.append(reference)

    def executor(self, nodes: Nodes, data: Path, monkeypatch: pytest.MonkeyPatch, patience: float) -> RayExecutor:
        executor = RayExecutor(None, data)
        executor._ray = executor._environment = nodes
        monkeypatch.setattr(executor, "_sees_head", lambda: True)
        monkeypatch.setattr("fashion_cnn.running.cluster.LOOK", patience)
        monkeypatch.setattr("fashion_cnn.running.cluster.FRESH", 0.0)
        return executor

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
        assert nodes.asked == ["one", "two"] and not executor._answers["two"].done()
        nodes.over.set()


@pytest.mark.skipif(find_spec("ray") is None, reason="make extras")
def test_after_its_end_nobody_listens_to_a_task_for_ray_would_connect_again_by_itself(data: Path) -> None:
    class Done:
        def get(self, reference: object, timeout: float) -> object:
            return Ended()

    executor, task = RayExecutor(None, data), Task(frozenset(), iter(["its end", "asked for after it"]))
    executor._ray = Done()
    executor._listen(task)
    assert list(task.events) == ["asked for after it"] and executor._said.get_nowait() == (task, Ended())


@contextmanager
def answering(version: str | None, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that says it is healthy and of a version, or asks for a user before that; gives its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/health" or version is not None
            self.send_response(200 if known else 401)
            self.end_headers()
            self.wfile.write((version or "").encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def own_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that it signed itself, and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ours")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, secret


class Unlucky(LocalExecutor):
    """Its first workers go down with their machines, which are of another environment unless there are none such.

    Or the machines are gone already when a worker is to be started on them.
    """

    def __init__(self, losses: int, *, elsewhere: bool = False, gone: bool = False) -> None:
        super().__init__()
        self.losses, self.elsewhere, self.gone = losses, elsewhere, gone
        self.lost: list[object] = []

    def places(self, threads: int) -> Sequence[Place]:
        here = super().places(threads)
        if not self.elsewhere or self.losses == 0:
            return here
        return [Place({**here[0].environment, "processor": "another"}, "e" * 64, 8), *here]

    def start(self, job: Job, output: Path, environment_sha256: str | None = None) -> Any:
        if self.losses == 0:
            return super().start(job, output, environment_sha256)
        self.losses -= 1
        if self.gone:
            raise ExecutorError("the machine is gone")
        self.lost.append(object())
        return self.lost[-1]

    def events(self, timeout: float) -> Iterator[tuple[Any, Any]]:
        while self.lost:
            yield self.lost.pop(), Ended("the machine is gone", lost=True)
        yield from super().events(timeout)


@pytest.mark.fault("node-dies")
def test_a_task_whose_event_is_late_is_cancelled_before_another_takes_its_place(data: Path) -> None:
    exceptions = pytest.importorskip("ray.exceptions", reason="make extras")
    cancelled: list[object] = []

    class Slow:
        def get(self, reference: object, timeout: float) -> object:
            raise exceptions.GetTimeoutError

        def cancel(self, events: object) -> None:
            cancelled.append(events)

    executor, task = RayExecutor(None, data), Task(frozenset(), iter(["an event"]))
    executor._ray = Slow()
    executor._listen(task)
    assert cancelled == [task.events]
    _, ended = executor._said.get_nowait()
    assert isinstance(ended, Ended) and ended.lost


@pytest.mark.fault("node-dies")
class TestAWorkerThatIsLost:
    def made(self, lab: Lab, executor: Unlucky, name: str, seed: int) -> tuple[Outcome, pd.DataFrame]:
        session = Session(Options(data_dir=str(lab.data), tracking_uri=lab.uri, workers=1))
        session.executor = executor
        study = Study(name, "What does a lost worker cost?", {"dense": replace(DENSE, epochs=1)})
        return run(session, session.plan([study], (), [seed])), lab.runs(name)

    @pytest.mark.parametrize(("gone", "seed"), [(False, 0), (True, 3)], ids=["in mid-run", "before its start"])
    def test_another_takes_its_place_and_the_run_is_recorded_once(self, lab: Lab, gone: bool, seed: int) -> None:
        outcome, runs = self.made(lab, Unlucky(1, gone=gone), f"once_{seed}", seed)
        assert outcome.failed == 0 and list(runs["status"]) == ["FINISHED"]

    def test_a_trajectory_that_loses_every_worker_is_given_up(self, lab: Lab) -> None:
        executor = Unlucky(100)
        outcome, runs = self.made(lab, executor, "always", 1)
        assert outcome.failed == 1 and executor.losses == 100 - LOSSES - 1
        kept = runs[["status", "stop_reason", "error"]].to_numpy().tolist()
        assert kept == [["KILLED", "lost", "the machine is gone"]]

    @pytest.mark.parametrize(("gone", "seed"), [(False, 2), (True, 4)], ids=["in mid-run", "before its start"])
    def test_where_no_machine_of_its_environment_is_left_it_is_trained_anew_in_another(
        self, lab: Lab, gone: bool, seed: int
    ) -> None:
        outcome, runs = self.made(lab, Unlucky(1, elsewhere=True, gone=gone), f"elsewhere_{seed}", seed)
        assert (outcome.made, outcome.failed) == (1, 0)
        assert list(runs["status"]) == ["KILLED", "FINISHED"]
        assert runs["environment_sha256"].nunique() == runs["trajectory_sha256"].nunique() == 2


class TestWhatIsRefusedAtOnce:
    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (
                ("--executor", "ray", "--address", "ray://127.0.0.1:10001"),
                "start the command on a machine of the cluster",
            ),
            (("--executor", "ray", "--address", "127.0.0.1:1"), "no Ray cluster answers at 127.0.0.1:1"),
            (("--executor", "ray", "--address", "here"), "allowed: HOST:PORT, or auto"),
            (("--executor", "ray", "--device", "gpu"), "only cpu is allowed"),
            (("--address", "127.0.0.1:6379"), "--executor ray"),
        ],
    )
    def test_an_address_that_cannot_be_used(
        self, lab: Lab, words: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fashion_cnn.running.cluster.find_spec", lambda name: object())
        assert told in complaint(lab, *SMOKE, *words)

    def test_ray_where_it_is_not_installed(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fashion_cnn.running.cluster.find_spec", lambda name: None)
        assert "make extras" in complaint(lab, *SMOKE, "--executor", "ray")

    @pytest.mark.parametrize(
        ("version", "told"),
        [("2.22.0", "runs MLflow 2.22.0"), ("<html>", "no MLflow tracking server"), (None, "a user that it knows")],
    )
    def test_a_server_that_is_another(self, lab: Lab, version: str | None, told: str) -> None:
        with answering(version) as port:
            said = complaint(lab, *SMOKE, "--tracking-uri", f"http://me:s3cret@127.0.0.1:{port}")
        assert told in said and "s3cret" not in said

    def test_a_servers_certificate_that_nobody_vouches_for_unless_the_user_does(
        self, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        certificate, key = own_certificate(tmp_path)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        with answering("2.22.0", tls) as port:
            asked = (*SMOKE, "--tracking-uri", f"https://127.0.0.1:{port}")
            said = complaint(lab, *asked)
            assert "does not answer" in said and "CERTIFICATE_VERIFY_FAILED" in said
            monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
            assert "runs MLflow 2.22.0" in complaint(lab, *asked)

    def test_a_server_whose_name_nobody_knows(self, lab: Lab) -> None:
        assert "does not answer" in complaint(lab, *SMOKE, "--tracking-uri", "http://no-such-host.invalid:5000")
