"""Feature maps: which channels are shown, on which scale, and what is said to a name that there is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from fashion_cnn import figures
from fashion_cnn.figures import FigureError
from fashion_cnn.figures.style import BAR
from tests.support.drawn import (
    IMAGES,
    INDICES,
    SHAPES,
    arms_feature_maps,
    feature_maps,
    made_up_maps,
    one_image,
    pictures,
    words,
)


def colour_bars(figure: Figure) -> int:
    return sum(image.get_label() == BAR for image in figure.axes[0].images)


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


def test_the_strongest_channel_shows_the_object_not_the_background_and_is_named() -> None:
    maps = made_up_maps()
    maps["pooling_1"][:, 2:-2, 2:-2, 6] += 4
    maps["pooling_1"][..., 3] += 9  # lit evenly
    maps["pooling_1"][:, :3, :, 4] = 50  # lit around the object
    maps["pooling_1"][:, 6, :, 5] = 20  # an edge: it varies most
    assert figures.strongest_channel(maps["pooling_1"]) == 6
    figure = feature_maps(activations=maps, channels=("strongest",))
    assert "pooling_1 13×13×8 channel 6" in words(figure)  # noqa: RUF001
    assert any(np.array_equal(image.get_array(), maps["pooling_1"][0, ..., 6]) for image in pictures(figure).values())


def test_of_channels_that_are_alike_there_the_brightest_is_taken_and_of_these_the_lowest() -> None:
    assert figures.strongest_channel(np.ones((3, 5, 5, 4), np.float32)) == 0
    assert figures.strongest_channel(np.array([[[[1, 3, 3]]], [[[1, 2, 2]]]], np.float32)) == 1


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
    assert colour_bars(figure) == len(SHAPES)


def test_each_column_of_feature_maps_has_its_colour_bar_with_its_ends() -> None:
    maps = made_up_maps()
    figure = feature_maps(activations=maps)
    assert colour_bars(figure) == 2 * len(maps)
    assert f"{maps['convolution_1'][..., 1].max():.2g}" in words(figure).split(" | ")


def test_below_an_arm_s_name_stands_which_run_it_is() -> None:
    maps = {"cnn": made_up_maps(2)}
    figure = figures.arms_feature_maps(
        maps, IMAGES, indices=INDICES, image=23, class_name="Ankle boot", notes={"cnn": "seed 4, epoch 10"}
    )
    assert "cnn seed 4, epoch 10" in words(figure)


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
