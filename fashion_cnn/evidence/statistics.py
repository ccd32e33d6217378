"""The statistics that decide claims over seeds: frames in, verdicts out.

A study states its claims (`fashion_cnn.claims`) before its runs. A sentence has one or more parts, each a claim with
its own test. Arms are compared by the differences within a seed, because runs of one seed share the order of their data
and often more.

Every part has an interval, and the interval decides: a part is supported where all of it agrees with the claim,
contradicted where none of it does, and undecided otherwise. A claim has one margin, or two where it names a range. With
m margins in a study each end of each interval lies on the wrong side of the truth with a probability of alpha / m (a
confidence of 1 - 2 alpha / m). A false part is called supported only where its interval is on the wrong side of one
margin, a true part contradicted only where it is beyond one of its margins. So by Bonferroni's inequality, however the
parts depend on each other, a study calls any part supported though it is false with a probability of at most alpha, and
contradicted though it is true likewise. Over several studies these add up.

Nothing here reads a store or knows what the measures mean.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from fashion_cnn.claims import ALPHA, Between, Claim, ClaimError, Lower, NotTested, Stops, Test
from fashion_cnn.intervals import half_width, share_interval

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from fashion_cnn.claims import Floats

    Bools: TypeAlias = NDArray[np.bool_]

MIN_PAIRS: Final = 6
"""With fewer, not even differences of one sign would be significant in a sign-flip test: 2 / 2 ** 5 is over 0.05."""
ROUNDING: Final = 1e-12
"""How far two values may lie apart that are meant to be equal: what is compared is of the order of 1."""
TIMES: Final = ("fit_seconds", "fit_cpu_seconds")
"""Measures that not every run has, because not all times count."""
MOST_SEEDS: Final = 100_000  # that a part is said to need; more is as good as never
Verdict = Literal["supported", "contradicted", "undecided", "too few seeds", "not tested"]
_DECISIVE: Final[tuple[Verdict, ...]] = ("contradicted", "too few seeds", "undecided", "supported", "not tested")
"""Which verdict on a part decides on the sentence: the first of these."""


@dataclass(frozen=True)
class Part:
    """A claim and what the runs say about it. A value that too few runs leave open is None."""

    claim: Test
    n: int
    """Seeds that have both runs; of `Between` and `Stops`, runs."""
    unpaired: int
    """Seeds that lack the run of an arm or its number, as that of a time that does not count."""
    estimate: float | None
    """The mean difference, `claim.arm` minus the other, or as a share of the other (`claim.relative`: of geometric
    means); of `Between`, the mean; of `Stops`, the share of runs that end before the epoch."""
    low: float | None
    """With `high` the interval of the estimate, which decides."""
    high: float | None
    confidence: float
    """Of that interval: 1 - 2 alpha / m, with the m margins of the study."""
    sd: float | None = None
    """Of the differences (ddof = 1), of their logarithms where they are shares; of `Stops`, None."""
    wins: int = 0
    """Seeds in which the arm's run is higher (`Lower`: lower) than the other; of `Between`, runs between; of `Stops`,
    runs that end before."""
    ties: int = 0
    """Seeds in which both are equal to the last bit."""
    constant: bool = False
    """Whether all differences are the same, so that the difference itself decides."""
    p_for: float | None = None
    """Adjusted as the interval is: at most alpha just where the part is supported."""
    p_against: float | None = None
    """The same: at most alpha just where it is contradicted."""
    seeds_needed: int | None = None
    """Where it is undecided, about how many seeds would decide it if they gave the same estimate and spread; None where
    no number up to `MOST_SEEDS` would."""
    verdict: Verdict = "too few seeds"

    @property
    def note(self) -> str:
        """What a reader must know beside the verdict."""
        return self.claim.note

    @property
    def margins(self) -> tuple[float, ...]:
        """Where the estimate stops agreeing with the claim: one value or two, in order, in the estimate's units."""
        return tuple(end for end in self.claim.holds if math.isfinite(end))

    @property
    def p(self) -> float | None:
        """The adjusted p value of the nearer side."""
        return None if self.p_for is None or self.p_against is None else min(self.p_for, self.p_against)

    @property
    def estimate_text(self) -> str:
        """The estimate in print; "" where there is none."""
        return "" if self.estimate is None else self.claim.written(self.estimate)

    @property
    def sd_text(self) -> str:
        """The spread in print; "" where there is none."""
        return "" if self.sd is None else self.claim.written(self.sd).removeprefix("+")

    @property
    def interval_text(self) -> str:
        """The interval in print, with so many decimals that an end is never rounded onto or over a margin; or ""."""
        if self.low is None or self.high is None:
            return ""
        ends = [(end, margin) for end in (self.low, self.high) for margin in self.margins]
        apart = [(end, margin) for end, margin in ends if abs(end - margin) > ROUNDING]
        texts: list[str] = []
        for more in range(9):
            if all((end > margin, end < margin) == self._sides(end, margin, more) for end, margin in apart):
                texts = [self.claim.written(end, more) for end in (self.low, self.high)]
                break
        return " to ".join(texts or map(repr, (self.low, self.high)))

    def _sides(self, end: float, margin: float, more: int) -> tuple[bool, bool]:
        """Whether an end lies above and below a margin as it is printed."""
        text = self.claim.written(end, more)
        printed = float(text.removesuffix(" %")) / (100 if text.endswith("%") else 1)
        return printed > margin + ROUNDING, printed < margin - ROUNDING

    @property
    def needs(self) -> str:
        """What would decide it, where it is undecided; else ""."""
        if self.verdict != "undecided":
            return ""
        if self.seeds_needed is None:
            return "no number of seeds would decide at this estimate and spread"
        about = float(f"{self.seeds_needed:.2g}")
        seeds = "seeds whose times count" if getattr(self.claim, "measure", "") in TIMES else "seeds"
        return f"about {about:,.0f} {seeds} would decide at this estimate and spread"

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        values = {name: value for name, value in vars(self).items() if name != "claim"}
        stated = {name: value for name, value in asdict(self.claim).items() if name not in ("says", "source")}
        return {"claim": type(self.claim).__name__, "text": str(self.claim), **stated, **values}


