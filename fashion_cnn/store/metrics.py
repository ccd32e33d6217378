"""A run's metrics as MLflow is to show them: which one comes first, at which step, and which stand among the system's.

It opens the compare page on the metric that was logged first, draws a bar per run of one that is at step 0 and single
dots of one at a later step, and has a tab of its own for names that start with `system/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from fashion_cnn.evidence.record import EPOCH_METRICS
from fashion_cnn.store.connection import metric

if TYPE_CHECKING:
    from mlflow.entities import Metric

FIRST: Final = "test_accuracy"
ONCE: Final = 0  # the step of what is measured once a run
SYSTEM: Final = ("peak_memory_mib", "other_load")
"""Logged a second time, as `system/<name>`, for the eye alone: no record holds the copy."""


def of_epoch(values: Mapping[str, float], at: int, epoch: int) -> list[Metric]:
    """The metrics of an epoch, measured `at` a time in ms since 1970; the values are given by name."""
    names = sorted(EPOCH_METRICS, key=lambda name: name != FIRST)
    return [metric(name, values[name], at, epoch) for name in names]


def of_run(values: Mapping[str, float], at: int) -> list[Metric]:
    """The metrics of a run as a whole, as those of an epoch."""
    copies = {f"system/{name}": values[name] for name in SYSTEM if name in values}
    return [metric(name, value, at, ONCE) for name, value in {**values, **copies}.items()]
