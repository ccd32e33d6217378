"""The code that a record was made with: taken from its commit into a folder, and run in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from fashion_cnn import entry
from fashion_cnn.checkout import export
from fashion_cnn.config import RunConfig, hash_of
from fashion_cnn.environment import worker_variables
from fashion_cnn.events import EpochDone, Event, Failed, Identity, Job
from fashion_cnn.evidence.record import Record
from fashion_cnn.running.plan import expected_epochs
from fashion_cnn.sources import NUMBER_MODULES, canonical_sha256, files_sha256
from fashion_cnn.state import State

_NAMES: Final = {f"{name}.py" for name in NUMBER_MODULES}


def recorded_package(record: Record, folder: Path) -> Path | None:
    """The folder of the package `fashion_cnn` as a record's commit and diff have it, or None.

    The commit proves nothing by itself: the modules in it must be those whose hashes the record holds. Of the diff
    nothing else counts, and nothing at all where the checkout is said to have been clean: a record comes from anywhere.

    Args:
        record: with `code_sha256` and `code_files` in its `trajectory.json`.
        folder: to write into; what another record of the same commit and diff left there is used again.
    """
    trajectory = record.trajectory()
    parts, whole = trajectory.get("code_files"), trajectory.get("code_sha256")
    if not isinstance(parts, dict) or not parts or files_sha256(parts) != whole or not parts.keys() <= _NAMES:
        return None
    commit, diff = str(record.row.get("git_commit")), record.artifacts.get("code.diff", b"")
    patch = diff.decode(errors="surrogateescape") if record.row.get("git_dirty") == "true" else ""
    place = folder / f"code-{hash_of([whole, commit, hashlib.sha256(diff).hexdigest()])[:32]}"
    if not place.exists():
        place.mkdir(parents=True)
        if not export(commit, patch, place, parts):
            shutil.rmtree(place)
            return None
    return place if _has_modules(place / "fashion_cnn", parts) else None


def _has_modules(package: Path, parts: Mapping[str, Any]) -> bool:
    """Whether a package's modules have these hashes, of their bytes (as at first) or of what they say."""
    try:
        contents = {name: (package / name).read_bytes() for name in parts}
        plain = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        return parts in (plain, {name: canonical_sha256(content) for name, content in contents.items()})
    except (OSError, ValueError, SyntaxError):
        return False


@dataclass
class _Epochs:
    """What a process of `entry` prints, read as a worker's connection is."""

    process: subprocess.Popen[bytes]
    job: Job

    def fileno(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def recv(self) -> Event:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise EOFError
        try:
            values = json.loads(line)
            state = State(values["epoch"], {}, {})
            return EpochDone(state, values.pop("weights_sha256"), values, 0, Identity("", "", ""))
        except (ValueError, KeyError, TypeError):
            return Failed(f"the recorded code printed {line[:80]!r}")

    def close(self) -> None:
        assert self.process.stdout is not None
        self.process.stdout.close()


def launch(package: Path, job: Job, printed: IO[bytes]) -> tuple[subprocess.Popen[bytes], _Epochs]:
    """Start a job with the recorded code; see `LocalExecutor`.

    Args:
        package: of `recorded_package`.
        job: without a state to resume from.
        printed: takes what the process prints besides.
    """
    # Our own entry, which needs no more than the first commits have: theirs could print what it likes.
    process = subprocess.Popen(
        [sys.executable, "-P", str(Path(entry.__file__))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=printed,
        bufsize=0,  # so that a line that was not read yet is seen as waiting
        env={**worker_variables(os.environ, job.device, job.arithmetic), "PYTHONPATH": str(package)},
        start_new_session=True,
    )
    epochs = max(expected_epochs(RunConfig.from_mapping(rule)) for rule in job.rules)
    order = {
        "settings": dict(job.settings),
        "seed": job.seed,
        "data_dir": job.data_dir,
        "images": job.images,
        "epochs": epochs,
        "device": job.device,
    }
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as stream:  # it has ended already: its events tell how
        stream.write(json.dumps(order).encode())
    return process, _Epochs(process, job)