@dataclass(frozen=True)
class Sentence:
    """A sentence, what became of its parts, and its verdict.

    Supported where all parts are; contradicted where one is; too few seeds where one part has too few.
    """

    says: str
    source: Literal["post", "ours"]
    notes: tuple[str, ...]
    """Of its parts, and why it is not tested."""
    verdict: Verdict
    parts: tuple[Part, ...]
    """None where it is not tested."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**vars(self), "notes": list(self.notes), "parts": [part.as_dict() for part in self.parts]}


@dataclass(frozen=True)
class Sample:
    """What a claim is tested on."""

    values: Floats
    """One per seed, in their order: differences; of shares, differences of logarithms; of one arm, its values."""
    unpaired: int
    """Seeds that count for nothing; see `Part`."""


def sample(claim: Test, runs: pd.DataFrame) -> Sample:
    """The values of a claim in some runs; see `decide`."""
    import numpy as np

    by_arm = [_values(runs, arm, claim.measure) for arm in claim.arms]
    relative = getattr(claim, "relative", False)
    if relative:
        by_arm = [{seed: math.log(value) for seed, value in values.items() if value > 0} for values in by_arm]
    seeds = sorted(set.intersection(*map(set, by_arm)))
    every = {int(seed) for arm, seed in zip(runs["arm"], runs["seed"], strict=True) if arm in claim.arms}
    columns = [np.array([values[seed] for seed in seeds], dtype=float) for values in by_arm]
    return Sample(columns[0] if len(columns) == 1 else columns[0] - columns[1], len(every) - len(seeds))


def ends(claim: Test) -> tuple[float, float]:
    """Where the mean of the claim's `sample` lies if the claim is true."""
    if not getattr(claim, "relative", False):
        return claim.holds
    low, high = (math.copysign(math.inf, end) if math.isinf(end) else math.log1p(end) for end in claim.holds)
    return low, high


def judge(claim: Test, low: Floats, high: Floats) -> tuple[Bools, Bools]:
    """Whether intervals of the mean of a claim's `sample` support it, and whether they contradict it; of any shape."""
    least, most = ends(claim)
    slack = ROUNDING if claim.closed else -ROUNDING
    return (low >= least - slack) & (high <= most + slack), (high < least - slack) | (low > most + slack)


def tested(claims: Sequence[Claim]) -> list[Test]:
    """Those that runs can decide."""
    return [claim for claim in claims if not isinstance(claim, NotTested)]


def confidence_of(claims: Sequence[Claim], alpha: float = ALPHA) -> float:
    """The confidence of each interval of a study that claims this; see above."""
    margins = sum(math.isfinite(end) for claim in tested(claims) for end in claim.holds)
    return 1 - 2 * alpha / max(margins, 1)


