"""The charts of arms over seeds: what they reached, what it cost, their curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fashion_cnn.figures import style
from fashion_cnn.figures.style import styled, wrap
from fashion_cnn.intervals import half_width

if TYPE_CHECKING:
    import pandas as pd

    Curves = Mapping[int, pd.DataFrame]  # by an arm's place: `mean`, `min`, `max` over seeds, by epoch

_LINE: Final = 1.6  # points: of every curve
_DASH: Final = 4  # line widths: of one colour where curves share their epochs
_MARK: Final = 6.5  # points
_PANEL: Final = (235.0, 120.0)  # points: about the size of a panel of curves, for marks that must not overlap
_POST: Final = {"color": "black", "marker": "*", "markersize": 8, "markerfacecolor": "white"}


def scores_by_arm(
    runs: pd.DataFrame,
    arms: Sequence[str],
    *,
    printed: pd.DataFrame | None = None,
    overlap: float = 0.0,
    title: str = "",
) -> Figure:
    """Test accuracy and test loss by arm: each seed a point, the mean and its 95 % interval (Student's t).

    The runs need `arm`, `seed`, `test_accuracy`, `test_loss`; one that lacks a number is left out. An arm without runs
    keeps its place. `printed`, if given, has the numbers that somebody printed of one run: `arm`, `measure` (as the
    columns of the runs), `printed` and `give`, half of the last digit. `overlap` is that of the seeds' images: see
    `intervals.half_width`.
    """
    measures = {"test_accuracy": "test accuracy", "test_loss": "test loss"}
    return _dots(runs, arms, measures, title, printed=printed, overlap=overlap)


def seconds_by_arm(runs: pd.DataFrame, arms: Sequence[str], *, title: str = "") -> Figure:
    """CPU seconds of training by arm, per epoch and in all, as `scores_by_arm`.

    The runs need `arm`, `seed`, `fit_cpu_seconds`, `epochs_trained`.
    """
    runs = style.complete_rows(runs, ("arm", "seed", "fit_cpu_seconds", "epochs_trained"), "runs")
    runs = runs.assign(seconds=runs["fit_cpu_seconds"] / runs["epochs_trained"])
    measures = {"seconds": "CPU seconds of training, an epoch", "fit_cpu_seconds": "CPU seconds of training, in all"}
    return _dots(runs, arms, measures, title, from_zero=True)


@styled
def _dots(
    runs: pd.DataFrame, arms: Sequence[str], measures: Mapping[str, str], title: str, *,
    from_zero: bool = False, printed: pd.DataFrame | None = None, overlap: float = 0.0,
) -> Figure:  # fmt: skip
    runs = style.complete_rows(runs, ("arm", "seed", *measures), "runs", arms)
    seeds = sorted(runs["seed"].astype(int).unique())
    # A seed stands at the same height in every arm, so that arms can be compared seed by seed.
    offsets = dict(zip(seeds, np.linspace(0, 0.34, len(seeds)), strict=True))
    parts = {arm: runs[runs["arm"] == arm] for arm in arms}
    figure = style.chart(title, 8.5, 1.2 + 0.52 * len(arms))
    panels = figure.subplots(1, len(measures), sharey=True)
    for axes, (measure, label) in zip(panels, measures.items(), strict=True):
        for place, part in enumerate(parts.values()):
            look = style.marker_style(place)
            heights = [place + offsets[int(seed)] for seed in part["seed"]]
            axes.plot(part[measure], heights, **look, linestyle="none", alpha=0.7, markersize=4.5)
            if len(part) > 1:
                values = part[measure].to_numpy()
                half = half_width(float(values.std(ddof=1)), len(values), overlap=overlap)
                axes.errorbar(values.mean(), place - 0.2, xerr=half, **look, markersize=7, capsize=4, mec="black")
        axes.set(xlabel=label, ylim=(len(arms) - 0.45, -0.55))
        axes.xaxis.set_major_locator(style.tick_locator())
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        if from_zero:
            axes.set_xlim(left=0)
    theirs = [] if printed is None else [row for row in printed.to_dict("records") if row["arm"] in parts]
    for axes, measure in zip(panels, measures, strict=True):
        for row in (row for row in theirs if row["measure"] == measure):
            height = arms.index(row["arm"]) - 0.38
            axes.errorbar(row["printed"], height, xerr=row["give"], **_POST, linewidth=0.8, zorder=4)
    panels[0].set_yticks(range(len(arms)), [f"{wrap(arm, 2.2)}\n(n = {len(part)})" for arm, part in parts.items()])
    several = "; large: their mean and its 95 % interval (t)" if any(len(part) > 1 for part in parts.values()) else ""
    post = "; star: the post's one run, with what rounds to it" if theirs else ""
    figure.supxlabel(f"small: one seed each{several}{post}", size=8, color="0.25")
    return figure


@styled
def curves_by_arm(epochs: pd.DataFrame, arms: Sequence[str], *, title: str = "") -> Figure:
    """Loss and accuracy by epoch and arm, test and training: the mean over seeds in a band from lowest to highest.

    Where arms share their epochs, as prefixes of one training do, their colours alternate along one line, and the band
    is grey. An arm without runs stays in the legend. The epochs need `arm`, `seed`, `epoch` (from 1) and the four
    measures.
    """
    measures = {"test_loss": "test loss", "loss": "training loss"}
    measures |= {"test_accuracy": "test accuracy", "accuracy": "training accuracy"}
    epochs = style.complete_rows(epochs, ("arm", "seed", "epoch", *measures), "epochs", arms)
    epochs = epochs.assign(seed=epochs["seed"].astype(int)).sort_values(["arm", "seed", "epoch"])
    parts = {place: part for place, arm in enumerate(arms) if len(part := epochs[epochs["arm"] == arm])}
    by_epoch = {
        place: part.groupby("epoch")[list(measures)].agg(["mean", "min", "max"]) for place, part in parts.items()
    }
    figure = style.chart(title, 8.0, 5.8)
    for axes, (measure, label) in zip(figure.subplots(2, 2).ravel(), measures.items(), strict=True):
        axes.set(title=label.capitalize(), xlabel="epoch")
        axes.xaxis.set_major_locator(style.tick_locator(integer=True))
        axes.yaxis.set_major_locator(style.tick_locator())
        _draw_curves(axes, {place: table[measure] for place, table in by_epoch.items()})
    right = max(axes.get_xlim()[1] for axes in figure.axes)
    for axes in figure.axes:
        axes.set_xlim(right=right)
    handles = []
    for place, arm in enumerate(arms):
        name = f"{wrap(arm, 2.6)} (n = {parts[place]['seed'].nunique() if place in parts else 0})"
        handles.append(Line2D([], [], label=name, mec="white", linewidth=_LINE, **style.marker_style(place)))
    note = (
        "line: mean of the seeds that reached an epoch; band: lowest to highest; mark: an arm's last epoch (beside it "
        "where marks would overlap);\nalternating colours, grey band: these arms share the epochs"
    )
    style.add_legend(figure, handles, note)
    return figure


def _draw_curves(axes: Axes, curves: Curves) -> None:
    """Each arm's line, its band and the mark at its end."""
    for place, curve in curves.items():
        look: dict[str, Any] = {"color": style.marker_style(place)["color"], "linewidth": _LINE}
        for sharing, first, last in _stretches(place, curves):
            part = curve.iloc[first : last + 1]
            number, turn = len(sharing), sharing.index(place)
            dashes: Any = "-" if number == 1 else ((number - turn) * _DASH, (_DASH, (number - 1) * _DASH))
            axes.plot(part.index, part["mean"], **look, linestyle=dashes)
            if turn == 0:
                band = look["color"] if number == 1 else "0.5"
                axes.fill_between(part.index, part["min"], part["max"], color=band, alpha=0.15, linewidth=0)
    last_epoch = max(curve.index[-1] for curve in curves.values())
    low, high = axes.get_ylim()
    ends = {place: (float(curve.index[-1]), float(curve["mean"].iloc[-1])) for place, curve in curves.items()}
    step, apart = (1.15 * _MARK / size * length for size, length in zip(_PANEL, (last_epoch, high - low), strict=True))
    places = _beside(list(ends.values()), step, apart)
    for (place, (end, height)), (x, _) in zip(ends.items(), places, strict=True):
        look = style.marker_style(place)
        axes.plot((end, x), (height, height), color=look["color"], linewidth=0.8, zorder=3)
        axes.plot(x, height, mec="white", zorder=4, markersize=_MARK, **look)
    axes.set(xlim=(0.5, max(last_epoch + 0.5, *(x + step for x, _ in places))), ylim=(low, high))


def _stretches(place: int, curves: Curves) -> list[tuple[tuple[int, ...], int, int]]:
    """An arm's curve in stretches along which the same arms share it: which arms, its first and last point."""
    own = curves[place]["mean"].to_numpy()
    shared: list[list[int]] = [[] for _ in own[1:]]
    for other, curve in curves.items():
        values = curve["mean"].to_numpy()[: len(own)]
        alike = np.isclose(own[: len(values)], values, 1e-12, 0)
        for point in np.flatnonzero(alike[:-1] & alike[1:]):
            shared[point].append(other)
    sharing = [tuple(others) for others in shared]
    stretches = []
    for arms, points in groupby(range(len(sharing)), key=sharing.__getitem__):
        first, *more = points
        stretches.append((arms, first, (more[-1] if more else first) + 1))
    return stretches


def _beside(points: Sequence[tuple[float, float]], step: float, apart: float) -> list[tuple[float, float]]:
    """The points, moved to the right by as few steps as keep each from lying on one before it."""
    placed: list[tuple[float, float]] = []
    for x, y in points:
        while any(abs(x - other) < 0.99 * step and abs(y - height) < apart for other, height in placed):
            x += step
        placed.append((x, y))
    return placed
