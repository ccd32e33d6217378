"""Which images a run has: smaller sets in larger ones, drawn splits, mirror images; against independent statements."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashion_cnn.config import CNN, DENSE, RunConfig
from fashion_cnn.data import Dataset
from fashion_cnn.sample import epoch_images, epoch_steps, sample_places, sampled, training_count

SIZES = (7_500, 15_000, 30_000, 60_000)
DRAWN = replace(CNN, split="drawn")


def of(images: int, config: RunConfig = CNN) -> RunConfig:
    return replace(config, training_images=images)


# --- all images, as they are given -----------------------------------------------------------------------------------


def test_a_config_that_says_nothing_of_images_has_all_of_them_in_their_order(made_up_data: Dataset) -> None:
    training, tested = sample_places(CNN, 0)
    assert np.array_equal(training, np.arange(60_000)) and np.array_equal(tested, np.arange(60_000, 70_000))
    assert sampled(made_up_data, CNN, 0) is made_up_data
    assert sampled(made_up_data, replace(DENSE, augmentation="mirror"), 0) is made_up_data


# --- smaller sets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [CNN, DRAWN], ids=["given", "drawn"])
def test_a_smaller_set_lies_in_every_larger_one(base: RunConfig) -> None:
    sets = [set(sample_places(of(images, base), 3)[0].tolist()) for images in SIZES]
    assert [len(places) for places in sets] == list(SIZES)
    assert sets[0] < sets[1] < sets[2] < sets[3]
    tests = {tuple(sample_places(of(images, base), 3)[1][:50].tolist()) for images in SIZES}
    assert len(tests) == 1  # all are tested on the same


def test_a_smaller_set_is_the_beginning_of_the_seed_s_order() -> None:
    order = np.random.Generator(np.random.PCG64(np.random.SeedSequence([11, 0, 2]))).permutation(60_000)
    assert sample_places(of(7_500), 11)[0].tolist() == sorted(order[:7_500].tolist())


def test_another_seed_has_other_images() -> None:
    one, other = (set(sample_places(of(30_000), seed)[0].tolist()) for seed in (0, 1))
    assert 14_500 < len(one & other) < 15_500  # as chance has it


@pytest.mark.parametrize(
    ("images", "available", "count"),
    [(60_000, 512, 512), (30_000, 512, 256), (15_000, 512, 128), (7_500, 512, 64), (7_500, 250, 31), (1, 512, 1)],
)
def test_a_smaller_data_set_gives_the_same_share_and_at_least_one(images: int, available: int, count: int) -> None:
    assert training_count(of(images), available) == count
    assert len(sample_places(of(images), 0, available, 96)[0]) == count


# --- drawn splits ----------------------------------------------------------------------------------------------------


def test_a_drawn_split_parts_all_images_into_as_many_for_training_and_for_testing() -> None:
    training, tested = sample_places(DRAWN, 5)
    assert (len(training), len(tested)) == (60_000, 10_000)
    assert np.array_equal(np.sort(np.concatenate([training, tested])), np.arange(70_000))
    order = np.random.Generator(np.random.PCG64(np.random.SeedSequence([5, 0, 1]))).permutation(70_000)
    assert tested.tolist() == sorted(order[60_000:].tolist())
    assert 1_300 < (tested >= 60_000).sum() < 1_550  # of the given test images a seventh


def test_a_run_s_images_are_those_at_its_places(made_up_data: Dataset) -> None:
    config = of(30_000, replace(DRAWN, augmentation="mirror"))
    images = np.concatenate([made_up_data.train_images, made_up_data.test_images])
    labels = np.concatenate([made_up_data.train_labels, made_up_data.test_labels])
    training, tested = sample_places(config, 4, 250, 96)
    assert len(training) == 125 and len(tested) == 96 and not set(training) & set(tested)
    run = sampled(made_up_data, config, 4)
    assert np.array_equal(run.train_images, images[training]) and np.array_equal(run.train_labels, labels[training])
    assert np.array_equal(run.test_images, images[tested]) and np.array_equal(run.test_labels, labels[tested])
    assert run.sha256 == made_up_data.sha256
    assert not any(array.flags.writeable for array in (run.train_images, run.test_labels))


# These stand behind published numbers. Other values mean that none of them is found again.
@pytest.mark.parametrize(
    ("config", "digest"),
    [
        pytest.param(of(7_500), "576f9b09e92ef274", id="subset"),
        pytest.param(DRAWN, "2d6223e79d4152b2", id="split"),
        pytest.param(of(7_500, DRAWN), "6cd937ff77816f87", id="both"),
    ],
)
def test_the_places_of_a_seed_stay_what_they_are(config: RunConfig, digest: str) -> None:
    places = np.concatenate(sample_places(config, 10)).astype("<i8")
    assert hashlib.sha256(places.tobytes()).hexdigest()[:16] == digest


# --- keys ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(1, 10_000))
def test_no_two_things_are_drawn_with_one_key(seed: int, number: int) -> None:
    keys = ([seed, 0, 1], [seed, 0, 2], [seed, number], [seed, 0], [seed])
    states = {tuple(np.random.SeedSequence(key).generate_state(4).tolist()) for key in keys}
    assert len(states) == len(keys) - 1  # NumPy fills with zeros: the last two are one, and no key of ours


# --- how long an epoch is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "images", "steps"),
    [
        (CNN, 60_000, 1_875),
        (of(7_500), 7_500, 235),
        (replace(CNN, augmentation="mirror"), 120_000, 3_750),
        (of(7_500, replace(CNN, augmentation="mirror", batch_size=128)), 15_000, 118),
        (DRAWN, 60_000, 1_875),
        (of(1), 1, 1),
    ],
)
def test_an_epoch_has_so_many_images_and_steps(config: RunConfig, images: int, steps: int) -> None:
    assert (epoch_images(config), epoch_steps(config)) == (images, steps)
