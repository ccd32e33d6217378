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
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fashion_cnn.config import RunConfig, trajectory_sha256
from fashion_cnn.events import Arrays, CutDone, Drawn, EpochDone, Identity, Started, State, arrays_sha256

KEPT_STATES = 2
LOST = "the process that made it died"
RunStatus = Literal["running", "finished", "failed", "killed"]


class TrajectoryError(RuntimeError):
    """A trajectory's folder cannot be used as asked: one line that says why."""


class Unwritable(OSError):
    """A file could not be written, of a full disk for example; the one that was there before still is."""

    def __str__(self) -> str:
        """One line that names the file and says what to do."""
        return f"{self.filename} cannot be written ({self.strerror}); once it can, the same command goes on"


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
    remote: str | None = None
    """Where others find the repository, without credentials."""
    status: RunStatus = "running"
    stop_reason: str | None = None
    cut: int | None = None
    """The epoch it ended at, once it did."""
    reused_epochs: int = 0
    error: str | None = None
    """Why it failed or was killed: one line."""
    traceback: str = ""
    """Of its latest failure, where that was an exception; stays when it goes on."""

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
    data_files: Mapping[str, str] = field(default_factory=dict)
    """The SHA-256 of each file that `data_sha256` is of."""
    code_files: Mapping[str, str] = field(default_factory=dict)
    """The SHA-256 of each module that `code_sha256` is of."""


class Trajectory:
    """One folder. Whoever extends it or its runs holds `lock`; anybody may read."""

    def __init__(self, folder: Path) -> None:
        """Look at a folder, which need not be there yet."""
        self.folder = folder
        self._lock: Any = None

    def create(self, header: Header) -> None:
        """Make the folder and its header, unless they are there.

        Raises:
            TrajectoryError: a folder of this name holds another trajectory, or epochs of another.
        """
        for name in ("states", "weights", "cuts", "runs"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        path = self.folder / "header.json"
        if not path.exists():
            write_json(path, asdict(header))
        if self.header.trajectory_sha256 != header.trajectory_sha256:
            raise TrajectoryError(f"{self.folder} holds another trajectory; move it away and start again")
        for line in self.epochs():
            if other := _other(line.identity, header.identity):
                raise TrajectoryError(
                    f"epoch {line.epoch} in {self.folder} was trained under another {other}; move it away and start "
                    "again"
                )

    @property
    def header(self) -> Header:
        """What never changes about it.

        Raises:
            TrajectoryError: the header is missing or not one.
        """
        path = self.folder / "header.json"
        values = read_json(path)
        with _shaped(path, "a trajectory's header"):
            images = values.pop("images")
            identity = Identity(**values.pop("identity"))
            return Header(identity=identity, images=None if images is None else tuple(images), **values)

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
        # What a killed process was writing: nobody else writes while the lock is held.
        for aside in list(self.folder.rglob(".*")):
            shutil.rmtree(aside) if aside.is_dir() else aside.unlink(missing_ok=True)
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
            both["trajectory"] = np.array(self.header.trajectory_sha256)
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
            path = self.folder / "epochs.jsonl"
            with _named(path), path.open("ab") as file:
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
        """The newest full state of this trajectory whose bits are those its epoch recorded, or None.

        Args:
            refused: is told why a newer one cannot be used.
        """
        for line in reversed(self.epochs()):
            path = self._arrays("states", line.epoch)
            if not path.exists():
                continue
            try:
                arrays = _read_arrays(path)
            except Exception as error:  # a damaged file makes NumPy raise anything
                _tell(refused, f"the state after epoch {line.epoch} cannot be read ({_first(error)})")
                continue
            state = State(line.epoch, _under(arrays, "weights/"), _under(arrays, "optimizer/"))
            if str(arrays.get("trajectory")) != self.header.trajectory_sha256:
                reason = "is of another trajectory (another config, seed, data set, code or environment)"
            elif state.sha256() != line.state_sha256:
                reason = "is not the one that was recorded (another SHA-256)"
            else:
                return state
            _tell(refused, f"the state after epoch {line.epoch} {reason}")
        return None

    def weights(self, epoch: int) -> Arrays | None:
        """The weights after an epoch if they are kept and have the recorded hash, else None."""
        line = next((line for line in self.epochs() if line.epoch == epoch), None)
        try:
            arrays = _read_arrays(self._arrays("weights", epoch))
        except Exception:
            return None
        return arrays if line is not None and arrays_sha256(arrays) == line.weights_sha256 else None

    # -- cuts ----------------------------------------------------------------------------------------------

    def save_cut(self, event: CutDone) -> None:
        """Keep what a cut leaves behind; done before is done."""
        folder = self.folder / "cuts" / f"{event.epoch:06d}"
        if (folder / "cut.json").exists():
            return
        for name in event.files:
            _check_name(name)
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
        return CutFiles(**{**values, "files": {name: folder / _check_name(name) for name in values["files"]}})

    def cuts(self) -> frozenset[int]:
        """The epochs whose cut is kept."""
        return frozenset(int(path.parent.name) for path in (self.folder / "cuts").glob("*/cut.json"))

    # -- feature maps ----------------------------------------------------------------------------------------

    def save_sheets(self, event: Drawn) -> None:
        """Keep the feature maps of an epoch."""
        folder = self.folder / "sheets" / f"{event.epoch:06d}"
        if folder.exists():
            return
        for layer in event.sheets:
            _check_name(layer)
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
        """The runs of this trajectory for a store (or for all), in the order they were planned.

        Raises:
            TrajectoryError: a run's file is damaged, or was written by code that keeps other things of a run.
        """
        records = []
        for path in (self.folder / "runs").glob("*.json"):
            if not path.name.endswith(".sent.json"):
                with _shaped(path, "a run as this code keeps it"):
                    records.append(RunRecord(**read_json(path)))
                    records[-1].run_config()
        chosen = [record for record in records if store is None or _place(record.store) == _place(store)]
        return sorted(chosen, key=lambda record: (record.start_time, record.record))

    def save_run(self, record: RunRecord) -> None:
        """Write a run, new or changed."""
        write_json(self.folder / "runs" / f"{record.record}.json", asdict(record))

    def end_runs(
        self, store: str, status: RunStatus, stop_reason: str, error: str | None, traceback: str = ""
    ) -> list[RunRecord]:
        """Mark the runs for a store that are still running as failed or killed; the caller holds the lock.

        Returns:
            Those runs, as they are now.
        """
        running = [run for run in self.runs(store) if run.status == "running"]
        ended = [
            replace(run, status=status, stop_reason=stop_reason, error=error, traceback=traceback) for run in running
        ]
        for run in ended:
            with suppress(OSError):  # on a full disk it stays running, as that of a process that died
                self.save_run(run)
        return ended

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
    data_files: Mapping[str, str] | None = None,
    code_files: Mapping[str, str] | None = None,
) -> Header:
    """The header of a config's trajectory."""
    sha256 = trajectory_sha256(config, seed, **asdict(identity))
    files = {"data_files": dict(data_files or {}), "code_files": dict(code_files or {})}
    return Header(config.training_settings(), seed, identity, dict(environment), images, sha256, **files)


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
        raise TrajectoryError(f"{path} was changed or damaged: it holds no JSON object")
    return value


