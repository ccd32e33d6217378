"""The process: a job in, a stream of events out. It writes nothing that lasts.

`python -m fashion_cnn.running.worker FD` takes a job from the socket it inherits as file descriptor FD and sends events
back. The socket is also its lifeline: when the other end closes, because the runner ended or was killed, the worker
ends at once, in the middle of an epoch if need be.
"""

from __future__ import annotations

import math
import os
import platform
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from functools import cache, partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np

from fashion_cnn.config import RunConfig
from fashion_cnn.data import Dataset, load
from fashion_cnn.environment import fingerprint, fingerprint_sha256, machine
from fashion_cnn.events import Drawn, EpochDone, Event, Failed, Identity, Job, Problems, Started, is_drawn
from fashion_cnn.known_answers import answers
from fashion_cnn.running.cut import Shown, cut_done, cuts_of, draw_layers, shown_images
from fashion_cnn.running.load import other_load, usage
from fashion_cnn.sample import sampled
from fashion_cnn.sources import code_sha256

if TYPE_CHECKING:
    from fashion_cnn.training import Evaluation, Trainer

LOST_RUNNER = 70  # exit status
SUMMARY_WIDTH = 79  # columns of the table of the layers


@cache
def imported_code_sha256() -> str:
    """The hash of the code as it was when this was first asked: ask at once after it was imported."""
    return code_sha256()


def work(job: Job) -> Iterator[Event]:
    """Do a job, in this process.

    Yields:
        One `Started`; for each epoch an `EpochDone`; a `CutDone` at every epoch where a stopping rule ends a run
        and that is not done yet; `Drawn` besides, where feature maps are drawn.

    Raises:
        DataError, TrainingError: the job cannot be done; `serve` turns these into a `Failed`.
    """
    config = RunConfig.from_mapping(job.settings)
    given = load(job.data_dir)
    if job.images is not None:
        given = given.first(*job.images)
    data, shown = sampled(given, config, job.seed), shown_images(given)
    del given  # which may be a second copy of all images
    # TensorFlow takes seconds to import: not before the data are known to be good.
    from fashion_cnn import training

    training.set_up_process(config.threads, job.device)
    identity = Identity(
        data_sha256=data.sha256,
        code_sha256=imported_code_sha256(),
        environment_sha256=fingerprint_sha256(fingerprint(config.threads, job.device, job.arithmetic)),
    )
    untrained = partial(training.Trainer, config, job.seed, data.train_images, data.train_labels)
    extension = _Extension(job, data, shown, identity, untrained)
    yield extension.started()
    yield from extension.past_cuts()
    yield from extension.epochs()


