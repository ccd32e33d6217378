"""Figures of a study: how its arms compare over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fashion_cnn.figures.style import (
    DASHES,
    STYLE,
    add_legend,
    chart,
    complete_rows,
    marker_style,
    styled,
    tick_locator,
    wrap,
)
from fashion_cnn.intervals import half_width

if TYPE_CHECKING:
    import pandas as pd


def scores_by_arm(runs: pd.DataFrame, arms: Sequence[str], *, title: str = "") -> Figure:
    """Test accuracy and test loss by arm: each seed a point, the mean and its 95 % interval (Student's t).

    The runs need `arm`, `seed`, `test_accuracy`, `test_loss`; one that lacks a number is left out. An arm without runs
    keeps its place.
    """
    return _dots(runs, arms, {"test_accuracy": "test accuracy", "test_loss": "test loss"}, title)


def seconds_by_arm(runs: pd.DataFrame, arms: Sequence[str], *, title: str = "") -> Figure:
    """CPU seconds of training by arm, per epoch and in all, as `scores_by_arm`.

    The runs need `arm`, `seed`, `fit_cpu_seconds`, `epochs_trained`.
    """
    runs = complete_rows(runs, ("arm", "seed", "fit_cpu_seconds", "epochs_trained"), "runs")
    runs = runs.assign(seconds=runs["fit_cpu_seconds"] / runs["epochs_trained"])
    measures = {"seconds": "CPU seconds of training, an epoch", "fit_cpu_seconds": "CPU seconds of training, in all"}
    return _dots(runs, arms, measures, title, from_zero=True)


@styled
def _dots(
    runs: pd.DataFrame, arms: Sequence[str], measures: Mapping[str, str], title: str, from_zero: bool = False
) -> Figure:
    runs = complete_rows(runs, ("arm", "seed", *measures), "runs", arms)
    seeds = sorted(runs["seed"].astype(int).unique())
    # A seed stands at the same height in every arm, so that arms can be compared seed by seed.
    offsets = dict(zip(seeds, np.linspace(0, 0.34, len(seeds)), strict=True))
    parts = {arm: runs[runs["arm"] == arm] for arm in arms}
    figure = chart(title, 8.5, 1.2 + 0.52 * len(arms))
    panels = figure.subplots(1, len(measures), sharey=True)
    for axes, (measure, label) in zip(panels, measures.items(), strict=True):
        for place, part in enumerate(parts.values()):
            look = marker_style(place)
            heights = [place + offsets[int(seed)] for seed in part["seed"]]
            axes.plot(part[measure], heights, **look, linestyle="none", alpha=0.7, markersize=4.5)
            if len(part) > 1:
                values = part[measure].to_numpy()
                half = half_width(float(values.std(ddof=1)), len(values))
                axes.errorbar(values.mean(), place - 0.2, xerr=half, **look, markersize=7, capsize=4, mec="black")
        axes.set(xlabel=label, ylim=(len(arms) - 0.45, -0.5))
        axes.xaxis.set_major_locator(tick_locator())
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        if from_zero:
            axes.set_xlim(left=0)
    panels[0].set_yticks(range(len(arms)), [f"{wrap(arm, 2.2)}\n(n = {len(part)})" for arm, part in parts.items()])
    several = "; large: their mean and its 95 % interval (t)" if any(len(part) > 1 for part in parts.values()) else ""
    figure.supxlabel(f"small: one seed each{several}", size=8, color="0.25")
    return figure


def curves_by_arm(epochs: pd.DataFrame, arms: Sequence[str], *, title: str = "") -> Figure:
    """Loss and accuracy by epoch and arm, test and training: the mean over seeds in a band from lowest to highest.

    Arms that end earlier are drawn thinner and on top, so that arms which are prefixes of one training stay visible;
    one without runs stays in the legend. The epochs need `arm`, `seed`, `epoch` (from 1) and the four measures.
    """
    import seaborn  # here, for it takes a second, which workers spare; and outside the style, which it would keep

    measures = {"test_loss": "test loss", "loss": "training loss"}
    measures |= {"test_accuracy": "test accuracy", "accuracy": "training accuracy"}
    epochs = complete_rows(epochs, ("arm", "seed", "epoch", *measures), "epochs", arms)
    ends = epochs.groupby("arm")["epoch"].max()
    handles = []
    with matplotlib.rc_context(STYLE):
        figure = chart(title, 8.0, 5.6)
        panels = figure.subplots(2, 2, sharex=True, sharey="row").ravel()
        for axes, label in zip(panels, measures.values(), strict=True):
            axes.set(title=label.capitalize(), xlabel="epoch", xlim=(0.5, ends.max() + 0.5))
            axes.xaxis.set_major_locator(tick_locator(integer=True))
        for place, arm in enumerate(arms):
            part, end, look = epochs[epochs["arm"] == arm], ends.get(arm), marker_style(place)
            peers = [other for other in arms if ends.get(other) == end]
            width = 1.4 + 1.5 * len({other for other in ends if end and other < end})
            dashes = DASHES[peers.index(arm) % len(DASHES)]
            line = {"color": look["color"], "linewidth": width, "linestyle": dashes}
            name = f"{wrap(arm, 2.6)} (n = {part['seed'].nunique()})"
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
        add_legend(figure, handles, note)
        return figure
