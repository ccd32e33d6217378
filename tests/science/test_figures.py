"""Of every figure: the same bytes again, no trace left behind, a size that fits; and those of the data set."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from fashion_cnn import figures
from fashion_cnn.figures import COLOURS, FigureError
from tests.support.drawn import (
    EVERY,
    FIGURES,
    LABELS,
    NAMES,
    SAMPLES,
    feature_maps,
    rendered,
    words,
)


@EVERY
def test_the_same_input_gives_the_same_bytes_in_whatever_order_it_is_rendered(name: str) -> None:
    figure, png, svg = rendered(name)
    again = FIGURES[name]()
    assert (figures.svg(again), figures.png(again)) == (svg, png)
    assert figures.png(figure) == png


@EVERY
def test_drawing_leaves_settings_random_state_and_pyplot_as_they_were(name: str) -> None:
    from matplotlib import pyplot

    settings, backend = dict(matplotlib.rcParams), matplotlib.get_backend()
    np.random.seed(5)
    figures.png(FIGURES[name]())
    after = np.random.random()
    np.random.seed(5)
    assert after == np.random.random()
    assert dict(matplotlib.rcParams) == settings
    assert matplotlib.get_backend() == backend
    assert pyplot.get_fignums() == []


@EVERY
def test_the_user_s_own_style_changes_nothing(name: str) -> None:
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 20, "savefig.facecolor": "red"}):
        assert figures.png(FIGURES[name]()) == rendered(name)[1]


@EVERY
def test_a_figure_fits_a_page_its_file_is_small_and_nothing_is_clipped(name: str) -> None:
    figure, png, _ = rendered(name)
    width, height = figure.get_size_inches()
    assert 4 <= width <= 10
    assert len(png) < 170_000  # made-up images are noise, so this is more than real ones take
    drawn = figure.get_tightbbox()
    assert min(drawn.x0, drawn.y0, width - drawn.x1, height - drawn.y1) >= -1e-9


def test_a_png_has_the_size_asked_for_and_tells_neither_date_nor_software() -> None:
    figure = feature_maps()
    with Image.open(io.BytesIO(figures.png(figure, dpi=50))) as image:
        assert image.size == pytest.approx(50 * figure.get_size_inches(), abs=1)
        assert set(image.info) == {"dpi"}


def test_an_svg_is_an_element_whose_text_is_text() -> None:
    text = figures.svg(feature_maps(title="5 < 10 filters & $3"))
    assert text.startswith("<svg")
    assert "5 &lt; 10 filters &amp; $3" in text
    assert "metadata" not in text


def test_dollar_signs_and_underscores_in_names_are_no_formulas() -> None:
    assert "at $1_0 or $2^0" in words(feature_maps(title="at $1_0 or $2^0"))


def test_the_figures_of_a_run_need_neither_seaborn_nor_pandas_nor_scipy() -> None:
    code = (
        "import sys, numpy as np; from fashion_cnn import figures;"
        "maps = {'convolution_1': np.ones((3, 26, 26, 8), np.float32)};"
        "figures.png(figures.feature_maps(np.zeros((3, 28, 28), np.uint8), maps, class_name='', indices=(0, 1, 2)));"
        "figures.png(figures.confusion_matrix(np.eye(2, dtype=int), ['a', 'b']));"
        "sys.exit(any(name in sys.modules for name in ('seaborn', 'pandas', 'scipy', 'matplotlib.pyplot')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_palette_is_seaborn_s_for_the_colour_blind() -> None:
    import seaborn

    assert [colour.lower() for colour in COLOURS] == list(seaborn.color_palette("colorblind").as_hex())


def test_samples_are_the_first_of_each_class_in_its_row_and_blank_where_there_are_too_few() -> None:
    labels = LABELS.copy()
    labels[labels == 4] = 5
    figure = figures.samples_by_class(SAMPLES, labels, NAMES, per_class=3)
    sheet = np.asarray(figure.axes[0].images[0].get_array())
    side = 2 * 28
    for place in range(10):
        row = sheet[place * (side + 2) : place * (side + 2) + side : 2, :side:2]
        expected = SAMPLES[labels == place][0] if place != 4 else np.zeros((28, 28))
        assert np.array_equal(row, expected)
    assert " | ".join(NAMES) in words(figure)


def test_class_counts_are_those_of_the_labels_even_of_a_class_without_images() -> None:
    axes = figures.class_counts(LABELS, np.array([3, 3]), NAMES).axes[0]
    training, test = ([bar.get_width() for bar in bars] for bars in axes.containers)
    assert training == np.bincount(LABELS).tolist()
    assert test == [0, 0, 0, 2, 0, 0, 0, 0, 0, 0]


def test_pixel_intensities_add_up_to_one() -> None:
    every, by_class = figures.pixel_intensities(SAMPLES, LABELS, NAMES).axes
    assert sum(bar.get_bbox().height for bar in every.patches if isinstance(bar, Rectangle)) == pytest.approx(1)
    assert [text.get_text() for text in by_class.get_yticklabels()] == list(NAMES)


@pytest.mark.parametrize("draw", [figures.samples_by_class, figures.pixel_intensities])
def test_images_and_labels_that_do_not_fit_together_are_told(draw: Callable[..., Figure]) -> None:
    with pytest.raises(FigureError, match="60 images and 59 labels"):
        draw(SAMPLES, LABELS[1:], NAMES)
    with pytest.raises(FigureError, match="0 images and 0 labels"):
        draw(SAMPLES[:0], LABELS[:0], NAMES)
    with pytest.raises(FigureError, match="labels run from 0 to 9; there are 9 classes"):
        draw(SAMPLES, LABELS, NAMES[:9])
