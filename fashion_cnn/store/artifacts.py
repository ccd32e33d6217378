"""The artifacts of runs: sent as bytes by path, read as the store lists them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from fashion_cnn.store.address import StoreError
from fashion_cnn.store.connection import Connection
from fashion_cnn.store.errors import ABSENT

GRID = "images/"  # where MLflow keeps what its image grid shows


def send_artifacts(connection: Connection, run_id: str, artifacts: Mapping[str, bytes]) -> None:
    """Send artifacts of a run, by path; one that is there already is replaced."""
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), artifacts)
        connection.client.log_artifacts(run_id, folder)


def put_artifacts(connection: Connection, run_id: str, uri: str, artifacts: Mapping[str, bytes]) -> None:
    """As `send_artifacts`, of a new run whose artifacts go to `uri`.

    Where that is a folder of this machine they are written straight to it: MLflow's client would take longer for them
    than for all else of a run that is imported.
    """
    parts = urlsplit(uri)
    if parts.scheme == "file":
        _write(Path(url2pathname(parts.path)), artifacts)
    else:
        send_artifacts(connection, run_id, artifacts)


def read_artifacts(
    connection: Connection, uri: str, names: Sequence[str] | None, folder: str
) -> Iterator[tuple[str, bytes]]:
    """The named artifacts at an address that are there, or all of them but the image grid's.

    Args:
        connection: to the store.
        uri: of a run's artifacts, or of a model's.
        names: None for all.
        folder: to download to.

    Raises:
        StoreError: an artifact's path leads elsewhere.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    repository = get_artifact_repository(uri, tracking_uri=connection.address.uri)
    target = None if isinstance(repository, LocalArtifactRepository) else folder
    for name in listed(repository) if names is None else among(repository.list_artifacts, names):
        try:
            path = Path(str(repository.download_artifacts(name, target)))  # type: ignore[no-untyped-call]
            yield name, path.read_bytes()
        except (OSError, MlflowException) as error:
            # A server that does not answer must not look like a record that lacks something.
            if not isinstance(error, FileNotFoundError) and getattr(error, "error_code", "") not in ABSENT:
                raise


def among(listing: Callable[[str | None], Any], names: Sequence[str]) -> list[str]:
    """Those of some artifacts that are there: a server reports a missing one the same way as its own failure.

    Args:
        listing: what is in a folder; None is the uppermost.
        names: of the artifacts.
    """
    folders = {name.rpartition("/")[0] or None for name in names}
    there = {item.path for folder in folders for item in listing(folder)}
    return [name for name in names if name in there]


def listed(repository: Any, folder: str | None = None) -> Iterator[str]:
    """The paths of all artifacts of a repository but the image grid's.

    Raises:
        StoreError: a path that leads out of it; a server can send any.
    """
    for item in repository.list_artifacts(folder):
        inside = PurePosixPath(item.path).parts[:-1] == PurePosixPath(folder or "").parts
        if not inside or ".." in item.path.split("/") or not item.path.isprintable() or "\\" in item.path:
            raise StoreError(f"the store lists an artifact by the path {item.path[:80]!r}, which is none of its folder")
        if item.is_dir and f"{item.path}/" != GRID:
            yield from listed(repository, item.path)
        elif not item.is_dir:
            yield item.path


def _write(folder: Path, artifacts: Mapping[str, bytes]) -> None:
    for name, content in artifacts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
