"""Finding, downloading, verifying and loading: each fault is named, and nothing bad gets in.

Real files, real processes and a real server on the loopback interface, on made-up data.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import json
import os
import pty
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from fashion_cnn import data
from fashion_cnn.data import DataError, Expected
from tests.support.made_up import idx, write_made_up

ROOT = Path(__file__).resolve().parents[2]
TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"
NAMES = (TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS)


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Path]:
    """An empty home, no variable and no Debian package; what stands at each place is up to the test."""
    monkeypatch.delenv("FASHION_MNIST_DIR", raising=False)
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(data, "DEBIAN_FOLDER", tmp_path / "debian")
    return {"cache": tmp_path / "home/.keras/datasets/fashion-mnist", "debian": tmp_path / "debian"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_made_up(tmp_path / "made-up")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What a server sends."""
    return write_made_up(tmp_path / "source", seed=1)


def content(folder: Path, name: str) -> bytes:
    return gzip.decompress((folder / f"{name}.gz").read_bytes())


def put(folder: Path, name: str, content: bytes) -> None:
    (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))


def expected_of(folder: Path) -> Expected:
    label = json.loads((folder / "MADE_UP.json").read_text())
    return Expected(label["name"], True, label["train"], label["test"], label["files"])


def refusal(call: Callable[[], object]) -> str:
    """The message of the refusal, which is one line."""
    with pytest.raises(DataError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


def refused(folder: Path, name: str, *words: str) -> None:
    """Loading is refused with a message that names the file and the fault, and says what to do."""
    message = refusal(lambda: data.load(folder))
    for word in (str(folder / name), *words, "put a good copy in its place"):
        assert word in message, message


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Permissions do not bind root: give them up for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A made-up set in a folder that another user can reach, too (pytest's own folders are private)."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield write_made_up(Path(name) / "data")


# Loading what is good


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
    found = data.find()
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


# Refusing what is bad


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


# The label of a made-up set


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


# Finding


def test_the_places_are_searched_in_order(
    folder: Path, places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert data.find() is None
    write_made_up(places["debian"])
    assert data.find() == places["debian"]
    write_made_up(places["cache"])
    assert data.find() == places["cache"]
    keras_home = tmp_path / "keras"
    write_made_up(keras_home / "datasets/fashion-mnist")
    monkeypatch.setenv("KERAS_HOME", str(keras_home))
    assert data.find() == keras_home / "datasets/fashion-mnist"
    variable = write_made_up(tmp_path / "variable")
    monkeypatch.setenv("FASHION_MNIST_DIR", str(variable))
    assert data.find() == variable
    assert data.find(folder) == data.find(str(folder)) == folder


def test_an_empty_variable_counts_as_none(places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    write_made_up(places["debian"])
    monkeypatch.setenv("FASHION_MNIST_DIR", "")
    assert data.find() == places["debian"]


def test_a_cache_that_lacks_a_file_is_passed_over(places: dict[str, Path]) -> None:
    write_made_up(places["debian"])
    (write_made_up(places["cache"]) / f"{TRAIN_IMAGES}.gz").unlink()
    assert data.find() == places["debian"]


def test_a_given_folder_that_lacks_files_is_refused_and_they_are_named(
    folder: Path, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_made_up(places["cache"])
    for name in (TRAIN_IMAGES, TEST_LABELS):
        (folder / f"{name}.gz").unlink()
    lacks = f"{str(folder)!r}, lacks {TEST_LABELS}.gz, {TRAIN_IMAGES}.gz;"
    assert lacks in refusal(lambda: data.find(folder))
    assert lacks in refusal(lambda: data.load_dataset(folder))
    monkeypatch.setenv("FASHION_MNIST_DIR", str(folder))
    message = refusal(data.find)
    assert lacks in message
    assert "FASHION_MNIST_DIR" in message


def test_a_given_place_that_is_no_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Not a directory" in refusal(lambda: data.find(folder / "MADE_UP.json"))
    assert "No such file" in refusal(lambda: data.find(folder / "nowhere"))
    assert "null byte" in refusal(lambda: data.find("\0"))
    monkeypatch.setenv("FASHION_MNIST_DIR", str(folder / "nowhere"))
    assert "FASHION_MNIST_DIR" in refusal(data.find)


def test_a_given_folder_without_permission_is_refused(open_folder: Path) -> None:
    open_folder.chmod(0)
    with as_nobody():
        assert "Permission denied" in refusal(lambda: data.find(open_folder))
    open_folder.chmod(0o755)


def test_what_is_found_is_loaded_and_nothing_is_downloaded(folder: Path, places: dict[str, Path]) -> None:
    assert data.load_dataset(folder).sha256 == data.load(folder).sha256
    assert not places["cache"].exists()


# Downloading


class Server(ThreadingHTTPServer):
    """Sends the files of a folder and counts the requests."""

    def __init__(self, folder: Path) -> None:
        """Listen on any free port of the loopback interface."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.requests: Counter[str] = Counter()
        self.seconds_before_answer = 0.0
        self.stop_half_way = False
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Server

    def do_GET(self) -> None:
        """Send a file, in two halves."""
        file = self.path.removeprefix("/")
        self.server.requests[file] += 1
        time.sleep(self.server.seconds_before_answer)
        try:
            body = (self.server.folder / file).read_bytes()
        except OSError:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        half = len(body) // 2
        with contextlib.suppress(ConnectionError):  # a client that is killed
            self.wfile.write(body[:half])
            if self.server.stop_half_way:
                self.server.released.wait(30)
            self.wfile.write(body[half:])

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def server(source: Path) -> Iterator[Server]:
    with Server(source) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


DRIVER = """
import functools, json, sys
from pathlib import Path
from fashion_cnn import data

url, source = sys.argv[1:]
label = json.loads(Path(source, "MADE_UP.json").read_text())
expected = data.Expected(label["name"], True, label["train"], label["test"], label["files"])
data.DEBIAN_FOLDER = Path(source, "nowhere")
data.download = functools.partial(data.download, base_url=url, expected=expected)
print("ready", flush=True)
sys.stdin.readline()
print(data.load_dataset().sha256)
"""


@contextlib.contextmanager
def started(server: Server, stderr: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """A process that stands ready to get the data from the server, once it is sent a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, server.url, str(server.folder)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture
def cache(places: dict[str, Path], source: Path) -> Path:
    """A cold cache: made-up data is only accepted beside its label, so that alone is there."""
    places["cache"].mkdir(parents=True)
    shutil.copy(source / "MADE_UP.json", places["cache"])
    return places["cache"]


def once_each() -> dict[str, int]:
    return {f"{name}.gz": 1 for name in NAMES}


def test_eight_processes_on_a_cold_cache_make_one_download(server: Server, cache: Path) -> None:
    server.seconds_before_answer = 0.1
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(started(server)) for _ in range(8)]
        for process in processes:
            start(process)
        outputs = [process.communicate(timeout=120) for process in processes]
    assert server.requests == once_each()
    assert {out for out, _ in outputs} == {f"{data.load(server.folder).sha256}\n"}
    assert {err for _, err in outputs} == {""}  # no bar where there is no terminal
    for name in NAMES:
        assert (cache / f"{name}.gz").read_bytes() == (server.folder / f"{name}.gz").read_bytes()


def test_a_download_that_is_killed_leaves_nothing_half_and_the_next_one_succeeds(server: Server, cache: Path) -> None:
    server.stop_half_way = True
    part = cache / f"{TRAIN_IMAGES}.gz.part"  # the first of the label's files
    with started(server) as process:
        start(process)
        deadline = time.monotonic() + 30
        while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, 9)
        assert process.wait() == -9
    assert part.stat().st_size > 0
    assert not list(cache.glob("*.gz"))
    server.stop_half_way = False
    server.released.set()
    with started(server) as process:
        start(process)
        assert process.communicate(timeout=120) == (f"{data.load(server.folder).sha256}\n", "")
    assert not list(cache.glob("*.part"))


def test_a_bar_is_shown_on_a_terminal(server: Server, cache: Path) -> None:
    terminal, end = pty.openpty()
    with started(server, stderr=end) as process:
        os.close(end)
        start(process)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux tells that the other end is closed
            while chunk := os.read(terminal, 65536):
                shown += chunk
        os.close(terminal)
        assert process.wait() == 0
    assert TRAIN_IMAGES.encode() in shown


def test_only_what_is_missing_is_downloaded_and_a_good_copy_is_not_touched(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    good = target / f"{TRAIN_IMAGES}.gz"
    good.write_bytes(gzip.compress(content(server.folder, TRAIN_IMAGES), compresslevel=1))
    before = good.read_bytes(), good.stat().st_ino, good.stat().st_mtime_ns
    for _ in range(2):
        data.download(target, server.url, expected_of(server.folder))
        assert (good.read_bytes(), good.stat().st_ino, good.stat().st_mtime_ns) == before
    assert server.requests == {f"{name}.gz": 1 for name in NAMES if name != TRAIN_IMAGES}


def test_a_bad_copy_is_refused_and_not_overwritten(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    bad = target / f"{TRAIN_IMAGES}.gz"
    bad.write_bytes(b"mine")
    message = refusal(lambda: data.download(target, server.url, expected_of(server.folder)))
    assert str(bad) in message
    assert "delete it" in message
    assert bad.read_bytes() == b"mine"


def test_parts_of_a_killed_download_are_cleaned_up(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    for name in NAMES:
        (target / f"{name}.gz.part").write_bytes(b"half")
    data.download(target, server.url, expected_of(server.folder))
    assert not list(target.glob("*.part"))
    assert server.requests == once_each()


def spoil(source: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    path = source / f"{name}.gz"
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda raw: raw[:-20], "truncated"),
        (lambda raw: b"<html>Log in to this network</html>", "is not a gzip file"),
        (lambda raw: gzip.compress(gzip.decompress(raw)[:-784] + bytes(784)), "SHA-256"),
        (lambda raw: raw + bytes(1 << 20), "is longer than"),
    ],
    ids=["truncated", "another page", "other bytes", "too long"],
)
def test_a_bad_download_is_refused_and_leaves_no_file(
    server: Server, tmp_path: Path, change: Callable[[bytes], bytes], fault: str
) -> None:
    expected = expected_of(server.folder)
    spoil(server.folder, TRAIN_IMAGES, change)  # the first of the label's files
    message = refusal(lambda: data.download(tmp_path / "target", server.url, expected))
    assert f"{server.url}{TRAIN_IMAGES}.gz" in message
    assert fault in message
    assert not [path for path in (tmp_path / "target").iterdir() if path.suffix != ".lock"]


def test_a_file_that_the_server_lacks_is_named(server: Server, tmp_path: Path) -> None:
    expected = expected_of(server.folder)
    (server.folder / f"{TRAIN_LABELS}.gz").unlink()
    message = refusal(lambda: data.download(tmp_path / "target", server.url, expected))
    assert f"{server.url}{TRAIN_LABELS}.gz" in message
    assert "404" in message


def test_a_bad_address_is_refused(tmp_path: Path) -> None:
    for address in ("nonsense", "ftp2://x/", "http://127.0.0.1:port/", "http://[/"):
        assert address in refusal(functools.partial(data.download, tmp_path, address))


def test_a_target_that_cannot_be_written_to_is_refused(server: Server, open_folder: Path) -> None:
    expected = expected_of(server.folder)
    data.download(open_folder.parent / "other", server.url, expected)  # the modules that it needs are loaded
    open_folder.parent.chmod(0o555)
    with as_nobody():
        message = refusal(lambda: data.download(open_folder.parent / "new", server.url, expected))
    open_folder.parent.chmod(0o755)
    assert "Permission denied" in message
    (open_folder.parent / "file").touch()
    message = refusal(lambda: data.download(open_folder.parent / "file", server.url, expected))
    assert "must be a folder" in message


def three_ways(message: str) -> None:
    for way in (
        "FASHION_MNIST_DIR",
        "--data-dir",
        "apt-get install dataset-fashion-mnist",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        *NAMES,
    ):
        assert way in message


def test_nothing_found_and_no_download_wanted_gives_the_three_ways(places: dict[str, Path]) -> None:
    three_ways(refusal(lambda: data.load_dataset(download=False)))
    assert not places["cache"].exists()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where the data is downloaded from, nobody answers."""
    with socket.socket() as bound:  # and it does not listen
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        monkeypatch.setattr(data, "download", functools.partial(data.download, base_url=address))
        yield


@pytest.mark.usefixtures("offline")
def test_nothing_found_and_offline_gives_the_three_ways_and_the_reason(places: dict[str, Path]) -> None:
    message = refusal(data.load_dataset)
    three_ways(message)
    assert "Connection refused" in message
    assert not list(places["cache"].glob("*.gz*"))


# The command


def command(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fashion_cnn.data"],
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
    assert data.main() == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    three_ways(output.err)


@pytest.mark.usefixtures("offline")
def test_the_command_loads_what_it_finds(places: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    write_made_up(places["debian"])
    assert data.main() == 0
    assert str(places["debian"]) in capsys.readouterr().out


def test_loading_imports_neither_the_lock_nor_the_bar(folder: Path) -> None:
    code = f"from fashion_cnn import data; data.load({str(folder)!r}); import sys; print(sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "'fashion_cnn.data'" in modules
    assert not re.search("'(filelock|rich|tensorflow|keras)'", modules)
