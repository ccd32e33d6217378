"""How likely it is that a number of seeds decides claims, by what a pilot saw: simulated studies, before any is run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fashion_cnn.claims import Claim, Stops, Test
from fashion_cnn.evidence.statistics import confidence_of, judge, sample, tested
from fashion_cnn.intervals import half_width, share_interval

if TYPE_CHECKING:
    import pandas as pd

    from fashion_cnn.claims import Floats
    from fashion_cnn.evidence.statistics import Bools

DRAWS: Final = 4_000
"""Simulated studies; a probability has a standard error of at most 0.008."""


@dataclass(frozen=True)
class Chances:
    """How often some simulated studies support and contradict a sentence, or a part of one."""

    supported: float
    contradicted: float

    @property
    def undecided(self) -> float:
        """How often they do neither."""
        return 1 - self.supported - self.contradicted


@dataclass(frozen=True)
class PartPower:
    """What becomes of a claim."""

    claim: Test
    mean: float
    """Of the pilot's `statistics.sample`; in logarithms where the claim is `relative`."""
    sd: float
    half: float
    """Half the interval that decides, at this standard deviation."""
    chances: Chances


@dataclass(frozen=True)
class SentencePower:
    """What becomes of a sentence."""

    says: str
    chances: Chances
    """As if the pilot's means and covariance were the true ones."""
    unsure: Chances
    """The same, but the true ones lie as far from the pilot's as its few seeds leave open."""
    parts: tuple[PartPower, ...]


def power(
    claims: Sequence[Claim], pilot: pd.DataFrame, seeds: int, overlap: float = 0.0, variance: float = 1.0
) -> list[SentencePower]:
    """What so many seeds would make of a study's claims.

    Each simulated study draws its seeds from the normal distribution with the mean and covariance that the pilot's
    seeds have over all parts, and is decided by the procedure of `statistics.decide`.

    Args:
        claims: of one study.
        pilot: its runs, as `statistics.decide` takes them; each arm that is claimed of has the same seeds.
        seeds: how many each simulated study has.
        overlap: see `intervals.half_width`. The simulated splits depend on each other as much as it says.
        variance: by how much to multiply the pilot's.
    """
    import numpy as np

    parts = tested(claims)
    found = np.array([sample(claim, pilot).values for claim in parts])
    mean, known = found.mean(axis=1), found.shape[1]
    centred = (found - mean[:, None]).T * math.sqrt(variance / (known - 1))
    rng = np.random.default_rng([seeds, len(parts)])
    shared = overlap / (1 + overlap)  # the correlation of two seeds that such an overlap stands for
    own = (rng.normal(size=(DRAWS * seeds, known)) @ centred).reshape(DRAWS, seeds, len(parts))
    common, off = ((rng.normal(size=(DRAWS, known)) @ centred)[:, None] for _ in range(2))
    noise = math.sqrt(1 - shared) * own + math.sqrt(shared) * common
    # The true mean and scale given the pilot, as of a normal distribution without prior knowledge of either.
    scale = np.sqrt((known - 1) / rng.chisquare(known - 1, size=(DRAWS, 1, 1)))
    confidence = confidence_of(claims)
    verdicts = _judged(parts, mean + noise, confidence, overlap)
    unsure = _judged(parts, mean + scale * (noise + off / math.sqrt(known)), confidence, overlap)
    half = half_width(1.0, seeds, confidence, overlap)
    deviations = found.std(axis=1, ddof=1) * math.sqrt(variance)
    each = [
        PartPower(claim, float(middle), float(sd), half * float(sd), _chances([verdict]))
        for claim, middle, sd, verdict in zip(parts, mean, deviations, verdicts, strict=True)
    ]
    return [
        SentencePower(
            says,
            _chances([verdict for claim, verdict in zip(parts, verdicts, strict=True) if claim.says == says]),
            _chances([verdict for claim, verdict in zip(parts, unsure, strict=True) if claim.says == says]),
            tuple(part for part in each if part.claim.says == says),
        )
        for says in dict.fromkeys(claim.says for claim in parts)
    ]


def _judged(parts: Sequence[Test], values: Floats, confidence: float, overlap: float) -> list[tuple[Bools, Bools]]:
    """Of each part, which of the simulated studies (values: study, seed, part) support and which contradict it."""
    import numpy as np

    seeds = values.shape[1]
    half = half_width(1.0, seeds, confidence, overlap)
    ends = np.array([share_interval(count, seeds, confidence) for count in range(seeds + 1)])
    judged = []
    for number, claim in enumerate(parts):
        of_part = values[:, :, number]
        if isinstance(claim, Stops):
            low, high = ends[(of_part < claim.before).sum(axis=1)].T
        else:
            middle, sd = of_part.mean(axis=1), of_part.std(axis=1, ddof=1)
            low, high = middle - half * sd, middle + half * sd
        judged.append(judge(claim, low, high))
    return judged


def _chances(parts: Sequence[tuple[Bools, Bools]]) -> Chances:
    """Of a sentence: supported where all parts are, contradicted where one is."""
    import numpy as np

    supported = np.all([for_ for for_, _ in parts], axis=0)
    contradicted = np.any([against for _, against in parts], axis=0)
    return Chances(float(supported.mean()), float(contradicted.mean()))


def found_difference(claims: Sequence[Claim], sd: float, seeds: int, wanted: float) -> float:
    """How far beyond its margin a difference must lie for a part to be decided with the probability `wanted`.

    The noncentral t distribution's answer, for differences with the standard deviation `sd`.
    """
    from scipy import special

    critical = half_width(1.0, seeds, confidence_of(claims)) * math.sqrt(seeds)
    return float(special.nctdtrinc(seeds - 1, 1 - wanted, critical)) * sd / math.sqrt(seeds)
