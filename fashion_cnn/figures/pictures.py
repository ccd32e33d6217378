"""Pictures placed by hand, in inches: with dozens of them in a figure that is faster than matplotlib's layout."""

from __future__ import annotations

import math
from typing import Any, Final, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from fashion_cnn.figures.style import wrap

Limits: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[float, float, float, float]  # inches from the figure's left and top; width, height
GAP: Final = 2  # pixels between the tiles of a sheet
_TILE: Final = 52  # pixels that a tile's side has at least


def canvas(title: str, width: float, height: float) -> tuple[Figure, float]:
    """A figure with so many inches below its title, and how far below its top they begin."""
    title = wrap(title, width)
    top = 0.12 + 0.18 * (title.count("\n") + 1 if title else 0)
    figure = Figure((width, top + height + 0.1))
    if title:
        figure.suptitle(title, x=0.1 / width, y=1 - 0.08 / figure.get_figheight(), ha="left", va="top")
    return figure, top


def _axes(figure: Figure, box: Box) -> Axes:
    (left, top, width, height), (across, down) = box, figure.get_size_inches()
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def add_text(figure: Figure, left: float, top: float, text: str, **look: Any) -> None:
    """Write text whose upper left corner lies so many inches from the figure's left and top."""
    width, height = figure.get_size_inches()
    figure.text(left / width, 1 - top / height, text, **{"va": "top", **look})


def add_picture(figure: Figure, box: Box, pixels: NDArray[Any], colours: str, limits: Limits) -> AxesImage:
    """Show `pixels` (height, width) or (height, width, 3) in a box, without ticks or frame.

    Args:
        figure: to add it to.
        box: where.
        pixels: values.
        colours: the name of a colour map.
        limits: the values of its first and last colour.
    """
    axes = _axes(figure, box)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.grid(False)
    return axes.imshow(pixels, cmap=colours, norm=colour_norm(*limits), extent=(0, *pixels.shape[1::-1], 0))


def add_colour_bar(figure: Figure, box: Box, drawn: AxesImage, limits: Limits, way: str) -> None:
    """Draw the colours of a picture in a box, labelled with its limits; `way` is `vertical` or `horizontal`."""
    ticks = sorted(set(limits))
    bar = figure.colorbar(drawn, _axes(figure, box), orientation=way, ticks=ticks)
    bar.set_ticklabels([f"{tick:.2g}" for tick in ticks], size=7)
    if way == "horizontal":  # else they meet those of the neighbours
        labels = bar.ax.get_xticklabels()
        labels[0].set_horizontalalignment("left")
        labels[-1].set_horizontalalignment("right" if len(labels) > 1 else "left")


def colour_norm(low: float, high: float) -> Normalize:
    """From values to 0..1; where all values are equal they become 0."""
    return Normalize(low, high if high > low else low + 1)


def tile_sheet(tiles: NDArray[Any], columns: int, fill: float, factor: int = 0) -> NDArray[Any]:
    """Tiles (n, height, width, ...) side by side in rows.

    Args:
        tiles: in order.
        columns: tiles in a row.
        fill: the value of the thin gaps and of places without a tile.
        factor: each pixel becomes a square with so many pixels per side; 0 makes tiles wide enough to look at.
    """
    tall, wide = tiles.shape[1:3]
    factor = max(factor or math.ceil(_TILE / wide), 1)
    down, across = tall * factor + GAP, wide * factor + GAP
    rows = math.ceil(len(tiles) / columns)
    sheet = np.full((rows * down - GAP, columns * across - GAP, *tiles.shape[3:]), fill, tiles.dtype)
    for number, tile in enumerate(tiles):
        row, column = number // columns * down, number % columns * across
        enlarged = tile.repeat(factor, axis=0).repeat(factor, axis=1)
        sheet[row : row + tall * factor, column : column + wide * factor] = enlarged
    return sheet
