"""Which class a network answered each test image with: as a file of a record, and what follows from it. NumPy alone.

    predictions.npz   classes (n,) uint8: the most probable class; true_class_probability (n,) float32: that of the
                      image's own class, which published results leave out

The true classes of Fashion-MNIST's images lie beside this module, in the files that its authors publish (MIT licence,
Zalando SE), so that whoever has the repository can count the right answers without the images.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fashion_cnn.config import CNN, ConfigError, RunConfig, check_seed
from fashion_cnn.data import CLASS_NAMES, FASHION_MNIST
from fashion_cnn.evaluation import CLIPPED, confusion
from fashion_cnn.sample import sample_places

PREDICTIONS: Final = "predictions.npz"
LABELS: Final = ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte")
MOST_IMAGES: Final = 70_000  # all that Fashion-MNIST has
_HEADER: Final = 8  # bytes of the labels' file before the labels
_KINDS: Final[Mapping[str, np.dtype[Any]]] = {"classes": np.dtype(np.uint8), "true_class_probability": np.dtype("<f4")}
_MOST_BYTES: Final = 4 * MOST_IMAGES + 1_000  # of an array and its header
UNREADABLE: Final = (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError, RuntimeError, zlib.error)
"""What a zip of arrays raises that is none."""


class PredictionsError(ValueError):
    """A file that holds no predictions: one line that says why."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a network answered to the test images."""

    classes: NDArray[np.uint8]
    """(n,): the most probable class of each."""
    true_class_probability: NDArray[np.float32] | None = None
    """(n,): the probability that it gave to the image's own class; None where that was not kept."""

    def to_bytes(self) -> bytes:
        """As an npz file; with one zlib the same arrays give the same bytes."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, kind in _KINDS.items():
                if (array := getattr(self, name)) is not None:
                    content = io.BytesIO()
                    np.lib.format.write_array(content, np.ascontiguousarray(array, kind), version=(1, 0))
                    entry = zipfile.ZipInfo(f"{name}.npy")  # of 1980, whatever the clock says
                    entry.create_system, entry.compress_type = 3, zipfile.ZIP_DEFLATED
                    archive.writestr(entry, content.getvalue())
        return buffer.getvalue()


@functools.lru_cache(maxsize=4)  # each check of a record reads its file
def from_bytes(content: bytes) -> Predictions:
    """What `to_bytes` wrote; within limits, for the file may be anybody's. A PredictionsError where it is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            names = [f"{name}.npy" for name in _KINDS]
            if [entry.filename for entry in entries] not in (names[:1], names):
                raise PredictionsError(f"it holds other arrays than {' and '.join(_KINDS)}")
            if max(entry.file_size for entry in entries) > _MOST_BYTES:
                raise PredictionsError(f"it holds more than {MOST_IMAGES:,} images")
            arrays = []
            for entry, kind in zip(entries, _KINDS.values(), strict=False):
                with archive.open(entry) as file:
                    arrays.append(_array(file.read(entry.file_size), kind))
    except PredictionsError:
        raise
    except UNREADABLE as error:
        raise PredictionsError(f"it holds no arrays ({type(error).__name__})") from None
    read = Predictions(*arrays)
    probability = read.true_class_probability
    if not len(read.classes) or read.classes.max() >= len(CLASS_NAMES):
        raise PredictionsError(f"its classes are not of 0 to {len(CLASS_NAMES) - 1}")
    if probability is not None:
        if len(probability) != len(read.classes):
            raise PredictionsError("its arrays differ in length")
        if not ((probability >= 0) & (probability <= 1)).all():
            raise PredictionsError("its probabilities are not of 0 to 1")
    return read


def classes_alone(content: bytes) -> bytes:
    """A `predictions.npz` without the probabilities; a PredictionsError where it is none."""
    return Predictions(from_bytes(content).classes).to_bytes()


def _array(content: bytes, kind: np.dtype[Any]) -> NDArray[Any]:
    """An array of one dimension; NumPy's own reader would trust the shape that a file states."""
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise PredictionsError("its arrays are of a newer format")
    shape, _, found = np.lib.format.read_array_header_1_0(file)
    values = content[file.tell() :]
    if found != kind or len(shape) != 1 or shape[0] * kind.itemsize != len(values):
        raise PredictionsError(f"it holds another array than one of {kind.name}")
    return np.frombuffer(values, kind)


