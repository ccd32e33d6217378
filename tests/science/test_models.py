"""The networks: their shapes and sizes, and what their initial weights depend on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from experiments import STUDIES
from fashion_cnn.config import CNN, DENSE, ConfigError, RunConfig
from fashion_cnn.models import build, layer_seed
from tests.conftest import weights_sha256

pytestmark = pytest.mark.usefixtures("engine")

NETWORKS = ("model", "filters", "additional_convolutions", "padding", "dense_units")
ARMS = {  # one for each network of the studies
    tuple(getattr(config, name) for name in NETWORKS): pytest.param(config, id=f"{study.name}-{arm}")
    for study in STUDIES
    for arm, config in study.arms.items()
}.values()
# Side of what the last pooling gives, by padding and additional convolutions: from the post's layer by layer tour.
LAST_SIDE = {
    ("valid", 0): 13, ("valid", 1): 5, ("valid", 2): 1,
    ("same", 0): 14, ("same", 1): 7, ("same", 2): 3, ("same", 3): 1,
}  # fmt: skip


def expected_parameters(config: RunConfig) -> int:
    """By hand: a kernel and one bias for each output, layer by layer."""
    if config.filters is None or config.additional_convolutions is None or config.padding is None:
        convolutions, inputs = 0, 28 * 28
    else:
        filters = config.filters
        convolutions = (9 * 1 + 1) * filters + config.additional_convolutions * (9 * filters + 1) * filters
        inputs = LAST_SIDE[config.padding, config.additional_convolutions] ** 2 * filters
    return convolutions + (inputs + 1) * config.dense_units + (config.dense_units + 1) * 10


def kernel(model: Any, layer: str) -> np.ndarray:
    return np.array(model.get_layer(layer).kernel)


@pytest.mark.parametrize(("config", "parameters"), [(DENSE, 101_770), (CNN, 113_386)], ids=["dense", "cnn"])
def test_the_networks_of_the_post_have_its_number_of_parameters(config: RunConfig, parameters: int) -> None:
    model = build(config, 0)
    assert model.count_params() == parameters == expected_parameters(config)
    assert sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) == parameters


def test_the_cnn_has_the_post_s_layers_and_shapes() -> None:
    assert [(layer.name, layer.output.shape[1:]) for layer in build(CNN, 0).layers] == [
        ("convolution_1", (26, 26, 32)),
        ("pooling_1", (13, 13, 32)),
        ("convolution_2", (11, 11, 32)),
        ("pooling_2", (5, 5, 32)),
        ("flatten", (800,)),
        ("hidden", (128,)),
        ("output", (10,)),
    ]


def test_the_dense_network_has_the_post_s_layers_and_shapes() -> None:
    assert [(layer.name, layer.output.shape[1:]) for layer in build(DENSE, 0).layers] == [
        ("flatten", (784,)),
        ("hidden", (128,)),
        ("output", (10,)),
    ]


def test_the_layers_activate_as_the_post_s() -> None:
    activations = {layer.name: layer.activation.__name__ for layer in build(CNN, 0).layers if layer.weights}
    assert activations == {"convolution_1": "relu", "convolution_2": "relu", "hidden": "relu", "output": "softmax"}


def test_the_model_is_compiled_as_the_post_s() -> None:
    model = build(replace(CNN, learning_rate=0.002), 0)
    assert type(model.optimizer).__name__ == "Adam"
    assert float(model.optimizer.learning_rate) == pytest.approx(0.002)
    assert model.loss == "sparse_categorical_crossentropy"


@pytest.mark.parametrize("config", ARMS)
def test_every_arm_of_the_studies_fits_and_has_the_parameters_counted_by_hand(config: RunConfig) -> None:
    assert build(config, 0).count_params() == expected_parameters(config)


def test_a_depth_that_does_not_fit_says_how_many_fit() -> None:
    with pytest.raises(ConfigError, match=r"at most 2 fit into 28x28 pixels \(28-26-13-11-5-3-1\)"):
        build(replace(CNN, additional_convolutions=3), 0)


def test_the_initial_weights_do_not_depend_on_global_seeds_or_the_process(fresh: dict[str, Any]) -> None:
    here = {"cnn": weights_sha256(build(CNN, 0)), "dense": weights_sha256(build(DENSE, 0))}
    assert {name: fresh[name] for name in here} == here


def test_building_takes_nothing_from_numpy_s_global_generator() -> None:
    before = np.random.get_state(legacy=False)
    build(CNN, 0)
    np.testing.assert_equal(np.random.get_state(legacy=False), before)


def test_the_initial_weights_do_not_depend_on_settings_that_shape_no_layer() -> None:
    others = replace(CNN, epochs=3, callback_loss=0.2, batch_size=8, learning_rate=0.1, order="frozen", threads=2)
    assert weights_sha256(build(others, 5)) == weights_sha256(build(CNN, 5))


def test_a_layer_s_initial_weights_depend_on_its_place_and_not_on_what_follows() -> None:
    shallow, deep = build(replace(CNN, additional_convolutions=0), 0), build(replace(CNN, additional_convolutions=2), 0)
    np.testing.assert_array_equal(kernel(shallow, "convolution_1"), kernel(deep, "convolution_1"))


@pytest.mark.parametrize("layer", ["convolution_1", "convolution_2", "hidden", "output"])
def test_another_seed_gives_a_layer_other_weights(layer: str) -> None:
    assert not np.isin(kernel(build(CNN, 0), layer), kernel(build(CNN, 1), layer)).all()


def test_two_layers_of_the_same_shape_get_different_weights() -> None:
    model = build(replace(CNN, additional_convolutions=2), 0)
    assert kernel(model, "convolution_2").shape == kernel(model, "convolution_3").shape
    assert not np.array_equal(kernel(model, "convolution_2"), kernel(model, "convolution_3"))


def test_no_two_seeds_and_places_share_a_layer_seed() -> None:
    # Sums of seed and place would meet at once; 31 bits make a chance meeting among these unlikely, and it is fixed.
    seeds = [layer_seed(seed, index) for seed in range(100) for index in range(10)]
    assert len(set(seeds)) == len(seeds)


def test_the_initial_weights_are_glorot_uniform_and_the_biases_zero() -> None:
    model = build(CNN, 0)
    for name, inputs, outputs in (
        ("convolution_1", 9, 9 * 32),
        ("convolution_2", 9 * 32, 9 * 32),
        ("hidden", 800, 128),
        ("output", 128, 10),
    ):
        limit = np.sqrt(6 / (inputs + outputs))
        assert 0.95 * limit < np.abs(kernel(model, name)).max() <= limit
        assert not np.array(model.get_layer(name).bias).any()