class _Extension:
    """A trajectory on its way from a job's state to the last cut that the job asks for."""

    def __init__(
        self, job: Job, data: Dataset, shown: Shown, identity: Identity, untrained: Callable[[], Trainer]
    ) -> None:
        self._job, self._data, self._shown, self._identity, self._untrained = job, data, shown, identity, untrained
        self._rules = [RunConfig.from_mapping(rule) for rule in job.rules]
        self._done = set(job.done_cuts)
        self._history = list(job.history)
        self._drawing_error = ""  # the first
        self._trainer = untrained()

    def started(self) -> Started:
        """What there is to say before any epoch."""
        model = self._trainer.model
        return Started(
            self._identity,
            node=platform.node(),
            parameters=sum(int(np.prod(variable.shape)) for variable in model.trainable_variables),
            model_summary=_summary(model),
            trace_seconds=self._trainer.trace_seconds,
            machine=machine(),
        )

    def past_cuts(self) -> Iterator[Event]:
        """Make the cuts that lie before the job's state."""
        for past in self._job.past_cuts:
            self._trainer.restore(past)
            yield from self._cut(self._evaluate(), "")
        if self._job.past_cuts and self._job.state is None:
            self._trainer = self._untrained()

    def epochs(self) -> Iterator[Event]:
        """Train from the job's state until every stopping rule has its cut."""
        if self._job.state is not None:
            self._trainer.restore(self._job.state)
        # Also when it resumes: the worker before it may have been stopped between an epoch and its picture.
        yield from self._draw()
        while self._is_unfinished():
            done, evaluation = self._train_epoch()
            yield done
            if done.epoch > len(self._history):
                self._history.append(done.metrics)
            if done.epoch in {cut.epoch for cut in cuts_of(self._rules, self._history) if cut} - self._done:
                yield from self._cut(evaluation, self._drawing_error)
            else:
                yield from self._draw()

    def _is_unfinished(self) -> bool:
        """Whether a stopping rule has no cut yet, or one that lies ahead and is not done."""
        cuts = cuts_of(self._rules, self._history)
        return any(cut is None or (cut.epoch > self._trainer.epoch and cut.epoch not in self._done) for cut in cuts)

    def _train_epoch(self) -> tuple[EpochDone, Evaluation]:
        from fashion_cnn import training

        before = usage()
        epoch = self._trainer.train_epoch()
        load = other_load(before, usage())
        evaluation = self._evaluate()
        if not math.isfinite(evaluation.loss):
            raise training.TrainingError(f"the test loss became {evaluation.loss} in epoch {epoch.epoch}")
        state = self._trainer.state()
        metrics = {
            "loss": epoch.loss,
            "accuracy": epoch.accuracy,
            "test_loss": evaluation.loss,
            "test_accuracy": evaluation.accuracy,
            "epoch_seconds": epoch.seconds,
            "epoch_cpu_seconds": epoch.cpu_seconds,
            "images_per_second": self._trainer.epoch_images / epoch.seconds,
        }
        ended_at = time.time_ns() // 1_000_000
        return EpochDone(state, state.weights_sha256(), metrics, ended_at, self._identity, load), evaluation

    def _evaluate(self) -> Evaluation:
        return self._trainer.evaluate(self._data.test_images, self._data.test_labels)

    def _draw(self) -> Iterator[Event]:
        if is_drawn(self._trainer.epoch):
            sheets, error = draw_layers(self._trainer, self._shown)
            self._drawing_error = self._drawing_error or error
            if sheets:
                yield Drawn(self._trainer.epoch, sheets)

    def _cut(self, evaluation: Evaluation, error: str) -> Iterator[Event]:
        epoch = self._trainer.epoch
        self._done.add(epoch)
        sheets, fault = draw_layers(self._trainer, self._shown)
        if sheets:
            yield Drawn(epoch, sheets)
        history = self._history[:epoch]
        yield cut_done(self._trainer, self._data, self._shown, evaluation, self._rules, history, error or fault)


def _summary(model: Any) -> str:
    """Keras' table of the layers; it would be cropped to the terminal's width, and to 80 columns without one."""
    lines: list[str] = []
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(SUMMARY_WIDTH + 1)
    try:
        model.summary(print_fn=lambda line, **_: lines.append(line), line_length=SUMMARY_WIDTH)
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
    return "\n".join(lines) + "\n"


def serve(connection: Connection) -> None:
    """Take one job from a connection, send its events, close. Of problems the answers are sent."""
    job: Job | Problems = connection.recv()
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    try:
        for said in work(job) if isinstance(job, Job) else [_solved(job)]:
            connection.send(said)
    except Exception as error:  # whatever it is, the runner must hear of it
        connection.send(Failed(f"{type(error).__name__}: {error}".splitlines()[0], traceback.format_exc()))
        sys.exit(1)


def _solved(problems: Problems) -> dict[str, str]:
    from fashion_cnn import training

    training.set_up_process(threads=1)
    return dict(answers(problems.names))


def _end_with(connection: Connection) -> None:
    try:
        connection.recv()
    except (EOFError, OSError):
        os._exit(LOST_RUNNER)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
