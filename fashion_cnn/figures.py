"""Arrays or tidy frames in, matplotlib figures out. Nothing here reads, saves, or touches pyplot or global settings.

Every figure is drawn in matplotlib's own style, whatever the user's matplotlibrc says, in colours that colour-blind
readers tell apart, and with markers, dashes and hatches that print without colour. `png` and `svg` render a figure;
the same input gives the same bytes. What runs in a worker (the figures of one run) imports matplotlib alone.

Throughout, `activations` are what convolution and pooling layers make of n images: by layer name, in layer order,
arrays (n, height, width, channels), float32; `images` are (n, 28, 28), uint8, and `indices` their places among the
test images; labels are (n,), whole numbers, places in `class_names`; frames are tidy, `runs` a row a run and `epochs`
a row an epoch of a run; a `title` stands above a figure. What cannot be drawn (nothing there, parts that do not fit
together, an unknown layer, channel or image) is a FigureError that names what there is.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Pixels: TypeAlias = NDArray[np.uint8]
Labels: TypeAlias = NDArray[np.integer[Any]]
Activations: TypeAlias = Mapping[str, NDArray[np.float32]]
Channel: TypeAlias = int | Literal["strongest"]
Limits: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[float, float, float, float]  # inches from the figure's left and top; width, height

COLOURS: Final = (  # seaborn's "colorblind" (after Okabe and Ito), without the second that importing seaborn takes
    *("#0173B2", "#DE8F05", "#029E73", "#D55E00", "#CC78BC"),
    *("#CA9161", "#FBAFE4", "#949494", "#ECE133", "#56B4E9"),
)
MOST_MISTAKES: Final = 12
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
_DASHES: Final[tuple[Any, ...]] = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
_MAP_COLOURS: Final = "inferno"  # the post's
_PAGE: Final = 10.0  # inches: the widest
_GAP: Final = 2  # pixels between the tiles of a sheet
_TILE: Final = 52  # pixels that a tile's side has at least
_CAPTION: Final = (
    "A channel of the same number shows unrelated features in two differently seeded networks, for chance decides "
    "which channel learns what: to compare networks, look at the strongest channel or at all of them. Each column's "
    "colours run from 0 to its highest value."
)
_STYLE: Final[dict[Any, Any]] = {
    **{name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"},
    **{"font.size": 8.5, "axes.titlesize": 9, "axes.labelsize": 8.5, "figure.titlesize": 10.5, "legend.fontsize": 8.5},
    **{"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "hatch.linewidth": 0.6},
    **{"axes.grid": True, "axes.axisbelow": True, "grid.color": "0.9", "image.interpolation": "nearest"},
    "text.parse_math": False,  # a dollar sign in an arm's name is a dollar sign
    "svg.fonttype": "none",  # text stays text: it can be read aloud and searched
    "svg.hashsalt": "fashion-cnn",  # else the ids in the file are drawn anew each time
}
_styled = matplotlib.rc_context(_STYLE)  # a decorator: the style holds during a call, the user's again after it


class FigureError(ValueError):
    """Nothing can be drawn of this. One line: what was wrong, what there is."""


@_styled
def png(figure: Figure, dpi: int = 120) -> bytes:
    """A figure as a PNG file, without date or software, at `dpi` pixels an inch."""
    _lay_out(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


@_styled
def svg(figure: Figure) -> str:
    """A figure as an SVG element, without XML prologue, date or software: a file of its own or part of a page."""
    _lay_out(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _lay_out(figure: Figure) -> None:
    """Lay it out for good: matplotlib would again each time, from where it was, and so to other bytes."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine(None)


# -- feature maps ------------------------------------------------------------------------------------------------


def strongest_channel(activation: NDArray[np.float32]) -> int:
    """The channel of (..., channels) with the highest mean over images and places; of equals the lowest."""
    return int(activation.reshape(-1, activation.shape[-1]).mean(axis=0, dtype=np.float64).argmax())


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
    found: dict[str, list[NDArray[np.float32]]] = {}
    for one in activations:
        for layer, maps in one.items():
            found.setdefault(layer, []).append(maps)
    return {layer: _limits(*several) for layer, several in found.items()}


