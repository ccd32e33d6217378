"""Call the command line as a user does: a real process, a store and data of its own."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd

from experiments import POST_RESULTS, STUDIES
from fashion_cnn.cli import console
from fashion_cnn.environment import KERNELS
from fashion_cnn.store.address import resolve
from fashion_cnn.store.tracking import Store
from fashion_cnn.store.trajectories import Trajectory, trajectories
from tests.support.templates import shared_template

REPOSITORY = Path(__file__).resolve().parents[2]
SMOKE = ("run", "baseline_study", "--smoke")


@dataclass(frozen=True)
class Lab:
    """A store in a folder, and the data that its runs use."""

    folder: Path
    data: Path

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def published(self) -> Path:
        """Where `call` finds published results, and puts them."""
        return self.folder / "results"

    @property
    def variables(self) -> dict[str, str]:
        users = {name: value for name, value in os.environ.items() if name not in KERNELS["portable"]}
        return {**users, "MLFLOW_TRACKING_URI": self.uri, "FASHION_MNIST_DIR": str(self.data)}

    def command(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "experiments", *map(str, words)]

    def start(self, *words: object) -> subprocess.Popen[str]:
        """Start a command without waiting for it; whoever does ends it."""
        return subprocess.Popen(
            self.command(*words),
            cwd=REPOSITORY,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *words: object, status: int = 0) -> str:
        """Run a command in this process, which spares importing MLflow; its workers are processes all the same,
        forked from a template that such calls share, which spares importing TensorFlow.

        It must end with this status. Returns what it printed, errors last.
        """
        printed, errors = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.variables),
            mock.patch("fashion_cnn.running.executor.Template", shared_template),
            redirect_stdout(printed),
            redirect_stderr(errors),
        ):
            ended = console(STUDIES, POST_RESULTS, self.published, [str(word) for word in words])
        assert ended == status, f"status {ended}\n{printed.getvalue()}\n{errors.getvalue()}"
        return printed.getvalue() + errors.getvalue()

    def complaint(self, *words: object) -> str:
        """The one line by which a command says that it cannot be done."""
        said = self.call(*words, status=2)
        assert said.startswith("error: ") and said.count("\n") == 1
        return said

    def call_process(self, *words: object) -> str:
        """Run a command in a process of its own; it must end well."""
        process = self.start(*words)
        printed, errors = process.communicate(timeout=600)
        assert process.returncode == 0, f"status {process.returncode}\n{printed}\n{errors}"
        return printed + errors

    def store(self) -> Store:
        return Store(resolve(self.uri, REPOSITORY))

    def runs(self, *studies: str) -> pd.DataFrame:
        return self.store().runs(studies or None)

    def weights(self) -> dict[tuple[str, str, str], str]:
        """The hash of each run's weights."""
        rows = self.runs().to_dict("records")
        return {(row["study"], row["arm"], row["seed"]): row["weights_sha256"] for row in rows}

    def trajectories(self) -> list[Trajectory]:
        return trajectories(self.folder / "trajectories")

    def artifact(self, run_id: str, name: str) -> Path:
        return Path(self.store().client.download_artifacts(run_id, name))

    def json_artifact(self, run_id: str, name: str) -> Any:
        return json.loads(self.artifact(run_id, name).read_text(encoding="utf-8"))

    def images(self, run_id: str) -> dict[tuple[str, int], int]:
        """How many images of each layer and step a run has in MLflow's image grid."""
        images: Counter[tuple[str, int]] = Counter()
        for item in self.store().client.list_artifacts(run_id, "images"):
            match = re.fullmatch(r"images/feature_maps~(\w+)\+step\+(\d+)\+timestamp\+\d+\+[0-9a-f-]+\.png", item.path)
            if match:
                images[match[1], int(match[2])] += 1
        return dict(images)
