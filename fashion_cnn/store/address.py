"""Where a tracking store and what belongs to it are."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


class StoreError(RuntimeError):
    """The tracking store cannot be used: one line that says why and what to do."""


@dataclass(frozen=True)
class Address:
    """Where a tracking store, its artifacts and its trajectories are."""

    uri: str
    artifacts: str | None
    """Where a new experiment's artifacts go; None leaves it to the server."""
    trajectories: Path

    @property
    def name(self) -> str:
        """The address without credentials."""
        parts = urlsplit(self.uri)
        if not parts.netloc:
            return self.uri
        # A database's query may hold a password.
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))

    @property
    def is_server(self) -> bool:
        """Whether a tracking server answers there."""
        return self.uri.startswith("http")

    @property
    def file(self) -> Path | None:
        """The database file of a sqlite store, None of any other; a StoreError where MLflow would take another."""
        return _sqlite_path(self.uri) if self.uri.startswith("sqlite:") else None

    def without_password(self, text: str) -> str:
        """A text in which no password of this address or of the environment is left."""
        for secret in (urlsplit(self.uri).password, os.environ.get("MLFLOW_TRACKING_PASSWORD")):
            text = text.replace(secret, "***") if secret else text
        return text


def resolve(uri: str | None, repository: Path) -> Address:
    """The store of an address, of MLFLOW_TRACKING_URI, or the repository's own `mlruns/mlflow.db`.

    The trajectories of a sqlite store lie beside its file, those of any other in the folder that
    FASHION_CNN_TRAJECTORIES names, else in the repository's `mlruns`. A StoreError says why an address is none.
    """
    home = repository / "mlruns"
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"
    scheme = uri.partition(":")[0].partition("+")[0].lower()
    if scheme == "sqlite":
        path = _sqlite_path(uri)
        return Address(f"sqlite:///{path}", (path.parent / "artifacts").as_uri(), path.parent / "trajectories")
    trajectories = _expanded(os.environ.get("FASHION_CNN_TRAJECTORIES") or str(home / "trajectories"))
    if scheme in ("http", "https"):
        return Address(uri.rstrip("/"), None, trajectories)
    if scheme in DATABASES:
        return Address(uri, (home / "artifacts").as_uri(), trajectories)
    shown = re.sub("//.*@", "//", uri).partition("?")[0]  # it may hold a password all the same
    raise StoreError(
        f"{shown!r} is no tracking store; allowed: sqlite:///PATH, postgresql://…, or http(s)://… of a tracking server "
        "(MLflow gave up its old folder of files)"
    )


def _expanded(text: str) -> Path:
    """An absolute path: no shell expands what stands within an address, or in a variable that a file sets."""
    path = Path(text)
    if text.startswith("~"):
        try:
            path = path.expanduser()
        except RuntimeError:
            raise StoreError(f"{text!r} lies in the home of a user who has none; write the whole path") from None
    for folder in path.absolute().parents:
        if re.match(r"\$\{?[A-Za-z_]", folder.name) and not os.path.exists(folder):
            raise StoreError(f"{text!r} has a variable that nothing expands here, {folder.name}; write the whole path")
    return path.absolute()


def _sqlite_path(uri: str) -> Path:
    path = _expanded(uri.partition(":///")[2])
    if not uri.partition(":///")[2] or os.path.isdir(path):
        raise StoreError(f"{uri!r} names no file; write sqlite:///PATH/mlflow.db")
    if odd := re.search(r"\?|%[0-9A-Fa-f]{2}|[^\x20-\x7e\x80-\U0010ffff]", str(path)):
        # MLflow would open another file: it takes the path for an address, with a query and escapes.
        raise StoreError(
            f"{str(path)!r} cannot be a store, because of the {odd[0]!r} in it; name another with --tracking-uri"
        )
    return path