@_styled
def feature_maps(
    images: Pixels, activations: Activations, *, class_name: str, indices: Sequence[int],
    channels: Sequence[Channel] = (1, "strongest"), title: str = "",
) -> Figure:  # fmt: skip
    """The post's figure: what each layer makes of images of one class. Images are rows; the input, layers columns.

    There is a block for each of the `channels`: a number (the post's is 1), or "strongest": each layer's channel of
    the highest mean over these images. A line below says why both.
    """
    _check_maps(activations, images, indices)
    labels, gap, header, columns = 0.95, 0.08, 0.68, len(activations) + 1
    cell = min(1.2, (_PAGE - labels) / columns - gap)
    width, block = labels + columns * (cell + gap), header + len(images) * (cell + gap)
    caption = textwrap.fill(_CAPTION, round(width * 17))
    figure, top = _canvas(title, width, len(channels) * block + 0.05 + 0.15 * (caption.count("\n") + 1))
    for channel in channels:
        chosen = [(layer, *channel_maps(activations, layer, channel)) for layer in activations]
        name = "Each layer's strongest channel" if channel == "strongest" else f"Channel {channel} of each layer"
        _text(figure, 0.1, top + 0.1, name, weight="bold", va="center")
        for row, (image, index) in enumerate(zip(images, indices, strict=True)):
            height = top + header + row * (cell + gap)
            axes = _picture(figure, (labels, height, cell, cell), image, "gray", (0, 255)).axes
            axes.set_ylabel(f"{_fill(class_name, 1)}\ntest image\n{index}", rotation=0, ha="right", va="center")
            axes.set_title(f"input\n{_shape(image)}" if row == 0 else "", size=8)
            for column, (layer, number, maps) in enumerate(chosen, start=1):
                box = (labels + column * (cell + gap), height, cell, cell)
                axes = _picture(figure, box, maps[row], _MAP_COLOURS, _limits(maps)).axes
                words = f"{layer}\n{_shape(activations[layer][row])}\nchannel {number}{'' if maps.any() else ': all 0'}"
                axes.set_title(words if row == 0 else "", size=8)
        top += block
    _text(figure, 0.1, top + 0.03, caption, size=7.5, color="0.25")
    return figure


