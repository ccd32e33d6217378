"""What passes between the runner and a worker, as plain data: a job in, a stream of events out.

Nothing here imports TensorFlow, so the process that records never has to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fashion_cnn.environment import Arithmetic
from fashion_cnn.state import State


def is_drawn(epoch: int) -> bool:
    """Whether feature maps are drawn after this epoch in any case: 0 (untrained), 1, 2, 5, 10, 15, 20 and so on.

    MLflow's image grid starts at step 0, so that without an image there it opens empty.
    """
    return epoch in (1, 2) or epoch % 5 == 0


@dataclass(frozen=True)
class Identity:
    """The three hashes that a trajectory's states were trained under."""

    data_sha256: str
    code_sha256: str
    environment_sha256: str


@dataclass(frozen=True)
class Job:
    """What a worker is to do: extend one trajectory until every stopping rule has its cut."""

    settings: Mapping[str, Any]
    """The canonical form of a `RunConfig`; its stopping rule plays no part."""
    rules: tuple[Mapping[str, Any], ...]
    """Canonical configs that differ in their stopping rules only: one cut is made for each."""
    seed: int
    data_dir: str
    images: tuple[int, int] | None
    """Training and test images to use, counted from the first (a smoke run), or None for all."""
    state: State | None = None
    """Where to resume; None starts at epoch 0."""
    history: tuple[Mapping[str, float], ...] = ()
    """The metrics of each epoch known so far; may extend beyond `state`."""
    past_cuts: tuple[State, ...] = ()
    """States (their optimizer empty) before `state` that are still to be evaluated."""
    done_cuts: frozenset[int] = frozenset()
    """Epochs whose cut is already recorded."""
    device: str = "cpu"
    arithmetic: Arithmetic = "portable"


@dataclass(frozen=True)
class Problems:
    """What a worker may be given in place of a job: problems with known answers, of which it sends a mapping."""

    names: tuple[str, ...]
    arithmetic: Arithmetic = "portable"


@dataclass(frozen=True)
class Started:
    """The worker has loaded its data and compiled its network."""

    identity: Identity
    node: str
    parameters: int
    """Trainable parameters."""
    model_summary: str
    trace_seconds: float
    machine: Mapping[str, Any] | None = None
    """Where it trains, as `environment.machine` describes it; None where a folder is older than that."""


@dataclass(frozen=True)
class EpochDone:
    """One epoch was trained and the state after it evaluated on the test images."""

    state: State
    weights_sha256: str
    metrics: Mapping[str, float]
    """`loss`, `accuracy`, `test_loss`, `test_accuracy`, `epoch_seconds`, `epoch_cpu_seconds`, `images_per_second`."""
    ended_at: int
    """Milliseconds since 1970, for the time axis only; durations come from monotonic clocks."""
    identity: Identity
    other_load: float | None = None
    """Cores that processes other than this call's workers kept busy meanwhile, in the mean; None where unknown."""

    @property
    def epoch(self) -> int:
        """The epoch trained, counted from 1."""
        return self.state.epoch


@dataclass(frozen=True)
class Drawn:
    """What the layers make of one test image after an epoch."""

    epoch: int
    sheets: Mapping[str, bytes] = field(repr=False)
    """By layer: a PNG of all its channels."""


@dataclass(frozen=True)
class CutDone:
    """What a run that ends at this epoch leaves behind."""

    epoch: int
    weights_sha256: str
    evaluate_seconds: float
    peak_memory_mib: float
    """The worker's highest resident memory so far."""
    files: Mapping[str, bytes] = field(repr=False)
    """By name: `model.keras`, `predictions.npz`, `per_class.json`, `activations.npz` (cnn only), the figures as PNG."""
    drawing_error: str = ""
    """Why figures or feature maps are missing, of this epoch or one before: the first reason, or nothing."""


@dataclass(frozen=True)
class Failed:
    """The worker had to stop."""

    reason: str
    """One line."""
    traceback: str = ""


Event = Started | EpochDone | Drawn | CutDone | Failed
