"""Loss, accuracy and predictions: by hand, and the same bits whatever instructions NumPy may use."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module

import numpy as np
import pytest

from fashion_cnn.evaluation import confusion, predictions, scores

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.25, 0.25], [0.0, 0.0, 1.0]], dtype=np.float32)
LABELS = np.array([0, 1, 1, 0], dtype=np.uint8)

# All of it is NumPy's work: stand-ins for TensorFlow and Keras, which compute nothing here, spare their imports.
WHOLE = """
import hashlib, json, sys
from unittest.mock import MagicMock
import numpy as np
sys.modules |= {"tensorflow": MagicMock(), "keras": MagicMock()}
from fashion_cnn.evaluation import confusion, predictions, scores
from fashion_cnn.models import layer_seed
from fashion_cnn.training import as_pixels, epoch_order
random = np.random.Generator(np.random.PCG64(1))
logits = random.normal(size=(10_000, 10)).astype(np.float32)
raised = (logits - logits.min()) ** 2
probabilities = raised / raised.sum(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
labels = random.integers(0, 10, 10_000, dtype=np.uint8)
found = scores(probabilities, labels)
classes, sure = predictions(probabilities, labels)
order = epoch_order(3, 7, 60_000, "fresh")
pixels = as_pixels(random.integers(0, 256, (500, 28, 28), dtype=np.uint8))
arrays = (classes, sure, confusion(classes, labels), order, pixels)
hashes = [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays]
print(json.dumps([found.loss, found.accuracy, layer_seed(3, 2), *hashes]))
"""


def test_the_scores_are_those_of_the_definition() -> None:
    found = scores(PROBABILITIES, LABELS)
    told = [float(np.float32(0.7)), float(np.float32(0.8)), 0.25, 1e-7]
    assert found.loss == pytest.approx(-sum(map(math.log, told)) / 4, rel=1e-15)
    assert found.accuracy == 0.5


def test_the_order_of_the_images_makes_no_difference() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(10), size=999).astype(np.float32)
    labels = random.integers(0, 10, 999, dtype=np.uint8)
    order = random.permutation(999)
    assert scores(probabilities, labels) == scores(probabilities[order], labels[order])


def test_predictions_are_the_most_probable_classes_and_the_probability_of_the_true_one() -> None:
    classes, sure = predictions(PROBABILITIES, LABELS)
    assert classes.tolist() == [0, 1, 0, 2] and classes.dtype == np.uint8
    assert sure.tolist() == PROBABILITIES[range(4), LABELS].tolist() and sure.dtype == np.float32


def test_the_confusion_counts_each_true_class_in_its_row() -> None:
    assert confusion(np.array([0, 1, 0, 2], np.uint8), LABELS, 3).tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 0]]


@pytest.mark.slow
def test_all_of_it_has_the_same_bits_whatever_instructions_numpy_may_use() -> None:
    """NumPy's own logarithm, for one, does not: it is another with AVX-512 than without."""
    here = [level for level in ("X86_V3", "X86_V4") if features()[level]]
    assert here, "NumPy has no faster instructions here than its slowest: nothing can be compared"
    told = []
    for disabled in ([], *(here[first:] for first in range(len(here)))):
        variables = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(disabled), "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-W", "error", "-c", WHOLE]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout.splitlines()[-1]))
    assert all(one == told[0] for one in told)


def features() -> Mapping[str, bool]:
    """The processor's instruction sets as NumPy names them; it has no public way to ask."""
    return dict(import_module("numpy._core._multiarray_umath").__cpu_features__)
