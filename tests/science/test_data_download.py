"""The download: once for all processes, whole or not at all, and nothing bad gets in.

Real files, real processes and a real server on the loopback interface, on made-up data.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import os
import pty
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fashion_cnn import data, download
from tests.support.data_files import (
    NAMES,
    ROOT,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    Server,
    as_nobody,
    content,
    expected_of,
    refusal,
    serving,
)

pytestmark = [pytest.mark.usefixtures("places"), pytest.mark.fault("data")]


@pytest.fixture
def server(source: Path) -> Iterator[Server]:
    with serving(source) as server:
        yield server


DRIVER = """
import functools, json, sys
from pathlib import Path
from fashion_cnn import data, download

url, source = sys.argv[1:]
label = json.loads(Path(source, "MADE_UP.json").read_text())
expected = data.Expected(label["name"], True, label["train"], label["test"], label["files"])
download.DEBIAN_FOLDER = Path(source, "nowhere")
download.download = functools.partial(download.download, base_url=url, expected=expected)
print("ready", flush=True)
sys.stdin.readline()
print(download.load_dataset().sha256)
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
        outputs = [process.communicate(timeout=600) for process in processes]
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
        assert process.communicate(timeout=600) == (f"{data.load(server.folder).sha256}\n", "")
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
        download.download(target, server.url, expected_of(server.folder))
        assert (good.read_bytes(), good.stat().st_ino, good.stat().st_mtime_ns) == before
    assert server.requests == {f"{name}.gz": 1 for name in NAMES if name != TRAIN_IMAGES}


def test_a_bad_copy_is_refused_and_not_overwritten(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    bad = target / f"{TRAIN_IMAGES}.gz"
    bad.write_bytes(b"mine")
    message = refusal(lambda: download.download(target, server.url, expected_of(server.folder)))
    assert str(bad) in message
    assert "delete it" in message
    assert bad.read_bytes() == b"mine"


def test_parts_of_a_killed_download_are_cleaned_up(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    for name in NAMES:
        (target / f"{name}.gz.part").write_bytes(b"half")
    download.download(target, server.url, expected_of(server.folder))
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
    message = refusal(lambda: download.download(tmp_path / "target", server.url, expected))
    assert f"{server.url}{TRAIN_IMAGES}.gz" in message
    assert fault in message
    assert not [path for path in (tmp_path / "target").iterdir() if path.suffix != ".lock"]


def test_a_file_that_the_server_lacks_is_named(server: Server, tmp_path: Path) -> None:
    expected = expected_of(server.folder)
    (server.folder / f"{TRAIN_LABELS}.gz").unlink()
    message = refusal(lambda: download.download(tmp_path / "target", server.url, expected))
    assert f"{server.url}{TRAIN_LABELS}.gz" in message
    assert "404" in message


def test_a_bad_address_is_refused(tmp_path: Path) -> None:
    for address in ("nonsense", "ftp2://x/", "http://127.0.0.1:port/", "http://[/"):
        assert address in refusal(functools.partial(download.download, tmp_path, address))


def test_a_target_that_cannot_be_written_to_is_refused(server: Server, open_folder: Path) -> None:
    expected = expected_of(server.folder)
    download.download(open_folder.parent / "other", server.url, expected)  # the modules that it needs are loaded
    open_folder.parent.chmod(0o555)
    with as_nobody():
        message = refusal(lambda: download.download(open_folder.parent / "new", server.url, expected))
    open_folder.parent.chmod(0o755)
    assert "Permission denied" in message
    (open_folder.parent / "file").touch()
    message = refusal(lambda: download.download(open_folder.parent / "file", server.url, expected))
    assert "must be a folder" in message
