"""Feature maps: what convolution and pooling layers make of images."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fashion_cnn.figures import style
from fashion_cnn.figures.style import GAP, FigureError, Limits, Pixels, styled, wrap

Activations: TypeAlias = Mapping[str, NDArray[np.float32]]
Channel: TypeAlias = int | Literal["strongest"]
_MAP_COLOURS: Final = "inferno"  # the post's
_PAGE: Final = 10.0  # inches: the widest
_BAR: Final = 0.09  # inches: how thick a colour bar is
_FOOT: Final = 0.34  # inches: a horizontal colour bar with its labels
_CAPTION: Final = (
    "A channel of the same number shows unrelated features in two differently seeded networks, for chance decides "
    "which channel learns what: to compare networks, look at the strongest channel or at all of them. The strongest "
    "is the channel that is brightest in comparison with its maps' corners, the background. Each column's colours run "
    "from 0 to its highest value."
)


def strongest_channel(activation: NDArray[np.float32]) -> int:
    """The channel of (..., height, width, channels) whose mean is highest above that of its maps' corners.

    The corners stand for the background, so that this channel shows the object: the highest mean alone would often be a
    background that is lit evenly, the largest variance an edge. Of equals, as where a map is a single place, the
    channel with the highest mean, and of equals the lowest.
    """
    maps = activation.astype(np.float64)
    maps = maps.reshape(-1, *maps.shape[-3:])
    means = maps.mean(axis=(0, 1, 2))
    corners = maps[:, (0, 0, -1, -1), (0, -1, 0, -1)].mean(axis=(0, 1))
    order = np.lexsort((-means, -np.round(means - corners, 9)))
    return int(order[0])


def channel_maps(activations: Activations, layer: str, channel: Channel = 1) -> tuple[int, NDArray[np.float32]]:
    """A channel's number and its maps of a layer, (n, height, width)."""
    if layer not in activations:
        raise FigureError(f"there is no layer {layer!r}; there are: {', '.join(activations) or 'none'}")
    maps = activations[layer]
    number = strongest_channel(maps) if channel == "strongest" else channel
    if number not in range(maps.shape[-1]):
        raise FigureError(f"{layer} has no channel {channel!r}; there are: 0 to {maps.shape[-1] - 1}, 'strongest'")
    return number, maps[..., number]


def layer_scale(activations: Sequence[Activations]) -> dict[str, Limits]:
    """Each layer's colour scale over several runs: from 0, or what is below it, to the highest value."""
    by_layer: dict[str, list[NDArray[np.float32]]] = {}
    for layers in activations:
        for layer, maps in layers.items():
            by_layer.setdefault(layer, []).append(maps)
    return {layer: _limits(*maps) for layer, maps in by_layer.items()}


@styled
def feature_maps(
    images: Pixels, activations: Activations, *, class_name: str, indices: Sequence[int],
    channels: Sequence[Channel] = (1, "strongest"), title: str = "",
) -> Figure:  # fmt: skip
    """The post's figure: what each layer makes of images of one class. Images are rows; the input, layers columns.

    There is a block for each of the `channels`: a number (the post's is 1), or "strongest": each layer's
    `strongest_channel` over these images. A line below says why both.
    """
    _check_maps(activations, images, indices)
    labels, gap, header, columns = 0.95, 0.08, 0.68, len(activations) + 1
    cell = min(1.2, (_PAGE - labels) / columns - gap)
    width, block = labels + columns * (cell + gap), header + len(images) * (cell + gap) + _FOOT
    caption = textwrap.fill(_CAPTION, round(width * 17))
    figure, top = style.canvas(title, width, len(channels) * block + 0.05 + 0.15 * (caption.count("\n") + 1))
    heading = {"ha": "center", "va": "bottom", "size": 8}
    for channel in channels:
        name = "Each layer's strongest channel" if channel == "strongest" else f"Channel {channel} of each layer"
        style.add_text(figure, 0.1, top + 0.1, name, weight="bold", va="center")
        first = top + header
        tops = [first + row * (cell + gap) for row in range(len(images))]
        style.add_text(figure, labels + cell / 2, first - 0.05, f"input\n{_shape(images[0])}", **heading)
        for height, image, index in zip(tops, images, indices, strict=True):
            style.add_picture(figure, (labels, height, cell, cell), image, "gray", (0, 255))
            words = f"{wrap(class_name, 1)}\ntest image\n{index}"
            style.add_text(figure, labels - 0.08, height + cell / 2, words, ha="right", va="center", ma="center")
        for column, layer in enumerate(activations, start=1):
            number, maps = channel_maps(activations, layer, channel)
            left, limits = labels + column * (cell + gap), _limits(maps)
            words = f"{layer}\n{_shape(activations[layer][0])}\nchannel {number}{'' if maps.any() else ': all 0'}"
            style.add_text(figure, left + cell / 2, first - 0.05, words, **heading)
            for height, shown in zip(tops, maps, strict=True):
                style.add_picture(figure, (left, height, cell, cell), shown, _MAP_COLOURS, limits)
            bar = (left, tops[-1] + cell + 0.05, cell, _BAR)
            style.add_colour_bar(figure, bar, _MAP_COLOURS, limits, "horizontal")
        top += block
    style.add_text(figure, 0.1, top + 0.03, caption, size=7.5, color="0.25")
    return figure