@contextmanager
def _shaped(path: Path, what: str) -> Iterator[None]:
    """Has an error of making a value from a JSON file's object name the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise TrajectoryError(f"{path} is not {what}: {error}") from None


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that is whole or absent after a kill: aside, synced, renamed.

    Raises:
        Unwritable: it could not be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    with _named(path):
        try:
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Has an error of writing name the file, which a full disk's does not."""
    try:
        yield
    except OSError as error:
        raise Unwritable(error.errno, error.strerror, str(path)) from error


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


def _check_name(name: str) -> str:
    """The name itself, if it can be that of a file here, whatever the file system.

    Raises:
        TrajectoryError: it cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
        raise TrajectoryError(f"{name[:40]!r} cannot be a file's name: use up to 100 letters, digits and _ . -")
    return name


def _place(store: str) -> str:
    """What tells one store from another here: a sqlite store may be moved or copied, its trajectories beside it."""
    return store.rpartition("/")[2] if store.startswith("sqlite:") else store


def _other(found: Identity, wanted: Identity) -> str:
    """What differs between two identities, in words; nothing where they are the same."""
    names = {"data_sha256": "data set", "code_sha256": "code", "environment_sha256": "environment"}
    return " and ".join(word for name, word in names.items() if getattr(found, name) != getattr(wanted, name))


def _first(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _under(arrays: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _tell(listener: list[str] | None, line: str) -> None:
    if listener is not None:
        listener.append(line)
