"""A made-up data set in the file format of Fashion-MNIST, small and quick to learn, for tests only.

It is written from the format's description and uses nothing of `fashion_cnn`, so that the tests which read it
back compare two independent statements.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

ANKLE_BOOT = 9
ANKLE_BOOTS = (0, 23, 28)  # test images that are ankle boots in the real set, too


def write_made_up(folder: Path, train: int = 256, test: int = 96, seed: int = 0) -> Path:
    """Write four gzipped IDX files and their label `MADE_UP.json`.

    Class k is a bright block in cell k of a 3x4 grid, over noise. Every class is present, and the test images
    0, 23 and 28 are ankle boots. The same arguments give the same bytes.

    Args:
        folder: Where to write; made if it is not there.
        train: The number of training images, 10 to 60,000; need not be a multiple of a batch.
        test: The number of test images, 29 to 10,000.
        seed: Of noise and order.

    Returns:
        The folder.

    Raises:
        ValueError: A count is out of range.
    """
    if not (10 <= train <= 60_000 and 29 <= test <= 10_000):
        raise ValueError(f"train={train}, test={test}: 10 to 60,000 and 29 to 10,000 images can be made up")
    rng = np.random.default_rng(seed)
    train_labels = rng.permutation(np.arange(train) % 10)
    others = np.setdiff1d(np.arange(test), ANKLE_BOOTS)
    test_labels = np.full(test, ANKLE_BOOT)
    test_labels[others] = rng.permutation(np.arange(len(others)) % 10)
    files = {
        "train-images-idx3-ubyte": idx(_images(train_labels, rng)),
        "train-labels-idx1-ubyte": idx(train_labels.astype(np.uint8)),
        "t10k-images-idx3-ubyte": idx(_images(test_labels, rng)),
        "t10k-labels-idx1-ubyte": idx(test_labels.astype(np.uint8)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
    label = {
        "name": f"made up (seed {seed})",
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "train": train,
        "test": test,
    }
    (folder / "MADE_UP.json").write_text(json.dumps(label, indent=1) + "\n", encoding="utf-8")
    return folder


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    """The IDX file of an array of unsigned bytes."""
    header = struct.pack(f">2x2B{array.ndim}I", 8, array.ndim, *array.shape)
    return header + array.tobytes()


def _images(labels: npt.NDArray[np.int_], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    images = rng.integers(0, 96, (len(labels), 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 4)
        image[9 * row : 9 * row + 9, 7 * column : 7 * column + 7] += 150
    return images
