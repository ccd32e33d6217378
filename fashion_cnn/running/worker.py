"""The process: a job in, a stream of events out. It writes nothing that lasts.

`python -m fashion_cnn.running.worker FD` takes a job from the socket it inherits as file descriptor FD and sends events
back. The socket is also its lifeline: when the other end closes, because the runner ended or was killed, the worker
ends at once, in the middle of an epoch if need be.
"""

from __future__ import annotations

import io
import json
import math
import os
import platform
import resource
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fashion_cnn.config import Cut, RunConfig
from fashion_cnn.data import CLASS_NAMES, Dataset, load
from fashion_cnn.environment import code_sha256, fingerprint, fingerprint_sha256
from fashion_cnn.events import CutDone, Drawn, EpochDone, Event, Failed, Identity, Job, Started, is_drawn

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
    history = list(job.history)
    for past in job.past_cuts:
        trainer.restore(past)
        done.add(past.epoch)
        evaluation = trainer.evaluate(data.test_images, data.test_labels)
        yield from _cut(trainer, data, evaluation, rules, history[: past.epoch])
    if job.state is not None:
        trainer.restore(job.state)
    elif job.past_cuts:
        trainer = training.Trainer(config, job.seed, data.train_images, data.train_labels)
    error = ""  # the first of drawing
    # Also where it goes on: what was at it before may have been stopped between an epoch and its picture.
    if is_drawn(trainer.epoch):
        sheets, error = _sheets(trainer, data)
        if sheets:
            yield Drawn(trainer.epoch, sheets)
    while any(cut is None or (cut.epoch > trainer.epoch and cut.epoch not in done) for cut in _cuts(rules, history)):
        epoch = next(training.train(trainer, trainer.epoch + 1))
        evaluation = trainer.evaluate(data.test_images, data.test_labels)
        if not math.isfinite(evaluation.loss):
            raise training.TrainingError(f"the test loss became {evaluation.loss} in epoch {epoch.epoch}")
        state = trainer.state()
        metrics = {
            "loss": epoch.loss,
            "accuracy": epoch.accuracy,
            "test_loss": evaluation.loss,
            "test_accuracy": evaluation.accuracy,
            "epoch_seconds": epoch.seconds,
            "epoch_cpu_seconds": epoch.cpu_seconds,
            "images_per_second": len(data.train_images) / epoch.seconds,
        }
        ended_at = time.time_ns() // 1_000_000
        yield EpochDone(state, state.weights_sha256(), metrics, ended_at, identity)
        if epoch.epoch > len(history):
            history.append(metrics)
        if epoch.epoch in {cut.epoch for cut in _cuts(rules, history) if cut} - done:
            done.add(epoch.epoch)
            yield from _cut(trainer, data, evaluation, rules, history[: epoch.epoch], error)
        elif is_drawn(epoch.epoch):
            sheets, fault = _sheets(trainer, data)
            error = error or fault
            if sheets:
                yield Drawn(epoch.epoch, sheets)


def _cuts(rules: Sequence[RunConfig], history: Sequence[Mapping[str, float]]) -> list[Cut | None]:
    losses = [metrics["loss"] for metrics in history]
    return [rule.cut(losses) for rule in rules]


def _cut(
    trainer: Trainer,
    data: Dataset,
    evaluation: Evaluation,
    rules: Sequence[RunConfig],
    history: Sequence[Mapping[str, float]],
    error: str = "",
) -> Iterator[Event]:
    """What runs that end at the trainer's state leave behind.

    Args:
        trainer: at that state.
        data: to answer and to show.
        evaluation: of the state.
        rules: the runs' configs.
        history: the epochs' metrics; ends with the state, too.
        error: why an earlier epoch could not be drawn, or nothing.
    """
    files = {
        "model.keras": trainer.native_model(),
        "per_class.json": json.dumps(per_class(evaluation.probabilities, data.test_labels)).encode(),
    }
    shown = [index for index in SHOWN_IMAGES if index < len(data.test_images)]
    activations = trainer.activations(data.test_images[shown])
    if activations:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=np.array(shown), **activations)  # type: ignore[arg-type]  # of numpy's stub
        files["activations.npz"] = buffer.getvalue()
    sheets, fault = _sheets(trainer, data)
    error = error or fault
    if sheets:
        yield Drawn(trainer.epoch, sheets)
    # A picture is not worth a run: what cannot be drawn is told and left out.
    try:
        here = [(cut, rule) for cut, rule in zip(_cuts(rules, history), rules, strict=True) if cut]
        stops = {cut: _stopped(cut, rule) for cut, rule in here if cut.epoch == trainer.epoch}
        files |= _figures(data, evaluation, activations, shown, stops, history)
    except Exception as reason:
        error = error or f"{type(reason).__name__}: {reason}"
    yield CutDone(
        epoch=trainer.epoch,
        weights_sha256=trainer.state().weights_sha256(),
        evaluate_seconds=evaluation.seconds,
        peak_memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        files=files,
        drawing_error=error,
    )


