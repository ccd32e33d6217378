"""The command line with a script in its workers' place: runs are recorded in no time, and disturbed where it is asked.

All else is real: the plan, the runner, the recorder, the store. Each write comes at its place in the order of things,
so that a call does the same each time.
"""

from __future__ import annotations

import io
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from experiments import POST_RESULTS
from fashion_cnn.checkout import Checkout
from fashion_cnn.cli import console
from fashion_cnn.config import CNN, DENSE, TRAINING_IMAGES, RunConfig, trajectory_sha256
from fashion_cnn.data import FASHION_MNIST, FASHION_MNIST_SHA256
from fashion_cnn.environment import fingerprint_sha256
from fashion_cnn.events import Drawn, Event, Failed, Identity, Job, is_drawn
from fashion_cnn.running.cut import cuts_of
from fashion_cnn.running.executor import Ended, Place
from fashion_cnn.sources import files_sha256
from fashion_cnn.store import tracking
from fashion_cnn.store.recorder import _Heart, _Sender
from fashion_cnn.study import Study
from tests.support import scripted

STUDIES = (
    Study("baseline_study", "Which one?", {"dense": replace(DENSE, epochs=2), "cnn": replace(CNN, epochs=2)}),
    Study("epochs_study", "How long?", {f"{n} epochs": replace(CNN, epochs=n) for n in (2, 3)}),
)
CLONES = {"ours": scripted.CODE, "another": {**scripted.CODE, "training.py": "5" * 64}}
"""The code of each clone that writes into the store."""
COMMIT = Checkout(scripted.MADE_WITH["git_commit"], dirty=False, diff="")
WRITES = {"open": 0, "os.rename": 1, "os.remove": 0, "os.mkdir": 0, "os.rmdir": 0, "shutil.rmtree": 0}
"""Python's audit events of what changes a folder, and which of their arguments names the path."""


@dataclass(frozen=True)
class Incident:
    """What happens when the workers of a call are about to say something for so manieth a time."""

    at: int
    what: Callable[[], Event | Ended | None]


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def failure() -> Failed:
    return Failed("RuntimeError: as the script has it", "Traceback of the script")


def out_of_memory() -> Ended:
    return Ended("the worker was ended by SIGKILL", by_signal=True)


def identity(clone: str) -> Identity:
    """What runs are trained under, by a clone's code."""
    return Identity(FASHION_MNIST_SHA256, files_sha256(CLONES[clone]), fingerprint_sha256(scripted.FINGERPRINT))


def number(trajectory: str) -> int:
    """Which script a trajectory follows: that of this seed in `scripted`. All its numbers differ from any other's."""
    return int(trajectory[:8], 16)


class Script:
    """An executor whose workers follow scripts, as a real worker goes on from its job; one speaks at a time."""

    left_out: Mapping[str, str] = {}

    def __init__(self, clone: str, incident: Incident | None) -> None:
        self._identity, self._incident = identity(clone), incident
        self._said, self._workers = 0, dict[int, Iterator[Event]]()

    def places(self, threads: int) -> Sequence[Place]:
        return [Place(scripted.FINGERPRINT, self._identity.environment_sha256, workers=1, machines=("here",))]

    def prepare(self) -> None:
        pass

    def start(self, job: Job, output: Path, environment_sha256: str | None = None) -> int:
        worker = max(self._workers, default=0) + 1
        self._workers[worker] = self._work(job)
        return worker

    def events(self, timeout: float) -> Iterator[tuple[int, Event | Ended]]:
        for worker, saying in list(self._workers.items()):
            self._said += 1
            event: Event | Ended | None = None
            if self._incident is not None and self._said == self._incident.at:
                event = self._incident.what()
            event = event or next(saying, Ended())
            if isinstance(event, Failed):
                self._workers[worker] = iter(())
            if isinstance(event, Ended):
                del self._workers[worker]
            yield worker, event

    def cancel(self, worker: int) -> None:
        self._workers[worker] = iter(())

    def stop(self) -> None:
        self._workers.clear()

    def _work(self, job: Job) -> Iterator[Event]:
        config, rules = RunConfig.from_mapping(job.settings), [RunConfig.from_mapping(rule) for rule in job.rules]
        identity = self._identity
        script = number(trajectory_sha256(config, job.seed, **vars(identity)))
        yield scripted.started(identity, config.model)
        for past in job.past_cuts:
            yield Drawn(past.epoch, {"convolution_1": scripted.PIXEL})
            yield scripted.cut_done(script, past.epoch)
        done, history = {*job.done_cuts, *(past.epoch for past in job.past_cuts)}, list(job.history)
        epoch = job.state.epoch if job.state else 0
        while True:
            if is_drawn(epoch):
                yield Drawn(epoch, {"convolution_1": scripted.PIXEL})
            cuts = cuts_of(rules, history)
            if all(cut is not None and (cut.epoch <= epoch or cut.epoch in done) for cut in cuts):
                return
            epoch += 1
            event = scripted.epoch_done(script, epoch, identity)
            history += [event.metrics] if epoch > len(history) else []
            yield event
            if epoch in {cut.epoch for cut in cuts_of(rules, history) if cut} - done:
                done.add(epoch)
                yield Drawn(epoch, {"convolution_1": scripted.PIXEL})
                yield scripted.cut_done(script, epoch)


