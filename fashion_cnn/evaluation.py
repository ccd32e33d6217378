"""What a network's answers to labelled images come down to: loss, accuracy, predicted classes. NumPy and Python only.

NumPy chooses its logarithm by the processor, and results differ in the last digit. Python's own comes from the C
library, whose version is part of the environment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLIPPED = 1e-7
"""Keras clips probabilities to this and 1 minus this before the logarithm: a sure mistake costs 16.1, not infinity."""


@dataclass(frozen=True)
class Scores:
    """How well a network answers."""

    loss: float
    """Mean sparse categorical cross-entropy, natural logarithm."""
    accuracy: float
    """The share of images whose most probable class is the true one, from 0 to 1."""


def scores(probabilities: NDArray[np.float32], labels: NDArray[np.uint8]) -> Scores:
    """The loss and accuracy of some answers.

    The logarithms are added without rounding in between (`math.fsum`), so that their order makes no difference.

    Args:
        probabilities: (n, 10).
        labels: (n,), the true classes.
    """
    right = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    logarithms = map(math.log, np.clip(right, CLIPPED, 1 - CLIPPED).tolist())
    answers = int((probabilities.argmax(axis=1) == labels).sum())
    return Scores(-math.fsum(logarithms) / len(labels), answers / len(labels))


def predictions(
    probabilities: NDArray[np.float32], labels: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """What a record keeps of some answers.

    Args:
        probabilities: (n, 10).
        labels: (n,), the true classes.

    Returns:
        The most probable class of each image, (n,), and the probability of its true class, (n,).
    """
    return probabilities.argmax(axis=1).astype(np.uint8), probabilities[np.arange(len(labels)), labels]


def confusion(predicted: NDArray[np.uint8], labels: NDArray[np.uint8], classes: int = 10) -> NDArray[np.int64]:
    """How often each class (row) was answered as each (column): (classes, classes), of (n,) and (n,)."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts
