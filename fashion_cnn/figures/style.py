"""How every figure looks, its bytes as PNG or SVG, what is refused, and pictures placed by hand."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Pixels: TypeAlias = NDArray[np.uint8]
Labels: TypeAlias = NDArray[np.integer[Any]]
Limits: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[float, float, float, float]  # inches from the figure's left and top; width, height

# seaborn's "colorblind" (after Okabe and Ito), without the second that importing seaborn takes.
COLOURS: Final = (
    "#0173B2", "#DE8F05", "#029E73", "#D55E00", "#CC78BC", "#CA9161", "#FBAFE4", "#949494", "#ECE133", "#56B4E9",
)  # fmt: skip
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
DASHES: Final[tuple[Any, ...]] = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
STYLE: Final[dict[Any, Any]] = {
    **{name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"},
    "font.size": 8.5, "axes.titlesize": 9, "axes.labelsize": 8.5, "figure.titlesize": 10.5, "legend.fontsize": 8.5,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "hatch.linewidth": 0.6,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": "0.9", "image.interpolation": "nearest",
    "text.parse_math": False,  # a dollar sign in an arm's name is a dollar sign
    "svg.fonttype": "none",  # text stays text: it can be read aloud and searched
    "svg.hashsalt": "fashion-cnn",  # else the ids in the file are drawn anew each time
}  # fmt: skip
GAP: Final = 2  # pixels between the tiles of a sheet
BAR: Final = "colour bar"  # the label of a picture that is one
_BAR_STEPS: Final = 64
_TILE: Final = 52  # pixels that a tile's side has at least
styled = matplotlib.rc_context(STYLE)  # a decorator: the style holds during a call, the user's again after it


class FigureError(ValueError):
    """Nothing can be drawn of this. One line: what was wrong, what there is."""


@styled
def png(figure: Figure, dpi: int = 120) -> bytes:
    """A figure as a PNG file, without date or software, at `dpi` pixels per inch."""
    _lay_out(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def pixels_png(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels as a PNG file, each as it is: (height, width), grey, or (height, width, 3)."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")  # at its default level: the best takes four times as long for 6 %
    return buffer.getvalue()


@styled
def svg(figure: Figure) -> str:
    """A figure as an SVG element, without XML prologue, date or software: a file of its own or part of a page."""
    _lay_out(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _lay_out(figure: Figure) -> None:
    """Fix the layout: matplotlib would compute it anew at each save, from the last one, which gives other bytes."""
    if (layout := figure.get_layout_engine()) is not None:
        layout.execute(figure)
        figure.set_layout_engine(None)


def marker_style(place: int) -> dict[str, Any]:
    """The colour and marker of the arm or curve at a place in its order."""
    return {"color": COLOURS[place % len(COLOURS)], "marker": _MARKERS[place % len(_MARKERS)]}


def tick_locator(integer: bool = False) -> MaxNLocator:
    """At round numbers, whole ones if `integer`; at least one tick, however narrow the axis."""
    return MaxNLocator("auto" if integer else 5, integer=integer, steps=[1, 2, 5, 10], min_n_ticks=1)


def show_round_seconds(axes: Axes) -> None:
    """On a log axis of seconds, ticks at 1, 2 and 5 times powers of ten, written out."""
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.xaxis.set_minor_locator(NullLocator())


def wrap(text: str, inches: float) -> str:
    """Text broken into lines of at most about so many inches."""
    return textwrap.fill(text, max(round(inches * 12), 8))


def add_legend(figure: Figure, handles: Sequence[Any], title: str = "") -> None:
    """Put a legend below everything, in up to three columns as far as there is room."""
    longest = max(len(line) for handle in handles for line in handle.get_label().splitlines())
    columns = max(1, min(3, len(handles), int(figure.get_figwidth() * 12) // (longest + 8)))
    look: dict[str, Any] = {"loc": "outside lower center", "title_fontsize": 8, "handlelength": 3.5}
    figure.legend(handles=handles, ncols=columns, title=title or None, **look)


def chart(title: str, width: float, height: float) -> Figure:
    """A figure of so many inches whose axes, labels and legends matplotlib places."""
    figure = Figure((width, height), layout="constrained")
    if title:
        figure.suptitle(wrap(title, width))
    return figure


def canvas(title: str, width: float, height: float) -> tuple[Figure, float]:
    """A figure with so many inches below its title, and how far below its top they begin.

    For pictures placed by hand, in inches from the upper left corner: all are drawn in one axes, which takes a fifth
    of the time that an axes for each would.
    """
    title = wrap(title, width)
    top = 0.12 + 0.18 * (title.count("\n") + 1 if title else 0)
    figure = Figure((width, top + height + 0.1))
    sheet = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(figure.get_figheight(), 0))
    sheet.set_axis_off()
    if title:
        add_text(figure, 0.1, 0.08, title, size=STYLE["figure.titlesize"])
    return figure, top


def axes_in(figure: Figure, box: Box) -> Axes:
    """New axes whose frame is a box; ticks and labels stand around it."""
    (left, top, width, height), (across, down) = box, figure.get_size_inches()
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def add_text(figure: Figure, left: float, top: float, text: str, **look: Any) -> None:
    """Write text on a canvas; by default its upper left corner lies so many inches from the canvas' left and top."""
    figure.axes[0].text(left, top, text, **{"va": "top", **look})


