"""A data set that is good is loaded as it is, and labelled so that none is taken for another."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fashion_cnn import data, download
from tests.support.data_files import (
    NAMES,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    content,
    refusal,
    refused,
)
from tests.support.made_up import idx, write_made_up

pytestmark = pytest.mark.usefixtures("places")


def test_a_made_up_set_loads_with_its_shapes_types_and_label(folder: Path) -> None:
    dataset = data.load(folder)
    assert dataset.train_images.shape == (256, 28, 28)
    assert dataset.train_labels.shape == (256,)
    assert dataset.test_images.shape == (96, 28, 28)
    assert dataset.test_labels.shape == (96,)
    for array in (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels):
        assert array.dtype == np.uint8
        assert not array.flags.writeable
    assert set(dataset.train_labels) == set(dataset.test_labels) == set(range(10))
    assert list(dataset.test_labels[[0, 23, 28]]) == [9, 9, 9]
    assert dataset.made_up
    assert dataset.name == "made up (seed 0)"
    for name in NAMES:
        assert dataset.file_sha256[name] == hashlib.sha256(content(folder, name)).hexdigest()


def test_images_and_labels_are_those_of_the_files(folder: Path) -> None:
    dataset = data.load(folder)
    assert idx(dataset.train_images) == content(folder, TRAIN_IMAGES)
    assert idx(dataset.train_labels) == content(folder, TRAIN_LABELS)
    assert idx(dataset.test_images) == content(folder, TEST_IMAGES)
    assert idx(dataset.test_labels) == content(folder, TEST_LABELS)


def test_made_up_bytes_depend_on_the_arguments_alone(tmp_path: Path) -> None:
    first, again, other = (
        write_made_up(tmp_path / str(place), train=50, test=29, seed=seed) for place, seed in enumerate((3, 3, 4))
    )
    for file in sorted(first.iterdir()):
        assert file.read_bytes() == (again / file.name).read_bytes()
        assert file.read_bytes() != (other / file.name).read_bytes()


def test_counts_that_cannot_be_made_up_are_refused(tmp_path: Path) -> None:
    for train, test in ((9, 29), (10, 28), (60_001, 29), (10, 10_001)):
        with pytest.raises(ValueError, match="can be made up"):
            write_made_up(tmp_path, train, test)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs the program sha256sum")
def test_the_sets_hash_is_what_sha256sum_gives(folder: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in NAMES:
        (plain / name).write_bytes(content(folder, name))
    output = subprocess.run(
        f"sha256sum {' '.join(sorted(NAMES))} | sha256sum",
        shell=True, cwd=plain, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert output.split()[0] == data.load(folder).sha256


def test_gzipping_anew_changes_nothing(folder: Path) -> None:
    before = data.load(folder).sha256
    for name in NAMES:
        (folder / f"{name}.gz").write_bytes(gzip.compress(content(folder, name), compresslevel=1, mtime=7))
    assert data.load(folder).sha256 == before


def test_there_are_ten_class_names() -> None:
    assert len(set(data.CLASS_NAMES)) == 10
    assert data.CLASS_NAMES[9] == "Ankle boot"


def test_the_first_images_are_a_set_of_their_own(folder: Path) -> None:
    whole = data.load(folder)
    part = whole.first(40, 30)
    assert np.array_equal(part.train_images, whole.train_images[:40])
    assert np.array_equal(part.train_labels, whole.train_labels[:40])
    assert np.array_equal(part.test_images, whole.test_images[:30])
    assert np.array_equal(part.test_labels, whole.test_labels[:30])
    assert part.made_up and part.name == whole.name and part.file_sha256 == whole.file_sha256
    hashes = {whole.sha256, part.sha256, whole.first(40, 31).sha256, whole.first(256, 96).sha256}
    assert len(hashes) == 4
    assert whole.first(40, 30).sha256 == part.sha256


@pytest.mark.parametrize(("train", "test"), [(0, 5), (-1, 5), (257, 5), (5, 0), (5, 97)])
def test_more_or_fewer_first_images_than_there_are_are_refused(folder: Path, train: int, test: int) -> None:
    assert "ask for 1 to" in refusal(lambda: data.load(folder).first(train, test))


@pytest.mark.real_data
def test_the_real_set_is_the_pinned_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # where this machine has it
    found = download.find()
    if found is None:
        pytest.skip("Fashion-MNIST is not on this machine: `python -m fashion_cnn.data` gets it")
    dataset = data.load(found)
    if dataset.made_up:
        pytest.skip(f"FASHION_MNIST_DIR or the Keras cache holds a made-up set: {found}")
    assert dataset.train_images.shape == (60_000, 28, 28)
    assert dataset.test_images.shape == (10_000, 28, 28)
    assert list(np.bincount(dataset.train_labels)) == [6_000] * 10
    assert list(np.bincount(dataset.test_labels)) == [1_000] * 10
    assert list(dataset.test_labels[[0, 23, 28]]) == [9, 9, 9]
    assert dataset.name == "Fashion-MNIST"
    assert dataset.sha256 == data.FASHION_MNIST_SHA256
    assert dataset.file_sha256 == data.FASHION_MNIST.file_sha256


def relabel(folder: Path, **changes: object) -> None:
    label = folder / "MADE_UP.json"
    label.write_text(json.dumps(json.loads(label.read_text()) | changes))


def test_without_its_label_a_made_up_set_is_refused(folder: Path) -> None:
    (folder / "MADE_UP.json").unlink()
    refused(folder, f"{TEST_IMAGES}.gz", "96 images", "10000 are expected")


@pytest.mark.parametrize("name", ["Fashion-MNIST", "fashion-mnist ", "", "two\nlines", "x" * 101, 7, None])
def test_a_label_with_the_real_name_or_none_is_refused(folder: Path, name: object) -> None:
    relabel(folder, name=name)
    message = refusal(lambda: data.load(folder))
    assert str(folder / "MADE_UP.json") in message
    assert "name" in message


def test_a_label_that_gives_the_real_files_is_refused(folder: Path) -> None:
    relabel(folder, files=dict(data.FASHION_MNIST.file_sha256), train=60_000, test=10_000)
    assert "files of its own" in refusal(lambda: data.load(folder))


@pytest.mark.parametrize("counts", [{"train": 0}, {"train": 60_001}, {"test": -1}, {"test": 10_001}])
def test_a_label_with_an_impossible_count_is_refused(folder: Path, counts: dict[str, int]) -> None:
    relabel(folder, **counts)
    assert "1 to 60000 training and 1 to 10000 test images" in refusal(lambda: data.load(folder))


@pytest.mark.parametrize("files", [{}, {TRAIN_IMAGES: "0" * 64}, dict.fromkeys(NAMES, "x"), dict.fromkeys(NAMES, 5)])
def test_a_label_without_the_four_hashes_is_refused(folder: Path, files: dict[str, object]) -> None:
    relabel(folder, files=files)
    assert "one SHA-256" in refusal(lambda: data.load(folder))


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b'{"name": ""}', b"[" * 50_000, b"9" * 5_000, b"0" * 70_000],
    ids=range(9),
)
def test_a_malformed_label_is_refused(folder: Path, text: bytes) -> None:
    (folder / "MADE_UP.json").write_bytes(text)
    assert str(folder / "MADE_UP.json") in refusal(lambda: data.load(folder))


def test_a_label_that_cannot_be_read_is_not_overlooked(folder: Path) -> None:
    label = folder / "MADE_UP.json"
    label.unlink()
    label.symlink_to("nowhere")
    assert str(label) in refusal(lambda: data.load(folder))
    label.unlink()
    label.mkdir()
    assert str(label) in refusal(lambda: data.load(folder))
