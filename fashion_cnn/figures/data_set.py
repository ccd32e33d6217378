"""Figures of the data set: samples, counts, pixel intensities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from fashion_cnn.figures.style import (
    COLOURS,
    STYLE,
    Labels,
    Pixels,
    add_picture,
    canvas,
    chart,
    check_labels,
    styled,
    tile_sheet,
)


@styled
def samples_by_class(images: Pixels, labels: Labels, class_names: Sequence[str], per_class: int = 8) -> Figure:
    """The first images of each class, one row per class."""
    check_labels(class_names, labels, images=images)
    tiles = np.zeros((len(class_names), per_class, *images.shape[1:]), np.uint8)
    for place, row in enumerate(tiles):
        first = images[np.flatnonzero(labels == place)[:per_class]]
        row[: len(first)] = first
    sheet = tile_sheet(tiles.reshape(-1, *images.shape[1:]), per_class, 0)
    tile, names = 0.62, 0.9
    size = (per_class * tile, len(class_names) * tile)
    figure, top = canvas("The first images of each class", names + size[0] + 0.1, size[1])
    axes = add_picture(figure, (names, top, *size), sheet, "gray_r", (0, 255)).axes
    axes.set_yticks((np.arange(len(class_names)) + 0.5) * len(sheet) / len(class_names), class_names)
    axes.tick_params(length=0)
    return figure


@styled
def class_counts(train_labels: Labels, test_labels: Labels, class_names: Sequence[str]) -> Figure:
    """How many images of each class there are to train on and to test with."""
    check_labels(class_names, train_labels, test_labels)
    figure = chart("Images by class", 7.0, 4.2)
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

    check_labels(class_names, labels, images=images)
    # In parts, for numpy counts in integers of eight times the size.
    parts = np.array_split(images, math.ceil(len(images) / 1000))
    counts = np.sum([np.bincount(part.ravel(), minlength=256) for part in parts], axis=0)
    with matplotlib.rc_context(STYLE):
        figure = chart("Pixel intensities: 0 is background, 255 brightest", 8.5, 3.8)
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
