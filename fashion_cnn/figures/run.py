"""Figures of one run: its curves, its confusion matrix, its surest mistakes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from fashion_cnn.figures.style import (
    DASHES,
    FigureError,
    Labels,
    Pixels,
    add_legend,
    add_picture,
    add_text,
    canvas,
    chart,
    check_labels,
    complete_rows,
    marker_style,
    styled,
    tick_locator,
    wrap,
)

if TYPE_CHECKING:
    import pandas as pd

MOST_MISTAKES: Final = 12


@styled
def learning_curves(epochs: pd.DataFrame, *, stop: tuple[int, str], title: str = "") -> Figure:
    """Loss and accuracy by epoch, training and test, and where and why the run stopped.

    `epochs` of one run: `epoch` (from 1), `loss` and `accuracy` (training, averaged over the epoch), `test_loss`,
    `test_accuracy`; `stop`: the last epoch and what ended it, as "stopped after 7 epochs: training loss below 0.19".
    """
    columns = ("epoch", "loss", "accuracy", "test_loss", "test_accuracy")
    epochs = complete_rows(epochs, columns, "epochs").sort_values("epoch")
    numbers, (last, reason) = epochs["epoch"], stop
    if last not in set(numbers):
        raise FigureError(f"a stop at epoch {last} cannot be shown; there are epochs {min(numbers)} to {max(numbers)}")
    figure = chart(title, 7.5, 3.4)
    for axes, measure in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for place, (name, label) in enumerate(((measure, "training, mean of the epoch"), (f"test_{measure}", "test"))):
            axes.plot(numbers, epochs[name], label=label, markersize=4, **marker_style(place), linestyle=DASHES[place])
        axes.axvline(last, color="0.35", linestyle=":", label=wrap(reason, 3.2), zorder=1)
        axes.set(title=measure.capitalize(), xlabel="epoch", xlim=(0.5, max(numbers) + 0.5))
        axes.xaxis.set_major_locator(tick_locator(integer=True))
    add_legend(figure, axes.get_legend_handles_labels()[0])
    return figure


@styled
def confusion_matrix(counts: Labels, class_names: Sequence[str], *, title: str = "") -> Figure:
    """How often each class was answered with each; coloured by the share of the true class.

    The counts are (classes, classes), whole numbers: true class by row, answer by column.
    """
    size = len(class_names)
    if counts.shape != (size, size):
        raise FigureError(f"the counts have shape {counts.shape}; {size} classes need {(size, size)}")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = chart(title, 7.0, 5.6)
    axes = figure.subplots()
    # By its root, so that the mistakes, mostly below a tenth, can be distinguished.
    drawn = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.4 else "black" if count else "0.6"
        weight = "bold" if row == column else "normal"
        axes.text(column, row, str(count), ha="center", va="center", color=colour, weight=weight)
    axes.set(xlabel="predicted", ylabel="true", yticks=range(size), yticklabels=class_names)
    axes.set_xticks(range(size), class_names, rotation=45, ha="right", rotation_mode="anchor")
    axes.grid(False)
    bar = figure.colorbar(drawn, label="share of the true class", ticks=[0, 0.01, 0.05, 0.1, 0.25, 0.5, 1], pad=0.02)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


@styled
def mistakes(
    images: Pixels, truths: Labels, answers: Labels, confidences: NDArray[np.floating[Any]],
    class_names: Sequence[str], *, title: str = "",
) -> Figure:  # fmt: skip
    """The wrong answers that a network was surest of, at most 12: picture, true → predicted, confidence, index.

    Images, truths and answers (labels) and confidences (0..1) are those of the whole test set.
    """
    if len({len(images), len(truths), len(answers), len(confidences)}) > 1:
        many = f"{len(images)} images, {len(truths)} truths, {len(answers)} answers, {len(confidences)} confidences"
        raise FigureError(f"there must be as many of each, but there are {many}")
    check_labels(class_names, truths, answers)
    wrong = np.flatnonzero(truths != answers)
    wrong = wrong[np.argsort(-confidences[wrong], kind="stable")][:MOST_MISTAKES]
    columns, cell, gap, header = 6, 1.2, 0.15, 0.56
    row_height = header + cell
    figure, top = canvas(title, columns * (cell + gap), max(math.ceil(len(wrong) / columns) * row_height, 0.3))
    if not len(wrong):
        add_text(figure, 0.1, top + 0.05, f"No mistakes among {len(images)} test images.")
    for number, index in enumerate(wrong):
        row, column = divmod(number, columns)
        box = (gap / 2 + column * (cell + gap), top + header + row * row_height, cell, cell)
        names = f"{class_names[truths[index]]} →\n{class_names[answers[index]]}"
        axes = add_picture(figure, box, images[index], "gray_r", (0, 255)).axes
        axes.set_title(f"{names}\n{confidences[index]:.1%}, image {index}", size=7.5, pad=3)
    return figure
