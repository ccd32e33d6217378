"""What lies around the program: other modules, variables, proxies, packages, terminals, homes, systems."""

from __future__ import annotations

import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import requests.utils

from experiments import POST_RESULTS, RESULTS, STUDIES
from fashion_cnn import known_answers, start
from fashion_cnn.cli import console, ui
from fashion_cnn.cli.actions import OutputError, write_output
from fashion_cnn.download import _keras_cache, find
from fashion_cnn.environment import EnvironmentFault, packages, settle, version, worker_variables
from fashion_cnn.events import Failed, Started
from fashion_cnn.running.executor import LocalExecutor
from fashion_cnn.sources import PACKAGE
from fashion_cnn.store.address import StoreError, resolve
from fashion_cnn.terminal import readable_outputs
from tests.running.test_template import LIGHT, NOWHERE, heard, is_forked, job
from tests.support.command import REPOSITORY, Lab
from tests.support.watch import in_every_process

STRANGE = "raise RuntimeError('none of ours')\n"
# In a template: a trainer that is ready at once and knows no way to train.
IDLE = """
import sys, types
if "fashion_cnn.running.template" in sys.orig_argv:
    training = sys.modules["fashion_cnn.training"] = types.ModuleType("fashion_cnn.training")
    training.set_up_process = lambda *_: None
    model = types.SimpleNamespace(trainable_variables=[], summary=lambda **_: None)
    training.Trainer = lambda *_: types.SimpleNamespace(model=model, trace_seconds=0.0)
"""
HOMELESS = """
import os, pwd
def nobody(number):
    raise KeyError(number)
pwd.getpwuid = nobody
os.environ.pop("HOME", None)
"""
# As on macOS.
HIDDEN = """
import os, sys
def hide(event, values):
    if event in ("open", "os.listdir", "os.scandir") and str(values[0]).startswith("/proc"):
        raise FileNotFoundError(2, "No such file or directory", str(values[0]))
sys.addaudithook(hide)
del os.sched_getaffinity
"""


