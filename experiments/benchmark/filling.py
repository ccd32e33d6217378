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
from fashion_cnn.evidence.record import (
    EPOCH_METRICS,
    HASHES,
    RECORD_FORMAT,
    Record,
    hashes_text,
    network_texts,
    texts,
)
from fashion_cnn.sample import epoch_images
from fashion_cnn.sources import code_files, files_sha256
from fashion_cnn.study import Study

IMAGES = 1000  # of each class, tested
COMMIT = "0" * 40


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
        epochs = _epochs(config, np.random.default_rng(number))
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
        artifacts |= network_texts(_per_class(epochs[-1]["test_accuracy"]), summary="made up\n")
        return artifacts | {HASHES: hashes_text(artifacts)}


def _epochs(config: RunConfig, random: np.random.Generator) -> list[dict[str, Any]]:
    """Made-up epochs up to the one at which the config's stopping rule ends them."""
    epochs: list[dict[str, Any]] = []
    trained = epoch_images(config)
    while config.cut([epoch["loss"] for epoch in epochs]) is None:
        number, noise = len(epochs) + 1, 0.01 * random.random(len(EPOCH_METRICS))
        right = IMAGES * len(CLASS_NAMES) * (0.9 - 0.1 / number + noise[3])
        seconds = float(8 + noise[4])
        epochs.append(
            {
                "epoch": number,
                "loss": float(0.1 + 0.4 / number + noise[0]),
                "accuracy": round(trained * (0.95 - 0.1 / number + noise[1])) / trained,
                "test_loss": float(0.3 + 0.2 / number + noise[2]),
                "test_accuracy": round(right) / (IMAGES * len(CLASS_NAMES)),
                "epoch_seconds": seconds,
                "epoch_cpu_seconds": 0.9 * seconds,
                "images_per_second": trained / seconds,
                "weights_sha256": _sha256(f"{number} {noise.tobytes().hex()}".encode()),
                "ended_at": 0,
            }
        )
    return epochs


def _per_class(test_accuracy: float) -> dict[str, list[Any]]:
    """A table in which the first classes have one right answer more, so that the share of right ones is this."""
    share, more = divmod(round(test_accuracy * IMAGES * len(CLASS_NAMES)), len(CLASS_NAMES))
    table: dict[str, list[Any]] = {"class": list(CLASS_NAMES), "images": [IMAGES] * len(CLASS_NAMES)}
    right = [share + (index < more) for index in range(len(CLASS_NAMES))]
    for index, name in enumerate(CLASS_NAMES):
        answers = [0] * len(CLASS_NAMES)
        # The wrong answers of each class are the next one's name.
        answers[index], answers[index - 1] = right[index], IMAGES - right[index - 1]
        table[f"answered {name}"] = answers
    return table


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