def one_sided(values: Floats, margin: float, overlap: float = 0.0) -> tuple[Floats, Floats]:
    """The two one-sided t-tests of a mean: is it above a margin, or below it?

    With s the standard deviation of the values (ddof = 1): t = (mean - margin) / (s · √(1/n + overlap)), with n - 1
    degrees of freedom (Student 1908, "The probable error of a mean", Biometrika 6; `overlap` as in
    `intervals.half_width`). Valid for values that are about normal.

    Values are (..., n), n of at least 2 and not all the same, the margin in their units. Gives p values (...) for
    "above" and "below".
    """
    from scipy import special

    n = values.shape[-1]
    error = values.std(axis=-1, ddof=1) * math.sqrt(1 / n + overlap)
    t = (values.mean(axis=-1) - margin) / error
    return special.stdtr(n - 1, -t), special.stdtr(n - 1, t)


def binomial(successes: int, n: int) -> tuple[float, float]:
    """The p values for "in more than half" and "in less than half": P(X ≥ successes), P(X ≤ successes), X ~ B(n, 1/2).

    The exact sign test (Conover 1999, Practical Nonparametric Statistics, 3.1 and 3.4).
    """
    from scipy import stats

    return float(stats.binom.sf(successes - 1, n, 0.5)), float(stats.binom.cdf(successes, n, 0.5))


def is_constant(values: Floats) -> Bools:
    """Whether all values (..., n) are the same, but for the rounding of a subtraction."""
    constant: Bools = values.max(axis=-1) - values.min(axis=-1) <= ROUNDING
    return constant


def decide(claims: Sequence[Claim], runs: pd.DataFrame, overlap: float = 0.0, alpha: float = ALPHA) -> list[Sentence]:
    """The verdict on each sentence of a study.

    Args:
        claims: of one study, all of them: their margins decide how wide its intervals are.
        runs: one row per arm and seed: `arm`, `seed` (a whole number, also as text), `epochs_trained` and the measures.
        overlap: test images per training image where each seed has its own split of one pool; 0 where all are tested on
            the same images. See `intervals.half_width`.
        alpha: the probability of a false verdict that is allowed, over the study.

    Returns:
        The sentences in the order in which they are first stated. The order of the runs makes no difference.

    Raises:
        ClaimError: a column is missing, an arm has a seed twice, or parts of one sentence name different sources.
    """
    confidence = confidence_of(claims, alpha)
    parts = [_part(claim, sample(claim, runs), confidence, overlap, alpha) for claim in tested(claims)]
    sentences: dict[str, list[Claim]] = {}
    for claim in claims:
        sentences.setdefault(claim.says, []).append(claim)
    return [_sentence(group, [part for part in parts if part.claim.says == says]) for says, group in sentences.items()]


def _sentence(claims: Sequence[Claim], parts: Sequence[Part]) -> Sentence:
    sources = {claim.source for claim in claims}
    if len(sources) > 1 or (parts and len(parts) < len(claims)):
        raise ClaimError(f"the parts of {claims[0].says!r} must be of one source, and all tested or none")
    notes = [text for claim in claims for text in (getattr(claim, "why", ""), claim.note) if text]
    verdicts = {part.verdict for part in parts} or {"not tested"}
    verdict = next(verdict for verdict in _DECISIVE if verdict in verdicts)
    return Sentence(claims[0].says, claims[0].source, tuple(dict.fromkeys(notes)), verdict, tuple(parts))


def _part(claim: Test, found: Sample, confidence: float, overlap: float, alpha: float) -> Part:
    if isinstance(claim, Stops):
        return _stopped(claim, found.values, confidence, alpha)
    return _measured(claim, found, confidence, overlap, alpha)


def _stopped(claim: Stops, epochs: Floats, confidence: float, alpha: float) -> Part:
    import numpy as np

    n, before = len(epochs), int((epochs < claim.before).sum())
    if not n:
        return Part(claim, 0, 0, None, None, None, confidence)
    low, high = share_interval(before, n, confidence)
    told: dict[str, Any] = {}
    if n >= MIN_PAIRS:
        p_for, p_against = (min(1.0, 2 * p * alpha / (1 - confidence)) for p in binomial(before, n))
        told = {"p_for": p_for, "p_against": p_against, "verdict": _verdict(claim, np.array(low), np.array(high))}
        if told["verdict"] == "undecided":
            told["seeds_needed"] = _runs_needed(before / n, n, confidence)
    return Part(claim, n, 0, before / n, low, high, confidence, wins=before, **told)