def called(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, whatever its status is."""
    return subprocess.run(
        [sys.executable, "-m", "experiments", *map(str, words)],
        cwd=REPOSITORY, env={**os.environ, **variables}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """A folder with files that have the names of modules, and another clone whose modules are others."""
    folder = tmp_path / "strange"
    (folder / "fashion_cnn" / "running").mkdir(parents=True)
    (folder / "keras-9.0.dist-info").mkdir()
    (folder / "keras-9.0.dist-info" / "METADATA").write_text("Name: keras\nVersion: 9.0\n")
    for name in ("queue", "numpy", "keras", "fashion_cnn/running/worker", "fashion_cnn/running/template"):
        (folder / f"{name}.py").write_text(STRANGE)
    for name in ("fashion_cnn", "fashion_cnn/running"):
        (folder / name / "__init__.py").write_text("")
    return folder


@pytest.mark.fault("other-modules")
class TestWhatElseIsImportable:
    @pytest.mark.parametrize("forks", [True, False])
    def test_a_worker_runs_its_own_code_in_any_folder_and_under_any_pythonpath(
        self, tmp_path: Path, strange: Path, monkeypatch: pytest.MonkeyPatch, forks: bool
    ) -> None:
        given = ("", str(strange), in_every_process(tmp_path / "light", LIGHT))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(given))
        monkeypatch.chdir(strange)
        executor = LocalExecutor(forks=forks)
        worker = executor.start(job(NOWHERE), tmp_path / "worker.log")
        failed, _ = heard(executor, worker)[worker]
        executor.stop()
        assert is_forked(worker) == forks and isinstance(failed, Failed) and NOWHERE in failed.reason

    def test_a_worker_starts_though_the_folder_is_gone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        executor = LocalExecutor(forks=False)
        worker = executor.start(job(NOWHERE), tmp_path / "worker.log")
        failed, _ = heard(executor, worker)[worker]
        assert isinstance(failed, Failed) and NOWHERE in failed.reason

    def test_files_beside_the_package_stand_for_no_module(self, tmp_path: Path) -> None:
        clone = tmp_path / "clone"
        shutil.copytree(PACKAGE, clone / "fashion_cnn", ignore=shutil.ignore_patterns("__pycache__"))
        (clone / "numpy.py").write_text(STRANGE)
        path = clone / "fashion_cnn" / "known_answers.py"
        path.write_text(path.read_text(encoding="utf-8").replace('"""Print the', '"""Print the clone\'s'), "utf-8")
        started = [sys.executable, "-P", str(clone / "fashion_cnn" / "start.py")]
        command = [*started, "fashion_cnn.known_answers", "--help"]
        variables = {**os.environ, "PYTHONPATH": str(clone)}
        said = subprocess.run(command, cwd=clone, env=variables, capture_output=True, text=True, check=False)
        assert said.returncode == 0 and "Print the clone's answers" in said.stdout, said.stderr

    def test_a_command_takes_modules_and_versions_from_where_its_workers_do(self, strange: Path) -> None:
        shutil.rmtree(strange / "fashion_cnn")
        code = "from fashion_cnn.environment import *; settle(); import numpy, queue; print(version('keras'))"
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join((str(strange), str(REPOSITORY)))}
        said = subprocess.run(
            [sys.executable, "-c", code], cwd=strange, env=variables, capture_output=True, text=True, check=False
        )
        assert said.stdout.strip() == version("keras"), said.stderr

    def test_a_worker_tells_the_hash_of_what_it_runs_though_the_file_was_changed_since(
        self, tmp_path: Path, made_up: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        package = shutil.copytree(PACKAGE, tmp_path / "fashion_cnn", ignore=shutil.ignore_patterns("__pycache__"))
        monkeypatch.setattr(start, "__file__", str(package / "start.py"))
        monkeypatch.setenv("PYTHONPATH", in_every_process(tmp_path / "idle", IDLE))
        executor, told = LocalExecutor(), []
        for _ in range(2):
            worker = executor.start(job(made_up), tmp_path / "worker.log")
            started = heard(executor, worker)[worker][0]
            assert is_forked(worker) and isinstance(started, Started), started
            told.append(started.identity.code_sha256)
            with (package / "models.py").open("a") as file:
                file.write("CHANGED = 1\n")
        executor.stop()
        assert told[0] == told[1]


@pytest.fixture
def health() -> Iterator[str]:
    """The address of a server on this machine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.fault("other-variables")
class TestVariablesOfOtherPrograms:
    @pytest.fixture(autouse=True)
    def restored(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """What `settle` changes is as before, after the test."""
        monkeypatch.setattr(sys, "path", list(sys.path))
        with mock.patch.dict(os.environ):
            yield

    @pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY"])
    def test_this_machine_is_asked_without_a_proxy(
        self, health: str, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        for other in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(other, "example.org")
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setattr(ui, "START", 2.0)
        settle()
        ui._wait(SimpleNamespace(poll=lambda: None), health)  # type: ignore[arg-type]
        assert requests.utils.get_environ_proxies("http://localhost:5000/") == {}
        assert requests.utils.get_environ_proxies("http://example.org/") == {}
        assert requests.utils.get_environ_proxies("http://example.com/")

    def test_who_asks_nothing_by_a_proxy_still_does_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("no_proxy", "*")
        settle()
        assert requests.utils.should_bypass_proxies("http://example.org/", no_proxy=None)

    def test_a_back_end_of_matplotlib_that_is_not_there_draws_all_the_same(self) -> None:
        given = worker_variables({**os.environ, "MPLBACKEND": "Qt4Agg", "PYTHONWARNINGS": "error"}, "cpu", "portable")
        code = "import fashion_cnn.figures, warnings; warnings.warn('w')"
        said = subprocess.run([sys.executable, "-c", code], env=given, cwd=REPOSITORY, capture_output=True, check=False)
        assert said.returncode == 0, said.stderr

    def test_the_builder_takes_keras_with_tensorflow_whatever_is_set(self, tmp_path: Path) -> None:
        (tmp_path / "keras.py").write_text("import os; raise SystemExit(os.environ['KERAS_BACKEND'])")
        assert self.builder(PYTHONPATH=str(tmp_path), KERAS_BACKEND="jax") == "tensorflow"

    def test_the_builder_says_so_where_keras_has_another_back_end_already(self, tmp_path: Path) -> None:
        said = self.builder("sys.modules['keras'] = SimpleNamespace(config=SimpleNamespace(backend=lambda: 'jax'))")
        told = (
            "EnvironmentFault: Keras was imported with the back end jax; start again and import fashion_cnn before it"
        )
        assert said.endswith(told)

    def builder(self, before: str = "pass", **variables: str) -> str:
        code = f"import sys; from types import SimpleNamespace; {before}; import fashion_cnn.builder"
        said = subprocess.run(
            [sys.executable, "-c", code],
            cwd=REPOSITORY, env={**os.environ, **variables}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return said.stderr.strip()

    def test_warnings_that_shall_be_errors_and_no_home_keep_no_command_from_the_store(self, tmp_path: Path) -> None:
        homeless = in_every_process(tmp_path / "homeless", HOMELESS)
        variables = {**os.environ, "PYTHONWARNINGS": "error", "PYTHONPATH": homeless}
        code = (
            "from fashion_cnn.environment import settle; settle(); import mlflow, pandas, warnings; warnings.warn('w')"
        )
        said = subprocess.run(
            [sys.executable, "-c", code], cwd=REPOSITORY, env=variables, capture_output=True, check=False
        )
        assert said.returncode == 0, said.stderr

    def test_a_folder_that_is_gone_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "gone").mkdir()
        words = f"cd {tmp_path}/gone && rmdir ../gone && exec {sys.executable} -m experiments list"
        variables = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        said = subprocess.run(["sh", "-c", words], env=variables, capture_output=True, text=True, check=False)
        assert said.returncode == 2
        assert said.stderr == "error: the current folder is gone; change to one that is there (cd)\n"


@pytest.mark.fault("broken-neighbours")
def test_what_interrupted_installations_leave_fails_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, numpy = packages(), version("numpy")
    for name in ("~umpy-2.4.6", "numpy-2.4.6", "odd-1.0", "nameless-1.0"):
        (tmp_path / f"{name}.dist-info").mkdir()
    (tmp_path / "odd-1.0.dist-info" / "METADATA").write_bytes(b"Name: odd\xff\nVersion: 1.0\n")
    (tmp_path / "nameless-1.0.dist-info" / "METADATA").write_text("Version: 1.0\n")
    (tmp_path / "file-1.0.dist-info").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert packages() == before and version("numpy") == numpy is not None


@pytest.mark.fault("any-terminal")
class TestATerminalOfAnotherKind:
    def test_results_can_be_read_in_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with (tmp_path / "said").open("w", encoding="ascii") as said:
            monkeypatch.setattr("sys.stdout", said)
            assert console(STUDIES, POST_RESULTS, RESULTS, ["results"]) == 0
        text = (tmp_path / "said").read_text(encoding="ascii")
        assert re.search(r"[+-]0\.\d{4} to [+-]0\.\d{4}", text) and "- test accuracy: cnn higher than dense" in text

    def test_an_output_that_was_closed_from_the_start_goes_nowhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdout", None)
        readable_outputs()
        with sys.stdout:
            assert not sys.stdout.isatty() and sys.stdout.write("é") == 1

    def test_what_it_lacks_is_said_by_what_is_near_and_odd_bytes_by_marks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with (tmp_path / "said").open("w", encoding="ascii") as said:
            monkeypatch.setattr("sys.stdout", said)
            readable_outputs()
            print("16 filters · seed 0 — 0.90 ± 0.01 … é \udcff", flush=True)
        assert (tmp_path / "said").read_text() == "16 filters - seed 0 - 0.90 +- 0.01 ... e ?\n"


@pytest.mark.fault("home")
class TestHomes:
    @pytest.fixture(autouse=True)
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        (tmp_path / "home").mkdir()
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.chdir(tmp_path / "elsewhere")
        yield
        assert list((tmp_path / "elsewhere").iterdir()) == []

    def test_a_tilde_is_ones_home_wherever_a_path_is_given(
        self, tmp_path: Path, made_up: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = tmp_path / "home"
        assert resolve("sqlite:///~/s/w.db", tmp_path).file == home / "s" / "w.db"
        monkeypatch.setenv("FASHION_CNN_TRAJECTORIES", "~/t")
        assert resolve("http://localhost", tmp_path).trajectories == home / "t"
        write_output(Path("~/report.html"), b"x")
        assert (home / "report.html").read_bytes() == b"x"
        (home / "data").symlink_to(made_up)
        assert find("~/data") == home / "data"

    def test_nobodys_home_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="lies in the home of a user who has none; write the whole path"):
            resolve("sqlite:///~nobody.at.all/w.db", tmp_path)
        with pytest.raises(OutputError, match="name another with --output"):
            write_output(Path("~nobody.at.all/x"), b"x")

    def test_a_user_without_a_home_gets_no_folder_of_that_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def nobody(number: int) -> None:
            raise KeyError(number)

        for name in ("HOME", "XDG_CACHE_HOME", "KERAS_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("pwd.getpwuid", nobody)
        assert _keras_cache().is_absolute()
        monkeypatch.setattr(sys, "path", list(sys.path))
        with mock.patch.dict(os.environ):
            settle()
            monkeypatch.setattr(known_answers, "differing", lambda **_: [])
            assert known_answers._remembered_fault(lambda _: {}) == ""


@pytest.mark.fault("other-systems")
class TestOtherSystems:
    def test_without_proc_and_affinity_what_is_asked_of_them_is_left_out(self, tmp_path: Path) -> None:
        code = """
from fashion_cnn.environment import choose, cores, machine
from fashion_cnn.running.load import usage
from fashion_cnn.running.template import _threads
print([choose(None).arithmetic, cores() >= 1, machine()["vector_flags"], usage(), _threads() > 1])
"""
        variables = {**os.environ, "PYTHONPATH": in_every_process(tmp_path / "hidden", HIDDEN)}
        said = subprocess.run(
            [sys.executable, "-c", code], cwd=REPOSITORY, env=variables, capture_output=True, text=True, check=False
        )
        assert said.stdout == "['native', True, [], None, True]\n", said.stderr

    @pytest.mark.thorough
    def test_without_proc_and_affinity_runs_are_made(self, tmp_path: Path, made_up: Path) -> None:
        lab = Lab(tmp_path / "lab", made_up)
        hidden = {**lab.variables, "PYTHONPATH": in_every_process(tmp_path / "hidden", HIDDEN)}
        said = called("train", "--model", "dense", "--epochs", 1, **hidden)
        assert said.returncode == 0, said.stderr
        assert "native, because this system does not tell what its processor can do" in said.stderr
        (row,) = lab.runs().to_dict("records")
        assert row["status"] == "FINISHED" and row["arithmetic"] == "native"

    def test_what_cannot_run_it_is_told_at_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("os.name", "nt")
            with pytest.raises(EnvironmentFault) as caught:
                settle()
        assert "WSL 2" in str(caught.value)

    def test_no_linux_is_told_at_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from fashion_cnn.running.progress import environment_lines

        executor: Any = SimpleNamespace(places=lambda **_: [], left_out={})
        assert list(environment_lines(executor)) == []
        monkeypatch.setattr("sys.platform", "darwin")
        assert [line.partition(":")[0] for line in environment_lines(executor)] == ["this is no Linux"]
