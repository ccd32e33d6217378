"""A store full of made-up runs: never trained, but their records are complete, so that a report takes every one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import STUDIES
from fashion_cnn.architecture import parameter_count
from fashion_cnn.config import RunConfig, hash_of, trajectory_sha256
from fashion_cnn.data import CLASS_NAMES, FASHION_MNIST, FASHION_MNIST_SHA256
from fashion_cnn.environment import fingerprint, machine, packages
from fashion_cnn.evidence.predictions import PREDICTIONS, Predictions, loss, per_class, true_labels
from fashion_cnn.evidence.record import (
    EPOCH_METRICS,
    HASHES,
    RECORD_FORMAT,
    Record,
    hashes_text,
    network_texts,
    texts,
)
from fashion_cnn.sources import code_files, files_sha256
from fashion_cnn.study import Study

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHARED = 7_500  # a share of so many training images is one of each set that a study trains on


class Filler:
    """Puts made-up runs into a store, with the texts of a record as large as real ones; without pictures or model."""

    def __init__(self, store: Any) -> None:
        """A filler for a `tracking.Store`."""
        self._store = store
        self._arms = [(study, arm) for study in STUDIES for arm in study.arms]
        self._environment, self._machine, self._packages = fingerprint(threads=1), machine(), packages()
        self._files = {"data_files": dict(FASHION_MNIST.file_sha256), "code_files": code_files()}

    def fill(self, numbers: range) -> None:
        """Put these of all made-up runs into the store, arm after arm and seed after seed."""
        for number in numbers:
            study, arm = self._arms[number % len(self._arms)]
            record = self._record(study, arm, number // len(self._arms), number)
            run_id = self._store.import_record(record, study.question)
            experiment, tags = self._store.experiment(study.name, study.question), {"study": study.name, "arm": arm}
            self._store.client.create_logged_model(experiment, record.row["model"], run_id, tags=tags)

    def _record(self, study: Study, arm: str, seed: int, number: int) -> Record:
        config = study.arms[arm]
        epochs = _epochs(config, np.random.default_rng([int(hash_of(config.training_settings())[:8], 16), seed]))
        cut = config.cut([epoch["loss"] for epoch in epochs])
        assert cut is not None
        measured = {
            "fit_seconds": sum(epoch["epoch_seconds"] for epoch in epochs),
            "fit_cpu_seconds": sum(epoch["epoch_cpu_seconds"] for epoch in epochs),
            "trace_seconds": 2.5,
            "evaluate_seconds": 1.25,
            "epochs_trained": float(cut.epoch),
            "reused_epochs": 0.0,
            "peak_memory_mib": 900.5,
            "other_load": 0.0625,
        }
        hashes = {
            "data_sha256": FASHION_MNIST_SHA256,
            "code_sha256": files_sha256(self._files["code_files"]),
            "environment_sha256": hash_of(self._environment),
        }
        hashes["trajectory_sha256"] = trajectory_sha256(config, seed, **hashes)
        artifacts = self._artifacts(config, seed, epochs, measured, hashes)
        row = {
            "name": f"{arm} · seed {seed}",
            "status": "FINISHED",
            "start_time": number,
            "end_time": number + 1,
            "study": study.name,
            "arm": arm,
            "seed": str(seed),
            "smoke": "false",
            "reuse": "on",
            "record": str(number),
            "record_format": str(RECORD_FORMAT),
            "arithmetic": self._environment["arithmetic"],
            "stop_reason": cut.reason,
            "node": "made up",
            "workers": "1",
            "git_commit": COMMIT,
            "git_dirty": "false",
            **hashes,
            "config_sha256": config.sha256(),
            "weights_sha256": epochs[-1]["weights_sha256"],
            "artifacts_sha256": _sha256(artifacts[HASHES]),
            **config.params(),
            "parameters": str(parameter_count(config)),
            **measured,
        }
        return Record(row, epochs, artifacts)

    def _artifacts(
        self,
        config: RunConfig,
        seed: int,
        epochs: Sequence[Mapping[str, Any]],
        measured: Mapping[str, float],
        hashes: Mapping[str, str],
    ) -> dict[str, bytes]:
        artifacts = texts(
            config=config.canonical(),
            settings=config.training_settings(),
            seed=seed,
            hashes=hashes,
            fingerprint=self._environment,
            machine=self._machine,
            checkout={"commit": COMMIT, "dirty": False, "remote": None},
            images=None,
            files=self._files,
            measured=measured,
            epochs=epochs,
            packages=self._packages,
        )
        answered = _predictions(epochs[-1]["test_accuracy"], epochs[-1]["test_loss"])
        artifacts[PREDICTIONS] = answered.to_bytes()
        artifacts |= network_texts(per_class(answered.classes, true_labels()), summary="made up\n")
        return artifacts | {HASHES: hashes_text(artifacts)}


def _epochs(config: RunConfig, random: np.random.Generator) -> list[dict[str, Any]]:
    """Made-up epochs up to the one at which the stopping rule ends them; those of one trajectory are the same."""
    epochs: list[dict[str, Any]] = []
    while config.cut([epoch["loss"] for epoch in epochs]) is None:
        number, noise = len(epochs) + 1, 0.01 * random.random(len(EPOCH_METRICS))
        right = FASHION_MNIST.test * (0.9 - 0.1 / number + noise[3])
        seconds = float(8 + noise[4])
        epochs.append(
            {
                "epoch": number,
                "loss": float(0.1 + 0.4 / number + noise[0]),
                "accuracy": round(SHARED * (0.95 - 0.1 / number + noise[1])) / SHARED,
                # That of answers which all have the same probability, a number of 32 bits.
                "test_loss": loss(np.array([np.exp(-0.3 - 0.2 / number - noise[2])], np.float32)),
                "test_accuracy": round(right) / FASHION_MNIST.test,
                "epoch_seconds": seconds,
                "epoch_cpu_seconds": 0.9 * seconds,
                "images_per_second": 60_000 / seconds,
                "weights_sha256": _sha256(f"{number} {noise.tobytes().hex()}".encode()),
                "ended_at": 0,
            }
        )
    return epochs


def _predictions(test_accuracy: float, test_loss: float) -> Predictions:
    """Answers of which the first images of each class are right, so that the share of right ones is this."""
    labels = true_labels()
    share, more = divmod(round(test_accuracy * len(labels)), len(CLASS_NAMES))
    classes = labels.copy()
    for index in range(len(CLASS_NAMES)):
        wrong = np.flatnonzero(labels == index)[share + (index < more) :]
        classes[wrong] = (index + 1) % len(CLASS_NAMES)  # the wrong answers of each class are the next one's name
    return Predictions(classes, np.full(len(labels), np.exp(-test_loss), np.float32))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