def _measured(claim: Test, found: Sample, confidence: float, overlap: float, alpha: float) -> Part:
    import numpy as np

    values, n = found.values, len(found.values)
    back = math.expm1 if getattr(claim, "relative", False) else float
    if not n:
        return Part(claim, 0, found.unpaired, None, None, None, confidence)
    mean = float(values.mean())
    told: dict[str, Any] = {"wins": _wins(claim, values)}
    low = high = None
    if not isinstance(claim, Between):
        told["ties"] = int((values == 0).sum())
    if n > 1:
        sd = float(values.std(ddof=1))
        half = half_width(sd, n, confidence, overlap)
        low, high = back(mean - half), back(mean + half)
        told |= {"sd": sd, "constant": bool(is_constant(values))}
        if n >= MIN_PAIRS:
            verdict = _verdict(claim, np.array(mean - half), np.array(mean + half))
            # Where all are the same there is no t: the difference itself decides.
            raw = float(verdict != "supported"), float(verdict != "contradicted")
            if not told["constant"]:
                raw = _p_values(values, ends(claim), overlap)
            p_for, p_against = (min(1.0, 2 * p * alpha / (1 - confidence)) for p in raw)
            told |= {"p_for": p_for, "p_against": p_against, "verdict": verdict}
            if verdict == "undecided":
                distance = min(abs(mean - end) for end in ends(claim))
                told["seeds_needed"] = _seeds_needed(distance, sd, n, confidence, overlap)
    return Part(claim, n, found.unpaired, back(mean), low, high, confidence, **told)


def _wins(claim: Test, values: Floats) -> int:
    if isinstance(claim, Between):
        return int(((values >= claim.least) & (values <= claim.most)).sum())
    return int(((-values if isinstance(claim, Lower) else values) > 0).sum())


def _verdict(claim: Test, low: Floats, high: Floats) -> Verdict:
    supported, contradicted = judge(claim, low, high)
    return "supported" if supported else "contradicted" if contradicted else "undecided"


def _p_values(values: Floats, between: tuple[float, float], overlap: float) -> tuple[float, float]:
    """One-sided p values for "between the ends" and "beyond one of them".

    For: the larger of both ends' (TOST; Schuirmann 1987, J. Pharmacokin. Biopharm. 15; an intersection-union test:
    Berger 1982, Technometrics 24). Against: the smaller, which the doubling that adjusts both makes good for
    (a minimum-effect test; Murphy & Myors 1999, J. Appl. Psychol. 84).
    """
    least, most = between
    over_least, under_least = one_sided(values, least, overlap)
    under_most, over_most = one_sided(-values, -most, overlap)
    return float(max(over_least, under_most)), float(min(under_least, over_most))


def _seeds_needed(distance: float, sd: float, n: int, confidence: float, overlap: float) -> int | None:
    """The least number of seeds whose interval is shorter on each side than the distance to the next margin."""
    more = range(n + 1, MOST_SEEDS + 1)
    enough = bisect.bisect_left(more, True, key=lambda seeds: half_width(sd, seeds, confidence, overlap) < distance)
    return more[enough] if enough < len(more) else None


def _runs_needed(share: float, n: int, confidence: float) -> int | None:
    """The least number of runs of which such a share ending in time would exclude a half."""
    for runs in range(n + 1, 1001):
        low, high = share_interval(round(share * runs), runs, confidence)
        if low > 0.5 or high < 0.5:
            return runs
    return None


def _values(runs: pd.DataFrame, arm: str, measure: str) -> dict[int, float]:
    """An arm's finite values by seed."""
    for column in ("arm", "seed", measure):
        if column not in runs:
            raise ClaimError(f"the runs have no column {column!r}, which a claim needs")
    # Of three columns: a frame of the rows of an arm would take a copy of all.
    rows = zip(runs["arm"], runs["seed"], runs[measure], strict=True)
    of_arm = [(int(seed), float(value)) for its, seed, value in rows if its == arm]
    values = dict(of_arm)
    if len(values) < len(of_arm):
        raise ClaimError(f"the arm {arm!r} has a seed twice: choose one record of each")
    return {seed: value for seed, value in values.items() if math.isfinite(value)}
