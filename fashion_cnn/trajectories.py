"""The folder of a trajectory: append, read, lock, clean.

    <trajectories>/<first 16 digits of trajectory_sha256>[.alone-<record>]/
        header.json             settings, seed, hashes, environment: written once
        started.json            what the latest worker said: node, parameters, summary
        epochs.jsonl            a line an epoch, appended after its state is safe
        states/000010.npz       the full state: the last two epochs
        weights/000010.npz      the weights of every epoch
        sheets/000010/          feature maps, a PNG a layer
        cuts/000010/            what a run that ends here leaves behind; cut.json is written last
        runs/<record>.json      a run: its config, tags and fate; the recorder writes it
        runs/<record>.sent.json what of it the tracking store has; the sender writes it
        lock                    held by the one process that may extend the trajectory

A line, an array file or a JSON file is whole or absent after a kill: files are written aside, synced and renamed,
and a line that is cut off is dropped. A trajectory trained alone (`--no-reuse`) has a folder to itself.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fashion_cnn.config import RunConfig, trajectory_sha256
from fashion_cnn.events import Arrays, CutDone, Drawn, EpochDone, Identity, Started, State, arrays_sha256

KEPT_STATES = 2
RunStatus = Literal["running", "finished", "failed", "killed"]


class TrajectoryError(RuntimeError):
    """A trajectory's folder cannot be used as asked: one line that says why."""


@dataclass(frozen=True)
class EpochLine:
    """What the folder holds of one epoch, besides its arrays."""

    epoch: int
    metrics: Mapping[str, float]
    weights_sha256: str
    state_sha256: str
    ended_at: int
    identity: Identity


@dataclass(frozen=True)
class CutFiles:
    """What a cut left behind."""

    epoch: int
    weights_sha256: str
    evaluate_seconds: float
    peak_memory_mib: float
    files: Mapping[str, Path]
    drawing_error: str


@dataclass(frozen=True)
class RunRecord:
    """A run as its trajectory's folder holds it."""

    record: str
    """Names the run for ever, in the folder and as a tag in the store."""
    store: str
    """The tracking store it is for."""
    study: str
    question: str
    arm: str
    seed: int
    config: Mapping[str, Any]
    smoke: bool
    reuse: bool
    start_time: int
    """Milliseconds since 1970."""
    command: str
    """The command that reruns it."""
    tags: Mapping[str, str] = field(default_factory=dict)
    code_diff: str = ""
    packages: tuple[str, ...] = ()
    status: RunStatus = "running"
    stop_reason: str | None = None
    cut: int | None = None
    """The epoch it ended at, once it did."""
    reused_epochs: int = 0
    error: str | None = None

    def run_config(self) -> RunConfig:
        """Its config."""
        return RunConfig.from_mapping(self.config)


@dataclass(frozen=True)
class Header:
    """What never changes about a trajectory."""

    settings: Mapping[str, Any]
    seed: int
    identity: Identity
    environment: Mapping[str, Any]
    images: tuple[int, int] | None
    trajectory_sha256: str


