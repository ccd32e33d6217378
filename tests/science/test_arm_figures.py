"""The figures that compare arms: every seed, the mean and its interval, the curves."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fashion_cnn import figures
from fashion_cnn.figures import COLOURS, FigureError
from tests.support.drawn import (
    ARMS,
    clouds,
    epoch_frame,
    lines,
    run_frame,
    words,
)


def test_every_seed_is_a_point_at_its_own_height_in_every_arm() -> None:
    runs = run_frame(4).sample(frac=1, random_state=3)
    figure = figures.scores_by_arm(runs, ARMS)
    for axes, measure in zip(figure.axes, ("test_accuracy", "test_loss"), strict=True):
        heights = set()
        for place, (arm, cloud) in enumerate(zip(ARMS, clouds(axes), strict=True)):
            ordered = runs[runs["arm"] == arm].sort_values("seed")[measure]
            assert cloud[cloud[:, 1].argsort(), 0].tolist() == ordered.tolist()
            heights.add(tuple(np.round(np.sort(cloud[:, 1]) - place, 6)))
        assert len(heights) == 1


def bars(axes: Axes) -> list[tuple[float, list[float]]]:
    """Each arm's mean, and the ends of its interval."""
    found: list[Any] = list(axes.containers)
    return [(mark.get_xdata()[0], bar.get_segments()[0][:, 0].tolist()) for mark, _, (bar,) in found]


def test_the_bar_is_the_mean_and_its_95_percent_t_interval() -> None:
    runs = run_frame(5)
    for (mean, ends), arm in zip(bars(figures.scores_by_arm(runs, ARMS).axes[0]), ARMS, strict=True):
        values = runs.loc[runs["arm"] == arm, "test_accuracy"]
        expected = scipy.stats.t.interval(0.95, len(values) - 1, values.mean(), scipy.stats.sem(values))
        assert mean == pytest.approx(values.mean())
        assert ends == pytest.approx(expected)


def test_one_seed_is_a_point_without_an_interval() -> None:
    figure = figures.scores_by_arm(run_frame(1), ARMS)
    figures.png(figure)
    assert [len(cloud) for cloud in clouds(figure.axes[0])] == [1, 1, 1]
    assert not figure.axes[0].containers
    assert "(n = 1)" in words(figure)
    assert "interval" not in words(figure)


def test_equal_values_have_an_interval_of_no_width() -> None:
    runs = run_frame(3).assign(test_accuracy=0.9, test_loss=0.3, fit_cpu_seconds=1.0)
    for figure in (figures.scores_by_arm(runs, ARMS), figures.seconds_by_arm(runs, ARMS)):
        figures.png(figure)
        assert all(ends == pytest.approx([mean, mean]) for mean, ends in bars(figure.axes[0]))


def test_an_arm_without_runs_keeps_its_place_and_says_so() -> None:
    figure = figures.scores_by_arm(run_frame(2), (*ARMS, "20 epochs"))
    assert [len(cloud) for cloud in clouds(figure.axes[0])] == [2, 2, 2, 0]
    assert "20 epochs (n = 0)" in words(figure)
    assert "20 epochs (n = 0)" in words(figures.curves_by_arm(epoch_frame(), (*ARMS, "20 epochs")))


def test_a_run_that_lacks_a_number_is_left_out() -> None:
    runs = run_frame(3)
    runs.loc[0, "test_loss"] = np.nan
    figure = figures.scores_by_arm(runs, ARMS)
    assert [len(cloud) for cloud in clouds(figure.axes[0])] == [2, 3, 3]


def test_long_names_of_arms_are_wrapped() -> None:
    labels = [text.get_text() for text in figures.scores_by_arm(run_frame(), ARMS).axes[0].get_yticklabels()]
    assert labels[2] == "3 additional convolutions,\nsame padding\n(n = 3)"


def test_seconds_are_told_per_epoch_and_in_all_from_zero() -> None:
    runs = run_frame(2)
    per_epoch, in_all = figures.seconds_by_arm(runs, ARMS).axes
    seconds = runs.loc[runs["arm"] == ARMS[0], "fit_cpu_seconds"]
    assert sorted(clouds(in_all)[0][:, 0]) == sorted(seconds)
    assert sorted(clouds(per_epoch)[0][:, 0]) == pytest.approx(sorted(seconds / 10))
    assert per_epoch.get_xlim()[0] == in_all.get_xlim()[0] == 0


def test_curves_by_arm_are_the_mean_over_seeds_in_a_band_from_lowest_to_highest() -> None:
    frame = epoch_frame()
    axes = figures.curves_by_arm(frame, ARMS).axes[0]
    assert axes.get_title() == "Test loss"
    values = frame[frame["arm"] == ARMS[0]].groupby("epoch")["test_loss"]
    assert lines(axes, color=COLOURS[0])[0][:, 1] == pytest.approx(values.mean().to_numpy())
    band = np.asarray(axes.collections[0].get_paths()[0].vertices)
    for epoch, (low, high) in enumerate(zip(values.min(), values.max(), strict=True), start=1):
        heights = band[band[:, 0] == epoch, 1]
        assert (heights.min(), heights.max()) == (pytest.approx(low), pytest.approx(high))


