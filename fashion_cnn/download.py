"""Find Fashion-MNIST on this machine, else download it.

`python -m fashion_cnn.download` finds or downloads the data, verifies it, and prints its folder and SHA-256.
"""

from __future__ import annotations

import os
import sys
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.error import HTTPError

from fashion_cnn.data import (
    FASHION_MNIST,
    DataError,
    Dataset,
    Expected,
    gzip_limit,
    load,
    load_file,
    read_file,
    reason_of,
    verified,
)

if TYPE_CHECKING:
    from rich.progress import Progress

BASE_URL: Final = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"  # where Keras gets it
DEBIAN_FOLDER: Final = Path("/usr/share/datasets/fashion-mnist")  # the package dataset-fashion-mnist
_CHUNK = 64 * 1024
_TIMEOUT_SECONDS = 30

_FILES = tuple(f"{name}.gz" for name in FASHION_MNIST.file_sha256)
_THREE_WAYS = (
    "there are three ways to get it: set FASHION_MNIST_DIR or --data-dir to a folder that holds "
    f"{', '.join(_FILES)}; or run `apt-get install dataset-fashion-mnist` (Debian, Ubuntu); "
    f"or connect to the internet and let it download from {BASE_URL}"
)


def find(data_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """Find the folder that holds the four files; nothing is read yet.

    The first of: `data_dir`; the variable FASHION_MNIST_DIR; the Keras cache (`datasets/fashion-mnist` in
    KERAS_HOME or `~/.keras`); the Debian package's folder. The last two count only with all four files.

    Args:
        data_dir: A folder that is used whatever else there is.

    Returns:
        The folder, or None if there is none.

    Raises:
        DataError: The folder given by `data_dir` or FASHION_MNIST_DIR is none, or lacks a file.
    """
    if data_dir is not None:
        return _given(Path(os.path.expanduser(data_dir)), "the data folder")
    if variable := os.environ.get("FASHION_MNIST_DIR"):
        return _given(Path(os.path.expanduser(variable)), "the folder of FASHION_MNIST_DIR")
    for folder in (_keras_cache(), DEBIAN_FOLDER):
        if all(os.path.exists(folder / file) for file in _FILES):
            return folder
    return None


def load_dataset(data_dir: str | os.PathLike[str] | None = None, *, download: bool = True) -> Dataset:
    """Find the data, else download it into the Keras cache; then verify and load it.

    Args:
        data_dir: A folder that is used whatever else there is (see `find`).
        download: Whether to download what is not found.

    Returns:
        The whole set, as `load` gives it.

    Raises:
        DataError: The data was not found (then the message gives the three ways to get it) or not good.
    """
    return load(_find_or_download(data_dir, may_download=download))


def download(folder: Path, base_url: str = BASE_URL, expected: Expected = FASHION_MNIST) -> None:
    """Download the files that a folder lacks.

    Any number of processes may call this at once: one downloads, the others wait for it. A file appears under
    its name only when it is whole and verified. One that is there is never replaced, be it good or bad.

    Args:
        folder: Where to put the files; made if it is not there.
        base_url: The http(s) address, up to the file names.
        expected: What the files must be.

    Raises:
        DataError: A file could not be downloaded, written or verified, or one that is there is bad.
    """
    from filelock import FileLock

    files = {name: folder / f"{name}.gz" for name in expected.file_sha256}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".download.lock"), _progress() as progress:
            for path in files.values():
                _part(path).unlink(missing_ok=True)  # of a download that was killed
            for name, path in files.items():
                if os.path.lexists(path):
                    load_file(path, name, expected)
                else:
                    _download_file(base_url + path.name, path, name, expected, progress)
    except OSError as error:
        raise DataError(
            f"{str(folder)!r} cannot take the download: {reason_of(error)}; it must be a folder to write to"
        ) from error


def _given(folder: Path, called: str) -> Path:
    """The folder that the user named, if it has the four files."""
    remedy = f"give a folder that holds {', '.join(_FILES)}"
    try:
        missing = sorted(set(_FILES) - set(os.listdir(folder)))
    except (OSError, ValueError) as error:
        raise DataError(f"{called}, {str(folder)!r}, cannot be read: {reason_of(error)}; {remedy}") from error
    if missing:
        raise DataError(f"{called}, {str(folder)!r}, lacks {', '.join(missing)}; {remedy}")
    return folder


def _keras_cache() -> Path:
    home = os.path.expanduser(os.environ.get("KERAS_HOME") or "~/.keras")
    # Of a user without a home it would be in a folder `~` of the current one.
    return Path(os.devnull if home.startswith("~") else home, "datasets", "fashion-mnist")


def _find_or_download(data_dir: str | os.PathLike[str] | None, *, may_download: bool) -> Path:
    folder = find(data_dir)
    if folder is not None:
        return folder
    if not may_download:
        raise DataError(f"Fashion-MNIST was not found; {_THREE_WAYS}")
    folder = _keras_cache()
    try:
        download(folder)
    except DataError as error:
        raise DataError(f"Fashion-MNIST was not found nor downloaded ({error}); {_THREE_WAYS}") from error
    return folder


def _download_file(url: str, path: Path, name: str, expected: Expected, progress: Progress) -> None:
    part = _part(path)
    limit = gzip_limit(expected.size(name))
    try:
        _save(url, part, limit, progress)
        verified(read_file(part, limit), name, expected)
        os.replace(part, path)
    except DataError as error:
        raise DataError(f"what {url} sent {error}; try again later") from error
    except (OSError, ValueError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it is the response, too, and would keep the connection
        raise DataError(f"{url} cannot be saved: {reason_of(error)}; try again later") from error
    finally:
        part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    """Where a file is downloaded to. One name is enough: only the holder of the lock writes."""
    return path.with_name(f"{path.name}.part")


def _save(url: str, part: Path, limit: int, progress: Progress) -> None:
    """Write what an address sends, at most `limit` bytes, to a new file and through to the disk."""
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response, open(part, "xb") as file:
        task = progress.add_task(part.stem, total=response.length)
        received = 0
        while chunk := response.read(_CHUNK):
            received += len(chunk)
            if received > limit:
                raise DataError(f"is longer than the {limit} bytes it may have")
            file.write(chunk)
            progress.advance(task, len(chunk))
        file.flush()
        os.fsync(file.fileno())


def _progress() -> Progress:
    """A bar per file on standard error, shown if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )


def main() -> int:
    """Find or download the data, verify it, and print its folder and SHA-256.

    Returns:
        The exit status: 0, or 2 with one line on standard error.
    """
    try:
        folder = _find_or_download(None, may_download=True)
        dataset = load(folder)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"folder  {folder}\nsha256  {dataset.sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
