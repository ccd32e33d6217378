"""What the tests of the data set share."""

from __future__ import annotations

import functools
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fashion_cnn import download
from tests.support.made_up import write_made_up


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Path]:
    """An empty home, no variable and no Debian package; what stands at each place is up to the test."""
    monkeypatch.delenv("FASHION_MNIST_DIR", raising=False)
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "DEBIAN_FOLDER", tmp_path / "debian")
    return {"cache": tmp_path / "home/.keras/datasets/fashion-mnist", "debian": tmp_path / "debian"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_made_up(tmp_path / "made-up")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What a server sends."""
    return write_made_up(tmp_path / "source", seed=1)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where the data is downloaded from, nobody answers."""
    with socket.socket() as bound:  # and it does not listen
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        monkeypatch.setattr(download, "download", functools.partial(download.download, base_url=address))
        yield
