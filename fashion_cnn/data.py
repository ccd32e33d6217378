"""Verify and load Fashion-MNIST.

Fashion-MNIST is 60,000 training and 10,000 test images of clothes in ten classes, 28x28 grey pixels each
(Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747; MIT licence, Zalando SE). It comes as four gzipped files in the
IDX format (big-endian: a magic number, one count per dimension, then the bytes; yann.lecun.com/exdb/mnist).

Packagers gzip the files anew, so the identity of the data is the SHA-256 of the four *decompressed* files.
Nothing is used that does not match it. A small made-up set in the same format, for tests, is told apart by a
label file, `MADE_UP.json`, that gives its name, counts and hashes:

    {"name": str, "files": {"train-images-idx3-ubyte": sha256, ...}, "train": int, "test": int}
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    pass

Bytes: TypeAlias = npt.NDArray[np.uint8]

CLASS_NAMES: Final = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
MADE_UP_LABEL: Final = "MADE_UP.json"

_LABEL_LIMIT = 64 * 1024


class DataError(ValueError):
    """The data cannot be had or trusted. One line: what was wrong, what is allowed, what to do."""


@dataclass(frozen=True)
class Expected:
    """What a data folder must hold.

    Attributes:
        name: What the set is called.
        made_up: Whether it is a made-up set, for tests.
        train: The number of training images.
        test: The number of test images.
        file_sha256: The SHA-256 (hex) of each decompressed file, by its name without `.gz`.
    """

    name: str
    made_up: bool
    train: int
    test: int
    file_sha256: Mapping[str, str]

    @property
    def sha256(self) -> str:
        """What `sha256sum` gives for what `sha256sum` prints of the decompressed files in name order."""
        lines = (f"{sha256}  {name}\n" for name, sha256 in sorted(self.file_sha256.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one file's array: (n, 28, 28) for images, (n,) for labels."""
        count = self.train if name.startswith("train") else self.test
        return (count, 28, 28) if "images" in name else (count,)

    def size(self, name: str) -> int:
        """The bytes of one decompressed file: the header, four bytes per number, and the array."""
        shape = self.shape(name)
        return 4 * (1 + len(shape)) + math.prod(shape)


FASHION_MNIST: Final = Expected(
    name="Fashion-MNIST",
    made_up=False,
    train=60_000,
    test=10_000,
    file_sha256={
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    },
)
FASHION_MNIST_SHA256: Final = FASHION_MNIST.sha256


@dataclass(frozen=True, eq=False)
class Dataset:
    """Verified images and labels. The arrays are read-only.

    Attributes:
        train_images: uint8 (n, 28, 28), 0 is background.
        train_labels: uint8 (n,), indices into `CLASS_NAMES`.
        test_images: uint8 (m, 28, 28).
        test_labels: uint8 (m,).
        sha256: The identity of the data (hex); see `Expected.sha256` for a whole set, `first` for a part.
        name: "Fashion-MNIST", or the made-up set's name.
        made_up: Whether it is a made-up set; its runs are never mixed with real ones.
        file_sha256: The SHA-256 (hex) of each decompressed file, by its name without `.gz`.
    """

    train_images: Bytes = field(repr=False)
    train_labels: Bytes = field(repr=False)
    test_images: Bytes = field(repr=False)
    test_labels: Bytes = field(repr=False)
    sha256: str
    name: str
    made_up: bool
    file_sha256: Mapping[str, str]

    def first(self, train: int, test: int) -> Dataset:
        """The first images only, for smoke runs.

        Args:
            train: How many training images, 1 to all.
            test: How many test images, 1 to all.

        Returns:
            A set whose sha256 is derived from this one's and the counts, so it is never taken for the whole.

        Raises:
            DataError: A count is out of range.
        """
        for kind, count, most in (
            ("training", train, len(self.train_labels)),
            ("test", test, len(self.test_labels)),
        ):
            if not 1 <= count <= most:
                raise DataError(
                    f"{count} {kind} images were asked of {self.name}, which has {most}; ask for 1 to {most}"
                )
        return replace(
            self,
            train_images=self.train_images[:train],
            train_labels=self.train_labels[:train],
            test_images=self.test_images[:test],
            test_labels=self.test_labels[:test],
            sha256=hashlib.sha256(f"{self.sha256} first {train} {test}\n".encode()).hexdigest(),
        )


def load(folder: str | os.PathLike[str]) -> Dataset:
    """Read and verify the four files of a folder.

    Args:
        folder: A folder with Fashion-MNIST, or with a made-up set and its label `MADE_UP.json`.

    Returns:
        The whole set: uint8 images (n, 28, 28), uint8 labels (n,), for real (60,000 and 10,000) or made up.

    Raises:
        DataError: A file is missing, unreadable, no gzip, truncated, too long, of another format or count, or
            has a label above 9 or another SHA-256; or `MADE_UP.json` is malformed. It names the file.
    """
    folder = Path(folder)
    expected = _expected_in(folder)
    arrays = {name: load_file(folder / f"{name}.gz", name, expected) for name in expected.file_sha256}
    return Dataset(
        train_images=arrays["train-images-idx3-ubyte"],
        train_labels=arrays["train-labels-idx1-ubyte"],
        test_images=arrays["t10k-images-idx3-ubyte"],
        test_labels=arrays["t10k-labels-idx1-ubyte"],
        sha256=expected.sha256,
        name=expected.name,
        made_up=expected.made_up,
        file_sha256=dict(expected.file_sha256),
    )


