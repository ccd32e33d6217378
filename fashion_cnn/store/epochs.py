"""The epochs of a trajectory: a line for each, the weights of every one and the full state of the last two."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from fashion_cnn.events import Identity
from fashion_cnn.state import Arrays, State
from fashion_cnn.store.files import write_bytes

KEPT_STATES = 2
EPOCH: Final = "[0-9]" * 6  # in the names of our files and folders; what else is there, a person put there


@dataclass(frozen=True)
class EpochLine:
    """What the folder holds of one epoch, besides its arrays."""

    epoch: int
    metrics: Mapping[str, float]
    weights_sha256: str
    state_sha256: str
    ended_at: int
    identity: Identity
    other_load: float | None = None


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


@dataclass(frozen=True)
class States:
    """The folders `states` and `weights` in a trajectory's folder."""

    folder: Path

    def save(self, state: State, trajectory_sha256: str, last: int) -> None:
        """Keep an epoch's weights, and its full state if it is one of the last two up to epoch `last`."""
        write_bytes(self.path("weights", state.epoch), _packed(state.weights))
        if state.epoch > last - KEPT_STATES:
            both = {f"weights/{name}": array for name, array in state.weights.items()}
            both |= {f"optimizer/{name}": array for name, array in state.optimizer.items()}
            both["trajectory"] = np.array(trajectory_sha256)
            write_bytes(self.path("states", state.epoch), _packed(both))

    def latest(self, lines: Sequence[EpochLine], trajectory_sha256: str, refused: list[str]) -> State | None:
        """The newest full state whose bits are those its line recorded; `refused` is told why a newer one is not."""
        for line in reversed(lines):
            path = self.path("states", line.epoch)
            if not path.exists():
                continue
            try:
                arrays = _read_arrays(path)
            except Exception as error:  # a damaged file makes NumPy raise anything
                reason = (str(error) or type(error).__name__).splitlines()[0]
                refused.append(f"the state after epoch {line.epoch} cannot be read ({reason})")
                continue
            state = State(line.epoch, _under(arrays, "weights/"), _under(arrays, "optimizer/"))
            if str(arrays.get("trajectory")) != trajectory_sha256:
                reason = "is of another trajectory (another config, seed, data set, code or environment)"
            elif state.sha256() != line.state_sha256:
                reason = "is not the one that was recorded (another SHA-256)"
            else:
                return state
            refused.append(f"the state after epoch {line.epoch} {reason}")
        return None

    def weights(self, epoch: int) -> Arrays | None:
        """The weights after an epoch, or None where they are not kept or their file is damaged."""
        try:
            return _read_arrays(self.path("weights", epoch))
        except Exception:
            return None

    def drop_older(self, last: int) -> None:
        """Drop the full states that nobody needs once epoch `last` is safe."""
        for path in (self.folder / "states").glob(f"{EPOCH}.npz"):
            if int(path.stem) <= last - KEPT_STATES:
                path.unlink()

    def all_but(self, last: int) -> list[Path]:
        """The files of all weights, and of all full states but that of epoch `last`."""
        files = (path for kind in ("weights", "states") for path in (self.folder / kind).glob(f"{EPOCH}.npz"))
        return [path for path in files if path != self.path("states", last)]

    def path(self, kind: str, epoch: int) -> Path:
        """The file of an epoch's `weights` or full state (`states`)."""
        return self.folder / kind / f"{epoch:06d}.npz"


def _packed(arrays: Arrays) -> bytes:
    # Names hold slashes, so the file keeps numbered arrays and one that lists the names in order.
    buffer = io.BytesIO()
    numbered = {f"{index:03d}": array for index, array in enumerate(arrays.values())}
    np.savez(buffer, names=np.array(list(arrays)), **numbered)  # type: ignore[arg-type]  # of numpy's stub
    return buffer.getvalue()


def _read_arrays(path: Path) -> Arrays:
    # From memory, because NumPy leaves a damaged file open.
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
        return {str(name): file[f"{index:03d}"] for index, name in enumerate(file["names"])}


def _under(arrays: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
