"""The charts that answer: claimed differences and their verdicts, accuracy against cost, scores by number of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator, PercentFormatter
from numpy.typing import NDArray

from fashion_cnn.figures import style
from fashion_cnn.figures.style import COLOURS, styled, wrap
from fashion_cnn.intervals import half_width

if TYPE_CHECKING:
    import pandas as pd

VERDICTS: Final[dict[str, dict[str, Any]]] = {
    "supported": {"color": COLOURS[0], "marker": "o"},
    "contradicted": {"color": COLOURS[3], "marker": "X"},
    "undecided": {"color": "0.35", "marker": "o", "markerfacecolor": "white"},
    "too few seeds": {"color": "0.55", "marker": "s", "markerfacecolor": "white"},
}
"""How each verdict is drawn: colour and shape both tell it."""
_SMALL: Final = 7.5  # points
_LINE: Final = 0.145  # inches: of small text
_NUMBER_PLACES: Final = (  # of a number beside its point, in points from it
    (-7, 7), (8, -7), (8, 7), (-7, -7), (9, 0), (-9, 0), (14, 7), (-14, 7), (14, -8), (-14, -8), (0, 15), (0, -15),
)  # fmt: skip


@styled
def differences(parts: pd.DataFrame, *, title: str = "") -> Figure:
    """What was claimed and what came of it: each difference with the interval that decides it, and its verdict.

    A shade shows where the claim holds: an interval inside of it supports the claim, one outside contradicts it.

    Args:
        parts: one row per part of a sentence, in order. `measure` (the heading of the axis on which all rows with it
            are drawn), `says` (the sentence), `claim` (this part of it, in short), `estimate`, `low` and `high` (the
            interval; NaN where there is none), `from` and `to` (where the claim holds; may be infinite), `neutral`
            (where a line stands, or NaN), `share` (whether the numbers are shares), `verdict` (one of `VERDICTS`), and
            `words` (what stands below the verdict).
        title: above the figure.
    """
    parts = style.complete_rows(
        parts, ("measure", "says", "claim", "from", "to", "share", "verdict", "words"), "claims"
    )
    labels, plot, right, head, foot = 3.15, 3.3, 2.35, 0.34, 0.38
    parts = parts.assign(claim=_wrapped(parts["claim"], 3.6), says=_wrapped(parts["says"], 3.6))
    parts = parts.assign(words=_wrapped(parts["words"], 2.8))
    tall = [
        _LINE * (2 + max(claim.count("\n") + says.count("\n"), words.count("\n"))) + 0.14
        for claim, says, words in zip(parts["claim"], parts["says"], parts["words"], strict=True)
    ]
    parts = parts.assign(tall=tall)
    groups = [group for _, group in parts.groupby("measure", sort=False)]
    note = (
        "Difference: the first arm minus the second. Bar: the interval that decides. Shade: where the claim holds;\n"
        "a bar within it supports the claim, one outside contradicts it."
    )
    height = sum(parts["tall"]) + len(groups) * (head + foot) + 0.35
    figure, top = style.canvas(title, labels + plot + right, height)
    for group in groups:
        top += head
        style.add_text(figure, labels, top - 0.07, group["measure"].iloc[0], va="bottom", weight="bold")
        axes = style.axes_in(figure, (labels, top, plot, sum(group["tall"])))
        _draw_parts(axes, group)
        for row in group.to_dict("records"):
            claim, says = row["claim"], row["says"]
            look: dict[str, Any] = {"ha": "right", "size": _SMALL}
            style.add_text(figure, labels - 0.12, top + 0.07, claim, **look)
            below = top + 0.07 + _LINE * (claim.count("\n") + 1)
            style.add_text(figure, labels - 0.12, below, says, **look, color="0.4")
            beside, colour = labels + plot + 0.12, VERDICTS[row["verdict"]]["color"]
            above = top + (row["tall"] - _LINE * (row["words"].count("\n") + 2)) / 2
            style.add_text(figure, beside, above, row["verdict"], weight="bold", color=colour)
            style.add_text(figure, beside, above + _LINE + 0.03, row["words"], size=_SMALL)
            top += row["tall"]
        top += foot
    style.add_text(figure, 0.1, top + 0.02, note, size=_SMALL, color="0.25")
    return figure


def _wrapped(texts: Sequence[str], inches: float) -> list[str]:
    return ["\n".join(wrap(line, inches) for line in text.splitlines()) for text in texts]


def _draw_parts(axes: Axes, parts: pd.DataFrame) -> None:
    """The parts about one measure, one below the other; heights are inches."""
    numbers = parts[["estimate", "low", "high", "from", "to", "neutral"]].to_numpy(float)
    shown = numbers[np.isfinite(numbers)]
    margin = 0.08 * float(np.ptp(shown)) or 1.0
    left, right = float(shown.min()) - margin, float(shown.max()) + margin
    top = 0.0
    for row in parts.to_dict("records"):
        middle, look = top + row["tall"] / 2, VERDICTS[row["verdict"]]
        shade = np.clip((row["from"], row["to"]), left, right)
        axes.fill_between(shade, top + 0.03, top + row["tall"] - 0.03, color=COLOURS[0], alpha=0.13, linewidth=0)
        axes.plot(np.clip((row["low"], row["high"]), left, right), (middle, middle), color=look["color"], linewidth=2)
        ends: dict[str, Any] = {"marker": "|", "markersize": 8, "markeredgewidth": 2, "linestyle": "none"}
        axes.plot((row["low"], row["high"]), (middle, middle), color=look["color"], **ends)
        axes.plot(row["estimate"], middle, **look, markersize=8, markeredgewidth=1.4, zorder=3)
        top += row["tall"]
    if np.isfinite(neutral := parts["neutral"].iloc[0]):
        axes.axvline(neutral, color="0.3", linewidth=0.9, zorder=1)
    axes.set(xlim=(left, right), ylim=(top, 0), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(style.tick_locator())
    if parts["share"].iloc[0]:
        axes.xaxis.set_major_formatter(PercentFormatter(1))


def on_frontier(costs: NDArray[np.floating[Any]], gains: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Which points (n,) no other beats: by costing no more and gaining no less, and one of them truly (Pareto)."""
    cheaper, better = costs[:, np.newaxis] <= costs, gains[:, np.newaxis] >= gains
    truly = (costs[:, np.newaxis] < costs) | (gains[:, np.newaxis] > gains)
    beaten = np.any(cheaper & better & truly, axis=0)
    return np.array(~beaten, dtype=np.bool_)


