"""Real servers: the one of `fashion-cnn ui` lets nobody else in, and a tracking server may die in mid-run."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from playwright.sync_api import Browser, expect

from fashion_cnn.cli.ui import TRAINING
from fashion_cnn.config import DENSE
from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.record import missing
from fashion_cnn.store import recorder as recording
from fashion_cnn.store.address import resolve
from fashion_cnn.store.recorder import Recorder
from fashion_cnn.store.tracking import Store
from tests.faults.test_names import MARKUP
from tests.support.command import REPOSITORY, Lab
from tests.support.made_up import write_made_up
from tests.support.scripted import events, header_and_record, metrics, open_store, record_one
from tests.support.watch import PATIENCE, stop_ui

START = 150.0  # seconds that a server may take on a busy machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class UI:
    """A store that was moved and is served by `fashion-cnn ui`."""

    store: Store
    port: int
    process: subprocess.Popen[str]
    log: Path
    """What it says as errors, and its server."""

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        """The status and the text of an answer; `Host` and every other header are as given."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            content = None if body is None else json.dumps(body).encode()
            connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            if content is not None:
                connection.putheader("Content-Type", "application/json")
                connection.putheader("Content-Length", str(len(content)))
            connection.endheaders(content)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        finally:
            connection.close()

    def experiments(self) -> set[str]:
        return {one.name for one in self.store.client.search_experiments()}


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UI]:
    folder = tmp_path_factory.mktemp("served")
    record_one(open_store(folder / "before"), replace(DENSE, epochs=1), arm=MARKUP)
    (folder / "before").rename(folder / "after")
    lab, port = Lab(folder / "after", folder), free_port()
    strange = {
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "*",
        "MLFLOW_STATIC_PREFIX": "/elsewhere",
    }
    # Variables of another server, left in the shell.
    with mock.patch.dict(os.environ, strange), (folder / "log").open("w") as log:
        process = subprocess.Popen(
            lab.command("ui", "baseline_study", "--port", port, "--allow", "lab.example:8443"),
            cwd=folder,
            env={**lab.variables, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    try:
        said = [line for line in iter(process.stdout.readline, "Ctrl-C stops it.\n") if line]
        assert f"  http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning\n" in said, (
            folder / "log"
        ).read_text()[-2000:]
        yield UI(open_store(folder / "after"), port, process, folder / "log")
    finally:
        process.send_signal(signal.SIGINT)  # unless a test has stopped it
        process.wait(PATIENCE)
        process.stdout.close()
    assert {path.name for path in folder.iterdir()} == {"after", "log"}  # no uploads, no database of its own


SEARCH = "/api/2.0/mlflow/experiments/search?max_results=5"
CREATE = "/api/2.0/mlflow/experiments/create"
RUNS = "/ajax-api/2.0/mlflow/runs/search"


@pytest.mark.fault("ui-from-elsewhere")
class TestTheUI:
    @pytest.mark.parametrize(
        "host",
        ["evil.example", "10.evil.example", "192.168.0.1.evil.example", "localhost.evil.example", "lab.example", ""],
    )
    def test_refuses_a_foreign_host_header(self, ui: UI, host: str) -> None:
        status, said = ui.ask("GET", SEARCH, Host=host)
        assert (status, said) == (403, "Invalid Host header - possible DNS rebinding attack detected")

    def test_answers_this_machine(self, ui: UI) -> None:
        for host in (f"127.0.0.1:{ui.port}", f"localhost:{ui.port}"):
            status, said = ui.ask("GET", SEARCH, Host=host)
            assert status == 200 and "baseline_study" in said

    @pytest.mark.fault("ui-by-another-name")
    @pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "lab.example:8443"])
    def test_answers_under_the_number_and_the_name_that_a_forwarder_and_a_proxy_give_it(
        self, ui: UI, host: str
    ) -> None:
        said = [ui.ask("GET", SEARCH, Host=host), ui.ask("POST", RUNS, {}, Host=host, Origin=f"http://{host}")]
        assert [status for status, _ in said] == [200, 200], said

    @pytest.mark.parametrize("origin", ["http://evil.example", "https://127.0.0.1.evil.example", "null"])
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
    def test_refuses_a_cross_origin_write(self, ui: UI, method: str, origin: str) -> None:
        status, said = ui.ask(method, CREATE, {"name": "forged"}, Origin=origin)
        assert (status, said) == (403, "Cross-origin request blocked")
        assert "forged" not in ui.experiments()

    def test_takes_a_write_of_its_own_page(self, ui: UI) -> None:
        status, said = ui.ask("POST", CREATE, {"name": "mine"}, Origin=f"http://127.0.0.1:{ui.port}")
        assert status == 200, said
        assert "mine" in ui.experiments()

    def test_takes_no_uploads(self, ui: UI) -> None:
        for path in ("hello.txt", "../hello.txt", "..%2fhello.txt"):
            status, _ = ui.ask("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}", "content")
            assert status >= 400

    @pytest.mark.parametrize(
        "path",
        ["../../../mlflow.db", "%2e%2e/%2e%2e/mlflow.db", "/etc/passwd", "file:///etc/passwd"],
    )
    def test_gives_no_file_outside_of_a_runs_artifacts(self, ui: UI, path: str) -> None:
        (run_id,) = ui.store.runs()["run_id"]
        status, said = ui.ask("GET", f"/get-artifact?path={path}&run_id={run_id}")
        assert status == 400 and "Invalid path" in said

    @pytest.mark.fault("moved")
    def test_finds_the_artifacts_of_a_store_that_was_moved(self, ui: UI) -> None:
        (run_id,) = ui.store.runs()["run_id"]
        status, said = ui.ask("GET", f"/get-artifact?path=config.json&run_id={run_id}")
        assert status == 200 and json.loads(said)["model"] == "dense"

    @pytest.mark.fault("names", note="a browser over MLflow's UI")
    def test_shows_names_as_text_and_asks_nobody_else(self, ui: UI, browser: Browser) -> None:
        (row,) = ui.store.runs().to_dict("records")
        base, asked = f"http://127.0.0.1:{ui.port}", []
        page = browser.new_context().new_page()
        page.set_default_timeout(240_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
        page.goto(f"{base}/#/experiments/{row['experiment_id']}/runs/{row['run_id']}?{TRAINING}")
        expect(page.get_by_text("Does it hold?").first).to_be_visible(timeout=240_000)
        expect(page.get_by_text(f"Arm {MARKUP}, seed 0").first).to_be_visible()
        assert page.locator("img[src='x'], img[src*='127.0.0.1:9'], a[href^='javascript']").count() == 0
        assert asked and [url for url in asked if not url.startswith((base, "data:", "blob:"))] == []
        page.context.close()


@pytest.mark.fault("signal", note="SIGTERM")
def test_a_stopped_ui_leaves_no_server_behind(ui: UI) -> None:  # after all that ask it
    stop_ui(ui.process, signal.SIGTERM, ui.port, ui.log)


@dataclass
class Server:
    """MLflow's tracking server, which can be killed and started again at the same address."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        what = ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        what += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *where, *what],
                cwd=self.folder,
                env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + START
        while True:
            assert self.process.poll() is None and time.monotonic() < until, (self.folder / "log").read_text()[-2000:]
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.2)

    def kill(self) -> None:
        """With all its processes, as a machine that fails."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@dataclass
class Story:
    """What happened to two runs whose tracking server was killed."""

    store: Store
    lab: Lab
    said: dict[str, str] = field(default_factory=dict)
    """What each command printed."""
    took: float = 0.0
    """Seconds that a scripted training was held up by its recorder while the server was dead."""
    trouble: str | None = None


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """A scripted run and a trained one; the server comes back during the first and after the second."""
    folder = tmp_path_factory.mktemp("tracking")
    server = Server(folder)
    lab = HTTPLab(folder, write_made_up(folder / "data", train=640, test=64), server.uri)
    with lab.at_home(), mock.patch.object(recording, "RETRY", 0.5):
        try:
            open_store(folder)  # which spares the server making its database
            server.start()
            store = Store(resolve(server.uri, folder))
            trajectory, run = header_and_record(store, replace(DENSE, epochs=8))
            assert trajectory.acquire()
            story = Story(store, lab)
            with Recorder(store) as recorder:
                said = events(trajectory, 8)
                recorder.begin(trajectory, [run])
                for _ in range(4):  # to the first epoch and its picture
                    recorder.take(trajectory, next(said))
                until = time.monotonic() + 60
                while trajectory.sent(run).sheets != (0, 1):
                    assert time.monotonic() < until, recorder.trouble
                    time.sleep(0.05)
                killer = threading.Thread(target=kill_after, args=(server, lab, trajectory.folder, 2))
                killer.start()
                story.said["train"] = lab.call("train", "--filters", 4, "--epochs", 6)
                killer.join()
                started = time.monotonic()
                for event in said:
                    recorder.take(trajectory, event)
                recorder.leave(trajectory)
                story.took = time.monotonic() - started
                story.said["sync, dead"] = lab.call("sync", status=2)
                until = time.monotonic() + 60
                while recorder.trouble is None and time.monotonic() < until:
                    time.sleep(0.05)
                story.trouble = recorder.trouble
                server.start()
            story.said["sync, back"] = lab.call("sync")
            story.said["sync, again"] = lab.call("sync")
            yield story
        finally:
            server.kill()


@dataclass(frozen=True)
class HTTPLab(Lab):
    """A lab whose store is a tracking server, with the trajectories in its own folder."""

    address: str = ""

    @property
    def uri(self) -> str:
        return self.address

    @contextmanager
    def at_home(self) -> Iterator[None]:
        """The trajectories for a server lie in the repository: within this, in the lab's folder."""
        with (
            mock.patch("fashion_cnn.running.session.REPOSITORY", self.folder),
            mock.patch("fashion_cnn.checkout.REPOSITORY", self.folder),
        ):
            yield

    def trajectories(self) -> list[Any]:
        from fashion_cnn.store.trajectories import trajectories

        return trajectories(self.folder / "mlruns" / "trajectories")


def kill_after(server: Server, lab: HTTPLab, but: Path, epochs: int) -> None:
    """Kill a server when a training, not the one in `but`, has so many epochs and the server knows of them."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        for one in lab.trajectories():
            if one.folder != but and any(one.sent(run).epochs >= epochs for run in one.runs()):
                server.kill()
                return
        time.sleep(0.01)
    server.kill()


def images(store: Store, run_id: str) -> Counter[tuple[str, str]]:
    """How often each layer and step is in the image grid."""
    names = [item.path for item in store.client.list_artifacts(run_id, "images") if item.path.endswith(".png")]
    names = [name for name in names if name.startswith("images/feature_maps~")]
    return Counter((name.split("~")[1].split("+")[0], name.split("+step+")[1].split("+")[0]) for name in names)


@pytest.mark.fault("server-dies")
class TestATrackingServerThatDies:
    def test_does_not_hold_up_a_training(self, story: Story) -> None:
        assert "1 run made" in story.said["train"]
        assert story.took < 30  # what a single request may take

    def test_leaves_the_run_finished_and_says_how_to_send_it(self, story: Story) -> None:
        said = " ".join(story.said["train"].split())  # lines are broken
        trouble = f"the tracking store {story.store.address.name} did not answer as it should: Connection refused"
        assert f"1 runs are not in the store yet ({trouble}): fashion-cnn sync sends them." in said
        assert "Traceback" not in story.said["train"]
        assert story.trouble is not None and story.trouble.endswith("Connection refused")

    def test_is_named_by_sync_as_long_as_it_is_dead(self, story: Story) -> None:
        said = story.said["sync, dead"]
        assert said.startswith(f"error: the tracking server {story.store.address.name} does not answer (")
        assert said.endswith("; start it, or name another store with --tracking-uri\n") and said.count("\n") == 1

    def test_gets_everything_once_it_is_back_and_nothing_twice(self, story: Story) -> None:
        assert story.said["sync, back"] == "1 runs sent\n"
        assert story.said["sync, again"] == "0 runs sent\n"
        runs = story.store.runs()
        assert sorted(runs["study"]) == ["ad_hoc", "baseline_study"] and set(runs["status"]) == {"FINISHED"}
        epochs = story.store.epochs(list(runs["run_id"]))
        assert len(epochs) == 8 + 6
        for run_id, count in zip(runs["run_id"], runs["epochs_trained"], strict=True):
            assert len(story.store.client.get_metric_history(run_id, "loss")) == count

    def test_gets_by_itself_what_a_run_that_outlives_it_had_kept(self, story: Story) -> None:
        (row,) = story.store.runs(["baseline_study"]).to_dict("records")
        epochs = story.store.epochs([row["run_id"]]).to_dict("records")
        record = story.store.record(row, epochs)
        assert missing(record) == [] and contradictions(record) == []
        assert [{name: one[name] for name in metrics(0, 1)} for one in epochs] == [metrics(0, n) for n in range(1, 9)]

    def test_gets_each_image_once(self, story: Story) -> None:
        for row in story.store.runs().to_dict("records"):
            found = images(story.store, row["run_id"])
            last = int(row["epochs_trained"])
            assert {int(step) for _, step in found} == {0, 1, 2, 5, last} and set(found.values()) == {1}

    def test_gets_the_same_record_as_a_store_that_was_always_there(self, story: Story, tmp_path: Path) -> None:
        """Of the trained run: its folder says what happened, and the store says the same."""
        (row,) = story.store.runs(["ad_hoc"]).to_dict("records")
        record = story.store.record(row, story.store.epochs([row["run_id"]]).to_dict("records"))
        assert contradictions(record) == []
        assert {str(lack).split(":")[0] for lack in missing(record)} == {"row.smoke", "row.data_sha256"}  # made-up data
        (trajectory,) = [one for one in story.lab.trajectories() if one.runs()[0].study == "ad_hoc"]
        assert [one["test_loss"] for one in record.epochs] == [
            line.metrics["test_loss"] for line in trajectory.epochs()
        ]
        assert row["weights_sha256"] == trajectory.epochs()[-1].weights_sha256
