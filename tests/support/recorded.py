"""Complete records of runs that were never trained: made up, and consistent as evidence must be.

Written from the description of a record. `put` brings one into a store, by MLflow's own client.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion_cnn.config import FIELDS, RunConfig, hash_of, trajectory_sha256
from fashion_cnn.data import CLASS_NAMES, FASHION_MNIST, FASHION_MNIST_SHA256
from fashion_cnn.evidence.predictions import Predictions, loss, per_class, tested_labels
from fashion_cnn.evidence.record import EPOCH_METRICS, RECORD_FORMAT, RUN_METRICS, Record, since
from fashion_cnn.sample import epoch_images
from fashion_cnn.sources import files_sha256
from fashion_cnn.store.tracking import Store
from fashion_cnn.study import Study

PARAMETERS = {"cnn": 113_386, "dense": 101_770}  # of the default networks
FINGERPRINT = {
    "arithmetic": "portable",
    "python": "3.11.2",
    "tensorflow": "2.21.0",
    "threads": 1,
    "device": "cpu",
    "variables": {},
}
MACHINE = {"python": "3.11.2", "processor": "a made-up processor", "caches": {}, "load": 0.5}
CODE = {f"{name}.py": hashlib.sha256(name.encode()).hexdigest() for name in ("config", "data", "models", "training")}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
IMAGES = 1_000  # of each class, tested
CURVES = "figures/learning_curves.png"


def record(study: Study, arm: str, seed: int = 0, **settings: Any) -> Record:
    """What a store would hold of a run of an arm, one of the default networks.

    Args:
        study: the study.
        arm: its accuracy grows with the size of its network and its epochs.
        seed: the numbers are drawn from it and the config without its stopping rule: a trajectory's are the same.
        **settings: `lift` of the test accuracy, in images; `minutes` after 2026-11-18 at which it started; `diff` to
            the commit; `remote` of the repository; `processor` that it was made on; `format` that it was recorded in,
            by default the present one; `other_load`.
    """
    config = study.arms[arm]
    random = np.random.default_rng([int(hash_of(config.training_settings())[:8], 16), seed])
    epochs = _epochs(config, random, settings.get("lift", 0))
    diff, processor = settings.get("diff", ""), settings.get("processor", "")
    old = settings.get("format", RECORD_FORMAT) == 1
    fingerprint = {**FINGERPRINT, **({"processor": processor} if processor else {})}
    if old:
        del fingerprint["arithmetic"]
    hashes = {
        "data_sha256": FASHION_MNIST_SHA256,
        "code_sha256": files_sha256(CODE),
        "environment_sha256": hash_of(fingerprint),
    }
    trajectory = trajectory_sha256(config, seed, **hashes)
    weights = [_sha256(f"{trajectory} {epoch['epoch']}") for epoch in epochs]
    measured = {
        "fit_seconds": sum(epoch["epoch_seconds"] for epoch in epochs),
        "fit_cpu_seconds": sum(epoch["epoch_cpu_seconds"] for epoch in epochs),
        **{"trace_seconds": 2.5, "evaluate_seconds": 1.25, "peak_memory_mib": 900.5},
        **{"epochs_trained": float(len(epochs)), "reused_epochs": 0.0},
        **({} if old else {"other_load": settings.get("other_load", 0.0625)}),
    }
    labels = tested_labels(config, seed)
    classes = answers(round(epochs[-1]["test_accuracy"] * IMAGES * len(CLASS_NAMES)), labels)
    values: dict[str, Any] = {
        "config.json": {**config.canonical(), "seed": seed},
        "environment.json": {
            "fingerprint": fingerprint,
            "sha256": hashes["environment_sha256"],
            **({} if old else {"machine": MACHINE}),
            "checkout": {"commit": COMMIT, "dirty": bool(diff), "remote": settings.get("remote")},
        },
        "trajectory.json": {
            "trajectory_sha256": trajectory,
            "settings": config.training_settings(),
            "seed": seed,
            **hashes,
            "images": None,
            "data_files": dict(FASHION_MNIST.file_sha256),
            "code_files": CODE,
            "run": measured,
            "epochs": [
                {**epoch, "weights_sha256": sha256, "ended_at": 0}
                for epoch, sha256 in zip(epochs, weights, strict=True)
            ],
        },
        "per_class.json": _per_class(classes, labels),
    }
    artifacts = {name: (json.dumps(value, indent=1) + "\n").encode() for name, value in values.items()}
    artifacts |= {"requirements.txt": b"numpy==2.4.6\n", "model_summary.txt": b"layers\n", CURVES: b"a picture"}
    artifacts |= {"code.diff": diff.encode()} if diff else {}
    if not old:
        probability = np.full(len(classes), np.exp(-epochs[-1]["test_loss"]), np.float32)
        artifacts["predictions.npz"] = Predictions(classes, probability).to_bytes()
    listed = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(artifacts.items())}
    artifacts["hashes.json"] = (json.dumps(listed, indent=1) + "\n").encode()
    start = 1_795_000_000_000 + 60_000 * settings.get("minutes", seed)  # ms
    row = {
        **{
            "run_id": _sha256(f"{study.name} {arm} {seed}{processor}")[:32],
            "name": f"{arm} · seed {seed}",
            "status": "FINISHED",
        },
        **{"start_time": start, "end_time": start + round(1000 * (measured["fit_seconds"] + 1.25))},
        **{"study": study.name, "arm": arm, "seed": str(seed), "smoke": "false", "reuse": "on", "node": "made-up"},
        **{"workers": "2", "stop_reason": _stop(config, len(epochs)), "git_commit": COMMIT},
        **{"git_dirty": str(bool(diff)).lower(), "config_sha256": config.sha256(), "trajectory_sha256": trajectory},
        **hashes,
        **({} if old else {"record_format": str(RECORD_FORMAT), "arithmetic": "portable"}),
        **{"weights_sha256": weights[-1], "artifacts_sha256": hashlib.sha256(artifacts["hashes.json"]).hexdigest()},
        **{name: text for name, text in config.params().items() if not (old and since(name) > 1)},
        "parameters": str(PARAMETERS[config.model]),
        **{name: epochs[-1][name] for name in EPOCH_METRICS},
        **measured,
    }
    return Record(row, epochs, artifacts)


def put(store: Store, record: Record, question: str, **tags: str) -> str:
    """Bring a record into a store, with more tags or other ones; returns the run's id there."""
    from mlflow.entities import Metric, Param, RunTag

    params = {name: str(record.row[name]) for name in (*FIELDS, "seed", "parameters") if name in record.row}
    plain = {name: str(record.row[name]) for name in record.row if name.endswith("_sha256")}
    plain |= {name: record.row[name] for name in ("study", "arm", "seed", "smoke", "reuse", "node", "workers")}
    plain |= {name: record.row[name] for name in ("stop_reason", "git_commit", "git_dirty")}
    plain |= {name: record.row[name] for name in ("record_format", "arithmetic") if name in record.row}
    last = len(record.epochs)
    metrics = [Metric(name, epoch[name], 0, int(epoch["epoch"])) for epoch in record.epochs for name in EPOCH_METRICS]
    metrics += [Metric(name, record.row[name], 0, last) for name in RUN_METRICS if name in record.row]
    experiment = store.experiment(record.row["study"], question)
    created = store.client.create_run(experiment, record.row["start_time"], run_name=record.row["name"])
    run_id = str(created.info.run_id)
    store.client.log_batch(
        run_id,
        metrics,
        [Param(name, value) for name, value in params.items()],
        [RunTag(name, value) for name, value in {**plain, **tags}.items()],
    )
    with TemporaryDirectory() as folder:
        for name, content in record.artifacts.items():
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        store.client.log_artifacts(run_id, folder)
    store.client.set_terminated(run_id, record.row["status"], end_time=record.row["end_time"])
    return run_id


