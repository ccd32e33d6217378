"""The files of a data set, good and spoilt, a server that sends them, and what a refusal says."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fashion_cnn import data
from fashion_cnn.data import DataError, Expected

ROOT = Path(__file__).resolve().parents[2]
TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"
NAMES = (TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS)


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


def three_ways(message: str) -> None:
    for way in (
        "FASHION_MNIST_DIR",
        "--data-dir",
        "apt-get install dataset-fashion-mnist",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        *NAMES,
    ):
        assert way in message


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


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server that sends the files of a folder until the block ends."""
    with Server(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()
