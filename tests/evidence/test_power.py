"""The number of seeds rests on simulated studies, and docs/power.md says what they say."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from experiments import STUDIES
from fashion_cnn.claims import Claim, Equivalent, Higher, NotTested, Stops
from fashion_cnn.evidence.power import Chances, found_difference, power
from fashion_cnn.reports import power as tables
from fashion_cnn.reports.publish import PILOT
from fashion_cnn.reports.readme import render
from tests.support.command import REPOSITORY

PAGE = REPOSITORY / "docs" / "power.md"
NOISE = np.array([0.3, -0.2, 0.1, 0.4, -0.5, 0.2, -0.1, -0.3, 0.0, 0.1]) / 100  # of ten seeds; their mean is 0
SD = float(NOISE.std(ddof=1))
BETTER = Higher("test_accuracy", "a", than="b", says="a is better")
ALIKE = Equivalent("test_accuracy", "a", "b", within=0.005, says="a is as good")


def pilot(difference: float) -> pd.DataFrame:
    """Ten seeds of two arms whose accuracies differ by that."""
    values = {"a": 0.9 + difference + NOISE, "b": np.full(10, 0.9)}
    rows = [
        {"arm": arm, "seed": seed, "test_accuracy": value, "epochs_trained": 7.0}
        for arm, of_arm in values.items()
        for seed, value in enumerate(of_arm)
    ]
    return pd.DataFrame(rows)


def chances(claims: list[Claim], difference: float, seeds: int = 20, overlap: float = 0.0) -> Chances:
    return power(claims, pilot(difference), seeds, overlap)[0].chances


def test_without_a_difference_it_is_the_error_rate_and_with_a_large_one_certain() -> None:
    assert chances([BETTER], 0.0).supported == pytest.approx(0.05, abs=0.01)
    assert chances([BETTER], 0.0).contradicted == pytest.approx(0.05, abs=0.01)
    assert chances([BETTER], 0.01).supported == 1
    assert chances([BETTER], -0.01).contradicted == 1


@pytest.mark.parametrize("wanted", [0.8, 0.9])
@pytest.mark.parametrize("claims", [[BETTER], [BETTER, ALIKE]], ids=len)
def test_the_difference_that_is_found_so_often_is(claims: list[Claim], wanted: float) -> None:
    assert chances(claims, found_difference(claims, SD, 20, wanted)).supported == pytest.approx(wanted, abs=0.015)


def test_more_seeds_decide_more_and_splits_that_overlap_less() -> None:
    few, many, split = (chances([BETTER], 0.0015, *how).supported for how in ((10,), (40,), (40, 1 / 6)))
    assert split < few < many


def test_a_sentence_is_supported_as_often_as_all_of_its_parts_are_at_once() -> None:
    said = [Higher("test_accuracy", "a", than="b", margin=margin, says="both") for margin in (0.0, 0.002)]
    (sentence,) = power([*said, NotTested("no", why="no")], pilot(0.0025), 20)
    assert sentence.parts[1].chances.supported == sentence.chances.supported  # it implies the other
    assert sentence.chances.undecided == pytest.approx(1 - sentence.chances.supported, abs=0.01)


def test_that_the_pilot_may_err_makes_a_certain_verdict_less_certain() -> None:
    (sentence,) = power([BETTER], pilot(0.002), 20)
    assert sentence.unsure.undecided > sentence.chances.undecided
    assert sentence.unsure.contradicted > 0


def test_a_callback_that_always_stopped_will() -> None:
    assert chances([Stops("a", before=10, says="stops")], 0.0) == Chances(1.0, 0.0)


def test_what_a_part_shows_is_the_pilots() -> None:
    (part,) = power([BETTER], pilot(0.002), 20)[0].parts
    assert (part.mean, part.sd) == pytest.approx((0.002, SD))
    assert part.half == pytest.approx(1.729133 * SD / math.sqrt(20), rel=1e-5)  # t(0.95, 19) from a printed table


def test_the_page_is_what_the_pilots_runs_give() -> None:
    page = PAGE.read_text(encoding="utf-8")
    made = tables.parts(STUDIES, (REPOSITORY / PILOT).read_bytes())
    assert render(page, made) == page, "fashion-cnn results --pages writes it"
    assert "Confirmation: 20 seeds, 10 to 29." in page


def test_each_sentence_that_is_tested_is_in_one_of_the_tables() -> None:
    made = tables.parts(STUDIES, (REPOSITORY / PILOT).read_bytes())
    text = "\n".join(made[name]() for name in ("power_parts", "power_unknown"))
    claims = [claim for study in STUDIES for claim in study.claims if not isinstance(claim, NotTested)]
    assert [str(claim) for claim in claims if f"| {claim} |" not in text] == []
