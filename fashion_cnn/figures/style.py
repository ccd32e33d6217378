"""How every figure looks, and its bytes as PNG or SVG."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any, Final

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# seaborn's "colorblind" (after Okabe and Ito), without the second that importing seaborn takes.
COLOURS: Final = (
    "#0173B2", "#DE8F05", "#029E73", "#D55E00", "#CC78BC", "#CA9161", "#FBAFE4", "#949494", "#ECE133", "#56B4E9",
)  # fmt: skip
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
DASHES: Final[tuple[Any, ...]] = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
STYLE: Final[dict[Any, Any]] = {
    **{name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"},
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "figure.titlesize": 10.5,
    "legend.fontsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "image.interpolation": "nearest",
    "text.parse_math": False,  # a dollar sign in an arm's name is a dollar sign
    "svg.fonttype": "none",  # text stays text: it can be read aloud and searched
    "svg.hashsalt": "fashion-cnn",  # else the ids in the file are drawn anew each time
}
styled = matplotlib.rc_context(STYLE)  # a decorator: the style holds during a call, the user's again after it


@styled
def png(figure: Figure, dpi: int = 120) -> bytes:
    """A figure as a PNG file, without date or software, at `dpi` pixels per inch."""
    _lay_out(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
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
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine(None)


def marker_style(place: int) -> dict[str, Any]:
    """The colour and marker of the arm or curve at a place in its order."""
    return {"color": COLOURS[place % len(COLOURS)], "marker": _MARKERS[place % len(_MARKERS)]}


def tick_locator(integer: bool = False) -> MaxNLocator:
    """At round numbers, whole ones if `integer`; at least one tick, however narrow the axis."""
    return MaxNLocator("auto" if integer else 5, integer=integer, steps=[1, 2, 5, 10], min_n_ticks=1)


def wrap(text: str, inches: float) -> str:
    """Text broken into lines of at most about so many inches."""
    return textwrap.fill(text, max(round(inches * 12), 8))


def add_legend(figure: Figure, handles: Sequence[Any], title: str = "") -> None:
    """Put a legend below everything, in up to three columns as far as there is room."""
    longest = max(len(line) for handle in handles for line in handle.get_label().splitlines())
    columns = max(1, min(3, len(handles), int(figure.get_figwidth() * 12) // (longest + 8)))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        title=title or None,
        title_fontsize=8,
        handlelength=3.5,
    )


def chart(title: str, width: float, height: float) -> Figure:
    """A figure of so many inches whose axes, labels and legends matplotlib places."""
    figure = Figure((width, height), layout="constrained")
    if title:
        figure.suptitle(wrap(title, width))
    return figure
