"""What the bars count: a worker's in its epochs, the one for all in epochs of all images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from experiments import STUDIES
from fashion_cnn.config import CNN
from fashion_cnn.running.plan import plan, select_runs, whole_epoch
from fashion_cnn.running.progress import TrainingProgress


def counted(bars: TrainingProgress) -> list[tuple[float, float | None]]:
    """How far each bar is, and of how much; the one for all first."""
    return [(task.completed, task.total) for task in bars._bars.tasks]


@pytest.mark.parametrize(
    ("changes", "part"), [({}, 1.0), ({"training_images": 7_500}, 0.125), ({"augmentation": "mirror"}, 2.0)]
)
def test_an_epoch_counts_by_its_images(changes: dict[str, Any], part: float) -> None:
    assert whole_epoch(replace(CNN, **changes)) == part
    bars = TrainingProgress(10 * part)
    bars.begin("a worker", "a trajectory", 10, 2, part)
    bars.epoch("a worker", {"test_accuracy": 0.9})
    assert counted(bars) == [(3 * part, 10 * part), (3, 10)]


def test_the_bar_for_all_ends_full_whatever_the_sizes_of_the_epochs() -> None:
    todo = plan(select_runs(STUDIES))
    bars = TrainingProgress(sum(planned.whole_epochs for planned in todo.trajectories))
    for worker, planned in enumerate(todo.trajectories):
        bars.begin(worker, "a trajectory", planned.epochs, 0, whole_epoch(planned.config))
        for _ in range(planned.epochs):
            bars.epoch(worker, {"test_accuracy": 0.9})
        bars.end(worker)
    ((done, total),) = counted(bars)
    assert done == total