@functools.cache
def true_labels() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The true classes of the images that Fashion-MNIST gives for training and for tests, (60000,) and (10000,)."""
    training, tested = map(_labels, LABELS)
    return training, tested


def _labels(name: str) -> NDArray[np.uint8]:
    content = gzip.decompress(resources.files(__package__).joinpath(f"{name}.gz").read_bytes())
    if hashlib.sha256(content).hexdigest() != FASHION_MNIST.file_sha256[name]:
        raise PredictionsError(f"{name}.gz of this checkout was changed; git checkout brings it back")
    return np.frombuffer(content[_HEADER:], np.uint8)


def tested_labels(config: RunConfig, seed: int, images: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The true classes of the images that a run on Fashion-MNIST is tested on, (n,).

    Args:
        config: of the run.
        seed: of the run.
        images: how many training and test images it took, from the first on; None is all.
    """
    return _drawn_labels(config.split, seed, *(images or (FASHION_MNIST.train, FASHION_MNIST.test)))


@functools.lru_cache(maxsize=64)  # all runs of a seed and a split have the same
def _drawn_labels(split: str, seed: int, train: int, test: int) -> NDArray[np.uint8]:
    """Which training images a run takes besides makes no difference; read-only."""
    training, tested = true_labels()
    places = sample_places(replace(CNN, split=split), seed, train, test)[1]
    labels: NDArray[np.uint8] = np.concatenate([training[:train], tested[:test]])[places]
    labels.flags.writeable = False
    return labels


def labels_of(trajectory: Any) -> NDArray[np.uint8] | None:
    """The true classes of the images that a record's `trajectory.json` was tested on, or None where they are others."""
    if not isinstance(trajectory, dict) or not isinstance(files := trajectory.get("data_files"), dict):
        return None
    if any(files.get(name) != FASHION_MNIST.file_sha256[name] for name in LABELS):
        return None
    images = None
    match trajectory.get("images"):
        case [int(train), int(test)] if 0 < train <= FASHION_MNIST.train and 0 < test <= FASHION_MNIST.test:
            images = train, test
        case None:
            pass
        case _:
            return None
    try:
        config, seed = RunConfig.from_mapping(trajectory["settings"]), check_seed(trajectory["seed"])
    except (KeyError, TypeError, ConfigError):  # a matter of `contradictions`
        return None
    return tested_labels(config, seed, images)


def loss(probability: NDArray[np.float32]) -> float:
    """The mean cross-entropy of true classes' probabilities, as `evaluation.scores` computes it."""
    clipped = np.clip(probability.astype(np.float64), CLIPPED, 1 - CLIPPED)
    return -math.fsum(map(math.log, clipped.tolist())) / len(probability)


def per_class(classes: NDArray[np.uint8], labels: NDArray[np.uint8]) -> dict[str, list[Any]]:
    """A table of how each class was answered: columns by name, one row per class.

    Args:
        classes: (n,), answered.
        labels: (n,), true.

    Returns:
        `class`, `recall` (share of the class' images answered so; the column that MLflow's table compares at first),
        `precision` (share of such answers that are right; 0 where there is none), `images` (of that class), and
        `answered <class>` counts: the rows of the confusion matrix.
    """
    counts = confusion(classes, labels)
    right = np.diag(counts)
    return {
        "class": list(CLASS_NAMES),
        "recall": (right / np.maximum(counts.sum(axis=1), 1)).tolist(),
        "precision": (right / np.maximum(counts.sum(axis=0), 1)).tolist(),
        "images": counts.sum(axis=1).tolist(),
        **{f"answered {name}": counts[:, index].tolist() for index, name in enumerate(CLASS_NAMES)},
    }


def table_differences(table: Mapping[str, Any], computed: Mapping[str, list[Any]]) -> list[tuple[str, Any, Any]]:
    """Where a `per_class.json` differs from a table of `per_class`: the cell, what is stated there, what follows."""
    found: list[tuple[str, Any, Any]] = []
    try:
        columns = dict(zip(table["columns"], zip(*table["data"], strict=True), strict=True))
    except (KeyError, TypeError, ValueError):
        return [("the table", "another shape", "a row per class")]
    for name, values in computed.items():
        if name in ("recall", "precision") and name not in columns:
            continue  # what follows from the counts
        stated = columns.get(name, ())
        if len(stated) != len(values):
            found.append((name, f"{len(stated)} rows", f"{len(values)} rows"))
            continue
        for row, both in zip(computed["class"], zip(stated, values, strict=True), strict=True):
            if not _same(*both):
                found.append((f"{row}, {name}", *both))
    return found


def _same(stated: Any, computed: Any) -> bool:
    if isinstance(computed, float):
        return isinstance(stated, int | float) and math.isclose(stated, computed, rel_tol=1e-9)
    return type(stated) is type(computed) and bool(stated == computed)
