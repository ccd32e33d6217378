"""The training step is the plain network's, computed in another order: its outputs, gradients and updates compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fashion_cnn.config import CNN, DENSE, RunConfig
from fashion_cnn.data import Dataset

pytestmark = pytest.mark.usefixtures("engine")

NETWORKS = {
    "dense": DENSE,
    "16 filters": replace(CNN, filters=16),
    "32 filters": CNN,
    "64 filters": replace(CNN, filters=64),
    "no additional convolution": replace(CNN, additional_convolutions=0),
    "two additional convolutions": replace(CNN, additional_convolutions=2),
    "same padding": replace(CNN, padding="same"),
    "same padding, three additional": replace(CNN, padding="same", additional_convolutions=3),
}
ROUNDING = 2e-6  # relative to the largest value: sums of some thousand float32 products, in another order


def trained(config: RunConfig, data: Dataset) -> Any:
    """A network that has left its symmetric start: biases are not zero any more."""
    from fashion_cnn.training import Trainer

    trainer = Trainer(config, 3, data.train_images, data.train_labels)
    trainer.train_epoch()
    return trainer.model


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest, made_up_data: Dataset) -> Iterator[tuple[Any, Any, Any]]:
    """A network, a batch of its images, and their labels."""
    import tensorflow as tf

    from fashion_cnn.training import as_pixels

    model = trained(NETWORKS[request.param], made_up_data)
    batch = tf.constant(as_pixels(made_up_data.train_images[:32]))
    yield model, batch, tf.constant(made_up_data.train_labels[:32].astype(np.int32))


def near(ours: Any, theirs: Any) -> bool:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    return bool(np.abs(ours - theirs).max() <= ROUNDING * max(1.0, np.abs(theirs).max()))


def test_outputs_are_those_of_the_plain_network(network: tuple[Any, Any, Any]) -> None:
    import tensorflow as tf

    from fashion_cnn.step import training_logits

    model, batch, _ = network
    assert near(tf.nn.softmax(training_logits(model.layers, batch)), model(batch, training=True))


@pytest.mark.parametrize("network", [name for name in NETWORKS if name != "dense"], indirect=True)
def test_bias_and_relu_after_pooling_are_the_same_to_the_last_bit(network: tuple[Any, Any, Any]) -> None:
    import tensorflow as tf

    from fashion_cnn.step import training_logits

    model, batch, _ = network
    convolution, pooling = model.layers[:2]
    values = tf.nn.conv2d(batch, convolution.kernel.value, 1, convolution.padding.upper())
    plain = tf.nn.max_pool2d(tf.nn.relu(tf.nn.bias_add(values, convolution.bias.value)), 2, 2, "VALID")
    assert np.array_equal(training_logits([convolution, pooling], batch), plain)


def test_gradients_are_those_of_the_plain_network_and_keras_loss(network: tuple[Any, Any, Any]) -> None:
    import keras
    import tensorflow as tf

    from fashion_cnn.step import training_logits

    model, batch, labels = network
    variables = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
        logits = training_logits(model.layers, batch)
        ours = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        theirs = keras.losses.SparseCategoricalCrossentropy()(labels, model(batch, training=True))
    assert near(ours, theirs)
    for mine, plain in zip(tape.gradient(ours, variables), tape.gradient(theirs, variables), strict=True):
        assert near(mine, plain)


def test_adam_updates_as_keras_does(made_up_data: Dataset) -> None:
    import tensorflow as tf

    from fashion_cnn.models import build
    from fashion_cnn.step import adam_update

    ours, theirs = build(DENSE, 0), build(DENSE, 0)
    for model in (ours, theirs):
        model.optimizer.build(model.trainable_variables)
    update = adam_update(ours.optimizer, ours.trainable_variables)
    random = np.random.default_rng(1)
    for _ in range(3):
        gradients = [tf.constant(random.normal(size=v.shape).astype(np.float32)) for v in ours.trainable_variables]
        update(gradients)
        theirs.optimizer.apply(gradients, theirs.trainable_variables)
    assert int(ours.optimizer.iterations) == int(theirs.optimizer.iterations) == 3
    pairs = zip(ours.variables + ours.optimizer.variables, theirs.variables + theirs.optimizer.variables, strict=True)
    assert all(near(mine, plain) for mine, plain in pairs)


def test_the_updates_go_to_the_variables_that_a_state_holds(made_up_data: Dataset) -> None:
    from fashion_cnn.training import Trainer

    trainer = Trainer(DENSE, 0, made_up_data.train_images, made_up_data.train_labels)
    before = trainer.state()
    trainer.train_epoch()
    after = trainer.state()
    assert before.weights.keys() == after.weights.keys() and before.optimizer.keys() == after.optimizer.keys()
    moved = {name for name, values in after.optimizer.items() if not np.array_equal(values, before.optimizer[name])}
    assert moved == {name for name in after.optimizer if name != "adam/learning_rate"}


def test_a_mirror_image_is_the_image_with_left_and_right_exchanged(made_up_data: Dataset) -> None:
    from fashion_cnn.step import with_mirror_images
    from fashion_cnn.training import as_pixels

    pixels, where = as_pixels(made_up_data.train_images[:5]), np.array([False, True, True, False, True])
    mirrored = np.flip(made_up_data.train_images[:5], axis=2)  # of (n, height, width)
    wanted = np.where(where[:, None, None, None], as_pixels(mirrored), pixels)
    assert np.array_equal(with_mirror_images(pixels, where), wanted)
    assert not np.array_equal(mirrored, made_up_data.train_images[:5])


def test_an_epoch_by_index_is_that_of_images_that_stand_beside_their_mirror_images(made_up_data: Dataset) -> None:
    from fashion_cnn.training import Trainer

    images, labels = made_up_data.train_images[:45], made_up_data.train_labels[:45]
    config = replace(CNN, filters=4, batch_size=32)  # two full steps and one of 26
    by_index = Trainer(replace(config, augmentation="mirror"), 3, images, labels)
    copied = Trainer(config, 3, np.concatenate([images, np.flip(images, axis=2)]), np.concatenate([labels, labels]))
    assert by_index.epoch_images == copied.epoch_images == 90
    for _ in range(2):
        ours, theirs = by_index.train_epoch(), copied.train_epoch()
        assert (ours.loss, ours.accuracy) == (theirs.loss, theirs.accuracy)
    assert by_index.state().sha256() == copied.state().sha256()


class TestAStateHoldsEveryVariable:
    def test_a_dropout_layers_generator_is_part_of_it_and_training_resumes_bit_for_bit(
        self, made_up_data: Dataset
    ) -> None:
        import keras

        from fashion_cnn.models import build
        from fashion_cnn.training import Trainer

        def with_dropout() -> Any:
            plain = build(DENSE, 0)
            layers = [*plain.layers[:-1], keras.layers.Dropout(0.4, seed=5, name="dropout"), plain.layers[-1]]
            model = keras.Sequential([keras.Input((28, 28, 1)), *layers], name="dense")
            model.compile(optimizer=keras.optimizers.Adam(name="adam"), loss="sparse_categorical_crossentropy")
            return model

        def trainer() -> Trainer:
            return Trainer(DENSE, 0, made_up_data.train_images, made_up_data.train_labels, model=with_dropout())

        whole, first = trainer(), trainer()
        for _ in range(2):
            whole.train_epoch()
        first.train_epoch()
        resumed = trainer()
        resumed.restore(first.state())
        resumed.train_epoch()
        assert any("seed_generator" in name for name in first.state().weights)
        assert resumed.state().sha256() == whole.state().sha256()

    def test_a_variable_that_no_state_would_hold_refuses_to_train(self, made_up_data: Dataset) -> None:
        import keras
        import tensorflow as tf

        from fashion_cnn.models import build
        from fashion_cnn.training import Trainer, TrainingError

        hidden = tf.Variable(0.0, name="forgotten")

        class Counts(keras.layers.Layer):  # type: ignore[misc]
            def call(self, values: Any) -> Any:
                hidden.assign_add(1e-3)
                return values * (1 + hidden)

        plain = build(DENSE, 0)
        layers = [keras.Input((28, 28, 1)), *plain.layers[:-1], Counts(), plain.layers[-1]]
        model = keras.Sequential(layers, name="dense")
        model.compile(optimizer=keras.optimizers.Adam(name="adam"), loss="sparse_categorical_crossentropy")
        with pytest.raises(TrainingError, match="a state would not hold forgotten"):
            Trainer(DENSE, 0, made_up_data.train_images, made_up_data.train_labels, model=model)
