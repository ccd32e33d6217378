"""Arms whose replays have other bits than their records: when they are equivalent, and what a program is told."""

from __future__ import annotations

from typing import Any

import pytest

from fashion_cnn.review.comparison import Change, Comparison, Difference, Result
from fashion_cnn.review.equivalence import MARGIN, equivalences

THREADS = Change("threads", 1, 2)
WRONG = Difference(1, "loss", 0.5, 0.6)


def replayed(seed: int, difference: float, **known: Any) -> Comparison:
    """A run whose replay ends with a test accuracy that is another by so much."""
    results = (Result("test_loss", 0.3, 0.9), Result("test_accuracy", 0.9, 0.9 + difference))
    known = {"differences": (WRONG,), "environment": (THREADS,), "results": results, **known}
    return Comparison("1" * 32, "filter_study", "16 filters", str(seed), 2, 2, **known)


SMALL = (0.001, -0.001, 0.002, -0.002, 0.0, 0.001)


def test_small_differences_of_six_seeds_are_equivalent() -> None:
    (arm,) = equivalences([replayed(seed, by) for seed, by in enumerate(SMALL)])
    assert (arm.study, arm.arm, arm.seeds, arm.holds, arm.answer) == (
        "filter_study",
        "16 filters",
        6,
        True,
        "EQUIVALENT",
    )
    assert arm.mean == pytest.approx(sum(SMALL) / 6)
    half = 2.015048373 * (sum((by - arm.mean) ** 2 for by in SMALL) / 5 / 6) ** 0.5  # t(0.95, 5)
    assert (arm.low, arm.high) == pytest.approx((arm.mean - half, arm.mean + half))
    assert str(arm).startswith(
        "EQUIVALENT: filter_study: 16 filters: n = 6, mean difference replayed - recorded of test"
    )
    assert "+0.0002 (90 % interval -0.0010 to +0.0014), within ± 0.005" in str(arm)


def test_five_seeds_are_too_few() -> None:
    (arm,) = equivalences([replayed(seed, by) for seed, by in enumerate(SMALL[:5])])
    assert not arm.holds and str(arm).endswith("not shown to be within ± 0.005; the test needs 6 seeds")


def test_one_seed_has_no_interval() -> None:
    (arm,) = equivalences([replayed(0, 0.001)])
    assert (arm.low, arm.high, arm.holds) == (None, None, False) and "n = 1" in str(arm)


@pytest.mark.parametrize("by", [MARGIN, -MARGIN, 0.02])
def test_a_mean_difference_at_the_margin_or_beyond_is_not(by: float) -> None:
    (arm,) = equivalences([replayed(seed, by + noise) for seed, noise in enumerate(SMALL)])
    assert not arm.holds and arm.answer == "NOT COMPARABLE"


def test_one_forged_accuracy_among_ten_is_enough_to_spoil_it() -> None:
    honest = [replayed(seed, by) for seed, by in enumerate((*SMALL, *SMALL[:3]))]
    assert equivalences(honest)[0].holds and not equivalences([*honest, replayed(9, -0.09)])[0].holds


def test_a_seed_that_was_recorded_twice_counts_once_by_the_larger_difference() -> None:
    (arm,) = equivalences([replayed(0, 0.001), replayed(0, -0.09), replayed(0, 0.002)])
    assert arm.seeds == 1 and arm.mean == pytest.approx(-0.09)


def test_runs_with_the_same_bits_or_another_answer_do_not_count() -> None:
    exact = [replayed(seed, 0.0, differences=()) for seed in range(6)]
    assert equivalences(exact) == []
    (arm,) = equivalences([*exact, replayed(7, 0.001), replayed(8, 0.5, environment=())])
    assert arm.seeds == 1


def test_json_has_the_margin() -> None:
    (arm,) = equivalences([replayed(seed, by) for seed, by in enumerate(SMALL)])
    assert arm.as_dict().items() >= {"answer": "EQUIVALENT", "seeds": 6, "margin": MARGIN, "holds": True}.items()
