"""The engine: what an epoch computes, that states continue to the same bits, and that callbacks are honoured."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fashion_cnn.callbacks import BATCH_HOOKS, StopAtLoss, train
from fashion_cnn.config import CNN, DENSE, RunConfig
from fashion_cnn.data import Dataset
from fashion_cnn.models import build
from fashion_cnn.sample import sampled
from fashion_cnn.state import State
from fashion_cnn.training import Epoch, Trainer, TrainingError, as_pixels, epoch_order, set_up_process

pytestmark = pytest.mark.usefixtures("engine")

SMALL = replace(CNN, filters=4)
SMALL_DENSE = replace(DENSE, dense_units=16)
SEED = 3


def trainer_of(data: Dataset, config: RunConfig = SMALL, seed: int = SEED) -> Trainer:
    return Trainer(config, seed, data.train_images, data.train_labels)


def numbers(epochs: Sequence[Epoch]) -> list[tuple[int, float, float]]:
    """Of some epochs, what must be the same bit for bit."""
    return [(epoch.epoch, epoch.loss, epoch.accuracy) for epoch in epochs]


class Trained(NamedTuple):
    """An undisturbed training."""

    epochs: list[Epoch]
    states: list[State]
    """From state 0 on."""


@pytest.fixture(scope="module")
def shared(engine: None, made_up_data: Dataset) -> Trainer:
    """A trainer for tests that bring it to the state they want."""
    return trainer_of(made_up_data)


@pytest.fixture(scope="module")
def trained(shared: Trainer) -> Trained:
    """Three epochs and the four states."""
    epochs, states = [], [shared.state()]
    for epoch in train(shared, 3):
        epochs.append(epoch)
        states.append(shared.state())
    return Trained(epochs, states)


@pytest.fixture
def third(shared: Trainer, trained: Trained) -> Trainer:
    """A trainer at state 3."""
    shared.restore(trained.states[3])
    return shared


@pytest.fixture
def untrained(shared: Trainer, trained: Trained) -> Trainer:
    """A trainer at state 0."""
    shared.restore(trained.states[0])
    return shared


# --- the order -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(1, 10_000), st.integers(1, 500), st.sampled_from(["fresh", "frozen"]))
def test_an_order_goes_through_every_image_once(seed: int, epoch: int, images: int, order: str) -> None:
    assert sorted(epoch_order(seed, epoch, images, order)) == list(range(images))


def test_a_fresh_order_differs_between_epochs() -> None:
    orders = {tuple(epoch_order(0, epoch, 60, "fresh")) for epoch in range(1, 21)}
    assert len(orders) == 20


def test_a_fresh_order_differs_between_seeds() -> None:
    orders = {tuple(epoch_order(seed, 1, 60, "fresh")) for seed in range(20)}
    assert len(orders) == 20


def test_a_frozen_order_is_the_first_epoch_s_in_every_epoch() -> None:
    first = epoch_order(0, 1, 60, "fresh")
    assert all(np.array_equal(epoch_order(0, epoch, 60, "frozen"), first) for epoch in range(1, 21))


@pytest.mark.parametrize(
    ("seed", "epoch", "order"),
    [(0, 1, [1, 3, 7, 6, 0, 4, 2, 5]), (0, 2, [5, 2, 6, 0, 7, 1, 4, 3]), (1, 1, [6, 1, 4, 0, 3, 2, 5, 7])],
)
def test_an_order_stays_what_it_is(seed: int, epoch: int, order: list[int]) -> None:
    assert epoch_order(seed, epoch, 8, "fresh").tolist() == order


# --- what an epoch computes ------------------------------------------------------------------------------------------


def plain_keras(config: RunConfig, data: Dataset, epochs: int) -> tuple[Any, list[tuple[float, float]]]:
    """Keras' own training step over the same batches in the same order: the model, and (loss, accuracy) by epoch."""
    images, labels = (data.train_images[..., None] / 255).astype(np.float32), data.train_labels
    model, metrics = build(config, SEED), []
    for epoch in range(1, epochs + 1):
        key = [SEED, 1 if config.order == "frozen" else epoch]
        order = np.random.default_rng(key).permutation(len(images))
        batches = [order[start : start + config.batch_size] for start in range(0, len(order), config.batch_size)]
        logs = [model.train_on_batch(images[batch], labels[batch], return_dict=True) for batch in batches]
        loss, accuracy = (
            sum(float(log[name]) * len(batch) for log, batch in zip(logs, batches, strict=True)) / len(order)
            for name in ("loss", "accuracy")
        )
        metrics.append((loss, accuracy))
    return model, metrics