@styled
def all_channels(activations: Activations, *, title: str = "", scale: Mapping[str, Limits] | None = None) -> Figure:
    """Every channel of every layer for one image: a block of tiles per layer, channels in order.

    Here activations are (height, width, channels). The scale, each layer's lowest and highest colour, is by default
    theirs; give that of several runs (`layer_scale`) to compare their figures.
    """
    _check_maps({layer: maps[np.newaxis] for layer, maps in activations.items()})
    scale = layer_scale([activations]) if scale is None else scale
    if missing := [layer for layer in activations if layer not in scale]:
        raise FigureError(f"the scale has no layer {missing[0]!r}; there are: {', '.join(scale) or 'none'}")
    columns, labels, bar, header, width = 16, 0.55, 0.6, 0.32, 8.6
    tile = (width - labels - bar) / columns
    heights = {layer: math.ceil(maps.shape[-1] / columns) * tile for layer, maps in activations.items()}
    figure, top = style.canvas(title, width, sum(heights.values()) + len(heights) * header)
    for layer, maps in activations.items():
        top += header
        channels = maps.shape[-1]
        shown = min(columns, channels)
        sheet = style.tile_sheet(np.moveaxis(maps, -1, 0), shown, np.nan)
        box = (labels, top, shown * tile, heights[layer])
        style.add_picture(figure, box, sheet, _MAP_COLOURS, scale[layer])
        style.add_text(figure, labels, top - 0.05, f"{layer}  {_shape(maps)}", va="bottom", weight="bold")
        for first in range(0, channels, columns):
            middle = top + (first / columns + 0.5) * tile
            words = f"{first}-{min(first + columns, channels) - 1}"
            style.add_text(figure, labels - 0.06, middle, words, ha="right", va="center", size=7)
        beside = (width - bar + 0.08, top, 0.1, heights[layer])
        style.add_colour_bar(figure, beside, _MAP_COLOURS, scale[layer], "vertical")
        top += heights[layer]
    return figure


def coloured(maps: NDArray[np.float32], low: float, high: float) -> Pixels:
    """Maps (..., height, width) in the colours of all figures of maps: (..., height, width, 3), uint8.

    `low` is the value of the darkest colour, `high` that of the brightest.
    """
    return np.array(matplotlib.colormaps[_MAP_COLOURS](style.colour_norm(low, high)(maps), bytes=True)[..., :3])


def channel_sheet(activation: NDArray[np.float32], *, low: float, high: float, enlarge: int = 512) -> Pixels:
    """All channels of a layer for one image as a near-square sheet of tiles, for MLflow's image grid.

    From (height, width, channels), float32, to (H, W, 3), uint8. `low` is the value of the darkest colour, `high` that
    of the brightest. The longer side gets at least `enlarge` pixels, each pixel of a map becoming a square: MLflow's
    own thumbnails blur small images.
    """
    tiles = np.moveaxis(activation, -1, 0)
    colours = coloured(tiles, low, high)
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    side, gaps = max((columns * tiles.shape[2], columns - 1), (rows * tiles.shape[1], rows - 1))
    return style.tile_sheet(colours, columns, 128, math.ceil((enlarge - gaps * GAP) / side))


