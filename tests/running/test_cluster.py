"""Past one machine, with the real parts: PostgreSQL, an MLflow server with accounts, a Ray cluster of two nodes."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pandas as pd
import pytest
from playwright.sync_api import Browser, expect

from fashion_cnn.config import DENSE
from fashion_cnn.data import load
from fashion_cnn.events import CutDone, EpochDone, Job, Started
from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.record import EPOCH_METRICS, LIGHT, missing
from fashion_cnn.review.replay import SMOKE_RULES, records_of
from fashion_cnn.running.cluster.executor import RayExecutor
from fashion_cnn.running.executor import Ended
from fashion_cnn.store.address import resolve
from fashion_cnn.store.tracking import LOST_AFTER, Store
from fashion_cnn.store.trajectories import Trajectory
from tests.project.test_readme import SERVER_PAGE
from tests.support.command import SMOKE, Lab
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
    postgresql,
    postgresql_binaries,
    ray_cluster,
    tracking_server,
)

ARMS = ("16 filters", "32 filters")
LONG = ("run", "filter_study", "--arms", *ARMS, "--first-seed", 7)  # about half a second an epoch on `data`
PATIENCE = 240_000  # ms
T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """What a team has besides its members' machines."""

    server: TrackingServer
    """Where an account may read everything, and record only into what it was the first to create."""
    database: str
    """The address of theirs."""
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
    def served() -> Iterator[tuple[TrackingServer, str]]:
        folder = tmp_path_factory.mktemp("server")
        with postgresql(binaries) as database, tracking_server(database, folder) as server:
            yield server, database

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
def member(tmp_path_factory: pytest.TempPathFactory, data: Path, team: Team) -> Member:
    return Member(tmp_path_factory.mktemp("member"), data, team)


@pytest.fixture(scope="module")
def smoke(member: Member) -> str:
    """What was printed by a smoke study that went through all of it."""
    return member.call_process(*member.on_cluster(*SMOKE))


def wait_until(reached: Callable[[], T], process: subprocess.Popen[str]) -> T:
    """Wait until something is true or not empty while a process runs; returns it."""
    until = time.monotonic() + 450
    while not (found := reached()):
        assert process.poll() is None and time.monotonic() < until, "it did not get so far"
        time.sleep(0.05)
    return found


def on(lab: Lab, node: Node) -> list[Trajectory]:
    """The trajectories that were last started on a node."""
    return [one for one in lab.trajectories() if (said := one.started()) and said.node.endswith(node.id[:8])]


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
        monkeypatch.setattr("fashion_cnn.store.tracking.MOST", 1)
        pd.testing.assert_frame_equal(store.epochs(ids), at_once)

    def test_one_of_its_texts_that_a_run_lacks_keeps_nobody_from_reading_the_others(
        self, smoke: str, member: Member, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "fashion_cnn.store.tracking.LIGHT", (*LIGHT, "lacking.txt")
        )  # as code.diff of a clean checkout
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

    def test_a_browser_shows_the_runs_to_who_has_a_password(self, smoke: str, member: Member, browser: Browser) -> None:
        printed = member.call("ui", "baseline_study")
        address = re.search(r"baseline_study, where no run counts: runs:\n +(\S+)", printed)
        assert address
        user = member.team.server.variables()
        login = {"username": user["MLFLOW_TRACKING_USERNAME"], "password": user["MLFLOW_TRACKING_PASSWORD"]}
        context = browser.new_context(http_credentials=login)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(address[1])
        for row in member.runs("baseline_study").to_dict("records"):
            expect(page.get_by_text(row["name"]).first).to_be_visible(timeout=PATIENCE)
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


@pytest.mark.fault("clock")
@pytest.mark.parametrize("asked", ["server", "database"])
def test_whether_a_run_is_lost_is_judged_by_the_servers_clock_or_the_databases(
    team: Team, asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(resolve(team.server.uri if asked == "server" else team.database, tmp_path))
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + 10 * LOST_AFTER)  # this machine is ahead
    assert abs(store.clock.now() - right()) < LOST_AFTER / 2


