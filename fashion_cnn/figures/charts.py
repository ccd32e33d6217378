"""The charts of the data set, and of one run: its curves, its confusion matrix, its surest mistakes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from fashion_cnn.figures import style
from fashion_cnn.figures.style import COLOURS, DASHES, STYLE, FigureError, Labels, Pixels, styled, wrap

MOST_MISTAKES: Final = 12
_MISTAKES: Final = (
    "Above each: the true class → what the network answered, the probability that it gave its answer, and the image's "
    "place in the test set."
)


@styled
def samples_by_class(images: Pixels, labels: Labels, class_names: Sequence[str], per_class: int = 8) -> Figure:
    """The first images of each class, one row per class."""
    style.check_labels(class_names, labels, images=images)
    tiles = np.zeros((len(class_names), per_class, *images.shape[1:]), np.uint8)
    for place, row in enumerate(tiles):
        first = images[np.flatnonzero(labels == place)[:per_class]]
        row[: len(first)] = first
    sheet = style.tile_sheet(tiles.reshape(-1, *images.shape[1:]), per_class, 0)
    tile, names = 0.62, 0.9
    size = (per_class * tile, len(class_names) * tile)
    figure, top = style.canvas("The first images of each class", names + size[0] + 0.1, size[1])
    style.add_picture(figure, (names, top, *size), sheet, "gray_r", (0, 255))
    for place, name in enumerate(class_names):
        style.add_text(figure, names - 0.08, top + (place + 0.5) * tile, name, ha="right", va="center")
    return figure


@styled
def class_counts(train_labels: Labels, test_labels: Labels, class_names: Sequence[str]) -> Figure:
    """How many images of each class there are to train on and to test with."""
    style.check_labels(class_names, train_labels, test_labels)
    figure = style.chart("Images by class", 7.0, 4.2)
    axes = figure.subplots()
    for place, (name, labels) in enumerate((("training", train_labels), ("test", test_labels))):
        counts = np.bincount(labels, minlength=len(class_names))
        heights = np.arange(len(class_names)) + 0.4 * place
        bars = axes.barh(heights, counts, 0.38, label=f"{name}: {len(labels):,}", color=COLOURS[place])
        for bar in bars:
            bar.set(hatch=("", "///")[place], edgecolor="white")
        axes.bar_label(bars, [f"{count:,}" for count in counts], padding=3, fontsize=7.5)
    axes.set(xlabel="images", ylim=(len(class_names) - 0.3, -0.5), xmargin=0.1)
    axes.set_yticks(np.arange(len(class_names)) + 0.2, class_names)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def pixel_intensities(images: Pixels, labels: Labels, class_names: Sequence[str]) -> Figure:
    """How bright pixels are: in all images, and on average in each image by class. 0 is background."""
    import seaborn  # here, as in curves_by_arm

    style.check_labels(class_names, labels, images=images)
    # In parts, for numpy counts in integers of eight times the size.
    parts = np.array_split(images, math.ceil(len(images) / 1000))
    counts = np.sum([np.bincount(part.ravel(), minlength=256) for part in parts], axis=0)
    with matplotlib.rc_context(STYLE):
        figure = style.chart("Pixel intensities: 0 is background, 255 brightest", 8.5, 3.8)
        every, by_class = figure.subplots(1, 2)
        shares = counts.reshape(-1, 8).sum(axis=1) / counts.sum()
        every.bar(np.arange(0, 256, 8), shares, 8, align="edge", color=COLOURS[0], edgecolor="white", linewidth=0.5)
        every.set(yscale="log", ylim=(0.001, 1), xlabel="intensity, in steps of 8", ylabel="share of all pixels")
        every.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
        look = {"color": COLOURS[1], "inner": "quart", "cut": 0, "linewidth": 0.8, "density_norm": "width"}
        names = np.asarray(class_names)[labels]
        seaborn.violinplot(x=images.mean(axis=(1, 2)), y=names, order=class_names, ax=by_class, **look)
        by_class.set(xlabel="mean intensity of an image (lines: quartiles)", ylabel="")
        return figure


@styled
def learning_curves(history: Sequence[Mapping[str, float]], *, stop: tuple[int, str], title: str = "") -> Figure:
    """Loss and accuracy by epoch, training and test, and where and why the run stopped.

    `history`: of each epoch, from the first, `loss` and `accuracy` (training, averaged over the epoch), `test_loss`,
    `test_accuracy`; `stop`: the last epoch and what ended it, as "stopped after 7 epochs: training loss below 0.19".
    """
    numbers, (last, reason) = range(1, len(history) + 1), stop
    if not history:
        raise FigureError("there are no epochs to draw")
    for name in ("loss", "accuracy", "test_loss", "test_accuracy"):
        if lacking := [epoch for epoch in history if name not in epoch]:
            raise FigureError(f"an epoch has no {name!r}; there are: {', '.join(lacking[0]) or 'none'}")
    if last not in numbers:
        raise FigureError(f"a stop at epoch {last} cannot be shown; there are epochs 1 to {len(history)}")
    figure = style.chart(title, 7.5, 3.4)
    for axes, measure in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for place, (name, label) in enumerate(((measure, "training, mean of the epoch"), (f"test_{measure}", "test"))):
            look = {**style.marker_style(place), "linestyle": DASHES[place]}
            axes.plot(numbers, [epoch[name] for epoch in history], label=label, markersize=4, **look)
        axes.axvline(last, color="0.35", linestyle=":", label=wrap(reason, 3.2), zorder=1)
        axes.set(title=measure.capitalize(), xlabel="epoch", xlim=(0.5, len(history) + 0.5))
        axes.xaxis.set_major_locator(style.tick_locator(integer=True))
    style.add_legend(figure, axes.get_legend_handles_labels()[0])
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
    figure = style.chart(title, 7.0, 5.6)
    axes = figure.subplots()
    # By its root, so that the mistakes, mostly below a tenth, can be distinguished.
    drawn = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.4 else "black" if count else "0.6"
        weight = "bold" if row == column else "normal"
        look: dict[str, Any] = {"ha": "center", "va": "center", "color": colour, "weight": weight}
        axes.text(column, row, str(count), in_layout=False, **look)  # it lies within the axes
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
    style.check_labels(class_names, truths, answers)
    wrong = np.flatnonzero(truths != answers)
    wrong = wrong[np.argsort(-confidences[wrong], kind="stable")][:MOST_MISTAKES]
    columns, cell, gap, header = 6, 1.2, 0.15, 0.56
    row_height = header + cell
    height = max(math.ceil(len(wrong) / columns) * row_height, 0.3)
    figure, top = style.canvas(title, columns * (cell + gap), height + 0.3)
    if not len(wrong):
        style.add_text(figure, 0.1, top + 0.05, f"No mistakes among {len(images)} test images.")
        return figure
    for number, index in enumerate(wrong):
        row, column = divmod(number, columns)
        left, above = gap / 2 + column * (cell + gap), top + header + row * row_height
        style.add_picture(figure, (left, above, cell, cell), images[index], "gray_r", (0, 255))
        words = (
            f"{class_names[truths[index]]} →\n{class_names[answers[index]]}\n{confidences[index]:.1%}, image {index}"
        )
        style.add_text(figure, left + cell / 2, above - 0.04, words, ha="center", va="bottom", size=7.5)
    style.add_text(figure, 0.1, top + height + 0.1, _MISTAKES, size=7.5, color="0.25")
    return figure
