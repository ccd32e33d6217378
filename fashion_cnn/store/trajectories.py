"""The folder of a trajectory: append, read, lock, clean.

    <trajectories>/<first 16 digits of trajectory_sha256>[.alone-<record>]/
        header.json             settings, seed, hashes, environment: written once
        started.json            what the latest worker said: node, machine, parameters, summary
        epochs.jsonl            a line per epoch, appended after its state is safe
        states/000010.npz       the full state: the last two epochs
        weights/000010.npz      the weights of every epoch
        sheets/000010/          feature maps, a PNG per layer
        cuts/000010/            what a run that ends here leaves behind; cut.json is written last
        runs/<record>.json      a run: its config, tags and fate; the recorder writes it
        runs/<record>.sent.json what of it the tracking store has; the sender writes it
        lock                    held by the one process that may extend the trajectory

A line, an array file or a JSON file is whole or absent after a kill. A trajectory trained alone (`--no-reuse`) has a
folder to itself.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from fashion_cnn.config import RunConfig, trajectory_sha256
from fashion_cnn.events import CutDone, Drawn, EpochDone, Identity, Started
from fashion_cnn.evidence.predictions import PREDICTIONS
from fashion_cnn.evidence.record import BASIS
from fashion_cnn.state import Arrays, State, arrays_sha256
from fashion_cnn.store.entries import RunFiles
from fashion_cnn.store.epochs import EPOCH, EpochLine, States, read_lines
from fashion_cnn.store.files import (
    TrajectoryError,
    append_line,
    check_name,
    read_json,
    shaped,
    write_bytes,
    write_json,
)

_ASIDE: Final = re.compile(r"\.(.+\.\d+|\d{6})\.\d+")
"""The names of what `write_bytes` and `save_sheets` write aside."""


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
    code_files: Mapping[str, str] = field(default_factory=dict)
    """The SHA-256 of each file that `data_sha256` and `code_sha256` are of."""


@dataclass(frozen=True)
class CutFiles:
    """What a cut left behind."""

    epoch: int
    weights_sha256: str
    evaluate_seconds: float
    peak_memory_mib: float
    files: Mapping[str, Path]
    drawing_error: str


class Trajectory(RunFiles):
    """One folder. Whoever extends it or its runs holds the lock; anybody may read."""

    def __init__(self, folder: Path) -> None:
        """Look at a folder, which need not be there yet."""
        super().__init__(folder)
        self._lock: Any = None
        self._lines, self._states = folder / "epochs.jsonl", States(folder)

    def create(self, header: Header) -> None:
        """Make the folder and its header; a TrajectoryError where it holds another trajectory, or epochs of another."""
        for name in ("states", "weights", "cuts", "runs"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        if not (self.folder / "header.json").exists():
            write_json(self.folder / "header.json", asdict(header))
        if self.header.trajectory_sha256 != header.trajectory_sha256:
            raise TrajectoryError(f"{self.folder} holds another trajectory; move it away and start again")
        wanted = asdict(header.identity)
        for line in self.epochs():
            if other := [BASIS[name] for name, value in asdict(line.identity).items() if value != wanted[name]]:
                raise TrajectoryError(
                    f"epoch {line.epoch} in {self.folder} was trained under another {' and '.join(other)}; move it "
                    "away and start again"
                )

    @property
    def header(self) -> Header:
        """What never changes about it; a TrajectoryError where the file is missing or holds something else."""
        path = self.folder / "header.json"
        values = read_json(path)
        with shaped(path, "a trajectory's header"):
            images = values.pop("images")
            identity = Identity(**values.pop("identity"))
            return Header(identity=identity, images=None if images is None else tuple(images), **values)

    def acquire(self) -> bool:
        """Become the one that extends this trajectory, unless another is; the lock ends with its process."""
        from filelock import FileLock, Timeout

        self.folder.mkdir(parents=True, exist_ok=True)
        # Not bound to this thread: the recorder's releases it when all is sent.
        lock = FileLock(self.folder / "lock", timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            return False
        self._lock = lock
        # What a killed process was writing: nobody else writes while the lock is held; other files are a person's.
        for aside in [path for path in self.folder.rglob(".*") if _ASIDE.fullmatch(path.name)]:
            shutil.rmtree(aside) if aside.is_dir() else aside.unlink(missing_ok=True)
        return True

    def release(self) -> None:
        """Release the lock, if it is held."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the lock over a block; gives whether it could be acquired."""
        acquired = self.acquire()
        try:
            yield acquired
        finally:
            self.release()

    def keep(self, event: Started | EpochDone | Drawn | CutDone) -> None:
        """Write what a worker said; see the method for its kind."""
        match event:
            case Started():
                self.save_started(event)
            case EpochDone():
                self.append(event)
            case Drawn():
                self.save_sheets(event)
            case CutDone():
                self.save_cut(event)

    def save_started(self, event: Started) -> None:
        """Keep what the latest worker said of itself and of the network."""
        write_json(self.folder / "started.json", asdict(event))

    def started(self) -> Started | None:
        """What the latest worker said at its start, or None where none did yet."""
        path = self.folder / "started.json"
        if not path.exists():
            return None
        values = read_json(path)
        return Started(identity=Identity(**values.pop("identity")), **values)

    def epochs(self) -> list[EpochLine]:
        """The epochs so far, from 1 without gaps."""
        return read_lines(self._lines)[0]

    def append(self, event: EpochDone) -> None:
        """Add an epoch; one that is there already must be the same.

        Raises:
            TrajectoryError: other weights than the epoch had before, a gap, or another identity.
            Unwritable: a file could not be written.
        """
        header = self.header
        if event.identity != header.identity:
            raise TrajectoryError("an epoch was trained under other data, code or environment than its trajectory")
        known, whole = read_lines(self._lines)
        if event.epoch > len(known) + 1:
            raise TrajectoryError(f"epoch {event.epoch} cannot follow epoch {len(known)}")
        if event.epoch <= len(known) and known[event.epoch - 1].weights_sha256 != event.weights_sha256:
            raise TrajectoryError(
                f"epoch {event.epoch} trained again gave other weights than before: {self.folder.name} was made "
                "on another machine or was changed; move it away and start again"
            )
        last = max(len(known), event.epoch)
        self._states.save(event.state, header.trajectory_sha256, last)
        if event.epoch == len(known) + 1:
            metrics, state_sha256 = dict(event.metrics), event.state.sha256()
            line = EpochLine(
                event.epoch,
                metrics,
                event.weights_sha256,
                state_sha256,
                event.ended_at,
                event.identity,
                event.other_load,
            )
            append_line(self._lines, json.dumps(asdict(line)), after=whole)
        self._states.drop_older(last)

    def latest_state(self, refused: list[str] | None = None) -> State | None:
        """The newest full state whose bits are those its epoch recorded; `refused` is told why no newer one is."""
        return self._states.latest(self.epochs(), self.header.trajectory_sha256, [] if refused is None else refused)

    def weights(self, epoch: int) -> Arrays | None:
        """The weights after an epoch if they are kept and have the recorded hash, else None."""
        arrays, recorded = self._states.weights(epoch), {line.epoch: line.weights_sha256 for line in self.epochs()}
        return arrays if arrays is not None and arrays_sha256(arrays) == recorded.get(epoch) else None

    def save_cut(self, event: CutDone) -> None:
        """Keep what a cut leaves behind, unless it is there; a TrajectoryError where a file's name is not allowed."""
        folder = self.folder / "cuts" / f"{event.epoch:06d}"
        if event.epoch in self.cuts():
            return
        for name in event.files:
            check_name(name)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in event.files.items():
            write_bytes(folder / name, content)
        names = ("epoch", "weights_sha256", "evaluate_seconds", "peak_memory_mib", "drawing_error")
        values = {name: getattr(event, name) for name in names}
        write_json(folder / "cut.json", {**values, "files": sorted(event.files)})

    def cut(self, epoch: int) -> CutFiles | None:
        """What the cut at an epoch left behind, or None."""
        folder = self.folder / "cuts" / f"{epoch:06d}"
        if not (folder / "cut.json").exists():
            return None
        values = read_json(folder / "cut.json")
        return CutFiles(**{**values, "files": {name: folder / check_name(name) for name in values["files"]}})

    def cuts(self) -> frozenset[int]:
        """The epochs whose cut is kept; not those from before predictions were part of one, which are made again."""
        files = (self.folder / "cuts").glob(f"{EPOCH}/cut.json")
        return frozenset(int(path.parent.name) for path in files if PREDICTIONS in read_json(path).get("files", ()))

    def save_sheets(self, event: Drawn) -> None:
        """Keep an epoch's feature maps unless they are there; a TrajectoryError where a layer's name is not allowed."""
        folder = self.folder / "sheets" / f"{event.epoch:06d}"
        if folder.exists():
            return
        for layer in event.sheets:
            check_name(layer)
        aside = folder.with_name(f".{folder.name}.{os.getpid()}")  # the sender must never see a part of it
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for layer, content in event.sheets.items():
            write_bytes(aside / f"{layer}.png", content)
        aside.rename(folder)

    def sheets(self) -> dict[int, list[Path]]:
        """The feature maps that are kept, by epoch: a PNG per layer, in the order of the layers' names."""
        folders = sorted((self.folder / "sheets").glob(EPOCH))
        return {int(folder.name): sorted(folder.glob("*.png")) for folder in folders}

    def clean(self, *, dry: bool = False) -> int:
        """Drop what recorded runs no longer need and give the bytes freed; the caller holds the lock, and all is sent.

        What stays: the last state, which a longer run continues, the epochs' lines and feature maps, and the runs. An
        earlier cut that is wanted later is trained again, to the same weights. A `dry` call only counts.
        """
        folders = list((self.folder / "cuts").glob(EPOCH))
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        files += self._states.all_but(last=len(self.epochs()))
        freed = sum(path.stat().st_size for path in files)
        if not dry:
            for path in sorted(files, key=lambda path: path.name != "cut.json"):  # first what says that a cut is whole
                path.unlink()
            for folder in folders:
                shutil.rmtree(folder)
        return freed


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
    files = dict(data_files or {}), dict(code_files or {})
    return Header(config.training_settings(), seed, identity, dict(environment), images, sha256, *files)


def trajectories(root: Path) -> list[Trajectory]:
    """All trajectories in a folder, by name."""
    return [Trajectory(path.parent) for path in sorted(root.glob("*/header.json"))]
