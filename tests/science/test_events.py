"""States and their hashes: what changes a hash, and what must not."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace

import numpy as np
import pytest

from fashion_cnn.events import EpochDone, Identity, Job
from fashion_cnn.state import State, arrays_sha256

KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)
BIAS = np.zeros(3, dtype=np.float32)
ARRAYS = {"hidden/kernel": KERNEL, "hidden/bias": BIAS}
STATE = State(3, ARRAYS, {"adam/iteration": np.array(24, dtype=np.int64)})


def test_the_hash_is_the_sha256_of_a_line_and_the_bytes_of_each_array() -> None:
    expected = hashlib.sha256(
        b"hidden/kernel <f4 (2, 3)\n" + KERNEL.tobytes() + b"hidden/bias <f4 (3,)\n" + BIAS.tobytes()
    )
    assert arrays_sha256(ARRAYS) == expected.hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"other/kernel": KERNEL, "hidden/bias": BIAS}, id="name"),
        pytest.param({"hidden/kernel": KERNEL.astype(np.float64), "hidden/bias": BIAS}, id="dtype"),
        pytest.param({"hidden/kernel": KERNEL.view(np.int32), "hidden/bias": BIAS}, id="dtype-of-the-same-bytes"),
        pytest.param({"hidden/kernel": KERNEL.reshape(3, 2), "hidden/bias": BIAS}, id="shape"),
        pytest.param({"hidden/kernel": np.nextafter(KERNEL, 9), "hidden/bias": BIAS}, id="value"),
        pytest.param({"hidden/kernel": KERNEL, "hidden/bias": -BIAS}, id="sign-of-zero"),
        pytest.param({"hidden/bias": BIAS, "hidden/kernel": KERNEL}, id="order"),
        pytest.param({"hidden/kernel": KERNEL}, id="one-missing"),
    ],
)
def test_the_hash_changes_with(other: dict[str, np.ndarray]) -> None:
    assert arrays_sha256(other) != arrays_sha256(ARRAYS)


@pytest.mark.parametrize(
    "same",
    [
        pytest.param(np.asfortranarray(KERNEL), id="columns-first"),
        pytest.param(np.repeat(KERNEL, 2, axis=1)[:, ::2], id="strided"),
        pytest.param(KERNEL.astype(">f4"), id="big-endian"),
    ],
)
def test_the_hash_does_not_depend_on_the_layout_in_memory(same: np.ndarray) -> None:
    assert arrays_sha256({**ARRAYS, "hidden/kernel": same}) == arrays_sha256(ARRAYS)


def test_an_array_without_dimensions_is_told_from_one_with_one() -> None:
    assert arrays_sha256({"step": np.array(1)}) != arrays_sha256({"step": np.array([1])})


def test_a_state_s_weights_hash_leaves_out_the_epoch_and_the_optimizer() -> None:
    assert replace(STATE, epoch=4, optimizer={}).weights_sha256() == STATE.weights_sha256() == arrays_sha256(ARRAYS)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(replace(STATE, epoch=4), id="epoch"),
        pytest.param(replace(STATE, weights={**ARRAYS, "hidden/bias": BIAS + 1}), id="weights"),
        pytest.param(replace(STATE, optimizer={"adam/iteration": np.array(25)}), id="optimizer"),
    ],
)
def test_a_state_s_own_hash_changes_with(other: State) -> None:
    assert other.sha256() != STATE.sha256()


def test_an_epoch_is_that_of_its_state() -> None:
    event = EpochDone(STATE, STATE.weights_sha256(), {"loss": 0.5}, 0, Identity("a", "b", "c"))
    assert event.epoch == 3


def test_a_job_with_its_state_passes_between_processes_unchanged() -> None:
    job = Job(settings={"model": "cnn"}, rules=({"epochs": 1},), seed=1, data_dir="d", images=None, state=STATE)
    passed = pickle.loads(pickle.dumps(job))
    assert passed.state.sha256() == STATE.sha256()
    assert replace(passed, state=None) == replace(job, state=None)
