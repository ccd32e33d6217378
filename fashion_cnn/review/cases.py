"""A recorded run as this machine would train it again: what its record says, and what is different here."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fashion_cnn.config import RunConfig
from fashion_cnn.data import FASHION_MNIST, MADE_UP_LABEL, DataError, Dataset, load
from fashion_cnn.download import find, load_dataset
from fashion_cnn.environment import Arithmetic, EnvironmentFault, fingerprint, fingerprint_sha256, machine
from fashion_cnn.events import Identity
from fashion_cnn.evidence.consistency import first_images_sha256
from fashion_cnn.evidence.record import Record, is_published, missing, rules_of, too_new
from fashion_cnn.known_answers import settled
from fashion_cnn.review.comparison import (
    QUANTITIES,
    Change,
    Comparison,
    Difference,
    Epoch,
    Terms,
    changes,
    differences,
)
from fashion_cnn.review.recorded import recorded_package
from fashion_cnn.sources import code_files, files_sha256


def not_replayable(record: Record) -> str:
    """Why a record does not say enough to be replayed, or nothing."""
    row, states = record.row, record.states()
    run = f"run {row['run_id']}"
    if newer := too_new(row):
        return f"{run} cannot be replayed: {newer}"
    if "trajectory.json" not in record.artifacts:
        ended = str(row.get("status")).lower()
        return f"{run} ({ended}) has no trajectory.json, so there is nothing to compare; finished runs have one"
    if not states or any(name not in state for state in states for name in ("epoch", *QUANTITIES)):
        return f"the trajectory.json of {run} lacks epochs or quantities; fashion-cnn check names what is missing"
    if [state["epoch"] for state in states] != list(range(1, len(states) + 1)):
        return f"the epochs in the trajectory.json of {run} are not 1 to {len(states)}"
    if not str(row.get("seed")).isdecimal():
        return f"{run} has no seed; fashion-cnn check names what else is missing"
    return ""


def blank_comparison(record: Record, epochs: int | None) -> Comparison:
    """The comparison of a record before anything is compared; `epochs` limits it to the first ones."""
    run_id, study, arm, seed = (str(record.row.get(name)) for name in ("run_id", "study", "arm", "seed"))
    recorded, trajectory = len(record.states()), str(record.row.get("trajectory_sha256"))
    compared = min(recorded, epochs or recorded)
    return Comparison(run_id, study, arm, seed, compared, recorded, trajectory=trajectory)


@dataclass(frozen=True)
class Case:
    """A recorded run that is to be trained again."""

    record: Record
    config: RunConfig
    """As it is trained here: with threads that this machine has, and no more epochs than asked."""
    seed: int
    images: tuple[int, int] | None
    device: str
    arithmetic: Arithmetic
    package: Path | None
    """The recorded code, where it is another than this and at hand."""
    identity: Identity
    """What the worker must find here."""
    comparison: Comparison
    """All that can be said before training."""

    def judge(self, replayed: Sequence[Epoch]) -> tuple[bool, list[Difference]]:
        """Whether the replayed epochs settle the answer, and how they differ."""
        found = differences(self.record.states(), replayed)
        cut = self.config.cut([epoch["loss"] for epoch in replayed])
        return cut is not None or bool(found and not self.comparison.reasons), found

    def finish(self, trained: Sequence[Epoch], error: str) -> Comparison:
        """The comparison after training.

        Args:
            trained: all epochs of the training that the run is cut from.
            error: why the training ended early, or nothing.
        """
        cut = self.config.cut([epoch["loss"] for epoch in trained])
        replayed = trained[: cut.epoch] if cut else trained
        _, found = self.judge(replayed)
        if found and not self.comparison.reasons:
            replayed = replayed[: found[0].epoch]
        return replace(
            self.comparison,
            replayed=tuple(replayed),
            differences=tuple(found),
            error="" if cut else error,
        )


@dataclass(frozen=True)
class Machine:
    """The data and the code of this machine, for comparing them with those of records."""

    cores: int
    data: Dataset
    folder: Path
    aside: Path
    """A folder for what is needed meanwhile."""
    code: Mapping[str, str] = field(default_factory=code_files)

    def case(self, record: Record, epochs: int | None, threads: int | None) -> Case:
        """What is to be trained for a record, and what is different from when it was recorded.

        Args:
            record: a replayable one.
            epochs: the first epochs only; None is all.
            threads: of the training; None is as recorded.
        """
        config, trajectory = record.config(), record.json("trajectory.json")
        assert config is not None
        used_threads = threads or min(config.threads, self.cores)
        images = _images(trajectory)
        if images is not None:
            images = min(images[0], len(self.data.train_labels)), min(images[1], len(self.data.test_labels))
        data = self.data.first(*images) if images else self.data
        recorded, device, notes = _recorded_environment(record, used_threads)
        arithmetic, reason = _recorded_arithmetic(recorded, used_threads, device)
        code, package, which = self._code(record, trajectory)
        notes += which
        if reason:
            notes.append(f"recorded in the portable arithmetic, replayed in the native one: {reason}")
        if config.threads > self.cores and threads is None:
            notes.append(f"recorded with {config.threads} threads; this machine has {self.cores}")
        notes += _standing(record)
        here, whole = fingerprint(used_threads, device, arithmetic), files_sha256(self.code)
        of_record = str(trajectory.get("code_sha256")), str(record.row.get("git_commit"))
        trained_by = (whole, "") if package is None else of_record
        comparison = replace(
            blank_comparison(record, epochs),
            environment=tuple(_environment_changes(record, recorded, here)),
            data=tuple(data_changes(trajectory, data)),
            code=tuple(code),
            terms=Terms(arithmetic, *trained_by, record.processor(), machine()["processor"]),
            notes=tuple(notes),
        )
        return Case(
            record,
            replace(config, threads=used_threads, epochs=min(config.epochs, epochs or config.epochs)),
            int(record.row["seed"]),
            images,
            device,
            arithmetic,
            package,
            Identity(data.sha256, whole, fingerprint_sha256(here)),
            comparison,
        )

    def _code(self, record: Record, trajectory: Mapping[str, Any]) -> tuple[list[Change], Path | None, list[str]]:
        """Which modules that decide numbers are others than the recorded ones, which are taken where they are at hand.

        Returns:
            The changes, the package of the recorded code where it is another than this and at hand, and words on that.
        """
        recorded, here = trajectory.get("code_sha256"), files_sha256(self.code)
        if recorded == here:
            return [], None, []
        commit = str(record.row.get("git_commit"))
        if (package := recorded_package(record, self.aside)) is not None:
            return [], package, [f"trained by the recorded code, commit {commit[:10]}, which is another than this"]
        parts = trajectory.get("code_files")
        found = changes(parts, self.code) if isinstance(parts, dict) and parts else []
        missing = f"the code that was recorded is not at hand here: commit {commit}"
        return found or [Change("code_sha256", recorded, here)], None, [missing]


def _standing(record: Record) -> Iterator[str]:
    """What keeps a record from being evidence, or from being whole."""
    if is_published(record.row):
        yield "of an imported run: its record has what was published or bundled, which is not all of it"
    if lacks := missing(record, rules_of(record.row)):
        more = f" (and {len(lacks) - 1} more)" if len(lacks) > 1 else ""
        yield f"no evidence as it stands, see check: {lacks[0]}{more}"


def _images(trajectory: Mapping[str, Any]) -> tuple[int, int] | None:
    match trajectory.get("images"):
        case [int(train), int(test)]:
            return train, test
    return None


def _recorded_environment(record: Record, threads: int) -> tuple[Mapping[str, Any], str, list[str]]:
    """The recorded fingerprint, the device to train on here, and what is to be said about that."""
    stored = record.json("environment.json")
    recorded = stored.get("fingerprint") if isinstance(stored, dict) else None
    recorded = recorded if isinstance(recorded, dict) else {}
    if recorded.get("device", "cpu") == "cpu":
        return recorded, "cpu", []
    try:
        fingerprint(threads, "gpu")
    except EnvironmentFault:
        return recorded, "cpu", ["recorded on a GPU; none is found here, so it was replayed on the CPU"]
    return recorded, "gpu", []


def _recorded_arithmetic(recorded: Mapping[str, Any], threads: int, device: str) -> tuple[Arithmetic, str]:
    """The arithmetic to replay in, as recorded where that can be had, and else why not."""
    if recorded.get("arithmetic") != "portable":
        return "native", ""  # so were all runs before there were two
    choice = settled(None, threads=threads, device=device)
    return choice.arithmetic, choice.reason


def _environment_changes(record: Record, recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[Change]:
    if recorded and "arithmetic" not in recorded:  # of the first format: the version of Python was in it, too
        old = {name: value for name, value in here.items() if name != "arithmetic"}
        return changes(recorded, {"python": machine()["python"], **old})
    if recorded:
        return changes(recorded, here)
    whole, ours = record.row.get("environment_sha256"), fingerprint_sha256(here)
    return [Change("environment_sha256", whole, ours)] if whole != ours else []


def data_changes(trajectory: Mapping[str, Any], data: Dataset) -> list[Change]:
    """Which files of the data set differ from the recorded ones; the hash of all where that is unknown."""
    recorded, images = trajectory.get("data_sha256"), _images(trajectory)
    if recorded == data.sha256:
        return []
    parts = trajectory.get("data_files")
    real = FASHION_MNIST.sha256 if images is None else first_images_sha256(FASHION_MNIST.sha256, *images)
    if not isinstance(parts, dict) or not parts:
        parts = FASHION_MNIST.file_sha256 if recorded == real else {}
    found = changes(parts, data.file_sha256) if parts else []
    return found or [Change("data_sha256", recorded, data.sha256)]


def load_any(data_dir: str | None, aside: Path) -> tuple[Dataset, Path]:
    """The data set of this machine and its folder, even where it is not what it should be.

    Nothing else may use files of another SHA-256. A replay trains on them to show what comes of it; they are linked
    in an empty folder with a label that makes them a made-up set.

    Raises:
        DataError: there are none, or they are no images and labels.
    """
    folder = find(data_dir)
    if folder is None:
        data, folder = load_dataset(data_dir), find(data_dir)
        assert folder is not None
        return data, folder
    try:
        return load(folder), folder
    except DataError as error:
        try:
            labelled = _label(folder.absolute(), aside / "data")
            return load(labelled), labelled
        except (DataError, OSError, EOFError, zlib.error):
            raise error from None


def _label(folder: Path, aside: Path) -> Path:
    contents = {}
    aside.mkdir()
    for name in FASHION_MNIST.file_sha256:
        path = folder / f"{name}.gz"
        if not path.is_file():
            raise DataError(f"{str(path)!r} is not a regular file")
        with gzip.open(path) as file:
            contents[name] = file.read(FASHION_MNIST.size(name) + 1)
        (aside / path.name).symlink_to(path)
    counts = {
        "train": int.from_bytes(contents["train-labels-idx1-ubyte"][4:8], "big"),
        "test": int.from_bytes(contents["t10k-labels-idx1-ubyte"][4:8], "big"),
    }
    files = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    label = {"name": "files of another SHA-256", "files": files, **counts}
    (aside / MADE_UP_LABEL).write_text(json.dumps(label), encoding="utf-8")
    return aside
