"""Whether an arm's replays are equivalent to its records where their bits differ for a known reason. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np

from fashion_cnn.claims import ALPHA
from fashion_cnn.evidence.statistics import MIN_PAIRS
from fashion_cnn.intervals import mean_interval
from fashion_cnn.review.comparison import Comparison

MEASURE: Final = "test_accuracy"
MARGIN: Final = 0.005
"""Mean differences within ± this count as none: the studies' own margin for "as accurate as"."""


@dataclass(frozen=True)
class ArmEquivalence:
    """An arm's test accuracy in its replays against that in its records, paired by seed."""

    study: str
    arm: str
    seeds: int
    mean: float
    """Replayed minus recorded."""
    low: float | None
    """Of the 90 % interval of the mean, which two one-sided tests at 5 % place within the margin; None for one seed."""
    high: float | None
    holds: bool
    """Whether the tests place the mean within the margin, over at least `MIN_PAIRS` seeds."""

    @property
    def answer(self) -> Literal["EQUIVALENT", "NOT COMPARABLE"]:
        """What the replays say of the arm."""
        return "EQUIVALENT" if self.holds else "NOT COMPARABLE"

    def __str__(self) -> str:
        interval = "" if self.low is None else f" (90 % interval {self.low:+.4f} to {self.high:+.4f})"
        few = f"; the test needs {MIN_PAIRS} seeds" if self.seeds < MIN_PAIRS else ""
        within = f"{'' if self.holds else 'not shown to be '}within ± {MARGIN}"
        return (
            f"{self.answer}: {self.study}: {self.arm}: n = {self.seeds}, mean difference replayed - recorded of "
            f"{MEASURE.replace('_', ' ')} {self.mean:+.4f}{interval}, {within}{few}"
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"answer": self.answer, **asdict(self), "margin": MARGIN}


def equivalences(comparisons: Sequence[Comparison]) -> list[ArmEquivalence]:
    """Of each arm that has runs whose bits differ for a known reason, in order.

    A seed whose bits are the same says nothing of those that are not, so it does not count; of a seed that was recorded
    more than once the larger difference does.
    """
    arms: dict[tuple[str, str], dict[str, float]] = {}
    for comparison in comparisons:
        for result in comparison.results if comparison.answer == "NOT COMPARABLE" else ():
            if result.score == MEASURE:
                seeds = arms.setdefault((comparison.study, comparison.arm), {})
                found = result.replayed - result.recorded
                seeds[comparison.seed] = max(found, seeds.get(comparison.seed, 0.0), key=abs)
    return [_of_arm(*arm, list(seeds.values())) for arm, seeds in arms.items()]


def _of_arm(study: str, arm: str, differences: Sequence[float]) -> ArmEquivalence:
    values = np.array(differences)
    low, high = mean_interval(values, 1 - 2 * ALPHA) if len(values) > 1 else (None, None)
    holds = len(values) >= MIN_PAIRS and low is not None and low >= -MARGIN and high is not None and high <= MARGIN
    return ArmEquivalence(study, arm, len(values), float(values.mean()), low, high, holds)
