"""What git says of the repository: the commit, what differs from it, and the modules of another commit."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
import zipfile
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fashion_cnn.sources import PACKAGE

REPOSITORY = PACKAGE.parent
# Whatever the user's own settings, a diff that `git apply` takes, and that applied to the commit gives the files.
DIFF = ("diff-index", "--patch", "--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=none")
APPLY = ("-c", "core.autocrlf=false", "apply", "--whitespace=nowarn", "--no-ignore-whitespace")

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Checkout:
    """The repository's state: which commit, and what differs from it."""

    commit: str
    """Hex, or `unknown` outside a git checkout of this very folder, and where git does not tell."""
    dirty: bool
    """Whether the package, the scripts or the lock differ from the commit."""
    diff: str
    """Of tracked files among these; empty where clean. Bytes that are no UTF-8 are kept as surrogates."""
    remote: str | None = None
    """Where others find it, without credentials; None where it came from nowhere, or from a folder."""

    @property
    def lacks(self) -> str | None:
        """Why a record that names it is no evidence, and what to do; None where it can be."""
        if self.commit == UNKNOWN:
            return "runs made here count in no claim, because git tells no commit: work in a clone, with git installed"
        if self.dirty and not self.diff:
            return (
                "runs made now count in no claim, because of files in fashion_cnn or experiments that git does not "
                "know: commit them first"
            )
        return None


def checkout(repository: Path = REPOSITORY) -> Checkout:
    """What git says of the repository; untracked files count as dirty but are not shown.

    Modules count that git is told to ignore as well, and changes that its index is told not to look for.
    """
    paths = ["fashion_cnn", "experiments", "requirements.lock", ":(exclude)experiments/results"]
    modules = ["fashion_cnn/*.py", "experiments/*.py"]
    with suppress(OSError), tempfile.TemporaryDirectory(prefix="fashion-cnn-") as aside:
        index = Path(aside, "index")  # a fresh one, in which no file is marked as unchanged
        commit = _git(repository, "rev-parse", "--verify", "HEAD")
        if commit and _git(repository, "read-tree", "HEAD", index=index) is not None:
            diff = _git(repository, *DIFF, "HEAD", "--", *paths, index=index)
            others = _git(repository, "ls-files", "--others", "--exclude-standard", "--", *paths, index=index)
            ignored = _git(repository, "ls-files", "--others", "--", *modules, index=index)
            if diff is not None and others is not None and ignored is not None:
                return Checkout(commit.strip(), bool(diff or others or ignored), diff, _remote(repository))
    return Checkout(UNKNOWN, dirty=False, diff="")


def ever_had(path: Path, content: bytes, repository: Path = REPOSITORY) -> bool:
    """Whether a file of the repository has or had this content, now or in any commit that is here."""
    if path.is_file() and path.read_bytes() == content:
        return True
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    changes = ("log", "--all", "--format=", "--raw", "--no-abbrev", "--no-renames", "-m", "--", str(path))
    return blob in (_git(repository, *changes) or "").split()


def _remote(repository: Path) -> str | None:
    """The address of `origin`, or else of the first remote; as it is written, for rewriting rules may hold tokens."""
    names = (_git(repository, "remote") or "").split()
    name = "origin" if "origin" in names else next(iter(names), None)
    address = name and _git(repository, "config", "--get", f"remote.{name}.url")
    return without_credentials(address.strip()) if address else None


def without_credentials(address: str) -> str | None:
    """A repository's address without user, password, query and fragment.

    `https://user:token@host/path?key=…` and git's short form `user@host:path` are both understood. None for a
    folder's address, and for one whose parts cannot be told for sure.
    """
    url = re.fullmatch(r"(?!file:)([a-z][a-z0-9+.-]*://)(?:[^/?#]*@)?([^?#@]*)(?:[?#][^@]*)?", address)
    if url:
        return url[1] + url[2]
    short = re.fullmatch(r"(?:[^/\\]*@)?([^@:/\\]{2,}:[^@:/][^@:]*)", address)
    return short[1] if short else None


def export(commit: str, diff: str, folder: Path, modules: Collection[str], repository: Path = REPOSITORY) -> bool:
    """Write the package as a commit and a diff on top of it have it, into `folder/fashion_cnn`; nothing else changes.

    Args:
        commit: hex, whole.
        diff: as `checkout` gives it.
        folder: an empty one.
        modules: the files of the package, by name, in which the diff counts.
        repository: that has the commit.

    Returns:
        Whether the repository has the commit and the diff fits it.
    """
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        return False
    # A zip: every Python keeps its members within the folder. Of a tar that takes an argument that 3.11.2 lacks.
    archive = folder / "archive.zip"
    if _git(repository, "-c", "core.autocrlf=false", "archive", f"--output={archive}", commit, "fashion_cnn") is None:
        return False
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    archive.unlink()
    if not diff:
        return True
    patch = folder / "code.diff"
    patch.write_bytes(diff.encode(errors="surrogateescape"))
    counting = [f"--include=fashion_cnn/{name}" for name in sorted(modules)]
    return _git(folder, *APPLY, *counting, str(patch)) is not None


def _git(folder: Path, *arguments: str, index: Path | None = None) -> str | None:
    """What git prints, asked of this folder alone, or None where it fails.

    Neither a repository around the folder is asked nor one that the variables of a hook name, and whoever made the
    checkout, which git would look at only where it has to find it.
    """
    place = [f"--git-dir={folder / '.git'}", f"--work-tree={folder}"]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    variables |= {"GIT_NO_REPLACE_OBJECTS": "1", **({"GIT_INDEX_FILE": str(index)} if index else {})}
    command = ["git", "-C", str(folder), *place, "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=30, check=True, env=variables)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="surrogateescape")
