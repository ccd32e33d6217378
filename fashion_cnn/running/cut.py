"""What a cut leaves behind: model, table by class, activations, figures; a worker makes them, as bytes."""

from __future__ import annotations

import io
import json
import resource
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fashion_cnn.config import Cut, RunConfig
from fashion_cnn.data import CLASS_NAMES, Dataset
from fashion_cnn.evaluation import confusion, predictions
from fashion_cnn.events import CutDone

if TYPE_CHECKING:
    from fashion_cnn.training import Evaluation, Trainer

MAXRSS = 2**20 if sys.platform == "darwin" else 2**10  # of the units that a system counts memory in, a MiB
SHOWN_IMAGES = (0, 23, 28)  # the first three ankle boots among the test images, as the post shows


def cuts_of(rules: Sequence[RunConfig], history: Sequence[Mapping[str, float]]) -> list[Cut | None]:
    """Where each stopping rule ends its run, or None where the epochs do not reach that far."""
    losses = [metrics["loss"] for metrics in history]
    return [rule.cut(losses) for rule in rules]


def cut_done(
    trainer: Trainer,
    data: Dataset,
    evaluation: Evaluation,
    rules: Sequence[RunConfig],
    history: Sequence[Mapping[str, float]],
    drawing_error: str,
) -> CutDone:
    """What runs that end at the trainer's state leave behind.

    Args:
        trainer: at that state.
        data: to answer and to show.
        evaluation: of the state.
        rules: the runs' configs.
        history: the metrics of each epoch up to that state.
        drawing_error: why feature maps could not be drawn, or nothing.
    """
    shown = [index for index in SHOWN_IMAGES if index < len(data.test_images)]
    activations = trainer.activations(data.test_images[shown])
    files = {
        "model.keras": trainer.native_model(),
        "per_class.json": json.dumps(per_class(evaluation.probabilities, data.test_labels)).encode(),
    }
    if activations:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=np.array(shown), **activations)  # type: ignore[arg-type]  # of numpy's stub
        files["activations.npz"] = buffer.getvalue()
    # A picture is not worth a run: what cannot be drawn is reported and left out.
    try:
        cuts = zip(cuts_of(rules, history), rules, strict=True)
        stops = {cut: _stop_in_words(cut, rule) for cut, rule in cuts if cut and cut.epoch == trainer.epoch}
        files |= _figures(data, evaluation, activations, shown, stops, history)
    except Exception as error:
        drawing_error = drawing_error or f"{type(error).__name__}: {error}"
    return CutDone(
        epoch=trainer.epoch,
        weights_sha256=trainer.state().weights_sha256(),
        evaluate_seconds=evaluation.seconds,
        peak_memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MAXRSS,
        files=files,
        drawing_error=drawing_error,
    )


def draw_layers(trainer: Trainer, data: Dataset) -> tuple[dict[str, bytes], str]:
    """A sheet of all channels for each layer and the first test image, as PNG, and why there is none."""
    try:
        from fashion_cnn import figures

        activations = trainer.activations(data.test_images[:1])
        scale = figures.layer_scale([activations])
        sheets = {
            layer: figures.channel_sheet(maps[0], low=scale[layer][0], high=scale[layer][1])
            for layer, maps in activations.items()
        }
        return {layer: _png(sheet) for layer, sheet in sheets.items()}, ""
    except Exception as error:
        return {}, f"{type(error).__name__}: {error}"


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
    for cut, words in stops.items():
        drawn[f"learning_curves.{cut.reason}.png"] = figures.learning_curves(frame, stop=(cut.epoch, words))
    answers, truths = evaluation.probabilities.argmax(axis=1), data.test_labels
    counts = confusion(answers.astype(np.uint8), truths)
    drawn["confusion_matrix.png"] = figures.confusion_matrix(counts, CLASS_NAMES)
    confidences = evaluation.probabilities.max(axis=1)
    drawn["mistakes.png"] = figures.mistakes(data.test_images, truths, answers, confidences, CLASS_NAMES)
    return {name: figures.png(figure) for name, figure in drawn.items()}


def _stop_in_words(cut: Cut, rule: RunConfig) -> str:
    """Why a run ended where it did."""
    if cut.reason == "callback":
        return f"stopped after epoch {cut.epoch}: training loss below {rule.callback_loss:g}"
    return f"after all {cut.epoch} epochs" if cut.epoch > 1 else "after its one epoch"


def _png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def per_class(probabilities: NDArray[np.float32], labels: NDArray[np.uint8]) -> dict[str, list[Any]]:
    """A table of how each class was answered: columns by name, one row per class.

    Args:
        probabilities: (n, 10).
        labels: (n,).

    Returns:
        `class`, `recall` (share of the class' images answered so; the column that MLflow's table compares at first),
        `precision` (share of such answers that are right; 0 where there is none), `images` (of that class), and
        `answered <class>` counts: the rows of the confusion matrix.
    """
    counts = confusion(predictions(probabilities, labels)[0], labels)
    right = np.diag(counts)
    return {
        "class": list(CLASS_NAMES),
        "recall": (right / np.maximum(counts.sum(axis=1), 1)).tolist(),
        "precision": (right / np.maximum(counts.sum(axis=0), 1)).tolist(),
        "images": counts.sum(axis=1).tolist(),
        **{f"answered {name}": counts[:, index].tolist() for index, name in enumerate(CLASS_NAMES)},
    }
