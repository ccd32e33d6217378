"""What a cut leaves behind: model, predictions, activations, figures; a worker makes them, as bytes."""

from __future__ import annotations

import io
import json
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fashion_cnn.config import Cut, RunConfig
from fashion_cnn.data import CLASS_NAMES, Dataset
from fashion_cnn.evaluation import confusion, predictions
from fashion_cnn.events import CutDone
from fashion_cnn.evidence.predictions import PREDICTIONS, Predictions, per_class

if TYPE_CHECKING:
    from fashion_cnn.training import Evaluation, Trainer

MAXRSS = 2**20 if sys.platform == "darwin" else 2**10  # of the units that a system counts memory in, a MiB
SHOWN_IMAGES = (0, 23, 28)  # the first three ankle boots among the given test images, as the post shows


@dataclass(frozen=True)
class Shown:
    """The images that feature maps are of: the same for all runs, whatever a run is trained on and tested on."""

    places: Sequence[int]
    """Among the given test images."""
    images: NDArray[np.uint8]
    """(n, 28, 28)."""
    class_name: str
    """Of the first; the others of Fashion-MNIST are of the same."""


def shown_images(given: Dataset) -> Shown:
    """Those of `SHOWN_IMAGES` that there are; `given` are the images before a run's own are drawn."""
    places = [place for place in SHOWN_IMAGES if place < len(given.test_images)]
    return Shown(places, given.test_images[places], CLASS_NAMES[given.test_labels[places[0]]])


def cuts_of(rules: Sequence[RunConfig], history: Sequence[Mapping[str, float]]) -> list[Cut | None]:
    """Where each stopping rule ends its run, or None where the epochs do not reach that far."""
    losses = [metrics["loss"] for metrics in history]
    return [rule.cut(losses) for rule in rules]


def cut_done(
    trainer: Trainer,
    data: Dataset,
    shown: Shown,
    evaluation: Evaluation,
    rules: Sequence[RunConfig],
    history: Sequence[Mapping[str, float]],
    drawing_error: str,
) -> CutDone:
    """What runs that end at the trainer's state leave behind.

    Args:
        trainer: at that state.
        data: the run's own, that it was tested on.
        shown: what feature maps are of.
        evaluation: of the state.
        rules: the runs' configs.
        history: the metrics of each epoch up to that state.
        drawing_error: why feature maps could not be drawn, or nothing.
    """
    activations = trainer.activations(shown.images)
    classes, probability = predictions(evaluation.probabilities, data.test_labels)
    files = {
        "model.keras": trainer.native_model(),
        PREDICTIONS: Predictions(classes, probability).to_bytes(),
        "per_class.json": json.dumps(per_class(classes, data.test_labels)).encode(),
    }
    if activations:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=np.array(shown.places), **activations)  # type: ignore[arg-type]  # of numpy's stub
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


def draw_layers(trainer: Trainer, shown: Shown) -> tuple[dict[str, bytes], str]:
    """A sheet of all channels for each layer and the first image shown, as PNG, and why there is none."""
    try:
        return layer_sheets(trainer.activations(shown.images[:1])), ""
    except Exception as error:
        return {}, f"{type(error).__name__}: {error}"


def layer_sheets(activations: Mapping[str, NDArray[np.float32]]) -> dict[str, bytes]:
    """A sheet of all channels for each layer's (n, height, width, channels), of the first image, as PNG."""
    from fashion_cnn import figures

    first = {layer: maps[:1] for layer, maps in activations.items()}
    scale = figures.layer_scale([first])
    return {
        layer: figures.pixels_png(figures.channel_sheet(maps[0], low=scale[layer][0], high=scale[layer][1]))
        for layer, maps in first.items()
    }


def _figures(
    data: Dataset,
    evaluation: Evaluation,
    activations: Mapping[str, NDArray[np.float32]],
    shown: Shown,
    stops: Mapping[Cut, str],
    history: Sequence[Mapping[str, float]],
) -> dict[str, bytes]:
    """The figures of a cut, as PNG by file name."""
    from fashion_cnn import figures

    drawn = {}
    if activations:
        boot, places = shown.class_name, shown.places
        drawn["feature_maps.png"] = figures.feature_maps(shown.images, activations, class_name=boot, indices=places)
        first = {layer: values[0] for layer, values in activations.items()}
        drawn["all_channels.png"] = figures.all_channels(first, title=f"Every channel: {boot}, test image {places[0]}")
    for cut, words in stops.items():
        drawn[f"learning_curves.{cut.reason}.png"] = figures.learning_curves(history, stop=(cut.epoch, words))
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