# All three go through the same orders: dense and cnn of one seed share them.
@pytest.mark.parametrize(
    "config", [SMALL, SMALL_DENSE, replace(SMALL, order="frozen")], ids=["cnn", "dense", "cnn-frozen-order"]
)
def test_an_epoch_is_keras_own_training_over_the_keyed_order(config: RunConfig, made_up_data: Dataset) -> None:
    model, metrics = plain_keras(config, made_up_data, epochs=2)
    trainer = trainer_of(made_up_data, config)
    epochs = list(train(trainer, 2))
    for ours, keras_own in zip(trainer.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, keras_own, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose([(epoch.loss, epoch.accuracy) for epoch in epochs], metrics, rtol=1e-5)


def test_an_uneven_last_batch_counts_by_its_images(made_up_data: Dataset) -> None:
    # 33 images are a batch of 32 and one of 1. The weights all but stand still, so NumPy can tell the averages.
    data = made_up_data.first(33, 1)
    trainer = trainer_of(data, replace(SMALL_DENSE, learning_rate=1e-12))
    kernel_1, bias_1, kernel_2, bias_2 = (weight.astype(np.float64) for weight in trainer.model.get_weights())
    hidden = np.maximum(data.train_images.reshape(33, 784) / 255 @ kernel_1 + bias_1, 0)
    powers = np.exp(hidden @ kernel_2 + bias_2)
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    losses = -np.log(probabilities[np.arange(33), data.train_labels])
    right = probabilities.argmax(axis=1) == data.train_labels
    order = epoch_order(SEED, 1, 33, "fresh")
    mean_of_batches = (losses[order[:32]].mean() + losses[order[32]]) / 2
    assert abs(mean_of_batches - losses.mean()) > 0.01

    epoch = trainer.train_epoch()
    assert epoch.loss == pytest.approx(losses.mean(), rel=1e-5)
    assert epoch.accuracy == pytest.approx(right.mean(), rel=1e-12)


def test_fewer_images_than_a_batch_are_one_step(made_up_data: Dataset) -> None:
    trainer = trainer_of(made_up_data.first(5, 1), SMALL_DENSE)
    trainer.train_epoch()
    assert int(trainer.model.optimizer.iterations) == 1


def test_an_epoch_is_timed_and_tracing_is_not_in_it(trained: Trained, shared: Trainer) -> None:
    assert all(epoch.seconds > 0 and epoch.cpu_seconds > 0 for epoch in trained.epochs)
    # Processor time, so that a busy machine does not matter.
    assert trained.epochs[0].cpu_seconds < shared.trace_seconds


def test_training_learns(trained: Trained) -> None:
    losses = [epoch.loss for epoch in trained.epochs]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.fault("no-number")
def test_a_loss_that_is_no_number_any_more_ends_the_training_and_names_the_epoch(
    shared: Trainer, trained: Trained
) -> None:
    weights = trained.states[1].weights
    shared.restore(replace(trained.states[1], weights={**weights, "output/bias": np.full(10, np.nan, np.float32)}))
    with pytest.raises(TrainingError, match=r"^the training loss became nan in epoch 2$"):
        list(train(shared, 5))


# --- a run is a prefix of a trajectory -------------------------------------------------------------------------------


def test_a_state_continues_in_a_new_trainer_to_the_same_bits(trained: Trained, made_up_data: Dataset) -> None:
    # It is not the first network of the process: what is built besides must not change the names in a state.
    trainer = trainer_of(made_up_data)
    trainer.restore(trained.states[1])
    epochs = list(train(trainer, 3))
    assert trainer.state().sha256() == trained.states[3].sha256()
    assert trainer.state().weights_sha256() == trained.states[3].weights_sha256()
    assert numbers(epochs) == numbers(trained.epochs[1:])


@pytest.mark.parametrize(
    "changes",
    [{"training_images": 12_000}, {"augmentation": "mirror"}, {"split": "drawn", "training_images": 30_000}],
    ids=["fewer", "mirrored", "drawn"],
)
def test_a_state_of_other_images_continues_in_a_new_trainer_to_the_same_bits(
    changes: dict[str, Any], made_up_data: Dataset
) -> None:
    config = replace(SMALL_DENSE, **changes)

    def trainer() -> Trainer:
        return trainer_of(sampled(made_up_data, config, SEED), config)

    whole, first, resumed = trainer(), trainer(), trainer()
    straight = list(train(whole, 2))
    list(train(first, 1))
    resumed.restore(first.state())
    assert numbers(list(train(resumed, 2))) == numbers(straight[1:])
    assert resumed.state().sha256() == whole.state().sha256()
    plain = trainer_of(made_up_data, SMALL_DENSE)
    assert numbers([plain.train_epoch()]) != numbers(straight[:1])


def test_a_shorter_training_is_the_beginning_of_a_longer_one(trained: Trained, made_up_data: Dataset) -> None:
    trainer = trainer_of(made_up_data)
    epochs = list(train(trainer, 2))
    assert trainer.state().sha256() == trained.states[2].sha256()
    assert numbers(epochs) == numbers(trained.epochs[:2])


def test_looking_at_a_state_changes_nothing(trained: Trained, untrained: Trainer, made_up_data: Dataset) -> None:
    epochs = []
    for epoch in train(untrained, 3):
        epochs.append(epoch)
        untrained.evaluate(made_up_data.test_images, made_up_data.test_labels)
        untrained.activations(made_up_data.test_images[:3])
        untrained.native_model()
    assert untrained.state().sha256() == trained.states[3].sha256()
    assert numbers(epochs) == numbers(trained.epochs)


def test_numpy_s_and_keras_global_generators_play_no_part(trained: Trained, untrained: Trainer) -> None:
    np.random.rand(3)
    keras.random.normal((3,))
    untrained.train_epoch()
    assert untrained.state().sha256() == trained.states[1].sha256()


def test_another_seed_is_another_trajectory(trained: Trained, made_up_data: Dataset) -> None:
    trainer = trainer_of(made_up_data, seed=SEED + 1)
    assert trainer.state().weights_sha256() != trained.states[0].weights_sha256()
    assert trainer.train_epoch().loss != trained.epochs[0].loss


def test_a_state_is_a_copy_that_training_leaves_alone(untrained: Trainer) -> None:
    state = untrained.state()
    before = state.sha256()
    untrained.train_epoch()
    assert state.sha256() == before != untrained.state().sha256()


def test_a_state_names_its_weights_in_the_order_of_the_layers(trained: Trained) -> None:
    assert list(trained.states[0].weights) == [
        f"{layer}/{weight}"
        for layer in ("convolution_1", "convolution_2", "hidden", "output")
        for weight in ("kernel", "bias")
    ]


def test_a_state_without_its_optimizer_can_be_evaluated(
    trained: Trained, shared: Trainer, made_up_data: Dataset
) -> None:
    shared.restore(replace(trained.states[2], optimizer={}))
    assert shared.epoch == 2
    assert shared.state().weights_sha256() == trained.states[2].weights_sha256()


def test_a_state_of_another_network_is_refused(shared: Trainer, made_up_data: Dataset) -> None:
    other = trainer_of(made_up_data, SMALL_DENSE).state()
    with pytest.raises(TrainingError, match=r"^the state is of another network"):
        shared.restore(other)


# --- evaluation, the model file, feature maps ------------------------------------------------------------------------


def test_evaluating_agrees_with_keras(third: Trainer, made_up_data: Dataset) -> None:
    ours = third.evaluate(made_up_data.test_images, made_up_data.test_labels)
    images = as_pixels(made_up_data.test_images)
    keras_own = third.model.evaluate(images, made_up_data.test_labels, verbose=0)
    np.testing.assert_allclose((ours.loss, ours.accuracy), keras_own, rtol=1e-5)
    np.testing.assert_allclose(ours.probabilities, third.model.predict(images, verbose=0), rtol=1e-4, atol=1e-7)


def test_evaluating_more_images_than_one_batch_takes_them_all(third: Trainer, made_up_data: Dataset) -> None:
    # 6 x 96 images are more than the 500 that are evaluated at once.
    images, labels = np.tile(made_up_data.test_images, (6, 1, 1)), np.tile(made_up_data.test_labels, 6)
    many, once = (
        third.evaluate(images, labels),
        third.evaluate(made_up_data.test_images, made_up_data.test_labels),
    )
    assert many.probabilities.shape == (576, 10)
    assert (many.loss, many.accuracy) == pytest.approx((once.loss, once.accuracy), rel=1e-5)


def test_a_sure_mistake_costs_what_keras_charges(shared: Trainer, trained: Trained, made_up_data: Dataset) -> None:
    bias = np.zeros(10, np.float32)
    bias[4] = 1000
    shared.restore(replace(trained.states[0], weights={**trained.states[0].weights, "output/bias": bias}))
    wrong = np.zeros(96, np.uint8)
    assert shared.evaluate(made_up_data.test_images, wrong).loss == pytest.approx(-np.log(1e-7), rel=1e-6)


@pytest.fixture(scope="module")
def loaded(trained: Trained, shared: Trainer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The model file of state 3, as a stranger loads it: any warning is an error."""
    shared.restore(trained.states[3])
    path: Path = tmp_path_factory.mktemp("model") / "model.keras"
    path.write_bytes(shared.native_model())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return keras.saving.load_model(path)


def test_the_model_file_predicts_the_same(loaded: Any, third: Trainer, made_up_data: Dataset) -> None:
    ours = third.evaluate(made_up_data.test_images, made_up_data.test_labels).probabilities
    np.testing.assert_array_equal(np.array(loaded.get_weights()[-1]), third.model.get_weights()[-1])
    np.testing.assert_allclose(loaded.predict(as_pixels(made_up_data.test_images), verbose=0), ours, rtol=1e-5)


def test_the_model_file_can_be_evaluated(loaded: Any, third: Trainer, made_up_data: Dataset) -> None:
    ours = third.evaluate(made_up_data.test_images, made_up_data.test_labels)
    keras_own = loaded.evaluate(as_pixels(made_up_data.test_images), made_up_data.test_labels, verbose=0)
    np.testing.assert_allclose(keras_own, (ours.loss, ours.accuracy), rtol=1e-5)


def test_the_model_file_can_be_trained_on(loaded: Any) -> None:
    assert type(loaded.optimizer).__name__ == "Adam"
    assert loaded.loss == "sparse_categorical_crossentropy"


def test_feature_maps_have_the_shape_of_their_layers(third: Trainer, made_up_data: Dataset) -> None:
    maps = third.activations(made_up_data.test_images[:3])
    assert {name: (array.shape, str(array.dtype)) for name, array in maps.items()} == {
        "convolution_1": ((3, 26, 26, 4), "float32"),
        "pooling_1": ((3, 13, 13, 4), "float32"),
        "convolution_2": ((3, 11, 11, 4), "float32"),
        "pooling_2": ((3, 5, 5, 4), "float32"),
    }


def test_a_pooled_map_is_the_maximum_of_each_two_by_two(third: Trainer, made_up_data: Dataset) -> None:
    maps = third.activations(made_up_data.test_images[:1])
    blocks = maps["convolution_1"].reshape(1, 13, 2, 13, 2, 4)
    np.testing.assert_array_equal(maps["pooling_1"], blocks.max(axis=(2, 4)))


def test_the_dense_network_has_no_feature_maps(made_up_data: Dataset) -> None:
    assert trainer_of(made_up_data, SMALL_DENSE).activations(made_up_data.test_images[:3]) == {}


# --- input -----------------------------------------------------------------------------------------------------------


def test_whole_numbers_are_divided_by_255() -> None:
    images = np.arange(28 * 28, dtype=np.int64).reshape(1, 28, 28) % 256
    pixels = as_pixels(images)
    assert (pixels.shape, str(pixels.dtype)) == ((1, 28, 28, 1), "float32")
    np.testing.assert_array_equal(pixels[..., 0], (images / 255).astype(np.float32))


def test_images_divided_by_255_already_are_the_same_to_the_bit() -> None:
    images = np.arange(28 * 28).reshape(1, 28, 28) % 256
    np.testing.assert_array_equal(as_pixels(images / 255), as_pixels(images.astype(np.uint8)))


@pytest.mark.parametrize("shape", [(28, 28), (0, 28, 28), (2, 27, 28), (2, 28, 28, 3), (2, 784), ()])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(TrainingError, match=r"^images have shape .*; allowed: \(n, 28, 28\) or \(n, 28, 28, 1\)$"):
        as_pixels(np.zeros(shape))


@pytest.mark.parametrize("value", [255.0, 1.01, -0.01, np.nan, np.inf])
def test_floating_point_images_outside_0_to_1_are_refused(value: float) -> None:
    with pytest.raises(TrainingError, match=r"^floating-point images must lie in 0\.\.1; divide them by 255$"):
        as_pixels(np.full((1, 28, 28), value))


@pytest.mark.parametrize("labels", [np.zeros(249), np.zeros((250, 1)), np.zeros(0)])
def test_labels_that_are_not_one_an_image_are_refused(labels: NDArray[Any], made_up_data: Dataset) -> None:
    with pytest.raises(TrainingError, match=r"^labels have shape .*; allowed: \(250,\), one an image$"):
        Trainer(SMALL, SEED, made_up_data.train_images, labels)


def test_a_process_that_is_set_up_otherwise_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"^TensorFlow was already initialised in this process with other threads"):
        set_up_process(threads=2)


# --- callbacks -------------------------------------------------------------------------------------------------------


def probe(name: str, hooks: dict[str, Any]) -> Any:
    """A Keras callback of a class of its own with these hooks."""
    return type(name, (keras.callbacks.Callback,), hooks)()


def test_train_and_epoch_hooks_are_called_in_keras_order_with_loss_and_accuracy(untrained: Trainer) -> None:
    calls: list[Any] = []
    callback = probe(
        "Probe",
        {
            "on_train_begin": lambda self, logs=None: calls.append("train begins"),
            "on_epoch_begin": lambda self, epoch, logs=None: calls.append(("epoch begins", epoch)),
            "on_epoch_end": lambda self, epoch, logs=None: calls.append(("epoch ends", epoch, dict(logs))),
            "on_train_end": lambda self, logs=None: calls.append(("train ends", dict(logs))),
        },
    )
    logs = [{"loss": epoch.loss, "accuracy": epoch.accuracy} for epoch in train(untrained, 2, [callback])]
    assert calls == [
        "train begins",
        ("epoch begins", 0),
        ("epoch ends", 0, logs[0]),
        ("epoch begins", 1),
        ("epoch ends", 1, logs[1]),
        ("train ends", logs[1]),
    ]


def test_a_callback_knows_the_model_and_the_number_of_epochs(untrained: Trainer) -> None:
    callback = probe("Probe", {})
    list(train(untrained, 1, [callback]))
    assert callback.model is untrained.model
    assert callback.params["epochs"] == 1


def test_a_callback_that_sets_stop_training_ends_it(untrained: Trainer) -> None:
    def stop(self: Any, epoch: int, logs: Any = None) -> None:
        self.model.stop_training = epoch == 1

    assert [epoch.epoch for epoch in train(untrained, 5, [probe("Stop", {"on_epoch_end": stop})])] == [1, 2]


def test_a_training_that_was_stopped_can_go_on(untrained: Trainer) -> None:
    list(train(untrained, 5, [StopAtLoss(1e9)]))
    assert [epoch.epoch for epoch in train(untrained, 2)] == [2]


@pytest.mark.parametrize("hook", BATCH_HOOKS)
def test_a_batch_hook_set_on_the_callback_itself_is_refused_too(hook: str, untrained: Trainer) -> None:
    callback = keras.callbacks.LambdaCallback(**{hook: lambda batch, logs=None: None})
    with pytest.raises(TrainingError, match=rf"^LambdaCallback\.{hook} cannot be called"):
        list(train(untrained, 1, [callback]))


@pytest.mark.parametrize("hook", BATCH_HOOKS)
def test_a_batch_hook_is_refused_by_name_before_anything_is_trained(hook: str, untrained: Trainer) -> None:
    callback = probe("Probe", {hook: lambda self, batch, logs=None: None})
    with pytest.raises(TrainingError, match=rf"^Probe\.{hook} cannot be called: an epoch is one compiled call\."):
        list(train(untrained, 1, [callback]))
    assert untrained.epoch == 0


def test_the_batch_hooks_are_all_that_keras_has() -> None:
    assert set(BATCH_HOOKS) == {name for name in dir(keras.callbacks.Callback) if "batch" in name}


def test_keras_own_early_stopping_works(untrained: Trainer) -> None:
    # No epoch is better by a million, so the second is one too many.
    early = keras.callbacks.EarlyStopping(monitor="loss", min_delta=1e6, patience=1)
    assert [epoch.epoch for epoch in train(untrained, 5, [early])] == [1, 2]


def test_keras_own_learning_rate_schedule_works(untrained: Trainer, trained: Trained) -> None:
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 0.0)
    list(train(untrained, 1, [schedule]))
    assert untrained.state().weights_sha256() == trained.states[0].weights_sha256()


def test_the_stop_at_a_loss_ends_the_training_after_the_first_epoch_below(
    untrained: Trainer, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    loss = trained.epochs[1].loss
    stop = StopAtLoss(np.nextafter(loss, 9))
    assert numbers(list(train(untrained, 5, [stop]))) == numbers(trained.epochs[:2])
    assert stop.stopped_epoch == 2
    assert capsys.readouterr().out == f"Stopped after 2 epochs: training loss {loss:.4f} is below {loss:g}\n"


def test_the_stop_at_a_loss_does_not_stop_at_the_loss_itself(untrained: Trainer, trained: Trained) -> None:
    assert len(list(train(untrained, 2, [StopAtLoss(trained.epochs[0].loss)]))) == 2


def test_the_stop_at_a_loss_forgets_an_earlier_training(untrained: Trainer) -> None:
    stop = StopAtLoss(1e9)
    list(train(untrained, 1, [stop]))
    stop.loss = 0.0
    list(train(untrained, 2, [stop]))
    assert stop.stopped_epoch is None


def test_the_stop_at_a_loss_works_in_plain_keras_and_counts_from_1(
    made_up_data: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    model, stop = build(SMALL_DENSE, SEED), StopAtLoss(1e9)
    # Keras' own shuffle is refused in a deterministic process without a global seed.
    images, labels = as_pixels(made_up_data.train_images), made_up_data.train_labels
    history = model.fit(images, labels, epochs=5, verbose=0, shuffle=False, callbacks=[stop])
    assert history.epoch == [0]
    assert stop.stopped_epoch == 1
    assert capsys.readouterr().out.startswith("Stopped after 1 epoch")