@styled
def accuracy_by_cost(runs: pd.DataFrame, *, target: float = 0.9, title: str = "") -> Figure:
    """Test accuracy over CPU seconds of training, with the frontier, and the seconds to reach a test accuracy, by arm.

    Arms are numbered by their mean cost. Left: their means, accuracy with its 95 % interval (t). Right: each seed's
    seconds up to the end of the first epoch that reached the `target`, and their median, of which a seed that never
    did counts as longer than all others.

    The runs need `arm` (of any study), `seed`, `test_accuracy`, and, at least one of each arm, `fit_cpu_seconds` and
    `seconds_to_target`, infinite where the target was never reached.
    """
    timed = style.complete_rows(runs, ("arm", "seed", "test_accuracy", "fit_cpu_seconds", "seconds_to_target"), "runs")
    runs = runs[runs["arm"].isin(timed["arm"])].dropna(subset=["seed", "test_accuracy"])
    means = runs.groupby("arm", sort=False)[["fit_cpu_seconds", "test_accuracy"]].mean()
    means = means.sort_values("fit_cpu_seconds", kind="stable")
    costs, gains = (means[name].to_numpy() for name in ("fit_cpu_seconds", "test_accuracy"))
    best = on_frontier(costs, gains)
    parts = [runs[runs["arm"] == arm] for arm in means.index]
    in_time = [timed[timed["arm"] == arm] for arm in means.index]
    tall = [_LINE * (wrap(arm, 2.6).count("\n") + 1) + 0.08 for arm in means.index]
    plot, between, times, right, head, foot = 3.6, 2.65, 1.9, 1.25, 0.36, 0.42
    height = max(sum(tall), 3.4)
    figure, top = style.canvas(title, 0.6 + plot + between + times + right, head + height + foot + 0.35)
    top += head
    left = 0.6
    axes = style.axes_in(figure, (left, top, plot, height))
    style.add_text(figure, left, top - 0.07, "Test accuracy against cost", va="bottom", weight="bold")
    _draw_frontier(axes, parts, costs, gains, best)
    left += plot + between
    words = f"CPU seconds to a test accuracy of {target:g}"
    style.add_text(figure, left, top - 0.07, words, va="bottom", weight="bold")
    axes = style.axes_in(figure, (left, top, times, sum(tall)))
    middles = np.cumsum(tall) - np.array(tall) / 2
    _draw_times(axes, in_time, middles, best)
    axes.set(ylim=(sum(tall), 0))
    for number, (arm, part, middle) in enumerate(zip(means.index, in_time, middles, strict=True)):
        look: dict[str, Any] = {"va": "center", "size": _SMALL, "weight": "bold" if best[number] else "normal"}
        style.add_text(figure, left - 2.2, top + middle, wrap(arm, 2.6), **look)
        style.add_text(figure, left - 2.28, top + middle, str(number + 1), **look, ha="right")
        said = _reached(part["seconds_to_target"].to_numpy())
        style.add_text(figure, left + times + 0.1, top + middle, said, va="center", size=_SMALL)
    note = (
        f"Left: means over seeds (accuracy: {_seeds(parts)}; CPU seconds: {_seeds(in_time)}), with 95 % intervals (t). "
        "Bold, filled: on the\nfrontier, no other arm is as accurate for less. Right: small, one seed each; bar, their "
        "median."
    )
    style.add_text(figure, 0.1, top + height + foot + 0.02, note, size=_SMALL, color="0.25")
    return figure