@_styled
def all_channels(activations: Activations, *, title: str = "", scale: Mapping[str, Limits] | None = None) -> Figure:
    """Every channel of every layer for one image: a block of tiles a layer, channels in order.

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
    figure, top = _canvas(title, width, sum(heights.values()) + len(heights) * header)
    for layer, maps in activations.items():
        top += header
        channels = maps.shape[-1]
        shown = min(columns, channels)
        sheet = _sheet(np.moveaxis(maps, -1, 0), shown, np.nan)
        drawn = _picture(figure, (labels, top, shown * tile, heights[layer]), sheet, _MAP_COLOURS, scale[layer])
        drawn.axes.set_title(f"{layer}  {_shape(maps)}", loc="left", size=8.5, weight="bold", pad=3)
        firsts = np.arange(0, channels, columns)
        places = (firsts / columns + 0.5) * len(sheet) / len(firsts)
        drawn.axes.set_yticks(places, [f"{first}-{min(first + columns, channels) - 1}" for first in firsts])
        drawn.axes.tick_params(length=0, labelsize=7)
        _colour_bar(figure, (width - bar + 0.08, top, 0.1, heights[layer]), drawn, scale[layer], "vertical")
        top += heights[layer]
    return figure


def channel_sheet(activation: NDArray[np.float32], *, low: float, high: float, enlarge: int = 512) -> Pixels:
    """All channels of a layer for one image as a near-square sheet of tiles, for MLflow's image grid.

    Args:
        activation: (height, width, channels), float32.
        low: the value of the darkest colour.
        high: the value of the brightest.
        enlarge: pixels that the longer side has at least, each pixel of a map becoming a square: MLflow's own
            thumbnails blur small images.

    Returns:
        (H, W, 3), uint8.
    """
    tiles = np.moveaxis(activation, -1, 0)
    colours = matplotlib.colormaps[_MAP_COLOURS](_norm(low, high)(tiles), bytes=True)[..., :3]
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    side, gaps = max((columns * tiles.shape[2], columns - 1), (rows * tiles.shape[1], rows - 1))
    return _sheet(colours, columns, 128, math.ceil((enlarge - gaps * _GAP) / side))


@_styled
def arms_feature_maps(
    activations: Mapping[str, Activations], images: Pixels, *, indices: Sequence[int], image: int, class_name: str,
    title: str = "",
) -> Figure:  # fmt: skip
    """How the networks of several arms see one image: arms as rows, each layer's strongest channel in a column.

    A layer has one colour scale over the arms. Arms without maps (dense) are left out; where an arm lacks a layer
    that another has, nothing is drawn.

    Args:
        activations: by arm, of all the images. The strongest channel has the highest mean over all of them.
        images: the input.
        indices: of the images.
        image: the index of the one to show.
        class_name: of that image.
        title: what study and seed this is.
    """
    arms = {arm: maps for arm, maps in activations.items() if maps}
    if image not in indices:
        raise FigureError(f"there is no test image {image} here; there are: {', '.join(map(str, indices))}")
    for maps in arms.values() or [{}]:
        _check_maps(maps, images, indices)
    place = list(indices).index(image)
    chosen = {arm: {layer: channel_maps(maps, layer, "strongest") for layer in maps} for arm, maps in arms.items()}
    shown = {arm: {layer: found[place] for layer, (_, found) in layers.items()} for arm, layers in chosen.items()}
    scale = layer_scale(list(shown.values()))
    labels, gap, header, foot = 1.5, 0.12, 0.95, 0.32
    cell = min(1.15, (_PAGE - labels) / len(scale) - gap)
    width, row_height = labels + len(scale) * (cell + gap), cell + 0.36
    figure, top = _canvas(title, width, header + len(arms) * row_height + foot)
    _picture(figure, (0.1, top + 0.05, 0.75, 0.75), images[place], "gray", (0, 255))
    _text(figure, 0.92, top + 0.4, f"{_fill(class_name, 1)}\ntest image {image}", va="center")
    top += header
    for row, arm in enumerate(arms):
        _text(figure, 0.1, top + row * row_height + cell / 2, _fill(arm, labels), va="center")
    for column, (layer, limits) in enumerate(scale.items()):
        left = labels + column * (cell + gap)
        _text(figure, left + cell / 2, top - 0.06, layer, ha="center", va="bottom")
        for row, (arm, maps) in enumerate(shown.items()):
            if layer in maps:
                box = (left, top + row * row_height, cell, cell)
                drawn = _picture(figure, box, maps[layer], _MAP_COLOURS, limits)
                words = f"{_shape(arms[arm][layer][place])}\nchannel {chosen[arm][layer][0]}"
                drawn.axes.set_xlabel(words, size=7, labelpad=2)
        _colour_bar(figure, (left, top + len(arms) * row_height, cell, 0.09), drawn, limits, "horizontal")
    return figure


# -- how a run went ----------------------------------------------------------------------------------------------


@_styled
def learning_curves(epochs: pd.DataFrame, *, stop: tuple[int, str], title: str = "") -> Figure:
    """Loss and accuracy by epoch, training and test, and where and why the run stopped.

    Args:
        epochs: of one run: `epoch` (from 1), `loss` and `accuracy` (training, averaged over the epoch), `test_loss`,
            `test_accuracy`.
        stop: the last epoch and what ended it, as "stopped after 7 epochs: training loss below 0.19".
        title: what run this is.
    """
    epochs = _rows(epochs, ("epoch", "loss", "accuracy", "test_loss", "test_accuracy"), "epochs").sort_values("epoch")
    numbers, (last, reason) = epochs["epoch"], stop
    if last not in set(numbers):
        raise FigureError(f"a stop at epoch {last} cannot be shown; there are epochs {min(numbers)} to {max(numbers)}")
    figure = _charts(title, 7.5, 3.4)
    for axes, measure in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for place, (name, label) in enumerate(((measure, "training, mean of the epoch"), (f"test_{measure}", "test"))):
            axes.plot(numbers, epochs[name], label=label, markersize=4, **_look(place), linestyle=_DASHES[place])
        axes.axvline(last, color="0.35", linestyle=":", label=_fill(reason, 3.2), zorder=1)
        axes.set(title=measure.capitalize(), xlabel="epoch", xlim=(0.5, max(numbers) + 0.5))
        axes.xaxis.set_major_locator(_ticks(integer=True))
    _legend(figure, axes.get_legend_handles_labels()[0])
    return figure


@_styled
def confusion_matrix(counts: Labels, class_names: Sequence[str], *, title: str = "") -> Figure:
    """How often each class was answered with each; coloured by the share of the true class.

    The counts are (classes, classes), whole numbers: true class by row, answer by column.
    """
    size = len(class_names)
    if counts.shape != (size, size):
        raise FigureError(f"the counts have shape {counts.shape}; {size} classes need {(size, size)}")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = _charts(title, 7.0, 5.6)
    axes = figure.subplots()
    # By its root, so that the mistakes, mostly below a tenth, are told apart.
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


@_styled
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
    _check_labels(class_names, truths, answers)
    wrong = np.flatnonzero(truths != answers)
    wrong = wrong[np.argsort(-confidences[wrong], kind="stable")][:MOST_MISTAKES]
    columns, cell, gap, header = 6, 1.2, 0.15, 0.56
    row_height = header + cell
    figure, top = _canvas(title, columns * (cell + gap), max(math.ceil(len(wrong) / columns) * row_height, 0.3))
    if not len(wrong):
        _text(figure, 0.1, top + 0.05, f"No mistakes among {len(images)} test images.")
    for number, index in enumerate(wrong):
        row, column = divmod(number, columns)
        box = (gap / 2 + column * (cell + gap), top + header + row * row_height, cell, cell)
        names = f"{class_names[truths[index]]} →\n{class_names[answers[index]]}"
        axes = _picture(figure, box, images[index], "gray_r", (0, 255)).axes
        axes.set_title(f"{names}\n{confidences[index]:.1%}, image {index}", size=7.5, pad=3)
    return figure


# -- how the arms of a study compare -----------------------------------------------------------------------------


def scores_by_arm(runs: pd.DataFrame, arms: Sequence[str], *, title: str = "") -> Figure:
    """Test accuracy and test loss by arm: each seed a point, the mean and its 95 % interval (Student's t).

    Args:
        runs: `arm`, `seed`, `test_accuracy`, `test_loss`; a run that lacks a number is left out.
        arms: in order; one without runs keeps its place.
        title: what study this is.
    """
    return _dots(runs, arms, {"test_accuracy": "test accuracy", "test_loss": "test loss"}, title)


def seconds_by_arm(runs: pd.DataFrame, arms: Sequence[str], *, title: str = "") -> Figure:
    """CPU seconds of training by arm, an epoch and in all: `fit_cpu_seconds`, `epochs_trained`; see `scores_by_arm`."""
    runs = _rows(runs, ("arm", "seed", "fit_cpu_seconds", "epochs_trained"), "runs")
    runs = runs.assign(seconds=runs["fit_cpu_seconds"] / runs["epochs_trained"])
    measures = {"seconds": "CPU seconds of training, an epoch", "fit_cpu_seconds": "CPU seconds of training, in all"}
    return _dots(runs, arms, measures, title, from_zero=True)


@_styled
def _dots(
    runs: pd.DataFrame, arms: Sequence[str], measures: Mapping[str, str], title: str, from_zero: bool = False
) -> Figure:
    runs = _rows(runs, ("arm", "seed", *measures), "runs", arms)
    seeds = sorted(runs["seed"].astype(int).unique())
    # A seed stands at the same height in every arm, so that arms can be compared seed by seed.
    offsets = dict(zip(seeds, np.linspace(0, 0.34, len(seeds)), strict=True))
    parts = {arm: runs[runs["arm"] == arm] for arm in arms}
    figure = _charts(title, 8.5, 1.2 + 0.52 * len(arms))
    panels = figure.subplots(1, len(measures), sharey=True)
    for axes, (measure, label) in zip(panels, measures.items(), strict=True):
        for place, part in enumerate(parts.values()):
            look = _look(place)
            heights = [place + offsets[int(seed)] for seed in part["seed"]]
            axes.plot(part[measure], heights, **look, linestyle="none", alpha=0.7, markersize=4.5)
            if len(part) > 1:
                mean, half = _interval(part[measure].to_numpy())
                axes.errorbar(mean, place - 0.2, xerr=half, **look, markersize=7, capsize=4, mec="black")
        axes.set(xlabel=label, ylim=(len(arms) - 0.45, -0.5))
        axes.xaxis.set_major_locator(_ticks())
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        if from_zero:
            axes.set_xlim(left=0)
    panels[0].set_yticks(range(len(arms)), [f"{_fill(arm, 2.2)}\n(n = {len(part)})" for arm, part in parts.items()])
    several = "; large: their mean and its 95 % interval (t)" if any(len(part) > 1 for part in parts.values()) else ""
    figure.supxlabel(f"small: one seed each{several}", size=8, color="0.25")
    return figure


def curves_by_arm(epochs: pd.DataFrame, arms: Sequence[str], *, title: str = "") -> Figure:
    """Loss and accuracy by epoch and arm, test and training: the mean over seeds in a band from lowest to highest.

    Arms that end earlier are drawn thinner and on top, so that arms which are prefixes of one training stay visible.

    Args:
        epochs: `arm`, `seed`, `epoch` (from 1), `loss`, `accuracy`, `test_loss`, `test_accuracy`.
        arms: in order; one without runs stays in the legend.
        title: what study this is.
    """
    import seaborn  # here, for it takes a second, which workers spare; and outside the style, which it would keep

    measures = {"test_loss": "test loss", "loss": "training loss"}
    measures |= {"test_accuracy": "test accuracy", "accuracy": "training accuracy"}
    epochs = _rows(epochs, ("arm", "seed", "epoch", *measures), "epochs", arms)
    ends = epochs.groupby("arm")["epoch"].max()
    handles = []
    with matplotlib.rc_context(_STYLE):
        figure = _charts(title, 8.0, 5.6)
        panels = figure.subplots(2, 2, sharex=True, sharey="row").ravel()
        for axes, label in zip(panels, measures.values(), strict=True):
            axes.set(title=label.capitalize(), xlabel="epoch", xlim=(0.5, ends.max() + 0.5))
            axes.xaxis.set_major_locator(_ticks(integer=True))
        for place, arm in enumerate(arms):
            part, end, look = epochs[epochs["arm"] == arm], ends.get(arm), _look(place)
            peers = [other for other in arms if ends.get(other) == end]
            width = 1.4 + 1.5 * len({other for other in ends if end and other < end})
            dashes = _DASHES[peers.index(arm) % len(_DASHES)]
            line = {"color": look["color"], "linewidth": width, "linestyle": dashes}
            name = f"{_fill(arm, 2.6)} (n = {part['seed'].nunique()})"
            handles.append(Line2D([], [], label=name, mec="white", **line, marker=look["marker"]))
            if part.empty:
                continue
            line |= {"zorder": 2 + 1 / width, "err_kws": {"alpha": 0.15, "linewidth": 0}, "legend": False}
            for axes, measure in zip(panels, measures, strict=True):
                seaborn.lineplot(part, x="epoch", y=measure, errorbar=("pi", 100), ax=axes, **line)
                axes.plot(end, part.loc[part["epoch"] == end, measure].mean(), mec="white", zorder=4, **look)
        for axes in panels:
            axes.set_ylabel("")
            axes.label_outer()
        note = "line: mean of the seeds that reached an epoch; band: lowest to highest; mark: an arm's last epoch"
        _legend(figure, handles, note)
        return figure


# -- the data set ------------------------------------------------------------------------------------------------


@_styled
def samples_by_class(images: Pixels, labels: Labels, class_names: Sequence[str], per_class: int = 8) -> Figure:
    """The first images of each class, a row a class."""
    _check_labels(class_names, labels, images=images)
    tiles = np.zeros((len(class_names), per_class, *images.shape[1:]), np.uint8)
    for place, row in enumerate(tiles):
        first = images[np.flatnonzero(labels == place)[:per_class]]
        row[: len(first)] = first
    sheet = _sheet(tiles.reshape(-1, *images.shape[1:]), per_class, 0)
    tile, names = 0.62, 0.9
    size = (per_class * tile, len(class_names) * tile)
    figure, top = _canvas("The first images of each class", names + size[0] + 0.1, size[1])
    axes = _picture(figure, (names, top, *size), sheet, "gray_r", (0, 255)).axes
    axes.set_yticks((np.arange(len(class_names)) + 0.5) * len(sheet) / len(class_names), class_names)
    axes.tick_params(length=0)
    return figure


@_styled
def class_counts(train_labels: Labels, test_labels: Labels, class_names: Sequence[str]) -> Figure:
    """How many images of each class there are to train on and to test with."""
    _check_labels(class_names, train_labels, test_labels)
    figure = _charts("Images by class", 7.0, 4.2)
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

    _check_labels(class_names, labels, images=images)
    # In parts, for numpy counts in integers of eight times the size.
    parts = np.array_split(images, math.ceil(len(images) / 1000))
    counts = np.sum([np.bincount(part.ravel(), minlength=256) for part in parts], axis=0)
    with matplotlib.rc_context(_STYLE):
        figure = _charts("Pixel intensities: 0 is background, 255 brightest", 8.5, 3.8)
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


# -- what they share ---------------------------------------------------------------------------------------------


def _check_maps(activations: Activations, images: Pixels | None = None, indices: Sequence[int] | None = None) -> None:
    if not activations:
        raise FigureError("there are no feature maps: a dense network has no convolution or pooling layer")
    for layer, maps in activations.items():
        if maps.ndim != 4 or not maps.size:
            raise FigureError(f"{layer} has shape {maps.shape}; its maps must be (images, height, width, channels)")
        for name, others in (("images", images), ("indices", indices)):
            if others is not None and len(others) != len(maps):
                raise FigureError(f"{layer} has maps of {len(maps)} images, but there are {len(others)} {name}")


def _check_labels(class_names: Sequence[str], *labels: Labels, images: Pixels | None = None) -> None:
    if images is not None and (not len(images) or len(images) != len(labels[0])):
        raise FigureError(f"there are {len(images)} images and {len(labels[0])} labels; as many of each are needed")
    for array in labels:
        if len(array) and not 0 <= array.min() <= array.max() < len(class_names):
            raise FigureError(f"labels run from {array.min()} to {array.max()}; there are {len(class_names)} classes")


def _rows(frame: pd.DataFrame, columns: Sequence[str], what: str, arms: Sequence[str] | None = None) -> pd.DataFrame:
    """The rows that can be drawn: of these arms, and with a value in each column."""
    if missing := [column for column in columns if column not in frame]:
        raise FigureError(
            f"the frame of {what} has no column {missing[0]!r}; there are: {', '.join(map(str, frame)) or 'none'}"
        )
    rows = frame.dropna(subset=list(columns))
    if rows.empty:
        raise FigureError(f"there are no {what} to draw: of {len(frame)} rows in the frame none is complete")
    if arms is None:
        return rows
    chosen = rows[rows["arm"].isin(list(arms))]
    if chosen.empty:
        raise FigureError(f"there are no {what} of {', '.join(arms)}; there are: {', '.join(rows['arm'].unique())}")
    return chosen


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The mean of two or more values, and half its 95 % interval by Student's t."""
    from scipy.special import stdtrit  # the inverse of t's distribution; scipy.stats takes longer to import

    error = values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean()), float(stdtrit(len(values) - 1, 0.975) * error)


