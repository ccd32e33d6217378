"""A store full of made-up runs: never trained, but their records are complete, so that a report takes every one."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np

from experiments import STUDIES
from fashion_cnn.architecture import parameter_count
from fashion_cnn.config import RunConfig, hash_of, trajectory_sha256
from fashion_cnn.data import CLASS_NAMES, FASHION_MNIST, FASHION_MNIST_SHA256
from fashion_cnn.environment import code_files, files_sha256, fingerprint, packages
from fashion_cnn.evidence.record import EPOCH_METRICS, HASHES, RUN_METRICS
from fashion_cnn.study import Study

IMAGES = 1000  # of each class, tested
COMMIT = "0" * 40


class Filler:
    """Puts made-up runs into a store, with the texts of a record at the size of real ones; without pictures or model.

    Artifacts that lie on this machine are written straight to their place, because MLflow's client would take longer
    for them than all else takes; a server gets them from the client.
    """

    def __init__(self, store: Any) -> None:
        """A filler for a `tracking.Store`."""
        self._store = store
        self._arms = [(study, arm) for study in STUDIES for arm in study.arms]
        self._environment, self._code = fingerprint(threads=1), code_files()
        self._packages = "".join(f"{one}\n" for one in packages())

    def fill(self, numbers: range) -> None:
        """Put these of all made-up runs into the store, arm after arm and seed after seed."""
        for number in numbers:
            study, arm = self._arms[number % len(self._arms)]
            self._put(study, arm, number // len(self._arms), number)

    def _put(self, study: Study, arm: str, seed: int, number: int) -> None:
        from mlflow.entities import Metric, Param, RunTag

        config, client = study.arms[arm], self._store.client
        epochs = _epochs(config, np.random.default_rng(number))
        last, cut = len(epochs), config.cut([one["loss"] for one in epochs])
        assert cut is not None
        measured = {
            "fit_seconds": sum(one["epoch_seconds"] for one in epochs),
            "fit_cpu_seconds": sum(one["epoch_cpu_seconds"] for one in epochs),
            **{"trace_seconds": 2.5, "evaluate_seconds": 1.25, "peak_memory_mib": 900.5},
            **{"epochs_trained": float(last), "reused_epochs": 0.0},
        }
        basis = {
            "data_sha256": FASHION_MNIST_SHA256,
            "code_sha256": files_sha256(self._code),
            "environment_sha256": hash_of(self._environment),
        }
        basis["trajectory_sha256"] = trajectory_sha256(config, seed, **basis)
        texts = self._texts(config, seed, epochs, measured, basis)
        tags = {"study": study.name, "arm": arm, "seed": str(seed), "smoke": "false", "reuse": "on", **basis}
        tags |= {"config_sha256": config.sha256(), "weights_sha256": epochs[-1]["weights_sha256"]}
        tags |= {"artifacts_sha256": _sha256(texts[HASHES]), "record": str(number), "node": "made up", "workers": "1"}
        tags |= {"git_commit": COMMIT, "git_dirty": "false"}
        experiment = self._store.experiment(study.name, study.question)
        run = client.create_run(experiment, number, tags, f"{arm} · seed {seed}").info
        values = [Metric(name, one[name], 0, one["epoch"]) for one in epochs for name in EPOCH_METRICS]
        values += [Metric(name, measured[name], 0, last) for name in RUN_METRICS]
        params = {**config.params(), "seed": str(seed), "parameters": str(parameter_count(config))}
        told = [Param(name, value) for name, value in params.items()]
        client.log_batch(run.run_id, values, told, [RunTag("stop_reason", cut.reason)])
        self._keep(run, texts)
        client.create_logged_model(experiment, config.model, run.run_id, tags={"study": study.name, "arm": arm})
        client.set_terminated(run.run_id, "FINISHED", end_time=number + 1)

    def _keep(self, run: Any, texts: Mapping[str, str]) -> None:
        place = urlsplit(run.artifact_uri)
        with tempfile.TemporaryDirectory() as aside:
            folder = Path(url2pathname(place.path) if place.scheme == "file" else aside)
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in texts.items():
                (folder / name).write_text(text, encoding="utf-8")
            if place.scheme != "file":
                self._store.client.log_artifacts(run.run_id, aside)

    def _texts(
        self,
        config: RunConfig,
        seed: int,
        epochs: Sequence[Mapping[str, Any]],
        measured: Mapping[str, float],
        hashes: Mapping[str, str],
    ) -> dict[str, str]:
        """The artifacts of a run by name, as `tracking` writes them."""
        values: dict[str, Any] = {
            "config.json": {**config.canonical(), "seed": seed},
            "environment.json": {
                "fingerprint": self._environment,
                "sha256": hashes["environment_sha256"],
                "checkout": {"commit": COMMIT, "dirty": False, "remote": None},
            },
            "trajectory.json": {
                "settings": config.training_settings(),
                "seed": seed,
                **hashes,
                "images": None,
                "data_files": dict(FASHION_MNIST.file_sha256),
                "code_files": self._code,
                "run": measured,
                "epochs": epochs,
            },
            "per_class.json": _per_class(epochs[-1]["test_accuracy"]),
        }
        texts = {name: json.dumps(value, indent=1) + "\n" for name, value in values.items()}
        texts |= {"requirements.txt": self._packages, "model_summary.txt": "made up\n"}
        texts[HASHES] = json.dumps({name: _sha256(text) for name, text in sorted(texts.items())}, indent=1) + "\n"
        return texts


def _epochs(config: RunConfig, random: np.random.Generator) -> list[dict[str, Any]]:
    """Made-up epochs up to the one at which the config's stopping rule ends them."""
    epochs: list[dict[str, Any]] = []
    while config.cut([one["loss"] for one in epochs]) is None:
        epoch, noise = len(epochs) + 1, 0.01 * random.random(len(EPOCH_METRICS))
        right = IMAGES * len(CLASS_NAMES) * (0.9 - 0.1 / epoch + noise[3])
        seconds = float(8 + noise[4])
        epochs.append(
            {
                "epoch": epoch,
                "loss": float(0.1 + 0.4 / epoch + noise[0]),
                "accuracy": float(0.95 - 0.1 / epoch + noise[1]),
                "test_loss": float(0.3 + 0.2 / epoch + noise[2]),
                "test_accuracy": round(right) / (IMAGES * len(CLASS_NAMES)),
                "epoch_seconds": seconds,
                "epoch_cpu_seconds": 0.9 * seconds,
                "images_per_second": 60_000 / seconds,
                "weights_sha256": _sha256(f"{epoch} {noise.tobytes().hex()}"),
                "ended_at": 0,
            }
        )
    return epochs


def _per_class(test_accuracy: float) -> dict[str, Any]:
    """A table in which the first classes have one right answer more, so that the share of right ones is this."""
    share, more = divmod(round(test_accuracy * IMAGES * len(CLASS_NAMES)), len(CLASS_NAMES))
    rows = []
    for place, name in enumerate(CLASS_NAMES):
        answers = [0] * len(CLASS_NAMES)
        answers[place] = share + (place < more)
        answers[(place + 1) % len(CLASS_NAMES)] = IMAGES - answers[place]
        rows.append([name, IMAGES, *answers])
    return {"columns": ["class", "images", *(f"answered {name}" for name in CLASS_NAMES)], "data": rows}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
