"""The process: a job in, a stream of events out. It writes nothing that lasts.

`python -m fashion_cnn.worker FD` takes a job from the socket it inherits as file descriptor FD and sends events
back. The socket is also its lifeline: when the other end closes, because the runner ended or was killed, the worker
ends at once, in the middle of an epoch if need be.
"""

from __future__ import annotations

import io
import json
import os
import platform
import resource
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fashion_cnn.config import RunConfig
from fashion_cnn.data import CLASS_NAMES, Dataset, load
from fashion_cnn.environment import code_sha256, fingerprint, fingerprint_sha256
from fashion_cnn.events import CutDone, EpochDone, Event, Failed, Identity, Job, Started

if TYPE_CHECKING:
    from fashion_cnn.training import Evaluation, Trainer

SHOWN_IMAGES = (0, 23, 28)  # the first three ankle boots among the test images, as the post shows
LOST_RUNNER = 70  # exit status


def work(job: Job) -> Iterator[Event]:
    """Do a job, in this process.

    Yields:
        One `Started`; for each epoch an `EpochDone`; a `CutDone` at every epoch where a stopping rule ends a run
        and that is not done yet.

    Raises:
        DataError, TrainingError: the job cannot be done; `serve` turns these into a `Failed`.
    """
    config = RunConfig.from_mapping(job.settings)
    rules = [RunConfig.from_mapping(rule) for rule in job.rules]
    data = load(job.data_dir)
    if job.images is not None:
        data = data.first(*job.images)
    # TensorFlow takes seconds to import: not before the data are known to be good.
    from fashion_cnn import training

    training.set_up_process(config.threads, job.device)
    identity = Identity(
        data_sha256=data.sha256,
        code_sha256=code_sha256(),
        environment_sha256=fingerprint_sha256(fingerprint(config.threads, job.device)),
    )
    trainer = training.Trainer(config, job.seed, data.train_images, data.train_labels)
    yield Started(
        identity,
        node=platform.node(),
        parameters=sum(int(np.prod(variable.shape)) for variable in trainer.model.trainable_variables),
        model_summary=_summary(trainer.model),
        trace_seconds=trainer.trace_seconds,
    )
    done = set(job.done_cuts)
    for past in job.past_cuts:
        trainer.restore(past)
        done.add(past.epoch)
        yield _cut(trainer, data, trainer.evaluate(data.test_images, data.test_labels))
    losses = list(job.losses)
    if job.state is not None:
        trainer.restore(job.state)
    elif job.past_cuts:
        trainer = training.Trainer(config, job.seed, data.train_images, data.train_labels)
    while any(rule.cut(losses) is None for rule in rules) or any(
        cut.epoch > trainer.epoch and cut.epoch not in done for rule in rules if (cut := rule.cut(losses))
    ):
        epoch = next(training.train(trainer, trainer.epoch + 1))
        evaluation = trainer.evaluate(data.test_images, data.test_labels)
        state = trainer.state()
        yield EpochDone(
            state=state,
            weights_sha256=state.weights_sha256(),
            metrics={
                "loss": epoch.loss,
                "accuracy": epoch.accuracy,
                "test_loss": evaluation.loss,
                "test_accuracy": evaluation.accuracy,
                "epoch_seconds": epoch.seconds,
                "epoch_cpu_seconds": epoch.cpu_seconds,
                "images_per_second": len(data.train_images) / epoch.seconds,
            },
            ended_at=time.time_ns() // 1_000_000,
            identity=identity,
        )
        if epoch.epoch > len(losses):
            losses.append(epoch.loss)
        cuts = {cut.epoch for rule in rules if (cut := rule.cut(losses))}
        if epoch.epoch in cuts - done:
            done.add(epoch.epoch)
            yield _cut(trainer, data, evaluation)


def _cut(trainer: Trainer, data: Dataset, evaluation: Evaluation) -> CutDone:
    files = {
        "model.keras": trainer.native_model(),
        "per_class.json": json.dumps(per_class(evaluation.probabilities, data.test_labels)).encode(),
    }
    shown = [index for index in SHOWN_IMAGES if index < len(data.test_images)]
    if maps := trainer.activations(data.test_images[shown]):
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=np.array(shown), **maps)  # type: ignore[arg-type]  # of numpy's stub
        files["activations.npz"] = buffer.getvalue()
    return CutDone(
        epoch=trainer.epoch,
        weights_sha256=trainer.state().weights_sha256(),
        evaluate_seconds=evaluation.seconds,
        peak_memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        files=files,
    )


def per_class(probabilities: NDArray[np.float32], labels: NDArray[np.uint8]) -> dict[str, list[Any]]:
    """A table of how each class was answered: columns by name, one row a class.

    Args:
        probabilities: (n, 10).
        labels: (n,).

    Returns:
        `class`, `images` (of that class), `recall` (share of them answered so), `precision` (share of such answers
        that are right; 0 where there is none), and `answered <class>` counts: the rows of the confusion matrix.
    """
    answers = probabilities.argmax(axis=1)
    confusion = np.zeros((len(CLASS_NAMES), len(CLASS_NAMES)), dtype=int)
    np.add.at(confusion, (labels, answers), 1)
    right = np.diag(confusion)
    return {
        "class": list(CLASS_NAMES),
        "images": confusion.sum(axis=1).tolist(),
        "recall": (right / np.maximum(confusion.sum(axis=1), 1)).tolist(),
        "precision": (right / np.maximum(confusion.sum(axis=0), 1)).tolist(),
        **{f"answered {name}": confusion[:, index].tolist() for index, name in enumerate(CLASS_NAMES)},
    }


def _summary(model: Any) -> str:
    lines: list[str] = []
    model.summary(print_fn=lambda line, **_: lines.append(line), line_length=90)
    return "\n".join(lines) + "\n"


def serve(connection: Connection) -> None:
    """Take one job from a connection, send its events, close."""
    job: Job = connection.recv()
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    try:
        for event in work(job):
            connection.send(event)
    except Exception as error:  # whatever it is, the runner must hear of it
        connection.send(Failed(f"{type(error).__name__}: {error}".splitlines()[0], traceback.format_exc()))
        sys.exit(1)


def _end_with(connection: Connection) -> None:
    try:
        connection.recv()
    except (EOFError, OSError):
        os._exit(LOST_RUNNER)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