def _expected_in(folder: Path) -> Expected:
    """What the folder must hold: the made-up set of its label, or Fashion-MNIST."""
    label = folder / MADE_UP_LABEL
    if not os.path.lexists(label):
        return FASHION_MNIST
    try:
        return _parse_label(read_file(label, _LABEL_LIMIT))
    except DataError as error:
        raise DataError(
            f"{str(label)!r}, the label of a made-up data set, {error}; make the set anew, "
            f"or delete the label if the folder holds the real {FASHION_MNIST.name}"
        ) from error


def _parse_label(raw: bytes) -> Expected:
    try:
        label = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON of at most {_LABEL_LIMIT} bytes") from error
    match label:
        case {"name": str(name), "files": dict(files), "train": int(train), "test": int(test)}:
            pass
        case _:
            raise DataError("must have a name, files, and the counts train and test")
    if not (0 < len(name) <= 100 and name.isprintable()):
        raise DataError("must have a name of 1 to 100 printable characters")
    real = FASHION_MNIST
    if name.strip().casefold() == real.name.casefold() or files == real.file_sha256:
        raise DataError(f"names {real.name}; a made-up set must have a name and files of its own")
    if files.keys() != real.file_sha256.keys() or not all(map(_is_sha256, files.values())):
        raise DataError(f"must give one SHA-256 in lower-case hex for each of {', '.join(real.file_sha256)}")
    if not (1 <= train <= real.train and 1 <= test <= real.test):
        raise DataError(f"must give 1 to {real.train} training and 1 to {real.test} test images")
    return Expected(name=name, made_up=True, train=train, test=test, file_sha256=files)


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def load_file(path: Path, name: str, expected: Expected) -> Bytes:
    """Read and verify one file of a folder; a fault names the file."""
    try:
        return verified(read_file(path, gzip_limit(expected.size(name))), name, expected)
    except DataError as error:
        raise DataError(
            f"{str(path)!r} {error}; put a good copy in its place (or, in the Keras cache, delete it: "
            "it will be downloaded anew)"
        ) from error


def read_file(path: Path, limit: int) -> bytes:
    """The bytes of a regular file, up to one byte more than `limit`: enough to see that it is too long."""
    # A pipe in the file's place would be waited for without end: look before opening.
    if os.path.exists(path) and not os.path.isfile(path):
        raise DataError("is not a regular file")
    try:
        with open(path, "rb") as file:
            return file.read(limit + 1)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read: {reason_of(error)}") from error


def verified(raw: bytes, name: str, expected: Expected) -> Bytes:
    """Decompress one IDX file and check it from the outside in: the first fault found is the telling one."""
    shape, size = expected.shape(name), expected.size(name)
    header = struct.Struct(f">{1 + len(shape)}I")
    content = _gunzip(raw, size)
    if len(content) < header.size:
        raise DataError(f"ends after {len(content)} bytes, within its header; {size} bytes are expected")
    _check_header(header.unpack_from(content), shape)
    if len(content) != size:
        found = f"more than {size}" if len(content) > size else f"only {len(content)}"
        raise DataError(f"holds {found} bytes when decompressed; {size} are expected")
    array = np.frombuffer(content, np.uint8, offset=header.size).reshape(shape)
    if array.ndim == 1 and array.max() >= len(CLASS_NAMES):
        index = int(np.argmax(array >= len(CLASS_NAMES)))
        raise DataError(f"has the label {array[index]} at index {index}; labels are 0 to 9")
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != expected.file_sha256[name]:
        raise DataError(
            f"is not the file of {expected.name}: it has the SHA-256 {sha256} when decompressed; "
            f"{expected.file_sha256[name]} is expected"
        )
    return array


def gzip_limit(size: int) -> int:
    """More bytes than the gzip file of `size` bytes ever has, however badly they compress."""
    return size + size // 8 + 4096


def _gunzip(raw: bytes, size: int) -> bytes:
    """Decompress one gzip stream, up to one byte more than `size`: enough to see that it is too long."""
    if not raw.startswith(b"\x1f\x8b"):
        raise DataError("is not a gzip file")
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        content = stream.decompress(raw, size + 1)
    except zlib.error as error:
        raise DataError(f"is a damaged gzip file: {error}") from error
    if not stream.eof and len(content) <= size:
        fault = "a truncated" if len(raw) <= gzip_limit(size) else "an endless"
        raise DataError(f"is {fault} gzip file, with {len(content)} of {size} bytes when decompressed")
    if stream.unused_data:
        raise DataError("goes on after the end of its gzip stream; one stream is allowed")
    return content


def _check_header(header: tuple[int, ...], shape: tuple[int, ...]) -> None:
    kind = "labels" if len(shape) == 1 else "images"
    magic, count, *pixels = header
    # Two zero bytes, 8 for unsigned bytes, the number of dimensions: 2051 for images, 2049 for labels.
    expected_magic = 0x0800 + len(shape)
    if magic != expected_magic:
        raise DataError(f"has the magic number {magic}; IDX {kind} have {expected_magic}")
    if tuple(pixels) != shape[1:]:
        raise DataError(f"has images of {'x'.join(map(str, pixels))} pixels; 28x28 are expected")
    if count != shape[0]:
        raise DataError(f"has {count} {kind}; {shape[0]} are expected")


def reason_of(error: Exception) -> str:
    """What the system says of an error, without the file's name."""
    return getattr(error, "strerror", None) or str(error)