def _seeds(parts: Sequence[pd.DataFrame]) -> str:
    """How many seeds arms have."""
    counts = [len(part) for part in parts]
    return f"n = {min(counts)}" + (f" to {max(counts)}" if min(counts) < max(counts) else "")


def _reached(seconds: NDArray[np.floating[Any]]) -> str:
    """The median of the seconds to a target and how many never reached it, in words."""
    never, median = int(np.isinf(seconds).sum()), float(np.median(seconds))
    if never == len(seconds):
        return f"none of {len(seconds)}"
    said = f"{median:,.0f} s" if math.isfinite(median) else "not half"
    return f"{said}; {never} of {len(seconds)} never" if never else said


def _draw_frontier(
    axes: Axes, parts: Sequence[pd.DataFrame], costs: NDArray[np.floating[Any]],
    gains: NDArray[np.floating[Any]], best: NDArray[np.bool_],
) -> None:  # fmt: skip
    axes.set_xscale("log")
    for part, cost, gain, leads in zip(parts, costs, gains, best, strict=True):
        colour, face = (COLOURS[0], COLOURS[0]) if leads else ("0.45", "white")
        values = part["test_accuracy"].to_numpy()
        half = half_width(float(values.std(ddof=1)), len(values)) if len(values) > 1 else None
        axes.errorbar(cost, gain, yerr=half, color=colour, marker="o", mfc=face, markersize=5.5, elinewidth=0.9)
    low, high = axes.get_ylim()
    near, far = float(costs.min()) / 1.35, float(costs.max()) * 1.35
    axes.step((*costs[best], far), (*gains[best], gains[best][-1]), where="post", color=COLOURS[0], zorder=1)
    axes.set(xlim=(near, far), ylim=(low, high), xlabel="CPU seconds of training (mean)")
    style.show_round_seconds(axes)
    size = np.array(axes.bbox.size) * 72 / axes.figure.dpi
    across = (np.log(costs / near) / math.log(far / near)) * size[0]
    points = np.stack([across, (gains - low) / (high - low) * size[1]], axis=1)
    for number, (shift, leads) in enumerate(zip(_shifts(points), best, strict=True)):
        look: dict[str, Any] = {"color": COLOURS[0], "weight": "bold"} if leads else {"color": "0.25"}
        look |= {"ha": "center", "va": "center", "size": _SMALL, "textcoords": "offset points"}
        axes.annotate(str(number + 1), (costs[number], gains[number]), shift, **look)


