"""Every figure once, drawn from made-up numbers, and what is written and shown in one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fashion_cnn import figures
from fashion_cnn.figures.style import BAR

NAMES = tuple(f"class {letter}" for letter in "ABCDEFGHIJ")
INDICES = (0, 23, 28)
SHAPES = {"convolution_1": (26, 26, 8), "pooling_1": (13, 13, 8), "convolution_2": (11, 11, 8), "pooling_2": (5, 5, 8)}
ARMS = ("5 epochs", "10 epochs", "3 additional convolutions, same padding")
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, 28, 28)).astype(np.uint8)
LABELS = RNG.permutation(np.arange(60) % 10).astype(np.uint8)
SAMPLES = RNG.integers(0, 256, (60, 28, 28)).astype(np.uint8)


def made_up_maps(layers: int = 4, images: int = 3, factor: float = 1) -> dict[str, NDArray[np.float32]]:
    """Maps as after a relu: half of them 0."""
    rng = np.random.default_rng(layers)
    return {
        name: (factor * np.maximum(rng.normal(size=(images, *shape)), 0)).astype(np.float32)
        for name, shape in list(SHAPES.items())[:layers]
    }


def one_image(maps: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    return {layer: array[0] for layer, array in maps.items()}


def run_frame(seeds: int = 3, arms: tuple[str, ...] = ARMS) -> pd.DataFrame:
    """As Store.runs gives it: the seed is text."""
    rng = np.random.default_rng(1)
    rows = [
        {"study": "a study", "arm": arm, "seed": str(seed), "test_accuracy": 0.9 + 0.01 * rng.random(),
         "test_loss": 0.3 + 0.05 * rng.random(), "fit_cpu_seconds": 100 + rng.random(), "epochs_trained": 10.0}
        for arm in arms
        for seed in range(seeds)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def epoch_frame(seeds: int = 3, ends: tuple[int, ...] = (5, 10, 10)) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    rows = [
        {"arm": arm, "seed": str(seed), "epoch": epoch, "loss": 1 / epoch, "accuracy": 1 - 0.5 / epoch,
         "test_loss": 1 / epoch + 0.1 * rng.random(), "test_accuracy": 0.9 - 0.4 / epoch}
        for arm, end in zip(ARMS, ends, strict=True)
        for seed in range(seeds)
        for epoch in range(1, end + 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def history(epochs: int) -> list[dict[str, Any]]:
    """The epochs of one run, as a worker has them."""
    return [dict(row) for _, row in epoch_frame(1, (epochs, 0, 0)).iterrows()]


def feature_maps(**changed: Any) -> Figure:
    return figures.feature_maps(
        **{"images": IMAGES, "activations": made_up_maps(), "class_name": "Ankle boot", "indices": INDICES, **changed}
    )


def arms_feature_maps(arms: dict[str, dict[str, NDArray[np.float32]]], image: int = 23) -> Figure:
    return figures.arms_feature_maps(arms, IMAGES, indices=INDICES, image=image, class_name="Ankle boot")


def mistakes(answers: NDArray[Any], confidences: NDArray[Any]) -> Figure:
    return figures.mistakes(SAMPLES, LABELS, answers, confidences, NAMES)


def claimed_parts() -> pd.DataFrame:
    """A part of every verdict, on two axes."""
    one, two = "Difference in test accuracy", "Difference in CPU seconds of training, as a share of the second arm's"
    rows: list[tuple[Any, ...]] = [
        (one, "10 epochs higher than 5 epochs", 0.006, 0.004, 0.008, 0.0, np.inf, "supported"),
        (one, "20 epochs higher than 15 epochs", -0.004, -0.006, -0.002, 0.0, np.inf, "contradicted"),
        (one, "15 epochs within 0.005 of 10 epochs", 0.003, -0.001, 0.007, -0.005, 0.005, "undecided"),
        (two, "16 filters lower than 32 filters", np.nan, np.nan, np.nan, -np.inf, 0.0, "too few seeds"),
    ]
    names = ("measure", "claim", "estimate", "low", "high", "from", "to", "verdict")
    frame = pd.DataFrame(rows, columns=names)
    says = "After 15 epochs it begins to overfit: as accurate as after 10, with a somewhat higher loss"
    return frame.assign(says=says, words="in words", neutral=0.0, share=frame["measure"] == two)


def cost_frame(seeds: int = 4) -> pd.DataFrame:
    """Ten arms; an arm's seeds have one value, so that it is the mean."""
    rng = np.random.default_rng(4)
    costs, gains = rng.integers(7, 300, 10).astype(float), np.round(0.88 + 0.04 * rng.random(10), 3)
    rows = [
        {"arm": f"{place} filters", "seed": str(seed), "test_accuracy": gain, "fit_cpu_seconds": cost,
         "seconds_to_target": cost / 2 if gain > 0.9 or (place == 0 and seed == 0) else np.inf}
        for place, (cost, gain) in enumerate(zip(costs, gains, strict=True))
        for seed in range(seeds)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def size_frame(seeds: int = 3) -> pd.DataFrame:
    """Five sizes in two comparisons: a doubling brings a hundredth of accuracy, or half of it."""
    rows = [
        {"comparison": words, "seed": str(seed), "images": images, "mirrored": images > 60_000, "test_loss": 0.3,
         "test_accuracy": 0.9 + step * np.log2(images / 60_000) + 0.001 * seed}
        for words, step in (("Equal epochs (10 each)", 0.01), ("Equal steps (about 18,750 each)", 0.005))
        for images in (7_500, 15_000, 30_000, 60_000, 120_000)
        for seed in range(seeds)
    ]  # fmt: skip
    return pd.DataFrame(rows)


FIGURES: dict[str, Callable[[], Figure]] = {
    "feature_maps": feature_maps,
    "all_channels": lambda: figures.all_channels(one_image(made_up_maps()), title="a network"),
    "arms_feature_maps": lambda: arms_feature_maps({"shallow": made_up_maps(2), "deep": made_up_maps(4)}),
    "learning_curves": lambda: figures.learning_curves(history(5), stop=(5, "all 5 epochs")),
    "confusion_matrix": lambda: figures.confusion_matrix(np.diag(np.arange(10)), NAMES),
    "mistakes": lambda: mistakes((LABELS + 1) % 10, np.linspace(0, 1, 60)),
    "scores_by_arm": lambda: figures.scores_by_arm(run_frame(), ARMS, title="a study"),
    "seconds_by_arm": lambda: figures.seconds_by_arm(run_frame(), ARMS),
    "curves_by_arm": lambda: figures.curves_by_arm(epoch_frame(), ARMS),
    "differences": lambda: figures.differences(claimed_parts(), title="a study"),
    "accuracy_by_cost": lambda: figures.accuracy_by_cost(cost_frame()),
    "scores_by_images": lambda: figures.scores_by_images(size_frame(), note="What it says of twice the images."),
    "samples_by_class": lambda: figures.samples_by_class(SAMPLES, LABELS, NAMES),
    "class_counts": lambda: figures.class_counts(LABELS, LABELS[:20], NAMES),
    "pixel_intensities": lambda: figures.pixel_intensities(SAMPLES, LABELS, NAMES),
}
EVERY = pytest.mark.parametrize("name", FIGURES)


def words(figure: Figure) -> str:
    """Everything that is written in a figure, as one line."""
    figure.draw_without_rendering()
    found = [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
    return " | ".join(" ".join(text.split()) for text in found if text)


def pictures(figure: Figure) -> dict[tuple[float, float], Any]:
    """The pictures of a canvas by the inches from its left and top; a colour bar is none."""
    found = {}
    for image in figure.axes[0].images:
        if image.get_label() != BAR:
            left, _, _, top = image.get_extent()
            found[round(left, 3), round(top, 3)] = image
    return found


def lines(axes: Axes, **look: Any) -> list[NDArray[np.float64]]:
    """The points (x, y) of each line that looks so (`label="test"`), in the order drawn."""
    return [
        np.asarray(line.get_xydata())
        for line in axes.lines
        if all(getattr(line, f"get_{name}")() == value for name, value in look.items())
    ]


def clouds(axes: Axes) -> list[NDArray[np.float64]]:
    """The points of each arm in a panel of scores."""
    return lines(axes, markersize=4.5)


@functools.cache
def rendered(name: str) -> tuple[Figure, bytes, str]:
    figure = FIGURES[name]()
    return figure, figures.png(figure), figures.svg(figure)
