"""The figures that answer: differences with verdicts, accuracy against cost, scores by number of images."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from fashion_cnn import figures
from tests.support.drawn import claimed_parts, cost_frame, lines, size_frame, words


def test_each_difference_has_its_interval_and_its_verdict_in_word_colour_and_shape() -> None:
    parts = claimed_parts()
    figure = figures.differences(parts)
    _, accuracy, seconds = figure.axes
    said = {text.get_text(): text.get_color() for text in figure.findobj(matplotlib.text.Text)}
    for row in parts.to_dict("records"):
        look = figures.VERDICTS[row["verdict"]]
        assert said[row["verdict"]] == look["color"]
        axes = seconds if row["share"] else accuracy
        points = [line[0, 0] for line in lines(axes, marker=look["marker"], color=look["color"]) if len(line) == 1]
        bars = [line[:, 0].tolist() for line in lines(axes, marker="|", color=look["color"])]
        assert np.array_equal(points, [row["estimate"]], equal_nan=True)
        assert np.array_equal(bars, [[row["low"], row["high"]]], equal_nan=True)
        assert row["claim"] in words(figure)
    assert len({(to_hex(look["color"]), look["marker"]) for look in figures.VERDICTS.values()}) == len(figures.VERDICTS)


def test_the_shade_is_where_the_claim_holds_within_what_is_shown() -> None:
    _, accuracy, seconds = figures.differences(claimed_parts()).axes
    (left, right), (low, _) = accuracy.get_xlim(), seconds.get_xlim()
    shades = [band.get_paths()[0].get_extents() for axes in (accuracy, seconds) for band in axes.collections]
    expected = [(0, right), (0, right), (-0.005, 0.005), (low, 0)]
    assert [(box.x0, box.x1) for box in shades] == [pytest.approx(ends) for ends in expected]
    assert left < -0.006 and right > 0.008


def test_the_frontier_holds_the_arms_that_no_other_beats() -> None:
    means = cost_frame().groupby("arm")[["fit_cpu_seconds", "test_accuracy"]].mean()
    points = list(means.itertuples(index=False, name=None))
    unbeaten = [not any(cost <= c and gain >= g and (cost, gain) != (c, g) for cost, gain in points) for c, g in points]
    assert figures.on_frontier(*means.to_numpy().T).tolist() == unbeaten
    assert 1 < sum(unbeaten) < len(points)
    figure = figures.accuracy_by_cost(cost_frame())
    bold = [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_fontweight() == "bold"]
    assert set(means.index[unbeaten]) == {text for text in bold if text.endswith("filters")}
    steps = next(line for line in figure.axes[1].lines if line.get_drawstyle() == "steps-post")
    assert np.asarray(steps.get_xydata())[:-1].tolist() == sorted(np.array(points)[unbeaten].tolist())


def test_equal_points_are_both_on_the_frontier_and_a_tie_in_one_loses() -> None:
    costs, gains = np.array([1.0, 1.0, 1.0, 2.0]), np.array([0.9, 0.9, 0.8, 0.9])
    assert figures.on_frontier(costs, gains).tolist() == [True, True, False, False]


def test_a_seed_that_never_reaches_the_target_counts_as_longer_than_all_others() -> None:
    frame = cost_frame(4)
    said = words(figures.accuracy_by_cost(frame, target=0.9))
    reached = frame.groupby("arm")["seconds_to_target"].first()
    assert "CPU seconds to a test accuracy of 0.9" in said
    assert "not half; 3 of 4 never" in said  # 0 filters
    assert said.count("none of 4") == int(np.isinf(reached).sum())
    frame.loc[frame["seed"] == "3", "seconds_to_target"] = np.inf
    assert "1 of 4 never" in words(figures.accuracy_by_cost(frame))


def test_scores_by_images_are_means_on_a_log_axis_and_mirror_images_stand_apart() -> None:
    figure = figures.scores_by_images(size_frame(), note="Nothing is known of 120,000.")
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    for place, (words_, step) in enumerate(
        (("Equal epochs (10 each)", 0.01), ("Equal steps (about 18,750 each)", 0.005))
    ):
        (line,) = lines(axes, label=words_)
        assert line[:, 0] == pytest.approx(np.array([7_500, 15_000, 30_000, 60_000]) * 1.03 ** (2 * place - 1))
        assert line[:, 1] == pytest.approx(0.901 + step * np.arange(-3, 1))
    said = words(figure)
    assert "Nothing is known of 120,000." in said and "120,000 half mirrored" in said