def _epochs(config: RunConfig, random: np.random.Generator, lift: int) -> list[dict[str, Any]]:
    epochs: list[dict[str, Any]] = []
    size = 0.0 if config.filters is None else math.log2(config.filters / 16) + (config.additional_convolutions or 0) - 1
    images = epoch_images(config)
    while config.cut([values["loss"] for values in epochs]) is None:
        epoch = len(epochs) + 1
        right = 8_000 + round(200 * size) + 50 * epoch + int(random.integers(100)) + lift
        seconds = 8 + size + float(random.random())
        epochs.append(
            {
                "epoch": epoch,
                "loss": 0.6 / epoch + 0.01 * float(random.random()),
                "accuracy": round(images * (48_000 + 300 * epoch + int(random.integers(100))) / 60_000) / images,
                "test_loss": _exactly(0.5 / epoch + 0.2 - 0.01 * size + 0.01 * float(random.random())),
                "test_accuracy": right / (IMAGES * len(CLASS_NAMES)),
                "epoch_seconds": seconds,
                "epoch_cpu_seconds": 0.9 * seconds,
                "images_per_second": images / seconds,
            }
        )
    return epochs


def _exactly(target: float) -> float:
    """The loss nearest to a target that answers have, all of one probability: a number of 32 bits."""
    return loss(np.array([np.exp(-target)], np.float32))


def _stop(config: RunConfig, epochs: int) -> str:
    return "epochs" if config.callback_loss is None or epochs == config.epochs else "callback"


def answers(right: int, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Classes of which so many are right, the first images of each class; a wrong answer is the next class."""
    classes = labels.copy()
    share, more = divmod(right, len(CLASS_NAMES))
    for place in range(len(CLASS_NAMES)):
        classes[np.flatnonzero(labels == place)[share + (place < more) :]] = (place + 1) % len(CLASS_NAMES)
    return classes


def _per_class(classes: NDArray[np.uint8], labels: NDArray[np.uint8]) -> dict[str, Any]:
    """The table as MLflow writes it, without the shares that follow from the counts."""
    table = {name: values for name, values in per_class(classes, labels).items() if name not in ("recall", "precision")}
    return {"columns": list(table), "data": [list(row) for row in zip(*table.values(), strict=True)]}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
