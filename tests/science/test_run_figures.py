"""The figures of one run: its learning curves, its confusion matrix, its mistakes."""

from __future__ import annotations

import numpy as np
import pytest

from fashion_cnn import figures
from fashion_cnn.figures import FigureError
from tests.support.drawn import (
    LABELS,
    NAMES,
    SAMPLES,
    epoch_frame,
    history,
    lines,
    mistakes,
    pictures,
    words,
)


def test_learning_curves_show_each_epoch_and_mark_the_stop() -> None:
    frame = epoch_frame(1, (7, 0, 0))
    figure = figures.learning_curves(history(7), stop=(7, "stopped after 7 epochs: training loss below 0.19"))
    for axes, measure in zip(figure.axes, ("loss", "accuracy"), strict=True):
        assert axes.get_title() == measure.capitalize()
        for label, column in (("training, mean of the epoch", measure), ("test", f"test_{measure}")):
            assert np.array_equal(lines(axes, label=label), [frame[["epoch", column]]])
        assert [line[:, 0].tolist() for line in lines(axes, linestyle=":")] == [[7, 7]]
    assert "stopped after 7 epochs: training loss below 0.19" in words(figure)


def test_a_single_epoch_is_a_point_on_whole_numbers() -> None:
    figure = figures.learning_curves(history(1), stop=(1, "all 1 epochs"))
    figures.png(figure)
    assert [tick for tick in figure.axes[0].get_xticks() if 0.5 <= tick <= 1.5] == [1]


def test_a_stop_that_is_no_epoch_of_the_run_says_which_there_are() -> None:
    with pytest.raises(FigureError, match="a stop at epoch 12 cannot be shown; there are epochs 1 to 5"):
        figures.learning_curves(history(5), stop=(12, "all 12 epochs"))


def test_learning_curves_of_no_epochs_are_told() -> None:
    with pytest.raises(FigureError, match="no epochs to draw"):
        figures.learning_curves([], stop=(1, ""))


def test_an_epoch_that_lacks_a_metric_is_told_with_what_it_has() -> None:
    with pytest.raises(FigureError, match="an epoch has no 'test_loss'; there are: loss, accuracy"):
        figures.learning_curves([*history(1), {"loss": 1.0, "accuracy": 0.5}], stop=(1, ""))


def test_a_confusion_matrix_writes_every_count_and_colours_by_the_share_of_the_true_class() -> None:
    counts = np.random.default_rng(0).integers(0, 50, (10, 10))
    counts[3] = 0
    figure = figures.confusion_matrix(counts, NAMES, title="a run")
    axes = figure.axes[0]
    assert [int(text.get_text()) for text in axes.texts] == counts.ravel().tolist()
    shares = np.asarray(axes.images[0].get_array())
    assert np.allclose(shares.sum(axis=1), [1, 1, 1, 0, 1, 1, 1, 1, 1, 1])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert [text.get_text() for text in axes.get_yticklabels()] == list(NAMES)


def test_counts_that_are_not_one_row_a_class_are_refused() -> None:
    with pytest.raises(FigureError, match=r"shape \(9, 10\); 10 classes need \(10, 10\)"):
        figures.confusion_matrix(np.zeros((9, 10), int), NAMES)


def test_mistakes_are_the_surest_twelve_in_order_and_of_equals_the_first() -> None:
    answers = LABELS.astype(int)
    answers[10:40] = (answers[10:40] + 1) % 10
    confidences = np.full(60, 0.5)
    confidences[[20, 12]] = 0.9, 0.987
    confidences[50] = 1  # right, so not shown
    figure = mistakes(answers, confidences)
    shown = list(pictures(figure).values())
    indices = [12, 20, 10, 11, *range(13, 20), 21]
    assert [np.asarray(image.get_array()).tolist() for image in shown] == SAMPLES[indices].tolist()
    wrong, right = NAMES[answers[12]], NAMES[LABELS[12]]
    assert f"{right} → {wrong} 98.7%, image 12" in words(figure)
    assert "the true class → what the network answered, the probability" in words(figure)


def test_a_network_without_mistakes_is_told() -> None:
    figure = mistakes(LABELS, np.ones(60))
    assert "No mistakes among 60 test images." in words(figure)
    assert not pictures(figure)


def test_mistakes_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(FigureError, match="60 images, 60 truths, 59 answers, 60 confidences"):
        mistakes(LABELS[1:], np.ones(60))
    with pytest.raises(FigureError, match="labels run from 10 to 10; there are 10 classes"):
        mistakes(np.full(60, 10), np.ones(60))
