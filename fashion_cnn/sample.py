"""Which images a run trains on and is tested on: a function of its config, its seed and how many images there are.

The keys of all that is drawn, as `numpy.random.default_rng` and `SeedSequence` take them:

    [seed, index]  a layer's initial weights
    [seed, epoch]  the order of the images in an epoch, counted from 1
    [seed, 0, 1]   the split into training and test images
    [seed, 0, 2]   the order of the training images whose first ones are smaller sets

NumPy fills a key with zeros at its end, so the last number of a new one must not be 0. NumPy and Python only.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fashion_cnn.config import TRAINING_IMAGES, RunConfig
from fashion_cnn.data import FASHION_MNIST, Bytes, Dataset

Places = NDArray[np.int64]
_SPLIT, _SMALLER = 1, 2


def sample_places(
    config: RunConfig, seed: int, train: int = FASHION_MNIST.train, test: int = FASHION_MNIST.test
) -> tuple[Places, Places]:
    """The places of a run's training and test images among all: the given training images, then the given test images.

    Args:
        config: its `split` and `training_images`.
        seed: of the run.
        train: how many training images the data set gives.
        test: how many test images it gives.

    Returns:
        Both in ascending order, (`training_count`,) and (`test`,), in 0..train + test - 1; no image is in both.
    """
    training, tested = np.arange(train), np.arange(train, train + test)
    if config.split == "drawn":
        drawn = _order(seed, _SPLIT, train + test)
        training, tested = np.sort(drawn[:train]), np.sort(drawn[train:])
    if config.training_images < TRAINING_IMAGES:
        first = _order(seed, _SMALLER, train)[: training_count(config, train)]
        training = training[np.sort(first)]
    return training, tested


def sampled(data: Dataset, config: RunConfig, seed: int) -> Dataset:
    """The images of a run: `data` itself where it takes all as they are given, else copies under the same identity."""
    if config.split == "given" and config.training_images == TRAINING_IMAGES:
        return data
    training, tested = sample_places(config, seed, len(data.train_labels), len(data.test_labels))
    images, labels = (data.train_images, data.test_images), (data.train_labels, data.test_labels)
    return replace(
        data,
        train_images=_taken(*images, training),
        train_labels=_taken(*labels, training),
        test_images=_taken(*images, tested),
        test_labels=_taken(*labels, tested),
    )


def training_count(config: RunConfig, train: int = TRAINING_IMAGES) -> int:
    """How many of so many training images a run takes: the share of 60,000 that its config names, at least one."""
    return max(1, train * config.training_images // TRAINING_IMAGES)


def epoch_images(config: RunConfig, train: int = TRAINING_IMAGES) -> int:
    """How many images an epoch goes through, mirror images included, where the data set gives so many to train on."""
    return training_count(config, train) * (2 if config.augmentation == "mirror" else 1)


def epoch_steps(config: RunConfig, train: int = TRAINING_IMAGES) -> int:
    """How many steps an epoch has, the last of them with fewer images where they do not fill it."""
    return -(-epoch_images(config, train) // config.batch_size)


def _order(seed: int, key: int, images: int) -> Places:
    return np.random.default_rng([seed, 0, key]).permutation(images)


def _taken(first: Bytes, second: Bytes, places: Places) -> Bytes:
    """What stands at ascending places of two arrays, one after the other: a new, read-only array."""
    border = np.searchsorted(places, len(first))
    taken = np.concatenate([first[places[:border]], second[places[border:] - len(first)]])
    taken.flags.writeable = False
    return taken
