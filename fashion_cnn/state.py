"""The state of a trajectory, and the hashes by which states are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class State:
    """A state of a trajectory: all that the next epoch depends on, besides the data and (seed, epoch)."""

    epoch: int
    """Epochs trained so far; 0 is the untrained network."""
    weights: Arrays
    """By name such as `hidden/kernel`, float32, in the order of the layers."""
    optimizer: Arrays
    """By name, in the optimizer's own order."""

    def weights_sha256(self) -> str:
        """Hex SHA-256 of the weights alone: what a record and a replay compare."""
        return arrays_sha256(self.weights)

    def sha256(self) -> str:
        """Hex SHA-256 of the whole state."""
        parts = (str(self.epoch), arrays_sha256(self.weights), arrays_sha256(self.optimizer))
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def arrays_sha256(arrays: Arrays) -> str:
    """Hex SHA-256 of named arrays in their order.

    For each array the line "name dtype shape", then its bytes, C order, little-endian.
    """
    digest = hashlib.sha256()
    for name, array in arrays.items():
        values = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(f"{name} {values.dtype.str} {array.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
