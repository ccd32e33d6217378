"""A data set that is bad is refused, and the file and its fault are named."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from fashion_cnn import data
from tests.support.data_files import (
    NAMES,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    as_nobody,
    content,
    put,
    refusal,
    refused,
)
from tests.support.made_up import idx

pytestmark = [pytest.mark.usefixtures("places"), pytest.mark.fault("data")]


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_byte_is_refused(folder: Path, name: str) -> None:
    changed = bytearray(content(folder, name))
    changed[-1] ^= 1
    put(folder, name, bytes(changed))
    refused(folder, f"{name}.gz", "SHA-256", hashlib.sha256(changed).hexdigest())


def test_a_flipped_byte_in_the_gzip_file_is_refused(folder: Path) -> None:
    path = folder / f"{TRAIN_IMAGES}.gz"
    raw = bytearray(path.read_bytes())
    for position in range(10, len(raw), len(raw) // 50):
        raw[position] ^= 0x55
        path.write_bytes(raw)
        assert str(path) in refusal(lambda: data.load(folder))
        raw[position] ^= 0x55


@pytest.mark.parametrize("kept", [2, 10, 1000, -9, -1])
def test_a_truncated_gzip_file_is_refused(folder: Path, kept: int) -> None:
    path = folder / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(path.read_bytes()[:kept])
    refused(folder, path.name, "truncated")


def test_an_empty_file_is_refused(folder: Path) -> None:
    (folder / f"{TRAIN_LABELS}.gz").write_bytes(b"")
    refused(folder, f"{TRAIN_LABELS}.gz", "is not a gzip file")


def test_a_file_that_is_not_gzipped_is_refused(folder: Path) -> None:
    (folder / f"{TRAIN_LABELS}.gz").write_bytes(content(folder, TRAIN_LABELS))
    refused(folder, f"{TRAIN_LABELS}.gz", "is not a gzip file")


def test_a_second_gzip_stream_is_refused(folder: Path) -> None:
    path = folder / f"{TRAIN_LABELS}.gz"
    path.write_bytes(path.read_bytes() + gzip.compress(b"more"))
    refused(folder, path.name, "after the end of its gzip stream")


@pytest.mark.parametrize("kept", [0, 3, 7])
def test_content_that_ends_within_the_header_is_refused(folder: Path, kept: int) -> None:
    put(folder, TRAIN_LABELS, content(folder, TRAIN_LABELS)[:kept])
    refused(folder, f"{TRAIN_LABELS}.gz", "within its header")


@pytest.mark.parametrize("name", NAMES)
def test_truncated_content_is_refused(folder: Path, name: str) -> None:
    whole = content(folder, name)
    put(folder, name, whole[:-1])
    refused(folder, f"{name}.gz", f"only {len(whole) - 1} bytes", f"{len(whole)} are expected")


@pytest.mark.parametrize("name", NAMES)
def test_content_that_is_too_long_is_refused(folder: Path, name: str) -> None:
    whole = content(folder, name)
    put(folder, name, whole + b"\0")
    refused(folder, f"{name}.gz", f"more than {len(whole)} bytes")


def test_a_wrong_magic_number_is_refused(folder: Path) -> None:
    put(folder, TEST_IMAGES, b"\0\0\x0d\x03" + content(folder, TEST_IMAGES)[4:])
    refused(folder, f"{TEST_IMAGES}.gz", "magic number 3331", "2051")


def test_images_in_the_place_of_labels_are_refused(folder: Path) -> None:
    shutil.copy(folder / f"{TRAIN_IMAGES}.gz", folder / f"{TRAIN_LABELS}.gz")
    refused(folder, f"{TRAIN_LABELS}.gz", "magic number 2051", "labels have 2049")


@pytest.mark.parametrize(("name", "kind"), [(TRAIN_IMAGES, "images"), (TRAIN_LABELS, "labels")])
def test_a_wrong_count_is_refused(folder: Path, name: str, kind: str) -> None:
    whole = content(folder, name)
    put(folder, name, whole[:4] + (257).to_bytes(4, "big") + whole[8:])
    refused(folder, f"{name}.gz", f"257 {kind}", "256 are expected")


def test_images_of_another_size_are_refused(folder: Path) -> None:
    put(folder, TRAIN_IMAGES, idx(np.zeros((256, 14, 56), np.uint8)))
    refused(folder, f"{TRAIN_IMAGES}.gz", "14x56 pixels", "28x28")


def test_a_label_above_nine_is_refused(folder: Path) -> None:
    labels = data.load(folder).train_labels.copy()
    labels[5] = 10
    put(folder, TRAIN_LABELS, idx(labels))
    refused(folder, f"{TRAIN_LABELS}.gz", "label 10 at index 5", "0 to 9")


def test_labels_of_another_set_are_refused(folder: Path, source: Path) -> None:
    shutil.copy(source / f"{TRAIN_LABELS}.gz", folder)
    refused(folder, f"{TRAIN_LABELS}.gz", "is not the file of made up (seed 0)", "SHA-256")


def test_the_test_labels_in_the_place_of_the_training_labels_are_refused(folder: Path) -> None:
    shutil.copy(folder / f"{TEST_LABELS}.gz", folder / f"{TRAIN_LABELS}.gz")
    refused(folder, f"{TRAIN_LABELS}.gz", "96 labels", "256 are expected")


def test_a_gzip_bomb_is_not_unpacked(folder: Path) -> None:
    path = folder / f"{TRAIN_IMAGES}.gz"
    whole = content(folder, TRAIN_IMAGES)
    put(folder, TRAIN_IMAGES, whole[:16] + bytes(64 << 20))
    assert path.stat().st_size < len(whole)
    tracemalloc.start()
    try:
        refused(folder, path.name, f"more than {len(whole)} bytes")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20


def test_a_file_without_end_is_not_read(folder: Path) -> None:
    path = folder / f"{TRAIN_LABELS}.gz"
    os.truncate(path, 1 << 40)  # a hole: takes no disk
    refused(folder, path.name, "after the end of its gzip stream")


def test_a_gzip_stream_without_end_is_not_read(folder: Path) -> None:
    path = folder / f"{TRAIN_LABELS}.gz"
    empty_blocks = b"\0\0\0\xff\xff" * 100_000
    path.write_bytes(b"\x1f\x8b\x08" + bytes(7) + empty_blocks)
    refused(folder, path.name, "an endless gzip file, with 0 of 264 bytes")


def test_a_folder_in_the_place_of_a_file_is_refused(folder: Path) -> None:
    path = folder / f"{TRAIN_LABELS}.gz"
    path.unlink()
    path.mkdir()
    refused(folder, path.name, "is not a regular file")


def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(folder: Path) -> None:
    path = folder / f"{TRAIN_LABELS}.gz"
    path.unlink()
    os.mkfifo(path)
    refused(folder, path.name, "is not a regular file")


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / f"{TEST_LABELS}.gz").unlink()
    refused(folder, f"{TEST_LABELS}.gz", "No such file")


def test_a_file_without_permission_is_named(open_folder: Path) -> None:
    (open_folder / f"{TRAIN_LABELS}.gz").chmod(0)
    with as_nobody():
        refused(open_folder, f"{TRAIN_LABELS}.gz", "Permission denied")


def test_no_path_at_all_breaks_the_loader() -> None:
    assert "cannot be read" in refusal(lambda: data.load("\0"))
    assert "cannot be read" in refusal(lambda: data.load("x" * 5000))
