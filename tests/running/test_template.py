"""Workers that are forked from a template, and what becomes of them and of it; all are real processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fashion_cnn.config import CNN
from fashion_cnn.events import CutDone, EpochDone, Event, Failed, Job
from fashion_cnn.running.executor import Ended, LocalExecutor, Worker
from fashion_cnn.running.template import Forked, Template, TemplateError
from tests.support.command import REPOSITORY
from tests.support.servers import is_alive
from tests.support.watch import in_every_process, kill, wait_until

CONFIG = replace(CNN, filters=4, epochs=1)
NOWHERE = "/nonexistent"  # a folder whose worker fails before it needs TensorFlow

# In a template: nothing of TensorFlow, which takes seconds to import. What its workers are to train with never comes.
LIGHT = """
import sys, time, types
if "fashion_cnn.running.template" in sys.orig_argv:
    sys.modules["fashion_cnn.training"] = types.ModuleType("fashion_cnn.training")
    sys.modules["fashion_cnn.training"].set_up_process = lambda *_: time.sleep(600)
"""
THREADED = f"""{LIGHT}
    import threading, time
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
"""
# A worker fails by how it looks for garbage.
GARBAGE = LIGHT.replace("import sys", "import gc, os, sys").replace(
    "time.sleep(600)", "os.listdir(str((gc.get_threshold()[0], gc.get_freeze_count())))"
)
# A runner with a worker that waits for its job; it tells the ids of both template and worker, and waits, too.
RUNNER = """
import os, signal, sys
from fashion_cnn.running.template import Template
template, (reading, writing) = Template(os.environ), os.pipe()
worker = template.fork(reading, sys.stderr.fileno())
os.close(reading)
print(template._process.pid, worker.pid, flush=True)
signal.pause()
"""


def job(data: Path | str, seed: int = 0) -> Job:
    return Job(CONFIG.canonical(), (CONFIG.canonical(),), seed=seed, data_dir=str(data), images=(64, 32))


def heard(executor: LocalExecutor, *workers: Worker) -> dict[Worker, list[Event | Ended]]:
    """All that workers say until each has ended."""
    said: dict[Worker, list[Any]] = {worker: [] for worker in workers}
    while not all(events and isinstance(events[-1], Ended) for events in said.values()):
        for worker, event in executor.events(timeout=1):
            said[worker].append(event)
    return said


def trained(events: list[Event | Ended]) -> str:
    (epoch,) = [event for event in events if isinstance(event, EpochDone)]
    assert events[-1] == Ended()
    return epoch.weights_sha256


def number(worker: Worker) -> int:
    """The process id of a worker, once it has its job."""
    assert isinstance(worker.process, Forked)
    tasks = Path(f"/proc/{worker.process.pid}/task")
    wait_until(lambda: len(list(tasks.iterdir())) > 1, "the thread that ends it with its runner")
    return worker.process.pid


def is_forked(worker: Worker) -> bool:
    return isinstance(worker.process, Forked)


@pytest.fixture(scope="module")
def executor() -> Iterator[LocalExecutor]:
    """One whose template has imported TensorFlow."""
    executor = LocalExecutor()
    yield executor
    executor.stop()


@pytest.fixture
def light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalExecutor]:
    """One whose template is ready at once."""
    monkeypatch.setenv("PYTHONPATH", in_every_process(tmp_path / "light", LIGHT))
    executor = LocalExecutor()
    yield executor
    executor.stop()


class TestAForkedWorker:
    def test_trains_to_the_bits_of_a_fresh_process_beside_others_and_counts_its_own_memory(
        self, executor: LocalExecutor, data: Path, tmp_path: Path
    ) -> None:
        alone = LocalExecutor(forks=False)
        fresh = alone.start(job(data), tmp_path / "fresh.log")
        expected = heard(alone, fresh)[fresh]
        alone.stop()
        forked = [executor.start(job(data, seed), tmp_path / f"{seed}.log") for seed in (0, 1)]
        assert not is_forked(fresh) and all(is_forked(worker) for worker in forked)
        same, other = heard(executor, *forked).values()
        assert trained(same) == trained(expected) != trained(other)
        peaks = [e.peak_memory_mib for events in (same, expected) for e in events if isinstance(e, CutDone)]
        assert 100 < peaks[0] <= 1.1 * peaks[1]

    def test_seldom_looks_for_garbage_and_never_in_what_the_template_imported(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", in_every_process(tmp_path / "garbage", GARBAGE))
        executor = LocalExecutor()
        worker = executor.start(job(data), tmp_path / "worker.log")
        failed, _ = heard(executor, worker)[worker]
        executor.stop()
        assert isinstance(failed, Failed)
        (threshold, frozen) = re.findall(r"\d+", failed.reason.partition("'(")[2])
        assert int(threshold) > 10_000 and int(frozen) > 10_000

    def test_says_itself_why_it_fails(self, light: LocalExecutor, tmp_path: Path) -> None:
        worker = light.start(job(NOWHERE), tmp_path / "worker.log")
        failed, ended = heard(light, worker)[worker]
        assert is_forked(worker) and isinstance(failed, Failed) and NOWHERE in failed.reason and ended == Ended()
        assert worker.process.wait(0) == 1

    def test_has_its_own_session_its_own_output_and_no_descriptor_of_the_template_or_of_another_worker(
        self, light: LocalExecutor, data: Path, tmp_path: Path
    ) -> None:
        workers = [light.start(job(data), tmp_path / name) for name in ("one.log", "other.log")]
        for worker in workers:
            assert os.getsid(number(worker)) == number(worker)
            opened = {int(path.name): os.readlink(path) for path in Path(f"/proc/{number(worker)}/fd").iterdir()}
            assert opened[0] == os.devnull and opened[1] == opened[2] == str(worker.output)
            besides = [name for descriptor, name in opened.items() if descriptor > 2 and not name.startswith("/")]
            assert len(besides) == 1 and besides[0].startswith("socket:")
        light.stop()
        assert all(worker.process.wait(0) == -signal.SIGTERM for worker in workers)

    def test_has_the_variables_of_its_arithmetic(
        self, light: LocalExecutor, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
        found = {}
        for arithmetic in ("portable", "native"):
            worker = light.start(replace(job(data), arithmetic=arithmetic), tmp_path / "worker.log")
            words = Path(f"/proc/{number(worker)}/environ").read_bytes().split(b"\0")
            found[arithmetic] = b"ONEDNN_MAX_CPU_ISA=AVX2" in words, b"CUDA_VISIBLE_DEVICES=-1" in words
        assert found == {"portable": (True, True), "native": (False, True)}

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
    def test_that_a_signal_ends_is_told_with_it(
        self, light: LocalExecutor, data: Path, tmp_path: Path, how: signal.Signals
    ) -> None:
        worker, other = (light.start(job(data), tmp_path / name) for name in ("one.log", "other.log"))
        if how == signal.SIGTERM:
            light.cancel(worker)
        else:
            os.kill(number(worker), how)
        ended = heard(light, worker)[worker][-1]
        assert isinstance(ended, Ended) and ended.by_signal and how.name in str(ended.error)
        with pytest.raises(subprocess.TimeoutExpired):
            other.process.wait(0)


class TestATemplate:
    def test_has_tensorflow_and_nothing_that_keras_would_import_for_what_no_worker_does(
        self, executor: LocalExecutor, tmp_path: Path
    ) -> None:
        worker = executor.start(job(NOWHERE), tmp_path / "worker.log")
        assert is_forked(worker) and heard(executor, worker)[worker]
        (template,) = executor._templates.values()
        loaded = Path(f"/proc/{template._process.pid}/maps").read_text()
        assert "/tensorflow/" in loaded and not any(f"/{unused}/" in loaded for unused in ("pandas", "sklearn"))

    def test_that_dies_takes_its_workers_with_it_and_fresh_processes_do_what_is_left(
        self, light: LocalExecutor, data: Path, tmp_path: Path
    ) -> None:
        worker = light.start(job(data), tmp_path / "worker.log")
        pid, (template,) = number(worker), light._templates.values()
        kill(template._process.pid)
        ended = heard(light, worker)[worker][-1]
        assert isinstance(ended, Ended) and ended.by_signal and "SIGKILL" in str(ended.error)
        wait_until(lambda: not is_alive(pid), "it ends", patience=10)
        fresh = light.start(job(NOWHERE), tmp_path / "worker.log")
        assert not is_forked(fresh) and isinstance(heard(light, fresh)[fresh][0], Failed)

    def test_of_more_than_one_thread_does_not_fork_and_fresh_processes_do_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", in_every_process(tmp_path / "threaded", THREADED))
        executor = LocalExecutor()
        worker = executor.start(job(NOWHERE), tmp_path / "worker.log")
        assert not is_forked(worker) and isinstance(heard(executor, worker)[worker][0], Failed)
        (template,) = executor._templates.values()
        with pytest.raises(TemplateError, match="more than one thread"):
            template.fork(0, 1)
        executor.stop()

    def test_is_ended_though_it_still_imports(self) -> None:
        template = Template(os.environ)
        template.stop()
        assert template._process.returncode == -signal.SIGKILL

    def test_ends_with_its_caller_though_that_is_killed_and_so_does_a_worker_without_a_job(
        self, tmp_path: Path
    ) -> None:
        variables = {**os.environ, "PYTHONPATH": in_every_process(tmp_path / "light", LIGHT)}
        runner = subprocess.Popen(
            [sys.executable, "-c", RUNNER], cwd=REPOSITORY, env=variables, stdout=subprocess.PIPE, text=True
        )
        assert runner.stdout is not None
        with runner.stdout as stream:
            started = [int(word) for word in stream.readline().split()]
        assert len(started) == 2 and all(is_alive(number) for number in started)
        runner.kill()
        runner.wait()
        wait_until(lambda: not any(is_alive(number) for number in started), "both end", patience=10)
