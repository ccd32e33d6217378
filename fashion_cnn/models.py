"""RunConfig and seed -> Keras model. The weights depend on (seed, layer index) and on nothing else."""

from __future__ import annotations

import keras
import numpy as np

from fashion_cnn.config import IMAGE_SIZE, KERNEL_SIZE, POOL_SIZE, RunConfig

CLASSES = 10


def layer_seed(seed: int, index: int) -> int:
    """The seed of one layer's initial weights, from the run's seed and the layer's place in the network."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint32)[0] >> 1)


def build(config: RunConfig, seed: int) -> keras.Sequential:
    """The untrained network of a config, compiled as the post's: Adam, sparse categorical cross-entropy.

    Dense: flatten, `dense_units` relu, 10 softmax. CNN: pairs of a 3x3 relu convolution of `filters` filters and
    a 2x2 maximum pooling, then the same. Initial weights are Glorot uniform (Keras' default; Glorot and Bengio
    2010), each layer's keyed by (seed, layer index); biases are zero.

    Args:
        config: a valid config, so every layer fits.
        seed: of the run.

    Returns:
        A model from images (n, 28, 28, 1), float32 in 0..1, to class probabilities (n, 10), float32. Layers are
        named `convolution_1`, `pooling_1`, …, `flatten`, `hidden`, `output`.
    """
    model = keras.Sequential([keras.Input((IMAGE_SIZE, IMAGE_SIZE, 1), name="image")], name=config.model)

    def initializer() -> keras.initializers.Initializer:
        return keras.initializers.GlorotUniform(seed=layer_seed(seed, len(model.layers)))

    if config.model == "cnn":
        assert config.additional_convolutions is not None
        for pair in range(1, config.additional_convolutions + 2):
            model.add(
                keras.layers.Conv2D(
                    config.filters,
                    KERNEL_SIZE,
                    padding=config.padding,
                    activation="relu",
                    kernel_initializer=initializer(),
                    name=f"convolution_{pair}",
                )
            )
            model.add(keras.layers.MaxPooling2D(POOL_SIZE, name=f"pooling_{pair}"))
    model.add(keras.layers.Flatten(name="flatten"))
    model.add(
        keras.layers.Dense(config.dense_units, activation="relu", kernel_initializer=initializer(), name="hidden")
    )
    model.add(keras.layers.Dense(CLASSES, activation="softmax", kernel_initializer=initializer(), name="output"))
    model.compile(
        # Keras would number unnamed ones, and a state holds the variables by their names.
        optimizer=keras.optimizers.Adam(config.learning_rate, name="adam"),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model