def _sheets(trainer: Trainer, data: Dataset) -> tuple[dict[str, bytes], str]:
    """A sheet of all channels for each layer and the first shown image, and why there is none."""
    try:
        from fashion_cnn import figures

        activations = trainer.activations(data.test_images[:1])
        scale = figures.layer_scale([activations])
        sheets = {
            layer: figures.channel_sheet(maps[0], low=scale[layer][0], high=scale[layer][1])
            for layer, maps in activations.items()
        }
        return {layer: _png(sheet) for layer, sheet in sheets.items()}, ""
    except Exception as fault:
        return {}, f"{type(fault).__name__}: {fault}"


def _figures(
    data: Dataset,
    evaluation: Evaluation,
    activations: Mapping[str, NDArray[np.float32]],
    shown: Sequence[int],
    stops: Mapping[Cut, str],
    history: Sequence[Mapping[str, float]],
) -> dict[str, bytes]:
    """The figures of a cut, as PNG by file name."""
    import pandas as pd

    from fashion_cnn import figures

    drawn = {}
    if activations:
        images, boot = data.test_images[list(shown)], CLASS_NAMES[data.test_labels[shown[0]]]
        drawn["feature_maps.png"] = figures.feature_maps(images, activations, class_name=boot, indices=shown)
        first = {layer: values[0] for layer, values in activations.items()}
        drawn["all_channels.png"] = figures.all_channels(first, title=f"Every channel: {boot}, test image {shown[0]}")
    frame = pd.DataFrame(history).assign(epoch=range(1, len(history) + 1))
    for cut, told in stops.items():
        drawn[f"learning_curves.{cut.reason}.png"] = figures.learning_curves(frame, stop=(cut.epoch, told))
    answers, truths = evaluation.probabilities.argmax(axis=1), data.test_labels
    counts = confusion(evaluation.probabilities, truths)
    drawn["confusion_matrix.png"] = figures.confusion_matrix(counts, CLASS_NAMES)
    confidences = evaluation.probabilities.max(axis=1)
    drawn["mistakes.png"] = figures.mistakes(data.test_images, truths, answers, confidences, CLASS_NAMES)
    return {name: figures.png(figure) for name, figure in drawn.items()}


def _stopped(cut: Cut, rule: RunConfig) -> str:
    """Why a run ended where it did, in words."""
    if cut.reason == "callback":
        return f"stopped after epoch {cut.epoch}: training loss below {rule.callback_loss:g}"
    return f"after all {cut.epoch} epochs" if cut.epoch > 1 else "after its one epoch"


def _png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def confusion(probabilities: NDArray[np.float32], labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each class (row) was answered as each (column): (10, 10), of (n, 10) and (n,)."""
    counts = np.zeros((len(CLASS_NAMES), len(CLASS_NAMES)), dtype=np.int64)
    np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    return counts


def per_class(probabilities: NDArray[np.float32], labels: NDArray[np.uint8]) -> dict[str, list[Any]]:
    """A table of how each class was answered: columns by name, one row a class.

    Args:
        probabilities: (n, 10).
        labels: (n,).

    Returns:
        `class`, `recall` (share of the class' images answered so; MLflow's table compares this column at first),
        `precision` (share of such answers that are right; 0 where there is none), `images` (of that class), and
        `answered <class>` counts: the rows of the confusion matrix.
    """
    counts = confusion(probabilities, labels)
    right = np.diag(counts)
    return {
        "class": list(CLASS_NAMES),
        "recall": (right / np.maximum(counts.sum(axis=1), 1)).tolist(),
        "precision": (right / np.maximum(counts.sum(axis=0), 1)).tolist(),
        "images": counts.sum(axis=1).tolist(),
        **{f"answered {name}": counts[:, index].tolist() for index, name in enumerate(CLASS_NAMES)},
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