class TestWhatTheServerRefuses:
    def test_a_wrong_password_is_told_and_not_printed(self, member: Member) -> None:
        said = replace(member, password="open sesame").complaint(*SMOKE)
        assert "MLFLOW_TRACKING_PASSWORD" in said and "open sesame" not in said

    def test_who_may_only_read_is_told_before_anything_is_trained(
        self, smoke: str, member: Member, tmp_path: Path
    ) -> None:
        guest = replace(member, folder=tmp_path, user=GUEST)
        assert len(guest.runs("baseline_study")) == 2  # it may read
        said = guest.complaint(*SMOKE, "--first-seed", 5)
        assert "does not allow this user" in said and "EDIT" in said
        assert not any(password in said for password in member.team.server.passwords.values())
        assert not guest.trajectories()

    def test_a_name_that_the_server_does_not_go_by_is_told_as_that_and_not_as_a_lack_of_rights(
        self, member: Member
    ) -> None:
        host = member.uri.removeprefix("http://").replace("127.0.0.1", "localhost")
        said = member.complaint(*SMOKE, "--tracking-uri", f"http://{host}")
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
    (told,) = re.findall(r"mlflow server (.*?)\n```", SERVER_PAGE, re.DOTALL)
    options = set(re.findall(r"--[a-z-]+", re.sub('".*"', "", told)))
    own = {"--workers"}  # for the tests' memory
    assert {word for word in team.server.command[:-1] if word.startswith("--")} == options | own


def test_a_sqlite_file_is_no_store_for_a_cluster_of_several_nodes(team: Team, lab: Lab) -> None:
    said = lab.complaint(*SMOKE, "--executor", "ray", "--address", team.cluster.address)
    assert "is a SQLite file" in said and "2 nodes" in said and "needs a tracking server" in said
    assert not lab.trajectories()


@pytest.mark.timeout(1500)
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
        _, errors = stopped.communicate(timeout=600)
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
        _, errors = again.communicate(timeout=600)
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
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    runs = member.runs("ad_hoc").query("arm == 'both'")
    assert sorted(runs["seed"]) == ["0", "1"] and set(runs["status"]) == {"FINISHED"}
    assert [len(one.trajectories()) for one in members] == [1, 1]


class TestNodesOfOtherProcessors:
    def test_one_of_other_kernels_is_left_out_and_native_runs_are_told_apart(self, member: Member) -> None:
        cluster = member.team.cluster
        while len(cluster.nodes) > 1:
            cluster.nodes.pop().kill()
        cluster.add_node(ONEDNN_MAX_CPU_ISA="SSE41")  # other kernels, as an older processor has them
        printed = member.call_process(*member.on_cluster(*SMOKE, "--first-seed", 4))
        assert "left out, because ONEDNN_MAX_CPU_ISA=SSE41 chooses other kernels" in printed
        portable = member.runs("baseline_study").query("seed == '4'")
        assert len(portable) == 2 and set(portable["arithmetic"]) == {"portable"}
        assert set(portable["node"].str[-8:]) == {cluster.nodes[0].id[:8]}

        seed_three = (*SMOKE, "--first-seed", 3, "--arithmetic", "native")
        printed = member.call_process(*member.on_cluster(*seed_three))
        assert "2 environments" in printed
        runs = member.runs("baseline_study").query("seed == '3'")
        assert len(runs) == 2 and set(runs["status"]) == {"FINISHED"}
        assert runs["environment_sha256"].nunique() == runs["trajectory_sha256"].nunique() == 2
        for record in records_of(member.store(), runs.to_dict("records")):
            variables = record.json("environment.json")["fingerprint"]["variables"]
            capped = variables.get("ONEDNN_MAX_CPU_ISA") == "SSE41"
            assert capped == record.row["node"].endswith(cluster.nodes[1].id[:8])
            assert missing(record, SMOKE_RULES) == [] and contradictions(record) == []
        planned = member.call_process(*member.on_cluster(*seed_three), "--dry-run")
        assert "Nothing to do: all 2 runs were recorded already." in planned


@pytest.mark.timeout(1500)
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
        words = ("train", "--filters", 64, "--epochs", 1000, "--seed", 12)  # longer than anybody waits for a head
        stopped = lab.start(*lab.on_cluster(*words))
        (trajectory,) = wait_until(lambda: [one for one in lab.trajectories() if len(one.epochs()) > 1], stopped)
        os.kill(head, signal.SIGKILL)
        _, errors = stopped.communicate(timeout=600)
        assert stopped.returncode == 2 and "Traceback" not in errors
        assert errors.splitlines()[-1].startswith("error: the head of the Ray cluster at 127.0.0.1:")
        (run,) = lab.runs("ad_hoc").query("seed == '12'").to_dict("records")
        assert (run["status"], run["stop_reason"]) == ("KILLED", "lost")
        assert run["error"].startswith("the head of the Ray cluster at 127.0.0.1:")

        done = len(trajectory.epochs())
        again = lab.start(*words)  # without a cluster
        wait_until(lambda: len(trajectory.epochs()) > done, again)
        again.send_signal(signal.SIGINT)
        _, errors = again.communicate(timeout=600)
        gone_on = re.search(r"seed 12: starting after epoch (\d+)", errors)
        assert gone_on and int(gone_on[1]) == done, errors
        assert list(lab.runs("ad_hoc").query("seed == '12'")["run_id"]) == [run["run_id"]]