@styled
def arms_feature_maps(
    activations: Mapping[str, Activations], images: Pixels, *, indices: Sequence[int], image: int, class_name: str,
    title: str = "", notes: Mapping[str, str] | None = None,
) -> Figure:  # fmt: skip
    """How the networks of several arms see one image: arms as rows, each layer's strongest channel in a column.

    `activations` are by arm, of all images; the strongest channel is that over all of them. `image` is the index of the
    one to show, of the class `class_name`. A layer has one colour scale over the arms. Arms without maps (dense) are
    left out; where an arm lacks a layer that another has, nothing is drawn. `notes` stand below the arms' names: which
    run it is.
    """
    arms = {arm: maps for arm, maps in activations.items() if maps}
    if image not in indices:
        raise FigureError(f"there is no test image {image} here; there are: {', '.join(map(str, indices))}")
    for maps in arms.values() or [{}]:
        _check_maps(maps, images, indices)
    place = list(indices).index(image)
    chosen = {arm: {layer: channel_maps(maps, layer, "strongest") for layer in maps} for arm, maps in arms.items()}
    shown = {arm: {layer: maps[place] for layer, (_, maps) in layers.items()} for arm, layers in chosen.items()}
    scale = layer_scale(list(shown.values()))
    labels, gap, header = 1.5, 0.12, 0.95
    cell = min(1.15, (_PAGE - labels) / len(scale) - gap)
    width, row_height = labels + len(scale) * (cell + gap), cell + 0.36
    figure, top = style.canvas(title, width, header + len(arms) * row_height + _FOOT)
    style.add_picture(figure, (0.1, top + 0.05, 0.75, 0.75), images[place], "gray", (0, 255))
    style.add_text(figure, 0.92, top + 0.4, f"{wrap(class_name, 1)}\ntest image {image}", va="center")
    top += header
    for row, arm in enumerate(arms):
        words = "\n".join(part for part in (wrap(arm, labels), (notes or {}).get(arm, "")) if part)
        style.add_text(figure, 0.1, top + row * row_height + cell / 2, words, va="center")
    for column, (layer, limits) in enumerate(scale.items()):
        left = labels + column * (cell + gap)
        style.add_text(figure, left + cell / 2, top - 0.06, layer, ha="center", va="bottom")
        for row, (arm, maps) in enumerate(shown.items()):
            if layer in maps:
                above = top + row * row_height
                style.add_picture(figure, (left, above, cell, cell), maps[layer], _MAP_COLOURS, limits)
                words = f"{_shape(arms[arm][layer][place])}\nchannel {chosen[arm][layer][0]}"
                style.add_text(figure, left + cell / 2, above + cell + 0.03, words, ha="center", size=7)
        below = (left, top + len(arms) * row_height, cell, _BAR)
        style.add_colour_bar(figure, below, _MAP_COLOURS, limits, "horizontal")
    return figure


def _check_maps(activations: Activations, images: Pixels | None = None, indices: Sequence[int] | None = None) -> None:
    if not activations:
        raise FigureError("there are no feature maps: a dense network has no convolution or pooling layer")
    for layer, maps in activations.items():
        if maps.ndim != 4 or not maps.size:
            raise FigureError(f"{layer} has shape {maps.shape}; its maps must be (images, height, width, channels)")
        for name, others in (("images", images), ("indices", indices)):
            if others is not None and len(others) != len(maps):
                raise FigureError(f"{layer} has maps of {len(maps)} images, but there are {len(others)} {name}")


def _limits(*maps: NDArray[np.float32]) -> Limits:
    """The colour scale of some maps; it starts at 0, where nothing is seen, so that a bright constant is bright."""
    return min(0.0, *(float(values.min()) for values in maps)), max(float(values.max()) for values in maps)


def _shape(maps: NDArray[Any]) -> str:
    return "\N{MULTIPLICATION SIGN}".join(map(str, maps.shape))