def test_arms_that_share_their_epochs_alternate_along_one_line_of_one_width() -> None:
    frame = epoch_frame(ends=(5, 10, 10))
    longer = frame[frame["arm"] == ARMS[1]]
    start = longer[longer["epoch"] <= 5].assign(arm=ARMS[0])
    axes = figures.curves_by_arm(pd.concat([start, longer, frame[frame["arm"] == ARMS[2]]]), ARMS).axes[0]
    short, both, rest, other = (line for line in axes.lines if line.get_linewidth() == 1.6)
    assert [line.get_color() for line in (short, both, rest, other)] == [COLOURS[place] for place in (0, 1, 1, 2)]
    shared, longer_shared, alone = (np.asarray(line.get_xydata()) for line in (short, both, rest))
    assert np.array_equal(shared, longer_shared) and shared[-1, 0] == 5
    assert alone[[0, -1], 0].tolist() == [5, 10]
    assert [line.get_linestyle() for line in (short, both, rest, other)] == ["--", "--", "-", "-"]
    (first, drawn), (second, again) = (line._unscaled_dash_pattern for line in (short, both))  # type: ignore[attr-defined]
    assert drawn == again and abs(first - second) == drawn[0] == sum(drawn) / 2
    assert len(axes.collections) == 3  # bands: one of what both share, and those of each alone


def test_marks_at_the_ends_do_not_overlap_and_keep_their_height() -> None:
    frame = epoch_frame(ends=(10, 10, 10)).assign(test_loss=0.3)
    figure = figures.curves_by_arm(frame, ARMS)
    axes = figure.axes[0]
    figures.png(figure)
    marks = [line[0] for line in lines(axes, markeredgecolor="white") if len(line) == 1]
    places = [axes.transData.transform(mark) for mark in marks]
    assert [height for _, height in marks] == pytest.approx([0.3] * 3)
    gaps = [np.hypot(*(first - second)) for first, second in itertools.combinations(places, 2)]
    assert min(gaps) >= 6.5 * figure.dpi / 72


def test_each_panel_of_curves_has_its_own_limits() -> None:
    axes = figures.curves_by_arm(epoch_frame().assign(accuracy=0.5), ARMS).axes
    assert len({panel.get_ylim() for panel in axes}) == 4


def test_the_printed_number_is_marked_with_as_much_as_its_digits_tell() -> None:
    printed = pd.DataFrame({"arm": [ARMS[1]], "measure": ["test_accuracy"], "printed": [0.91], "give": [0.005]})
    figure = figures.scores_by_arm(run_frame(), ARMS, printed=printed)
    (mark,) = lines(figure.axes[0], marker="*")
    assert mark.tolist() == [[0.91, pytest.approx(0.62)]]
    ends = [[0.905, 0.915]]
    assert [bar for _, bar in bars(figure.axes[0])[-1:]] == [pytest.approx(end) for end in ends]
    assert not lines(figure.axes[1], marker="*")
    assert "star: the post's one run" in words(figure)


def test_seeds_that_stop_at_different_epochs_are_averaged_where_they_are() -> None:
    frame = epoch_frame()
    frame = frame[~((frame["arm"] == ARMS[0]) & (frame["seed"] == "0") & (frame["epoch"] > 2))]
    expected = frame[frame["arm"] == ARMS[0]].groupby("epoch")["test_loss"].mean()
    drawn = lines(figures.curves_by_arm(frame, ARMS).axes[0], color=COLOURS[0])[0]
    assert drawn[:, 1] == pytest.approx(expected.to_numpy())


def test_one_seed_and_one_epoch_still_draw() -> None:
    figures.png(figures.curves_by_arm(epoch_frame(1, (1, 1, 1)), ARMS))


@pytest.mark.parametrize("draw", [figures.scores_by_arm, figures.seconds_by_arm, figures.curves_by_arm])
def test_an_empty_frame_other_arms_or_a_missing_column_are_told(draw: Callable[..., Figure]) -> None:
    frame = epoch_frame() if draw is figures.curves_by_arm else run_frame()
    what = "epochs" if draw is figures.curves_by_arm else "runs"
    with pytest.raises(FigureError, match=f"no {what} to draw: of 0 rows"):
        draw(frame.iloc[:0], ARMS)
    with pytest.raises(FigureError, match=f"no {what} of 99 filters; there are: 5 epochs, 10 epochs"):
        draw(frame, ["99 filters"])
    with pytest.raises(FigureError, match=f"the frame of {what} has no column 'seed'; there are: "):
        draw(frame.drop(columns="seed"), ARMS)
