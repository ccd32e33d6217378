"""A data set that is not what it should be stops a run before anything is recorded.

`science/test_data_refused.py` has each fault. Here is what the user sees of them, and what happens to data that change
in mid-run or lie in the cache.
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from fashion_cnn import download
from fashion_cnn.config import DENSE
from fashion_cnn.data import DataError
from fashion_cnn.study import Study
from tests.support.command import Lab
from tests.support.data_files import (
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    as_nobody,
    content,
    expected_of,
    put,
    serving,
)
from tests.support.made_up import write_made_up

pytestmark = pytest.mark.fault("data")

TRAIN = ("train", "--model", "dense", "--epochs", 1)


def truncated(folder: Path) -> str:
    path = folder / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(path.read_bytes()[:-100])
    return "is a truncated gzip file, with "


def one_byte_flipped(folder: Path) -> str:
    changed = bytearray(content(folder, TRAIN_IMAGES))
    changed[5000] ^= 1
    put(folder, TRAIN_IMAGES, bytes(changed))
    return "is not the file of made up (seed 0): it has the SHA-256 "


def right_size_but_wrong(folder: Path) -> str:
    before = content(folder, TRAIN_IMAGES)
    put(folder, TRAIN_IMAGES, before[:16] + bytes(len(before) - 16))
    return "is not the file of made up (seed 0): it has the SHA-256 "


def labels_of_another_set(folder: Path) -> str:
    shutil.copy(write_made_up(folder.parent / "other", train=64, test=64, seed=1) / f"{TRAIN_LABELS}.gz", folder)
    return "is not the file of made up (seed 0): it has the SHA-256 "


def labels_in_place_of_images(folder: Path) -> str:
    shutil.copy(folder / f"{TRAIN_LABELS}.gz", folder / f"{TRAIN_IMAGES}.gz")
    return "has the magic number 2049; IDX images have 2051"


def a_gzip_bomb(folder: Path) -> str:
    put(folder, TRAIN_IMAGES, content(folder, TRAIN_IMAGES)[:16] + bytes(64 << 20))
    return "holds more than 50192 bytes when decompressed; 50192 are expected"


def a_folder(folder: Path) -> str:
    (folder / f"{TRAIN_IMAGES}.gz").unlink()
    (folder / f"{TRAIN_IMAGES}.gz").mkdir()
    return "is not a regular file"


FAULTS = (
    truncated,
    one_byte_flipped,
    right_size_but_wrong,
    labels_of_another_set,
    labels_in_place_of_images,
    a_gzip_bomb,
    a_folder,
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.replace("_", " "))
def test_bad_data_are_named_in_one_line_and_nothing_is_recorded(tmp_path: Path, fault: Callable[[Path], str]) -> None:
    lab = Lab(tmp_path / "lab", write_made_up(tmp_path / "data", train=64, test=64))
    told = fault(lab.data)
    said = lab.call(*TRAIN, status=2)
    name = TRAIN_LABELS if fault is labels_of_another_set else TRAIN_IMAGES
    assert said.startswith(f"error: '{lab.data / f'{name}.gz'}' {told}") and said.count("\n") == 1
    assert "; put a good copy in its place (or, in the Keras cache, delete it: it will be downloaded anew)" in said
    assert not lab.folder.exists()


def test_data_without_permission_are_named_in_one_line(open_folder: Path) -> None:
    path = open_folder / f"{TEST_LABELS}.gz"
    path.chmod(0)
    lab = Lab(open_folder.parent / "lab", open_folder)
    lab.call("list", status=2)  # whatever a command imports is imported before the rights are gone
    with as_nobody(), mock.patch.object(tempfile, "tempdir", str(open_folder.parent)):
        said = lab.call(*TRAIN, status=2)
    assert said.startswith(f"error: '{path}' cannot be read: Permission denied; put a good copy in its place ")
    assert said.count("\n") == 1


@pytest.mark.slow
def test_data_that_change_after_the_plan_was_made_fail_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fashion_cnn.running.runner import run
    from fashion_cnn.running.session import Options, Session

    lab = Lab(tmp_path / "lab", write_made_up(tmp_path / "data", train=64, test=64))
    for name in ("MLFLOW_TRACKING_URI", "FASHION_MNIST_DIR"):
        monkeypatch.setenv(name, lab.variables[name])
    with Session(Options()) as session:
        plan = session.plan([Study("ad_hoc", "?", {"dense": DENSE})], (), [0])
        one_byte_flipped(lab.data)
        outcome = run(session, plan)
    assert (outcome.made, outcome.failed) == (1, 1)
    (row,) = lab.runs().to_dict("records")
    assert (row["status"], row["stop_reason"]) == ("FAILED", "error")
    assert "is not the file of made up (seed 0)" in row["error"] and row["error"].startswith("DataError: ")
    assert "is not the file of made up (seed 0)" in capsys.readouterr().err
    assert not lab.trajectories()[0].epochs()


def test_a_good_copy_in_the_cache_survives_a_server_that_sends_bad_ones(tmp_path: Path) -> None:
    source, cache = write_made_up(tmp_path / "source", seed=1), tmp_path / "cache"
    expected = expected_of(source)
    shutil.copytree(source, cache)
    (cache / f"{TRAIN_LABELS}.gz").unlink()
    before = {path: (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) for path in cache.iterdir()}
    for path in source.glob("*.gz"):
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1] + b"\x09"))
    with (
        serving(source) as server,
        pytest.raises(DataError, match=r"sent is not the file of made up .*; try again later"),
    ):
        download.download(cache, server.url, expected)
    (cache / ".download.lock").unlink()
    assert {
        path: (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) for path in cache.iterdir()
    } == before
