"""What a config's network consists of, layer by layer, by arithmetic alone: sizes, parameters, multiply-adds."""

from __future__ import annotations

from typing import NamedTuple

from fashion_cnn.config import IMAGE_SIZE, KERNEL_SIZE, RunConfig, feature_map_sizes
from fashion_cnn.data import CLASS_NAMES


class Layer(NamedTuple):
    """One layer of a network."""

    kind: str  # `convolution`, `pooling` or `dense`
    side: int  # of its output, in pixels; 1 for a dense layer
    channels: int  # of its output; the units of a dense layer
    parameters: int = 0  # trainable weights and biases
    multiply_adds: int = 0
    """Products, each added to a sum, that one image takes: one per weight that a result uses. Biases are left out."""


def layers(config: RunConfig) -> list[Layer]:
    """The layers of a config's network, from the image to the ten classes; flattening is none."""
    network: list[Layer] = []
    side, channels = IMAGE_SIZE, 1
    for kind, side in feature_map_sizes(config):
        if kind == "convolution":
            assert config.filters is not None
            weights = KERNEL_SIZE**2 * channels * config.filters
            channels = config.filters
            network.append(Layer(kind, side, channels, weights + channels, side**2 * weights))
        else:
            network.append(Layer(kind, side, channels))
    inputs = side**2 * channels
    for units in (config.dense_units, len(CLASS_NAMES)):
        network.append(Layer("dense", 1, units, (inputs + 1) * units, inputs * units))
        inputs = units
    return network


def parameter_count(config: RunConfig) -> int:
    """How many trainable parameters a config's network has."""
    return sum(layer.parameters for layer in layers(config))


def multiply_adds(config: RunConfig) -> int:
    """How many multiply-adds one image takes on its way through a config's network."""
    return sum(layer.multiply_adds for layer in layers(config))