class Trajectory:
    """One folder. Whoever extends it or its runs holds `lock`; anybody may read."""

    def __init__(self, folder: Path) -> None:
        """Look at a folder, which need not be there yet."""
        self.folder = folder
        self._lock: Any = None

    def create(self, header: Header) -> None:
        """Make the folder and its header, unless they are there.

        Raises:
            TrajectoryError: a folder of this name holds another trajectory.
        """
        for name in ("states", "weights", "cuts", "runs"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        path = self.folder / "header.json"
        if not path.exists():
            write_json(path, asdict(header))
        if self.header.trajectory_sha256 != header.trajectory_sha256:
            raise TrajectoryError(f"{self.folder.name} holds another trajectory; move it away and start again")

    @property
    def header(self) -> Header:
        """What never changes about it.

        Raises:
            TrajectoryError: the header is missing or not one.
        """
        values = read_json(self.folder / "header.json")
        try:
            images = values.pop("images")
            identity = Identity(**values.pop("identity"))
            return Header(identity=identity, images=None if images is None else tuple(images), **values)
        except (KeyError, TypeError) as error:
            raise TrajectoryError(f"{self.folder.name}/header.json is not a trajectory's header: {error}") from None

    # -- the lock ------------------------------------------------------------------------------------------

    def acquire(self) -> bool:
        """Become the one that extends this trajectory, unless somebody else is.

        The operating system gives the lock up when the holder ends, however it ends.
        """
        from filelock import FileLock, Timeout

        self.folder.mkdir(parents=True, exist_ok=True)
        # Not bound to this thread: the recorder's gives it up when all is sent.
        lock = FileLock(self.folder / "lock", timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            return False
        self._lock = lock
        return True

    def release(self) -> None:
        """Give the lock up, if it is held."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the lock over a block; tells whether it could be had."""
        had = self.acquire()
        try:
            yield had
        finally:
            self.release()

    # -- what a worker said at its start ----------------------------------------------------------------------

    def save_started(self, event: Started) -> None:
        """Keep what the latest worker said of itself and of the network."""
        write_json(self.folder / "started.json", asdict(event))

    def started(self) -> Started | None:
        """What the latest worker said at its start, or None where none did yet."""
        try:
            values = read_json(self.folder / "started.json")
        except FileNotFoundError:
            return None
        return Started(identity=Identity(**values.pop("identity")), **values)

    # -- epochs --------------------------------------------------------------------------------------------

    def epochs(self) -> list[EpochLine]:
        """The epochs so far, from 1 on, without gaps."""
        return self._read_epochs()[0]

    def _read_epochs(self) -> tuple[list[EpochLine], int]:
        """The epochs and how many bytes their lines take; what follows was cut off by a kill."""
        lines: list[EpochLine] = []
        whole = 0
        try:
            text = (self.folder / "epochs.jsonl").read_bytes()
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

    def append(self, event: EpochDone) -> None:
        """Add an epoch; one that is there already must be the same.

        Raises:
            TrajectoryError: other weights than the epoch had before, a gap, or another identity.
        """
        if event.identity != self.header.identity:
            raise TrajectoryError("an epoch was trained under other data, code or environment than its trajectory")
        known, whole = self._read_epochs()
        if event.epoch > len(known) + 1:
            raise TrajectoryError(f"epoch {event.epoch} cannot follow epoch {len(known)}")
        if event.epoch <= len(known) and known[event.epoch - 1].weights_sha256 != event.weights_sha256:
            raise TrajectoryError(
                f"epoch {event.epoch} trained again gave other weights than before: {self.folder.name} was made "
                "on another machine or was changed; move it away and start again"
            )
        last = max(len(known), event.epoch)
        write_bytes(self._arrays("weights", event.epoch), _packed(event.state.weights))
        if event.epoch > last - KEPT_STATES:
            both = {f"weights/{name}": array for name, array in event.state.weights.items()}
            both |= {f"optimizer/{name}": array for name, array in event.state.optimizer.items()}
            write_bytes(self._arrays("states", event.epoch), _packed(both))
        if event.epoch == len(known) + 1:
            line = EpochLine(
                epoch=event.epoch,
                metrics=dict(event.metrics),
                weights_sha256=event.weights_sha256,
                state_sha256=event.state.sha256(),
                ended_at=event.ended_at,
                identity=event.identity,
            )
            with (self.folder / "epochs.jsonl").open("ab") as file:
                file.truncate(whole)
                file.write((json.dumps(asdict(line)) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
        for path in (self.folder / "states").glob("*.npz"):
            if int(path.stem) <= last - KEPT_STATES:
                path.unlink()

    def _arrays(self, kind: str, epoch: int) -> Path:
        return self.folder / kind / f"{epoch:06d}.npz"

    def latest_state(self, refused: list[str] | None = None) -> State | None:
        """The newest full state whose bits are those its epoch recorded, or None.

        Args:
            refused: is told why a newer one cannot be used.
        """
        for line in reversed(self.epochs()):
            path = self._arrays("states", line.epoch)
            if not path.exists():
                continue
            try:
                arrays = _read_arrays(path)
            except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
                _tell(refused, f"{path.name}: cannot be read ({error})")
                continue
            state = State(line.epoch, _under(arrays, "weights/"), _under(arrays, "optimizer/"))
            if state.sha256() == line.state_sha256:
                return state
            _tell(refused, f"{path.name}: not the state that was recorded (another SHA-256)")
        return None

    def weights(self, epoch: int) -> Arrays | None:
        """The weights after an epoch if they are kept and have the recorded hash, else None."""
        line = next((line for line in self.epochs() if line.epoch == epoch), None)
        try:
            arrays = _read_arrays(self._arrays("weights", epoch))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None
        return arrays if line is not None and arrays_sha256(arrays) == line.weights_sha256 else None

    # -- cuts ----------------------------------------------------------------------------------------------

    def save_cut(self, event: CutDone) -> None:
        """Keep what a cut leaves behind; done before is done."""
        folder = self.folder / "cuts" / f"{event.epoch:06d}"
        if (folder / "cut.json").exists():
            return
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in event.files.items():
            write_bytes(folder / name, content)
        names = ("epoch", "weights_sha256", "evaluate_seconds", "peak_memory_mib", "drawing_error")
        values = {name: getattr(event, name) for name in names}
        write_json(folder / "cut.json", {**values, "files": sorted(event.files)})

    def cut(self, epoch: int) -> CutFiles | None:
        """What the cut at an epoch left behind, or None."""
        folder = self.folder / "cuts" / f"{epoch:06d}"
        try:
            values = read_json(folder / "cut.json")
        except FileNotFoundError:
            return None
        return CutFiles(**{**values, "files": {name: folder / name for name in values["files"]}})

    def cuts(self) -> frozenset[int]:
        """The epochs whose cut is kept."""
        return frozenset(int(path.parent.name) for path in (self.folder / "cuts").glob("*/cut.json"))

    # -- feature maps ----------------------------------------------------------------------------------------

    def save_sheets(self, event: Drawn) -> None:
        """Keep the feature maps of an epoch."""
        folder = self.folder / "sheets" / f"{event.epoch:06d}"
        if folder.exists():
            return
        aside = folder.with_name(f".{folder.name}.{os.getpid()}")  # the sender must never see a part of it
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for layer, content in event.sheets.items():
            write_bytes(aside / f"{layer}.png", content)
        aside.rename(folder)

    def sheets(self) -> dict[int, list[Path]]:
        """The feature maps that are kept, by epoch: a PNG a layer, in the order of the layers' names."""
        folders = sorted((self.folder / "sheets").glob("[0-9]*"))
        return {int(folder.name): sorted(folder.glob("*.png")) for folder in folders}

    # -- runs ----------------------------------------------------------------------------------------------

    def runs(self, store: str | None = None) -> list[RunRecord]:
        """The runs of this trajectory for a store (or for all), in the order they were planned."""
        paths = (self.folder / "runs").glob("*.json")
        records = [RunRecord(**read_json(path)) for path in paths if not path.name.endswith(".sent.json")]
        chosen = [record for record in records if store in (None, record.store)]
        return sorted(chosen, key=lambda record: (record.start_time, record.record))

    def save_run(self, record: RunRecord) -> None:
        """Write a run, new or changed."""
        write_json(self.folder / "runs" / f"{record.record}.json", asdict(record))

    def sent(self, record: RunRecord) -> dict[str, Any]:
        """What the tracking store has of a run: `run_id`, `epochs`, `done` and so on; empty at first."""
        try:
            return read_json(self.folder / "runs" / f"{record.record}.sent.json")
        except FileNotFoundError:
            return {}

    def save_sent(self, record: RunRecord, values: Mapping[str, Any]) -> None:
        """Note what the tracking store has of a run."""
        write_json(self.folder / "runs" / f"{record.record}.sent.json", dict(values))

    # -- cleaning ------------------------------------------------------------------------------------------

    def size(self) -> int:
        """Bytes in the folder."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def clean(self) -> int:
        """Drop what recorded runs no longer need; the caller holds the lock and knows that all is sent.

        What stays is the last state, so that a longer run can continue it, the epochs' lines and the runs. An
        earlier cut that is wanted later is trained again, and must give the same weights.

        Returns:
            Bytes freed.
        """
        before = self.size()
        epochs = self.epochs()
        for path in (*(self.folder / "weights").glob("*.npz"), *(self.folder / "states").glob("*.npz")):
            if path != self._arrays("states", len(epochs)):
                path.unlink()
        for folder in (*(self.folder / "cuts").iterdir(), *(self.folder / "sheets").glob("*")):
            shutil.rmtree(folder)
        return before - self.size()


def folder_name(sha256: str, alone: str | None = None) -> str:
    """The name of a trajectory's folder; `alone` is the record of the one run that it is for."""
    return sha256[:16] + (f".alone-{alone[:16]}" if alone else "")


def header_of(
    config: RunConfig,
    seed: int,
    identity: Identity,
    environment: Mapping[str, Any],
    images: tuple[int, int] | None,
) -> Header:
    """The header of a config's trajectory."""
    sha256 = trajectory_sha256(config, seed, **asdict(identity))
    return Header(config.training_settings(), seed, identity, dict(environment), images, sha256)


def trajectories(root: Path) -> list[Trajectory]:
    """All trajectories in a folder, by name."""
    return [Trajectory(path.parent) for path in sorted(root.glob("*/header.json"))]


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file that is whole or absent."""
    write_bytes(path, (json.dumps(value, indent=1) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        TrajectoryError: it holds something else.
        FileNotFoundError: there is none.
    """
    try:
        value = json.loads(path.read_bytes())
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise TrajectoryError(f"{path.parent.name}/{path.name} was changed or damaged: it holds no JSON object")
    return value


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that is whole or absent after a kill: aside, synced, renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


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


def _tell(listener: list[str] | None, line: str) -> None:
    if listener is not None:
        listener.append(line)
