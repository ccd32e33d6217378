"""What a worker leaves in a trajectory's folder besides states: cuts with their files, and drawn feature maps."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fashion_cnn.events import CutDone, Drawn
from fashion_cnn.store.files import check_name, read_json, write_bytes, write_json


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
class Outputs:
    """The folders `cuts` and `sheets` of a trajectory's."""

    folder: Path
    """The trajectory's."""

    def save_cut(self, event: CutDone) -> None:
        """Keep what a cut leaves behind; done before is done.

        Raises:
            TrajectoryError: a file's name is not allowed.
            Unwritable: a file could not be written.
        """
        folder = self.folder / "cuts" / f"{event.epoch:06d}"
        if (folder / "cut.json").exists():
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
        try:
            values = read_json(folder / "cut.json")
        except FileNotFoundError:
            return None
        return CutFiles(**{**values, "files": {name: folder / check_name(name) for name in values["files"]}})

    def cuts(self) -> frozenset[int]:
        """The epochs whose cut is kept."""
        return frozenset(int(path.parent.name) for path in (self.folder / "cuts").glob("*/cut.json"))

    def save_sheets(self, event: Drawn) -> None:
        """Keep the feature maps of an epoch.

        Raises:
            TrajectoryError: a layer's name is not allowed.
            Unwritable: a file could not be written.
        """
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
        """The feature maps that are kept, by epoch: a PNG a layer, in the order of the layers' names."""
        folders = sorted((self.folder / "sheets").glob("[0-9]*"))
        return {int(folder.name): sorted(folder.glob("*.png")) for folder in folders}

    def drop(self) -> None:
        """Drop all of it."""
        for folder in (*(self.folder / "cuts").iterdir(), *(self.folder / "sheets").glob("*")):
            shutil.rmtree(folder)
