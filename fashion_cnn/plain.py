"""Record: a plain `fit` of Keras', logged into the store under the names that runs have here. It is no evidence."""

from __future__ import annotations

import atexit
import math
import time
from collections.abc import Mapping
from typing import Any, Final

from fashion_cnn.environment import own_kernels

own_kernels()  # before Keras is imported: a ModelBuilder may be used in this process, too

import keras  # noqa: E402

from fashion_cnn.checkout import REPOSITORY  # noqa: E402
from fashion_cnn.config import RunConfig  # noqa: E402
from fashion_cnn.store.address import StoreError, resolve  # noqa: E402
from fashion_cnn.store.connection import Connection, metric  # noqa: E402
from fashion_cnn.store.description import NOTE  # noqa: E402
from fashion_cnn.study import ad_hoc  # noqa: E402
from fashion_cnn.terminal import complain  # noqa: E402

NAMES: Final = {
    "loss": "loss",
    "accuracy": "accuracy",
    "val_loss": "test_loss",
    "val_accuracy": "test_accuracy",
}
"""What Keras calls the scores of an epoch, and what they are called here."""
NO_EVIDENCE: Final = (
    "Logged by fashion_cnn.Record from a plain fit: no evidence. It has no config, state or hash, so nothing of it can "
    "be replayed, and no table or claim counts it."
)


class Record(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Logs a `fit` of any Keras model into the store: for looking at it beside runs in MLflow, not for evidence.

    Per epoch, from step 1: `loss`, `accuracy`, `test_loss`, `test_accuracy` (where the fit has `validation_data`: the
    test images, so that nothing may be chosen by it), `epoch_seconds`, `epoch_cpu_seconds` (training alone; the first
    epoch's hold Keras' tracing). Once: `epochs_trained`, `fit_seconds`, `fit_cpu_seconds`. Params: `epochs`,
    `parameters` and `learning_rate` as far as Keras tells them, and what it was given. The tag `evidence` is `none`.
    A store that fails meanwhile stops the logging, not the training.

    Attributes:
        run_id: MLflow's, once a fit began; each fit is a run of its own.
    """

    def __init__(
        self,
        name: str = "plain fit",
        *,
        settings: Mapping[str, Any] | None = None,
        tracking_uri: str | None = None,
    ) -> None:
        """Nothing is opened before a fit begins.

        Args:
            name: of the run, and its tag `arm`; the experiment is that of single runs.
            settings: logged as params, such as `{"filters": 16, "seed": 3}`.
            tracking_uri: of the store; by default MLFLOW_TRACKING_URI, else the repository's own.
        """
        super().__init__()
        self.run_id: str | None = None
        self._name, self._settings, self._uri = name, dict(settings or {}), tracking_uri
        self._store: Connection | None = None
        self._began = self._spent = (0.0, 0.0)
        self._epochs: list[tuple[float, float]] = []

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Start a run.

        Raises:
            StudyError: the name cannot be that of an arm.
            StoreError: the store cannot be used; nothing was trained yet.
        """
        self._abandon()
        store = Connection(resolve(self._uri, REPOSITORY))
        study = ad_hoc({self._name: RunConfig()})
        tags = {"study": study.name, "arm": self._name, "evidence": "none", NOTE: NO_EVIDENCE}
        with store.errors():
            experiment = store.experiment(study.name, study.question)
            run = store.client.create_run(experiment, tags=tags, run_name=self._name)
            self.run_id = str(run.info.run_id)
            store.log(self.run_id, params={name: str(value) for name, value in self._known().items()})
        self._store, self._epochs = store, []
        atexit.register(self._abandon)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock."""
        self._began, self._spent = _clocks(), (0.0, 0.0)

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Stop it: what follows is no training."""
        self._stop_clock()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Log the epoch. Keras counts it from 0."""
        self._stop_clock()
        self._epochs.append(self._spent)
        seconds, cpu_seconds = self._spent
        values = {NAMES[name]: float(value) for name, value in (logs or {}).items() if name in NAMES}
        self._log({**values, "epoch_seconds": seconds, "epoch_cpu_seconds": cpu_seconds}, epoch + 1)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Log the sums, and end the run."""
        seconds, cpu_seconds = (sum(part[clock] for part in self._epochs) for clock in (0, 1))
        values = {"epochs_trained": len(self._epochs), "fit_seconds": seconds, "fit_cpu_seconds": cpu_seconds}
        self._log(values, 0)
        self._end("FINISHED")

    def _known(self) -> dict[str, Any]:
        """What there is to say of the fit before it begins."""
        known: dict[str, Any] = {"epochs": (self.params or {}).get("epochs")}
        if self.model.built:
            known["parameters"] = sum(math.prod(variable.shape) for variable in self.model.trainable_variables)
        rate = getattr(self.model.optimizer, "learning_rate", None)
        known["learning_rate"] = None if rate is None else f"{float(rate):.6g}"  # 32 bits of it
        return {**{name: value for name, value in known.items() if value is not None}, **self._settings}

    def _stop_clock(self) -> None:
        """Note what the epoch took, unless its validation began already."""
        if self._spent == (0.0, 0.0):
            (wall, cpu), (began, cpu_began) = _clocks(), self._began
            self._spent = (wall - began, cpu - cpu_began)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        if self._store is None or self.run_id is None:
            return
        now = time.time_ns() // 1_000_000
        try:
            with self._store.errors():
                self._store.log(self.run_id, [metric(name, value, now, step) for name, value in values.items()])
        except StoreError as error:
            complain(f"{error}; the rest of this fit is not logged")
            self._store = None

    def _end(self, status: str) -> None:
        """End the run, if there is one under way."""
        atexit.unregister(self._abandon)
        store, self._store = self._store, None
        if store is None or self.run_id is None:
            return
        try:
            with store.errors():
                store.client.set_terminated(self.run_id, status)
        except StoreError as error:
            complain(f"{error}; the run {self.run_id} stays open there")

    def _abandon(self) -> None:
        """End a fit that was broken off: Keras calls nothing then."""
        self._end("KILLED")


def _clocks() -> tuple[float, float]:
    """Wall and processor seconds, each from its own start."""
    return time.perf_counter(), time.process_time()