def _limits(*maps: NDArray[np.float32]) -> Limits:
    """From 0, where nothing is seen, so that a bright constant is bright."""
    return min(0.0, *(float(one.min()) for one in maps)), max(float(one.max()) for one in maps)


def _norm(low: float, high: float) -> Normalize:
    return Normalize(low, high if high > low else low + 1)


def _shape(maps: NDArray[Any]) -> str:
    return "\N{MULTIPLICATION SIGN}".join(map(str, maps.shape))


def _look(place: int) -> dict[str, Any]:
    return {"color": COLOURS[place % len(COLOURS)], "marker": _MARKERS[place % len(_MARKERS)]}


def _ticks(integer: bool = False) -> MaxNLocator:
    return MaxNLocator("auto" if integer else 5, integer=integer, steps=[1, 2, 5, 10], min_n_ticks=1)


def _fill(text: str, inches: float) -> str:
    """Text in lines that are at most about so wide."""
    return textwrap.fill(text, max(round(inches * 12), 8))


def _legend(figure: Figure, handles: Sequence[Any], title: str = "") -> None:
    """Below all, in as many columns as find room."""
    longest = max(len(line) for handle in handles for line in handle.get_label().splitlines())
    columns = max(1, min(3, len(handles), int(figure.get_figwidth() * 12) // (longest + 8)))
    look = {"title": title or None, "title_fontsize": 8, "handlelength": 3.5}
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, **look)


def _charts(title: str, width: float, height: float) -> Figure:
    """A figure whose axes, labels and legends matplotlib places."""
    figure = Figure((width, height), layout="constrained")
    if title:
        figure.suptitle(_fill(title, width))
    return figure


def _canvas(title: str, width: float, height: float) -> tuple[Figure, float]:
    """A figure of so many inches below its title, and where those begin: many pictures are placed faster by hand."""
    title = _fill(title, width)
    top = 0.12 + 0.18 * (title.count("\n") + 1 if title else 0)
    figure = Figure((width, top + height + 0.1))
    if title:
        figure.suptitle(title, x=0.1 / width, y=1 - 0.08 / figure.get_figheight(), ha="left", va="top")
    return figure, top


def _axes(figure: Figure, box: Box) -> Axes:
    (left, top, width, height), (across, down) = box, figure.get_size_inches()
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def _text(figure: Figure, left: float, top: float, text: str, **look: Any) -> None:
    width, height = figure.get_size_inches()
    figure.text(left / width, 1 - top / height, text, **{"va": "top", **look})


def _picture(figure: Figure, box: Box, pixels: NDArray[Any], colours: str, limits: Limits) -> AxesImage:
    axes = _axes(figure, box)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.grid(False)
    return axes.imshow(pixels, cmap=colours, norm=_norm(*limits), extent=(0, *pixels.shape[1::-1], 0))


def _colour_bar(figure: Figure, box: Box, drawn: AxesImage, limits: Limits, way: str) -> None:
    ticks = sorted(set(limits))
    bar = figure.colorbar(drawn, _axes(figure, box), orientation=way, ticks=ticks)
    bar.set_ticklabels([f"{tick:.2g}" for tick in ticks], size=7)
    if way == "horizontal":  # else they meet those of the neighbours
        labels = bar.ax.get_xticklabels()
        labels[0].set_horizontalalignment("left")
        labels[-1].set_horizontalalignment("right" if len(labels) > 1 else "left")


def _sheet(tiles: NDArray[Any], columns: int, fill: float, factor: int = 0) -> NDArray[Any]:
    """Tiles (n, height, width, ...) in rows, with thin gaps, each pixel enlarged to a square of `factor` pixels."""
    tall, wide = tiles.shape[1:3]
    factor = max(factor or math.ceil(_TILE / wide), 1)
    down, across = tall * factor + _GAP, wide * factor + _GAP
    rows = math.ceil(len(tiles) / columns)
    sheet = np.full((rows * down - _GAP, columns * across - _GAP, *tiles.shape[3:]), fill, tiles.dtype)
    for number, tile in enumerate(tiles):
        row, column = number // columns * down, number % columns * across
        enlarged = tile.repeat(factor, axis=0).repeat(factor, axis=1)
        sheet[row : row + tall * factor, column : column + wide * factor] = enlarged
    return sheet
