"""The figures: what they show, what they say to bad input, and that drawing leaves nothing behind."""

from __future__ import annotations

import functools
import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from fashion_cnn import figures
from fashion_cnn.figures import COLOURS, FigureError

NAMES = tuple(f"class {letter}" for letter in "ABCDEFGHIJ")
INDICES = (0, 23, 28)
SHAPES = {"convolution_1": (26, 26, 8), "pooling_1": (13, 13, 8), "convolution_2": (11, 11, 8), "pooling_2": (5, 5, 8)}
ARMS = ("5 epochs", "10 epochs", "3 additional convolutions, same padding")
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, 28, 28)).astype(np.uint8)
LABELS = RNG.permutation(np.arange(60) % 10).astype(np.uint8)
SAMPLES = RNG.integers(0, 256, (60, 28, 28)).astype(np.uint8)


def made_up_maps(layers: int = 4, images: int = 3, factor: float = 1) -> dict[str, NDArray[np.float32]]:
    """Maps as after a relu: half of them 0."""
    rng = np.random.default_rng(layers)
    return {
        name: (factor * np.maximum(rng.normal(size=(images, *shape)), 0)).astype(np.float32)
        for name, shape in list(SHAPES.items())[:layers]
    }


def one_image(maps: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    return {layer: array[0] for layer, array in maps.items()}


def run_frame(seeds: int = 3, arms: tuple[str, ...] = ARMS) -> pd.DataFrame:
    """As Store.runs gives it: the seed is text."""
    rng = np.random.default_rng(1)
    rows = [
        {"study": "a study", "arm": arm, "seed": str(seed), "test_accuracy": 0.9 + 0.01 * rng.random(),
         "test_loss": 0.3 + 0.05 * rng.random(), "fit_cpu_seconds": 100 + rng.random(), "epochs_trained": 10.0}
        for arm in arms
        for seed in range(seeds)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def epoch_frame(seeds: int = 3, ends: tuple[int, ...] = (5, 10, 10)) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    rows = [
        {"arm": arm, "seed": str(seed), "epoch": epoch, "loss": 1 / epoch, "accuracy": 1 - 0.5 / epoch,
         "test_loss": 1 / epoch + 0.1 * rng.random(), "test_accuracy": 0.9 - 0.4 / epoch}
        for arm, end in zip(ARMS, ends, strict=True)
        for seed in range(seeds)
        for epoch in range(1, end + 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def feature_maps(**changed: Any) -> Figure:
    return figures.feature_maps(
        **{"images": IMAGES, "activations": made_up_maps(), "class_name": "Ankle boot", "indices": INDICES, **changed}
    )


def arms_feature_maps(arms: dict[str, dict[str, NDArray[np.float32]]], image: int = 23) -> Figure:
    return figures.arms_feature_maps(arms, IMAGES, indices=INDICES, image=image, class_name="Ankle boot")


def mistakes(answers: NDArray[Any], confidences: NDArray[Any]) -> Figure:
    return figures.mistakes(SAMPLES, LABELS, answers, confidences, NAMES)


FIGURES: dict[str, Callable[[], Figure]] = {
    "feature_maps": feature_maps,
    "all_channels": lambda: figures.all_channels(one_image(made_up_maps()), title="a network"),
    "arms_feature_maps": lambda: arms_feature_maps({"shallow": made_up_maps(2), "deep": made_up_maps(4)}),
    "learning_curves": lambda: figures.learning_curves(epoch_frame(1, (5, 0, 0)), stop=(5, "all 5 epochs")),
    "confusion_matrix": lambda: figures.confusion_matrix(np.diag(np.arange(10)), NAMES),
    "mistakes": lambda: mistakes((LABELS + 1) % 10, np.linspace(0, 1, 60)),
    "scores_by_arm": lambda: figures.scores_by_arm(run_frame(), ARMS, title="a study"),
    "seconds_by_arm": lambda: figures.seconds_by_arm(run_frame(), ARMS),
    "curves_by_arm": lambda: figures.curves_by_arm(epoch_frame(), ARMS),
    "samples_by_class": lambda: figures.samples_by_class(SAMPLES, LABELS, NAMES),
    "class_counts": lambda: figures.class_counts(LABELS, LABELS[:20], NAMES),
    "pixel_intensities": lambda: figures.pixel_intensities(SAMPLES, LABELS, NAMES),
}
EVERY = pytest.mark.parametrize("name", FIGURES)


def words(figure: Figure) -> str:
    """Everything that is written in a figure, as one line."""
    figure.draw_without_rendering()
    found = [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
    return " | ".join(" ".join(text.split()) for text in found if text)


def pictures(figure: Figure) -> dict[tuple[float, float], Any]:
    """The images of a figure by (column's left, row's top), rounded; a colour bar is none."""
    found = {}
    for axes in figure.axes:
        for image in axes.images:
            box = axes.get_position()
            found[round(box.x0, 3), round(1 - box.y1, 3)] = image
    return found


def lines(axes: Axes, **look: Any) -> list[NDArray[np.float64]]:
    """The points (x, y) of each line that looks so (`label="test"`), in the order drawn."""
    return [
        np.asarray(line.get_xydata())
        for line in axes.lines
        if all(getattr(line, f"get_{name}")() == value for name, value in look.items())
    ]


def clouds(axes: Axes) -> list[NDArray[np.float64]]:
    """The points of each arm in a panel of scores."""
    return lines(axes, markersize=4.5)


@functools.cache
def rendered(name: str) -> tuple[Figure, bytes, str]:
    figure = FIGURES[name]()
    return figure, figures.png(figure), figures.svg(figure)


# -- every figure --------------------------------------------------------------------------------------------------


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
    assert min(drawn.x0, drawn.y0, width - drawn.x1, height - drawn.y1) >= 0


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


# -- feature maps --------------------------------------------------------------------------------------------------


def test_feature_maps_are_images_by_layers_with_the_input_first_in_grey() -> None:
    maps = made_up_maps()
    figure = feature_maps(activations=maps, channels=(1,))
    shown = pictures(figure)
    assert len(shown) == 3 * (1 + len(maps))
    columns, rows = sorted({left for left, _ in shown}), sorted({top for _, top in shown})
    for row, top in enumerate(rows):
        assert np.array_equal(shown[columns[0], top].get_array(), IMAGES[row])
        assert shown[columns[0], top].get_cmap().name == "gray"
        for left, array in zip(columns[1:], maps.values(), strict=True):
            assert np.array_equal(shown[left, top].get_array(), array[row, ..., 1])
            assert shown[left, top].get_cmap().name == "inferno"
            assert shown[left, top].get_interpolation() == "nearest"


def test_feature_maps_tell_layer_shape_class_and_index() -> None:
    said = words(feature_maps())
    for text in ("convolution_1 26×26×8 channel 1", "pooling_2 5×5×8", "input 28×28", *map(str, INDICES)):  # noqa: RUF001
        assert text in said
    assert said.count("Ankle boot test image") == 6


def test_both_blocks_say_that_channels_of_the_same_number_are_unrelated() -> None:
    said = words(feature_maps())
    assert "Channel 1 of each layer" in said
    assert "Each layer's strongest channel" in said
    assert "unrelated features in two differently seeded networks" in said


def test_the_strongest_channel_is_that_of_the_highest_mean_and_named() -> None:
    maps = made_up_maps()
    maps["pooling_1"][..., 6] += 1
    assert figures.strongest_channel(maps["pooling_1"]) == 6
    figure = feature_maps(activations=maps, channels=("strongest",))
    assert "pooling_1 13×13×8 channel 6" in words(figure)  # noqa: RUF001
    assert any(np.array_equal(image.get_array(), maps["pooling_1"][0, ..., 6]) for image in pictures(figure).values())


def test_of_equally_strong_channels_the_lowest_is_taken() -> None:
    assert figures.strongest_channel(np.ones((3, 5, 5, 4), np.float32)) == 0


def test_a_column_has_one_scale_from_zero_to_its_highest_value() -> None:
    maps = made_up_maps(1)
    shown = pictures(feature_maps(activations=maps, channels=(1,)))
    scales = {image.get_clim() for image in shown.values() if image.get_cmap().name == "inferno"}
    assert scales == {(0.0, float(maps["convolution_1"][..., 1].max()))}


def test_a_channel_that_is_silent_is_black_and_said_to_be() -> None:
    figure = feature_maps(activations={"pooling_4": np.zeros((3, 1, 1, 2), np.float32)}, channels=(1,))
    figures.png(figure)
    assert "channel 1: all 0" in words(figure)


def test_a_constant_channel_is_bright_not_black() -> None:
    figure = feature_maps(activations={"pooling_4": np.full((3, 1, 1, 2), 3.5, np.float32)}, channels=(1,))
    (image, *_) = [image for image in pictures(figure).values() if image.get_cmap().name == "inferno"]
    assert float(image.norm(image.get_array()).min()) == 1


def test_one_image_and_one_layer_are_enough() -> None:
    figure = feature_maps(images=IMAGES[:1], activations=made_up_maps(1, images=1), indices=[23])
    assert len(pictures(figure)) == 4


def test_all_channels_are_there_in_order_with_a_heading_and_a_scale_a_layer() -> None:
    maps = one_image(made_up_maps())
    figure = figures.all_channels(maps, title="a network")
    sheets = [image for image in pictures(figure).values() if image.get_cmap().name == "inferno"]
    assert len(sheets) == len(maps)
    for sheet, (layer, array) in zip(sheets, maps.items(), strict=True):
        assert sheet.get_clim() == (0.0, float(array.max()))
        values = np.asarray(sheet.get_array().compressed())
        assert set(np.unique(values)) == set(np.unique(array))
        assert f"{layer} {'×'.join(map(str, array.shape))}" in words(figure)  # noqa: RUF001
    assert "0-7" in words(figure)


def test_all_channels_can_be_drawn_on_the_scale_of_several_runs() -> None:
    quiet, loud = one_image(made_up_maps()), one_image(made_up_maps(factor=3))
    scale = figures.layer_scale([quiet, loud])
    shown = [pictures(figures.all_channels(maps, scale=scale)).values() for maps in (quiet, loud)]
    assert [image.get_clim() for image in shown[0]] == [image.get_clim() for image in shown[1]]
    with pytest.raises(
        FigureError, match="the scale has no layer 'convolution_2'; there are: convolution_1, pooling_1"
    ):
        figures.all_channels(quiet, scale={name: scale[name] for name in ("convolution_1", "pooling_1")})


def test_more_channels_than_a_row_holds_go_on_in_the_next() -> None:
    said = words(figures.all_channels({"pooling_1": np.ones((13, 13, 33), np.float32)}))
    for text in ("0-15", "16-31", "32-32"):
        assert text in said


@pytest.mark.parametrize("shape", [(26, 26, 32), (5, 5, 16), (1, 1, 64), (28, 28, 1), (3, 3, 5)])
def test_a_sheet_is_at_least_as_long_as_asked_and_near_square(shape: tuple[int, int, int]) -> None:
    sheet = figures.channel_sheet(np.random.default_rng(0).random(shape, np.float32), low=0, high=1)
    assert sheet.dtype == np.uint8
    assert sheet.shape[2] == 3
    assert 512 <= max(sheet.shape[:2]) < 800
    assert min(sheet.shape[:2]) >= 0.6 * max(sheet.shape[:2])


def test_a_sheet_enlarges_each_pixel_to_a_square_of_its_colour() -> None:
    values = np.array([[0, 1], [0.5, 0.25]], np.float32)
    sheet = figures.channel_sheet(values[..., np.newaxis], low=0, high=1, enlarge=100)
    assert sheet.shape == (100, 100, 3)
    inferno = matplotlib.colormaps["inferno"]
    for (row, column), value in np.ndenumerate(values):
        square = sheet[50 * row : 50 * (row + 1), 50 * column : 50 * (column + 1)]
        assert (square == np.array(inferno(float(value), bytes=True))[:3]).all()


def test_a_sheet_of_constant_maps_needs_no_division() -> None:
    sheet = figures.channel_sheet(np.zeros((5, 5, 4), np.float32), low=0, high=0)
    assert (sheet[0, 0] == np.array(matplotlib.colormaps["inferno"](0.0, bytes=True))[:3]).all()


def test_arms_share_one_scale_a_layer_and_a_colour_bar() -> None:
    arms = {"quiet": made_up_maps(), "loud": made_up_maps(factor=4)}
    figure = arms_feature_maps(arms)
    found: dict[float, set[Any]] = {}
    for (left, _), image in pictures(figure).items():
        if image.get_cmap().name == "inferno":
            found.setdefault(left, set()).add(image.get_clim())
    assert len(found) == len(SHAPES)
    for layer, (limits,) in zip(SHAPES, (found[left] for left in sorted(found)), strict=True):
        strongest = figures.strongest_channel(arms["loud"][layer])
        assert limits == (0.0, float(arms["loud"][layer][1, ..., strongest].max()))
    assert sum(1 for axes in figure.axes if not axes.images) == len(SHAPES)


def test_arms_without_a_layer_leave_it_blank_and_dense_arms_are_left_out() -> None:
    figure = arms_feature_maps({"dense": {}, "shallow": made_up_maps(2), "deep": made_up_maps(4)})
    assert len(pictures(figure)) == 1 + 2 + 4
    assert "dense" not in words(figure)
    assert "Ankle boot test image 23" in words(figure)


def test_the_scale_of_layers_spans_all_runs_from_zero() -> None:
    scale = figures.layer_scale(
        [{"a": np.ones(2, np.float32)}, {}, {"a": np.full(1, -1, np.float32), "b": np.zeros(1, np.float32)}]
    )
    assert scale == {"a": (-1.0, 1.0), "b": (0.0, 0.0)}
    assert figures.layer_scale([]) == {}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: figures.channel_maps(made_up_maps(2), "pooling_3"), "pooling_3'; there are: convolution_1, pooling_1"),
        (lambda: figures.channel_maps({}, "pooling_3"), "there are: none"),
        (lambda: feature_maps(channels=(8,)), "convolution_1 has no channel 8; there are: 0 to 7, 'strongest'"),
        (lambda: feature_maps(channels=(-1,)), "convolution_1 has no channel -1; there are: 0 to 7"),
        (lambda: feature_maps(activations={}), "a dense network has no convolution"),
        (lambda: feature_maps(indices=[0, 23]), "maps of 3 images, but there are 2 indices"),
        (lambda: feature_maps(images=IMAGES[:2]), "maps of 3 images, but there are 2 images"),
        (lambda: feature_maps(activations=one_image(made_up_maps())), "convolution_1 has shape"),
        (lambda: figures.all_channels({}), "a dense network has no convolution"),
        (lambda: arms_feature_maps({"cnn": made_up_maps()}, image=5), "no test image 5 here; there are: 0, 23, 28"),
        (lambda: arms_feature_maps({"dense": {}}), "a dense network has no convolution"),
        (lambda: arms_feature_maps({}), "there are no feature maps"),
    ],
)
def test_an_unknown_layer_channel_or_image_names_what_there_is(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(FigureError, match=message.replace("(", r"\(")) as caught:
        call()
    assert "\n" not in str(caught.value)


# -- how a run went ------------------------------------------------------------------------------------------------


def test_learning_curves_show_the_frame_and_mark_the_stop() -> None:
    frame = epoch_frame(1, (7, 0, 0))
    figure = figures.learning_curves(
        frame.sample(frac=1, random_state=3), stop=(7, "stopped after 7 epochs: training loss below 0.19")
    )
    for axes, measure in zip(figure.axes, ("loss", "accuracy"), strict=True):
        assert axes.get_title() == measure.capitalize()
        for label, column in (("training, mean of the epoch", measure), ("test", f"test_{measure}")):
            assert np.array_equal(lines(axes, label=label), [frame[["epoch", column]]])
        assert [line[:, 0].tolist() for line in lines(axes, linestyle=":")] == [[7, 7]]
    assert "stopped after 7 epochs: training loss below 0.19" in words(figure)


def test_a_single_epoch_is_a_point_on_whole_numbers() -> None:
    figure = figures.learning_curves(epoch_frame(1, (1, 0, 0)), stop=(1, "all 1 epochs"))
    figures.png(figure)
    assert [tick for tick in figure.axes[0].get_xticks() if 0.5 <= tick <= 1.5] == [1]


def test_a_stop_that_is_no_epoch_of_the_run_says_which_there_are() -> None:
    with pytest.raises(FigureError, match="a stop at epoch 12 cannot be shown; there are epochs 1 to 5"):
        figures.learning_curves(epoch_frame(1, (5, 0, 0)), stop=(12, "all 12 epochs"))


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
    shown = mistakes(answers, confidences).axes
    indices = [12, 20, 10, 11, *range(13, 20), 21]
    assert [np.asarray(axes.images[0].get_array()).tolist() for axes in shown] == SAMPLES[indices].tolist()
    wrong, right = NAMES[answers[12]], NAMES[LABELS[12]]
    assert shown[0].get_title() == f"{right} →\n{wrong}\n98.7%, image 12"


def test_a_network_without_mistakes_is_told() -> None:
    figure = mistakes(LABELS, np.ones(60))
    assert "No mistakes among 60 test images." in words(figure)
    assert not figure.axes


def test_mistakes_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(FigureError, match="60 images, 60 truths, 59 answers, 60 confidences"):
        mistakes(LABELS[1:], np.ones(60))
    with pytest.raises(FigureError, match="labels run from 10 to 10; there are 10 classes"):
        mistakes(np.full(60, 10), np.ones(60))


# -- how the arms compare ------------------------------------------------------------------------------------------


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


def test_an_arm_that_is_the_start_of_another_is_drawn_thinner_on_top_and_its_end_marked() -> None:
    axes = figures.curves_by_arm(epoch_frame(), ARMS).axes[0]
    short, long, other = (next(line for line in axes.lines if line.get_color() == colour) for colour in COLOURS[:3])
    assert short.get_linewidth() < long.get_linewidth() == other.get_linewidth()
    assert short.get_zorder() > long.get_zorder()
    assert long.get_linestyle() != other.get_linestyle()
    assert [line[0, 0] for line in lines(axes, markeredgecolor="white") if len(line) == 1] == [5, 10, 10]


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


def test_learning_curves_of_no_epochs_are_told() -> None:
    with pytest.raises(FigureError, match="no epochs to draw: of 0 rows"):
        figures.learning_curves(epoch_frame().iloc[:0], stop=(1, ""))


# -- the data set --------------------------------------------------------------------------------------------------


def test_samples_are_the_first_of_each_class_in_its_row_and_blank_where_there_are_too_few() -> None:
    labels = LABELS.copy()
    labels[labels == 4] = 5
    axes = figures.samples_by_class(SAMPLES, labels, NAMES, per_class=3).axes[0]
    sheet = np.asarray(axes.images[0].get_array())
    side = 2 * 28
    for place in range(10):
        row = sheet[place * (side + 2) : place * (side + 2) + side : 2, :side:2]
        expected = SAMPLES[labels == place][0] if place != 4 else np.zeros((28, 28))
        assert np.array_equal(row, expected)
    assert [text.get_text() for text in axes.get_yticklabels()] == list(NAMES)


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