def add_picture(figure: Figure, box: Box, pixels: NDArray[Any], colours: str, limits: Limits) -> AxesImage:
    """Show pixels, (height, width) or (height, width, 3), in a box of a canvas; limits end the colours."""
    left, top, width, height = box
    extent = (left, left + width, top + height, top)
    return figure.axes[0].imshow(pixels, cmap=colours, norm=colour_norm(*limits), extent=extent, aspect="auto")


def add_colour_bar(figure: Figure, box: Box, colours: str, limits: Limits, way: str) -> None:
    """Draw the colours between limits in a box of a canvas, labelled with them; `way`: `vertical` or `horizontal`."""
    (left, top, width, height), (low, high) = box, limits
    steps = np.linspace(low, high, _BAR_STEPS)
    across = way == "horizontal"
    add_picture(figure, box, steps[np.newaxis] if across else steps[::-1, np.newaxis], colours, limits).set_label(BAR)
    for limit in sorted(set(limits)):
        last = limit == high > low
        words = f"{limit:.2g}"
        if across:  # within the bar's ends: else the labels meet those of the neighbours
            end, side = (left + width, "right") if last else (left, "left")
            add_text(figure, end, top + height + 0.03, words, size=7, ha=side)
        else:
            add_text(figure, left + width + 0.05, top if last else top + height, words, size=7, va="center")


def colour_norm(low: float, high: float) -> Normalize:
    """From values to 0..1; where all values are equal they become 0."""
    return Normalize(low, high if high > low else low + 1)


def tile_sheet(tiles: NDArray[Any], columns: int, fill: float, factor: int = 0) -> NDArray[Any]:
    """Tiles (n, height, width, ...) side by side in rows; `fill` is the value of gaps and of places without a tile.

    Each pixel becomes a square with `factor` pixels per side; 0 makes tiles wide enough to look at.
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


def check_labels(class_names: Sequence[str], *labels: Labels, images: Pixels | None = None) -> None:
    """Refuse labels outside `class_names`, and images that are none or not as many as the first labels."""
    if images is not None and (not len(images) or len(images) != len(labels[0])):
        raise FigureError(f"there are {len(images)} images and {len(labels[0])} labels; as many of each are needed")
    for array in labels:
        if len(array) and not 0 <= array.min() <= array.max() < len(class_names):
            raise FigureError(f"labels run from {array.min()} to {array.max()}; there are {len(class_names)} classes")


def complete_rows(
    frame: pd.DataFrame, columns: Sequence[str], what: str, arms: Sequence[str] | None = None
) -> pd.DataFrame:
    """The rows of a tidy frame that can be drawn: of these arms (None: all), and with a value in each column.

    `what` names the rows in a message. A FigureError says which column is missing, or that no row is left.
    """
    if missing := [column for column in columns if column not in frame]:
        there = ", ".join(map(str, frame)) or "none"
        raise FigureError(f"the frame of {what} has no column {missing[0]!r}; there are: {there}")
    rows = frame.dropna(subset=list(columns))
    if rows.empty:
        raise FigureError(f"there are no {what} to draw: of {len(frame)} rows in the frame none is complete")
    if arms is None:
        return rows
    chosen = rows[rows["arm"].isin(list(arms))]
    if chosen.empty:
        raise FigureError(f"there are no {what} of {', '.join(arms)}; there are: {', '.join(rows['arm'].unique())}")
    return chosen
