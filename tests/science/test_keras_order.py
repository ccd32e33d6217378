"""The installed Keras itself: in what order `fit` goes through the samples after a seed was set.

It is the reason for `order_study`. If a test here fails, Keras has changed, not this repository.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import answer, python

SAMPLES, EPOCHS = 64, 4

# Seeds and determinism are the whole process's, so it is one of its own. Each way to train gives a list of orders, one
# an epoch. A sample's label is its number, and each step notes the labels it is given.
FITS = """
import json, sys
import keras
import numpy as np
import tensorflow as tf
from fashion_cnn.training import epoch_order

samples, epochs = int(sys.argv[1]), int(sys.argv[2])
pixels, numbers = np.zeros((samples, 1), np.float32), np.arange(samples)
arrays, fit = (pixels, numbers), {"batch_size": 4, "epochs": epochs, "verbose": 0}

class Noting(keras.Sequential):
    def train_step(self, data):
        tf.py_function(lambda labels: self.noted.extend(labels.numpy().ravel().tolist()), [data[1]], [])
        return {"loss": tf.zeros(())}

class Batches(keras.utils.PyDataset):
    def __len__(self):
        return samples // 4

    def __getitem__(self, place):
        return pixels[4 * place : 4 * place + 4], numbers[4 * place : 4 * place + 4]

def orders(*data, seed=None, eager=False, fits=1, **options):
    if seed is not None:
        keras.utils.set_random_seed(seed)
    model = Noting([keras.Input((1,)), keras.layers.Dense(1)])
    model.noted = []
    model.compile(optimizer="sgd", loss="mse", run_eagerly=eager)
    for _ in range(fits):
        model.fit(*data, **(fit | options))
    return [model.noted[start : start + samples] for start in range(0, len(model.noted), samples)]

batched = {"batch_size": None}
shuffled = tf.data.Dataset.from_tensor_slices(arrays).shuffle(samples).batch(4)
found = {
    "unseeded": orders(*arrays),  # before any seed is set
    "seed 0": orders(*arrays, seed=0),
    "seed 0 again": orders(*arrays, seed=0),
    "seed 1": orders(*arrays, seed=1),
    "eager": orders(*arrays, seed=0, eager=True),
    "two fits": orders(*arrays, seed=0, fits=2),
    "tensors": orders(*map(tf.constant, arrays), seed=0),
    "tf.data": orders(shuffled, seed=0, shuffle=None, **batched),
    "PyDataset": orders(Batches(), seed=0, **batched),
    "ours": [epoch_order(0, epoch, samples, "fresh").tolist() for epoch in range(1, epochs + 1)],
}
tf.config.experimental.enable_op_determinism()
found["deterministic"] = orders(*arrays, seed=0)
print(json.dumps({"keras": keras.__version__, "tensorflow": tf.__version__, "orders": found}))
"""

Orders = dict[str, list[list[int]]]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Versions and orders, as a fresh process finds them."""
    values: dict[str, Any] = answer(python(FITS, SAMPLES, EPOCHS))
    return values


@pytest.fixture(scope="module")
def orders(found: dict[str, Any]) -> Orders:
    """By the way to train: each epoch's order."""
    values: Orders = found["orders"]
    return values


@pytest.fixture(scope="module")
def changed(found: dict[str, Any]) -> str:
    """What it means when a seeded `fit` does otherwise."""
    return (
        f"Keras has changed this: with Keras {found['keras']} and TensorFlow {found['tensorflow']} a seeded fit on "
        "arrays no longer goes through the samples in the same order in every epoch. order_study's reason must be told "
        "anew in README.md and LOG.md"
    )


def distinct(orders: list[list[int]]) -> int:
    """How many of some orders differ."""
    return len({tuple(order) for order in orders})


def test_every_epoch_goes_through_every_sample_once(orders: Orders) -> None:
    assert {way: len(found) for way, found in orders.items() if way != "two fits"} == dict.fromkeys(
        orders.keys() - {"two fits"}, EPOCHS
    )
    assert all(sorted(order) == list(range(SAMPLES)) for found in orders.values() for order in found)


@pytest.mark.parametrize("way", ["seed 0", "seed 1", "eager", "tensors", "deterministic"])
def test_a_seeded_fit_has_one_order_for_all_epochs(orders: Orders, changed: str, way: str) -> None:
    assert distinct(orders[way]) == 1, changed


def test_a_later_fit_has_that_order_too(orders: Orders, changed: str) -> None:
    assert len(orders["two fits"]) == 2 * EPOCHS
    assert distinct(orders["two fits"]) == 1, changed


def test_that_order_is_a_shuffle_which_the_seed_decides(orders: Orders) -> None:
    first = orders["seed 0"][0]
    assert first != list(range(SAMPLES))
    assert orders["seed 0 again"][0] == first
    assert orders["seed 1"][0] != first


def test_an_unseeded_fit_has_another_order_each_epoch(orders: Orders) -> None:
    assert distinct(orders["unseeded"]) == EPOCHS, (
        "Keras has changed this: without a seed, too, fit repeats an order of the samples. What README.md and LOG.md "
        "say of unseeded runs, the post's among them, must be told anew"
    )


@pytest.mark.parametrize("way", ["tf.data", "PyDataset"])
def test_seeded_data_that_keras_does_not_shuffle_as_arrays_come_in_another_order_each_epoch(
    orders: Orders, way: str
) -> None:
    assert distinct(orders[way]) == EPOCHS, f"a seeded fit freezes the order of a {way} as well: the advice is wrong"


def test_our_fresh_order_is_another_one_each_epoch(orders: Orders) -> None:
    assert distinct(orders["ours"]) == EPOCHS
