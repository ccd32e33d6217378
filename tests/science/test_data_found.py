"""Where the data set is looked for, in which order, and what is said where there is none."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fashion_cnn import data, download
from tests.support.data_files import (
    ROOT,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    as_nobody,
    refusal,
    three_ways,
)
from tests.support.made_up import write_made_up

pytestmark = pytest.mark.usefixtures("places")


def test_the_places_are_searched_in_order(
    folder: Path, places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert download.find() is None
    write_made_up(places["debian"])
    assert download.find() == places["debian"]
    write_made_up(places["cache"])
    assert download.find() == places["cache"]
    keras_home = tmp_path / "keras"
    write_made_up(keras_home / "datasets/fashion-mnist")
    monkeypatch.setenv("KERAS_HOME", str(keras_home))
    assert download.find() == keras_home / "datasets/fashion-mnist"
    variable = write_made_up(tmp_path / "variable")
    monkeypatch.setenv("FASHION_MNIST_DIR", str(variable))
    assert download.find() == variable
    assert download.find(folder) == download.find(str(folder)) == folder


def test_an_empty_variable_counts_as_none(places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    write_made_up(places["debian"])
    monkeypatch.setenv("FASHION_MNIST_DIR", "")
    assert download.find() == places["debian"]


def test_a_cache_that_lacks_a_file_is_passed_over(places: dict[str, Path]) -> None:
    write_made_up(places["debian"])
    (write_made_up(places["cache"]) / f"{TRAIN_IMAGES}.gz").unlink()
    assert download.find() == places["debian"]


def test_a_given_folder_that_lacks_files_is_refused_and_they_are_named(
    folder: Path, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_made_up(places["cache"])
    for name in (TRAIN_IMAGES, TEST_LABELS):
        (folder / f"{name}.gz").unlink()
    lacks = f"{str(folder)!r}, lacks {TEST_LABELS}.gz, {TRAIN_IMAGES}.gz;"
    assert lacks in refusal(lambda: download.find(folder))
    assert lacks in refusal(lambda: download.load_dataset(folder))
    monkeypatch.setenv("FASHION_MNIST_DIR", str(folder))
    message = refusal(download.find)
    assert lacks in message
    assert "FASHION_MNIST_DIR" in message


def test_a_given_place_that_is_no_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Not a directory" in refusal(lambda: download.find(folder / "MADE_UP.json"))
    assert "No such file" in refusal(lambda: download.find(folder / "nowhere"))
    null = "null character" if sys.version_info >= (3, 13) else "null byte"
    assert null in refusal(lambda: download.find("\0"))
    monkeypatch.setenv("FASHION_MNIST_DIR", str(folder / "nowhere"))
    assert "FASHION_MNIST_DIR" in refusal(download.find)


def test_a_given_folder_without_permission_is_refused(open_folder: Path) -> None:
    open_folder.chmod(0)
    with as_nobody():
        assert "Permission denied" in refusal(lambda: download.find(open_folder))
    open_folder.chmod(0o755)


def test_what_is_found_is_loaded_and_nothing_is_downloaded(folder: Path, places: dict[str, Path]) -> None:
    assert download.load_dataset(folder).sha256 == data.load(folder).sha256
    assert not places["cache"].exists()


def test_nothing_found_and_no_download_wanted_gives_the_three_ways(places: dict[str, Path]) -> None:
    three_ways(refusal(lambda: download.load_dataset(download=False)))
    assert not places["cache"].exists()


@pytest.mark.usefixtures("offline")
def test_nothing_found_and_offline_gives_the_three_ways_and_the_reason(places: dict[str, Path]) -> None:
    message = refusal(download.load_dataset)
    three_ways(message)
    assert "Connection refused" in message
    assert not list(places["cache"].glob("*.gz*"))


def command(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fashion_cnn.download"],
        cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_command_prints_the_folder_and_the_hash(folder: Path) -> None:
    done = command(FASHION_MNIST_DIR=str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"folder  {folder}\nsha256  {data.load(folder).sha256}\n"


def test_the_command_refuses_in_one_line_with_status_2(folder: Path) -> None:
    (folder / f"{TRAIN_LABELS}.gz").write_bytes(b"")
    done = command(FASHION_MNIST_DIR=str(folder))
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: .*train-labels-idx1-ubyte.*\n", done.stderr)


@pytest.mark.usefixtures("offline")
def test_the_command_refuses_offline_with_the_three_ways(capsys: pytest.CaptureFixture[str]) -> None:
    assert download.main() == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    three_ways(output.err)


@pytest.mark.usefixtures("offline")
def test_the_command_loads_what_it_finds(places: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    write_made_up(places["debian"])
    assert download.main() == 0
    assert str(places["debian"]) in capsys.readouterr().out


def test_loading_imports_neither_the_lock_nor_the_bar(folder: Path) -> None:
    code = f"from fashion_cnn import data; data.load({str(folder)!r}); import sys; print(sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "'fashion_cnn.data'" in modules
    assert not re.search("'(filelock|rich|tensorflow|keras)'", modules)