def play(
    folder: Path, *words: object, clone: str = "ours", published: Path | None = None, incident: Incident | None = None
) -> tuple[int, str]:
    """Call the command line for the store in a folder; its exit status, and what it printed, errors last."""
    printed, errors = io.StringIO(), io.StringIO()
    told = {"sha256": FASHION_MNIST_SHA256, "file_sha256": FASHION_MNIST.file_sha256}
    data = SimpleNamespace(**told, made_up=False, train_labels=range(TRAINING_IMAGES))
    instead = {
        "session.LocalExecutor": lambda device, arithmetic: Script(clone, incident),
        "session.load_dataset": lambda folder: data,
        "session.find": lambda folder: Path("nowhere"),
        "session.code_files": lambda: CLONES[clone],
        "runner.checkout": lambda: COMMIT,
        "runner.packages": lambda: ("numpy==2.4.6",),
    }
    with ExitStack() as stack:
        for name, value in instead.items():
            stack.enter_context(mock.patch(f"fashion_cnn.running.{name}", value))
        # What is to be sent is sent at once, by the thread that said so; and no heart beats in between.
        stack.enter_context(mock.patch.object(_Sender, "notify", _Sender._send))
        stack.enter_context(mock.patch.object(_Heart, "watch"))
        stack.enter_context(mock.patch.object(tracking, "LOST_AFTER", -1.0))  # hours lie between two commands
        stack.enter_context(mock.patch("fashion_cnn.cli.ui.serve", return_value=0))
        stack.enter_context(mock.patch.dict(os.environ, {"MLFLOW_TRACKING_URI": scripted.database(folder)}))
        stack.enter_context(redirect_stdout(printed))
        stack.enter_context(redirect_stderr(errors))
        status = console(STUDIES, POST_RESULTS, published or folder / "results", [str(word) for word in words])
    return status, printed.getvalue() + errors.getvalue()


def killed(at: int, folder: Path, *words: object, **how: Any) -> tuple[int | None, str]:
    """As `play`, in a process of its own which SIGKILL ends before it writes into the folder for so manieth a time.

    The status is None where that came to pass.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _die_at(at, folder)
            answer: Any = play(folder, *words, **how)
        except BaseException:
            answer = traceback.format_exc()
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(pickle.dumps(answer))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None, ""
    answer = pickle.loads(content)
    assert isinstance(answer, tuple), answer
    return answer[0], answer[1]


def _die_at(at: int, folder: Path) -> None:
    """Have this process end before it writes into a folder, or commits to a database, for so manieth a time."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    left = at

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(name: str, arguments: tuple[Any, ...]) -> None:
        place = WRITES.get(name)
        if place is None or not os.fspath(str(arguments[place])).startswith(str(folder)):
            return
        if name != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR):
            count()

    forget_connections(close=False)
    event.listen(Engine, "commit", count)
    sys.addaudithook(audit)


def forget_connections(close: bool = True) -> None:
    """Have MLflow look anew for databases and, by a run's id, for artifacts, as in a process of its own.

    One that was forked must not use its parent's connections, nor `close` them.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

    for engine in SqlAlchemyStore._engine_map.values():
        engine.dispose(close=close)
    _artifact_repos_cache.clear()
