"""Trajectories that nobody trained: a script in a worker's place, so that stores and disks can be tested quickly.

The events go through the real recorder and the real store; every number follows from the seed and the epoch.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.config import DENSE, RunConfig
from fashion_cnn.data import FASHION_MNIST, FASHION_MNIST_SHA256
from fashion_cnn.environment import fingerprint_sha256
from fashion_cnn.events import CutDone, Drawn, EpochDone, Event, Identity, Started
from fashion_cnn.evidence.predictions import Predictions, loss, per_class, true_labels
from fashion_cnn.evidence.record import RECORD_FORMAT
from fashion_cnn.sources import files_sha256
from fashion_cnn.state import State
from fashion_cnn.store.address import resolve
from fashion_cnn.store.entries import RunEntry
from fashion_cnn.store.recorder import Recorder
from fashion_cnn.store.tracking import Store
from fashion_cnn.store.trajectories import Trajectory, folder_name, header_of
from tests.support.recorded import answers

FINGERPRINT = {"arithmetic": "portable", "threads": 1, "device": "cpu", "variables": {}}
MACHINE = {"python": "3.11.2", "processor": "a scripted processor", "cores": 2, "load": 0.25}
MADE_WITH = {
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
    "git_dirty": "false",
    "workers": "1",
    "record_format": str(RECORD_FORMAT),
}
CODE = {"config.py": "1" * 64, "data.py": "2" * 64, "models.py": "3" * 64, "training.py": "4" * 64}
PARAMETERS = {"dense": 101_770, "cnn": 113_386}  # of the default networks
PIXEL = bytes.fromhex(  # a grey picture of one pixel
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c6360000000020001e221bc330000000049454e44ae426082"
)


def header_and_record(
    store: Store, config: RunConfig = DENSE, seed: int = 0, *, code: Mapping[str, str] = CODE, **changes: Any
) -> tuple[Trajectory, RunEntry]:
    """The folder of a config's trajectory, made if it is not there, and a new run of it for a store."""
    identity = Identity(FASHION_MNIST_SHA256, files_sha256(code), fingerprint_sha256(FINGERPRINT))
    header = header_of(config, seed, identity, FINGERPRINT, None, FASHION_MNIST.file_sha256, code)
    trajectory = Trajectory(store.address.trajectories / folder_name(header.trajectory_sha256))
    trajectory.create(header)
    run = RunEntry(
        record=uuid.uuid4().hex,
        store=store.address.name,
        study="baseline_study",
        question="Does it hold?",
        arm="dense",
        seed=seed,
        config=config.canonical(),
        smoke=False,
        reuse=True,
        start_time=1_795_000_000_000,
        command="fashion-cnn run baseline_study",
        tags=MADE_WITH,
        packages=("numpy==2.4.6",),
    )
    return trajectory, replace(run, **changes)


def events(trajectory: Trajectory, epochs: int, *, first: int = 1, model: bytes = b"PK") -> Iterator[Event]:
    """What a worker says from its start to a cut, which is at the last epoch."""
    header = trajectory.header
    if first == 1:
        yield started(header.identity, header.settings["model"])
        yield Drawn(0, {"convolution_1": PIXEL})
    for epoch in range(first, epochs + 1):
        yield epoch_done(header.seed, epoch, header.identity)
        yield Drawn(epoch, {"convolution_1": PIXEL})
    yield cut_done(header.seed, epochs, model)


def started(identity: Identity, model: str) -> Started:
    return Started(identity, "scripted", PARAMETERS[model], "layers\n", trace_seconds=0.5, machine=MACHINE)


def epoch_done(seed: int, epoch: int, identity: Identity) -> EpochDone:
    reached = state(seed, epoch)
    return EpochDone(reached, reached.weights_sha256(), metrics(seed, epoch), 1000 * epoch, identity, epoch / 8)


def cut_done(seed: int, epoch: int, model: bytes = b"PK") -> CutDone:
    reached = metrics(seed, epoch)
    labels = true_labels()[1]
    classes = answers(round(10_000 * reached["test_accuracy"]), labels)
    probability = np.full(len(classes), np.exp(-reached["test_loss"]), np.float32)
    files = {
        "model.keras": model,
        "predictions.npz": Predictions(classes, probability).to_bytes(),
        "per_class.json": json.dumps(per_class(classes, labels)).encode(),
        "learning_curves.epochs.png": PIXEL,
    }
    return CutDone(epoch, state(seed, epoch).weights_sha256(), 0.25, 512.0, files)


def state(seed: int, epoch: int) -> State:
    """The state after an epoch: 40 kB of weights."""
    weights = np.random.default_rng([seed, epoch]).random((100, 100), np.float32)
    return State(epoch, {"hidden/kernel": weights}, {"adam/iteration": np.array(epoch)})


def metrics(seed: int, epoch: int) -> dict[str, float]:
    """An epoch's metrics: all differ from each other, from epoch to epoch and from seed to seed."""
    part = (seed % 97 + 1) / 1000
    right = round(8000 + 10 * epoch + seed % 97) // 10 * 10
    return {
        "loss": 1 / epoch + part,
        "accuracy": 0.5 + epoch / 1000 + part,
        "test_loss": loss(np.array([np.exp(-1.1 / epoch - part)], np.float32)),
        "test_accuracy": right / 10_000,
        "epoch_seconds": 8 + part,
        "epoch_cpu_seconds": 7 + part,
        "images_per_second": 60_000 / (8 + part),
    }


def play(recorder: Recorder, trajectory: Trajectory, run: RunEntry, **how: Any) -> None:
    """Have a run recorded from its start to its end, as the runner does; the caller holds the trajectory."""
    recorder.begin(trajectory, [run])
    for event in events(trajectory, run.run_config().epochs, **how):
        recorder.take(trajectory, event)
    recorder.leave(trajectory)


def record_one(store: Store, config: RunConfig = DENSE, seed: int = 0, **changes: Any) -> Trajectory:
    """Record one scripted run from its start to its end."""
    code = changes.pop("code", CODE)
    model = changes.pop("model", b"PK")
    trajectory, run = header_and_record(store, config, seed, code=code, **changes)
    assert trajectory.acquire()
    with Recorder(store) as recorder:
        play(recorder, trajectory, run, model=model)
    return trajectory


def database(folder: Path) -> str:
    """The address of a store in a folder."""
    return f"sqlite:///{folder / 'mlflow.db'}"


def open_store(folder: Path) -> Store:
    """The store of a folder, both made if they are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    return Store(resolve(database(folder), folder))