def _shifts(points: NDArray[np.floating[Any]]) -> Sequence[tuple[float, float]]:
    """Where each point's number stands from it, so that it lies on no point and no other number, if that can be."""
    taken, shifts = points, []
    for number, point in enumerate(points):
        others = np.delete(taken, number, axis=0)
        # How far each place is from the nearest of them: at least 1 is free.
        gaps = np.abs((point + _NUMBER_PLACES)[:, np.newaxis] - others) / (9, 7)
        room = gaps.max(axis=2).min(axis=1, initial=1.0)
        shifts.append(_NUMBER_PLACES[int(room.argmax())])
        taken = np.vstack([taken, point + shifts[-1]])
    return shifts


def _draw_times(
    axes: Axes, parts: Sequence[pd.DataFrame], middles: NDArray[np.floating[Any]], best: NDArray[np.bool_]
) -> None:
    axes.set_xscale("log")
    for part, middle, leads in zip(parts, middles, best, strict=True):
        seconds = part["seconds_to_target"].to_numpy()
        colour = COLOURS[0] if leads else "0.35"
        reached = np.sort(seconds[np.isfinite(seconds)])
        heights = middle + np.linspace(-0.05, 0.05, len(reached)) if len(reached) > 1 else [middle] * len(reached)
        axes.plot(reached, heights, color=colour, marker="o", linestyle="none", markersize=3, alpha=0.6)
        if math.isfinite(median := float(np.median(seconds))):
            axes.plot(median, middle, color=colour, marker="|", markersize=11, markeredgewidth=2)
    axes.set(yticks=[], xlabel="CPU seconds")
    axes.spines["left"].set_visible(False)
    axes.xaxis.grid(True)
    style.show_round_seconds(axes)


@styled
def scores_by_images(runs: pd.DataFrame, *, note: str = "", title: str = "") -> Figure:
    """Test accuracy and test loss against the number of training images, on a log axis, a line for each comparison.

    Args:
        runs: one row per run and comparison that it belongs to: `comparison` (in words), `seed`, `images` (as many as
            an epoch shows), `mirrored` (whether half of them are mirror images: drawn apart), `test_accuracy`,
            `test_loss`.
        note: what it says, below the figure.
        title: above the figure.
    """
    measures = {"test_accuracy": "test accuracy", "test_loss": "test loss"}
    runs = style.complete_rows(runs, ("comparison", "seed", "images", "mirrored", *measures), "runs")
    comparisons = list(dict.fromkeys(runs["comparison"]))
    lines = wrap(note, 9.5).count("\n") + 1 if note else 0
    figure = style.chart(title, 8.5, 4.3 + 0.16 * lines)
    panels = figure.subplots(1, 2)
    for axes, (measure, label) in zip(panels, measures.items(), strict=True):
        axes.set_xscale("log", base=2)
        for place, comparison in enumerate(comparisons):
            of_it = runs[runs["comparison"] == comparison]
            _draw_sizes(axes, of_it, measure, comparison, place)
        sizes = sorted(runs["images"].unique())
        mirrored = set(runs.loc[runs["mirrored"], "images"])
        names = [f"{size:,.0f}" + ("\nhalf mirrored" if size in mirrored else "") for size in sizes]
        axes.xaxis.set_major_locator(FixedLocator(sizes))
        axes.xaxis.set_major_formatter(FixedFormatter(names))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlabel="training images in an epoch (log)", title=label.capitalize())
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, title=wrap(note, 9.5) or None, title_fontsize=8)
    return figure


def _draw_sizes(axes: Axes, runs: pd.DataFrame, measure: str, label: str, place: int) -> None:
    """A comparison: seeds, and the mean of each size with its 95 % interval; mirror images beside the line."""
    look, aside = style.marker_style(place), 1.03 ** (2 * place - 1)
    for (mirrored, images), part in runs.groupby(["mirrored", "images"]):
        values = part[measure].to_numpy()
        x = images * aside
        axes.plot(
            [x * 1.025 ** (2 * place - 1)] * len(values), values, **look, linestyle="none", alpha=0.35, markersize=3
        )
        half = half_width(float(values.std(ddof=1)), len(values)) if len(values) > 1 else None
        face = "white" if mirrored else look["color"]
        axes.errorbar(x, values.mean(), yerr=half, **look, mfc=face, capsize=3, markersize=6)
    plain = runs[~runs["mirrored"].astype(bool)].groupby("images")[measure].mean()
    axes.plot(plain.index * aside, plain, **look, linestyle=style.DASHES[place], label=label, markersize=6)
