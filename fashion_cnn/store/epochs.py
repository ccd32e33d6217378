"""The epochs of a trajectory as lines of a file: appended once an epoch's state is safe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from fashion_cnn.events import Identity
from fashion_cnn.store.files import append_line


@dataclass(frozen=True)
class EpochLine:
    """What the folder holds of one epoch, besides its arrays."""

    epoch: int
    metrics: Mapping[str, float]
    weights_sha256: str
    state_sha256: str
    ended_at: int
    identity: Identity


def read_lines(path: Path) -> tuple[list[EpochLine], int]:
    """The epochs in a file, from 1 without gaps, and how many bytes they take; what follows was cut off by a kill."""
    lines: list[EpochLine] = []
    whole = 0
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return lines, whole
    for line in text.splitlines(keepends=True):
        try:
            values = json.loads(line)
            entry = EpochLine(identity=Identity(**values.pop("identity")), **values)
        except (ValueError, TypeError, KeyError, AttributeError):
            break
        if not line.endswith(b"\n") or entry.epoch != len(lines) + 1:
            break
        lines.append(entry)
        whole += len(line)
    return lines, whole


def write_line(path: Path, line: EpochLine, after: int) -> None:
    """Append an epoch behind the first bytes of a file.

    Raises:
        Unwritable: it could not be written.
    """
    append_line(path, json.dumps(asdict(line)), after)
