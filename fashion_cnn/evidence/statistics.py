"""The statistics that decide claims over seeds: frames in, verdicts out.

A study states its claims (`fashion_cnn.claims`) before its runs. A sentence has one or more parts, each a claim with
its own test. Arms are compared by the differences within a seed, because runs of one seed share the order of their data
and often more.

Every part has a p value for support and one against. Either family of a study is adjusted by Holm's procedure, and a
part is decided where an adjusted p value is at most alpha. So a study calls one of its parts supported though it is
false with a probability of at most alpha, and contradicted though it is true likewise; over several studies the
probabilities add up.

Nothing here reads a store or knows what the measures mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from fashion_cnn.claims import ALPHA, Claim, ClaimError, Equivalent, Lower, NotTested, Stops, Test
from fashion_cnn.intervals import mean_interval, share_interval

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from fashion_cnn.claims import Difference, Floats


MIN_PAIRS: Final = 6
"""With fewer, not even differences of one sign would be significant in a sign-flip test: 2 / 2 ** 5 is over 0.05."""
Verdict = Literal["supported", "contradicted", "undecided", "too few seeds", "not tested"]
_DECISIVE: Final[tuple[Verdict, ...]] = ("contradicted", "too few seeds", "undecided", "supported", "not tested")
"""Which verdict on a part decides on the sentence: the first of these."""


@dataclass(frozen=True)
class Part:
    """A claim and what the runs say about it. A value that too few runs leave open is None."""

    claim: Test
    n: int
    """Seeds that have both runs; of `Stops`, runs."""
    unpaired: int
    """Seeds with a run of only one arm, or with a run that lacks the number: they count for nothing."""
    estimate: float | None
    """The mean difference, `claim.arm` minus the other; of `Stops`, the share of runs that end before the epoch."""
    low: float | None
    high: float | None
    """The interval of the estimate."""
    confidence: float
    """Of that interval: 1 - alpha; of `Equivalent`, 1 - 2 alpha, which lies within the margins where the test says so
    (before Holm)."""
    sd: float | None = None
    """Of the differences (ddof = 1); of `Stops`, None."""
    wins: int = 0
    """Seeds in which the arm's run is higher (`Lower`: lower) than the other; of `Stops`, runs that end before."""
    ties: int = 0
    """Seeds in which both are equal to the last bit."""
    constant: bool = False
    """Whether all differences are the same, so that the difference itself decides."""
    p_for: float | None = None
    p_against: float | None = None
    p_for_holm: float | None = None
    p_against_holm: float | None = None
    verdict: Verdict = "too few seeds"

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        values = {name: value for name, value in vars(self).items() if name != "claim"}
        of_the_sentence = ("says", "source", "note")
        stated = {name: value for name, value in asdict(self.claim).items() if name not in of_the_sentence}
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


def one_sided(differences: Floats, margin: float = 0.0) -> tuple[Floats, Floats]:
    """The two one-sided paired t-tests: is the mean difference above a margin, or below it?

    With d the differences, s their standard deviation (ddof = 1): t = (mean(d) - margin) / (s / √n), with n - 1 degrees
    of freedom (Student 1908, "The probable error of a mean", Biometrika 6). Valid for differences that are independent
    and about normal. Where all differences are the same there is no t: p is 0 for what they say and 1 for the other,
    and a difference that equals the margin is not above it, so that it counts for "below".

    Differences are (..., n), n of at least 2, the margin in their units. Gives p values (...) for "above" and "below".
    """
    import numpy as np
    from scipy import special

    n = differences.shape[-1]
    mean, fixed = differences.mean(axis=-1), is_constant(differences)
    error = differences.std(axis=-1, ddof=1) / math.sqrt(n)
    t = (mean - margin) / np.where(fixed, 1.0, error)
    above = np.where(fixed, np.where(mean - margin > _rounding(differences), 0.0, 1.0), special.stdtr(n - 1, -t))
    return above, np.where(fixed, 1.0 - above, special.stdtr(n - 1, t))


def equivalence(differences: Floats, within: float) -> tuple[Floats, Floats]:
    """Is the mean difference within ± a margin, or beyond it?

    For: two one-sided t-tests, above -within and below +within, and the larger p value of both (TOST; Schuirmann 1987,
    J. Pharmacokin. Biopharm. 15; an intersection-union test, so each at full level: Berger 1982, Technometrics 24).
    Against: the mean is above +within or below -within (a minimum-effect test; Murphy & Myors 1999, J. Appl. Psychol.
    84). That is a union of two, so twice the smaller p value (Bonferroni's inequality), which keeps the level whatever
    the margin. Differences that are all the same decide as in `one_sided`.

    Differences are (..., n), n of at least 2, the margin in their units and above 0. Gives p values (...) for "within"
    and "beyond".
    """
    import numpy as np

    over, not_over = one_sided(differences, within)
    under, not_under = one_sided(-differences, within)
    return np.maximum(not_over, not_under), np.minimum(1.0, 2.0 * np.minimum(over, under))


def binomial(successes: int, n: int) -> tuple[float, float]:
    """The p values for "in more than half" and "in less than half": P(X ≥ successes), P(X ≤ successes), X ~ B(n, 1/2).

    The exact sign test (Conover 1999, Practical Nonparametric Statistics, 3.1 and 3.4).
    """
    from scipy import stats

    return float(stats.binom.sf(successes - 1, n, 0.5)), float(stats.binom.cdf(successes, n, 0.5))


def holm(p: Floats) -> Floats:
    """Holm's adjusted p values: the i-th smallest of m times m - i + 1, at most 1, and never below the one before.

    Rejecting what is at most alpha keeps the probability of any false rejection at most alpha, however the tests
    depend on each other (Holm 1979, Scand. J. Statist. 6). Families of m tests are given as (..., m).
    """
    import numpy as np

    order = np.argsort(p, axis=-1, kind="stable")
    m = p.shape[-1]
    stepped = np.maximum.accumulate(np.take_along_axis(p, order, axis=-1) * (m - np.arange(m)), axis=-1)
    adjusted = np.empty_like(stepped)
    np.put_along_axis(adjusted, order, np.minimum(1.0, stepped), axis=-1)
    return adjusted


def is_constant(differences: Floats) -> NDArray[np.bool_]:
    """Whether all differences (..., n) are the same, but for the rounding of a subtraction."""
    constant: NDArray[np.bool_] = differences.max(axis=-1) - differences.min(axis=-1) <= _rounding(differences)
    return constant


def _rounding(differences: Floats) -> Floats:
    """How far two differences may lie apart that are meant to be equal: scores are of the order of 1."""
    import numpy as np

    largest: Floats = np.abs(differences).max(axis=-1)
    return 1e-12 * np.maximum(1.0, largest)


def decide(claims: Sequence[Claim], runs: pd.DataFrame, alpha: float = ALPHA) -> list[Sentence]:
    """The verdict on each sentence of a study.

    Args:
        claims: of one study: Holm's procedure adjusts over all of its parts that have enough seeds to be tested.
        runs: one row per arm and seed: `arm`, `seed` (a whole number, also as text), `epochs_trained` and the measures.
        alpha: the probability of a false verdict that is allowed, over the study.

    Returns:
        The sentences in the order in which they are first stated. The order of the runs makes no difference.

    Raises:
        ClaimError: a column is missing, an arm has a seed twice, or parts of one sentence name different sources.
    """
    import numpy as np

    parts = [_measured(claim, runs, alpha) for claim in claims if not isinstance(claim, NotTested)]
    enough = [number for number, part in enumerate(parts) if part.p_for is not None]
    if enough:
        raw = np.array([(parts[number].p_for, parts[number].p_against) for number in enough], dtype=float).T
        for number, (p_for, p_against) in zip(enough, holm(raw).T, strict=True):
            verdict: Verdict = "supported" if p_for <= alpha else "contradicted" if p_against <= alpha else "undecided"
            adjusted = replace(parts[number], p_for_holm=float(p_for), p_against_holm=float(p_against))
            parts[number] = replace(adjusted, verdict=verdict)
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


def _measured(claim: Test, runs: pd.DataFrame, alpha: float) -> Part:
    """Everything of a part but what its study's other parts decide."""
    by_arm = [_values(runs, arm, claim.measure) for arm in claim.arms]
    seeds = sorted(set.intersection(*map(set, by_arm)))
    unpaired = len(set.union(*map(set, by_arm))) - len(seeds)
    columns = [[values[seed] for seed in seeds] for values in by_arm]
    if isinstance(claim, Stops):
        return _stopped(claim, columns[0], alpha)
    return _compared(claim, columns, unpaired, alpha)


def _stopped(claim: Stops, epochs: Sequence[float], alpha: float) -> Part:
    n, before = len(epochs), sum(epoch < claim.before for epoch in epochs)
    low, high = share_interval(before, n, 1 - alpha) if n else (None, None)
    p_for, p_against = binomial(before, n) if n >= MIN_PAIRS else (None, None)
    share = before / n if n else None
    return Part(claim, n, 0, share, low, high, 1 - alpha, wins=before, p_for=p_for, p_against=p_against)


def _compared(claim: Difference, columns: Sequence[Sequence[float]], unpaired: int, alpha: float) -> Part:
    import numpy as np

    differences = np.subtract(*map(np.array, columns)).astype(float)
    n, sign = len(differences), -1 if isinstance(claim, Lower) else 1
    confidence = 1 - 2 * alpha if isinstance(claim, Equivalent) else 1 - alpha
    low, high = mean_interval(differences, confidence) if n > 1 else (None, None)
    p_for = p_against = None
    if n >= MIN_PAIRS:
        if isinstance(claim, Equivalent):
            p_for, p_against = map(float, equivalence(differences, claim.within))
        else:
            p_for, p_against = map(float, one_sided(sign * differences, claim.margin))
    mean = float(differences.mean()) if n else None
    sd, constant = (float(differences.std(ddof=1)), bool(is_constant(differences))) if n > 1 else (None, False)
    wins, ties = int((sign * differences > 0).sum()), int((differences == 0).sum())
    return Part(claim, n, unpaired, mean, low, high, confidence, sd, wins, ties, constant, p_for, p_against)


def _values(runs: pd.DataFrame, arm: str, measure: str) -> dict[int, float]:
    """An arm's finite values by seed."""
    for column in ("arm", "seed", measure):
        if column not in runs:
            raise ClaimError(f"the runs have no column {column!r}, which a claim needs")
    of_arm = runs[runs["arm"] == arm]
    seeds = [int(seed) for seed in of_arm["seed"]]
    if len(set(seeds)) < len(seeds):
        raise ClaimError(f"the arm {arm!r} has a seed twice: choose one record of each")
    return {seed: value for seed, value in zip(seeds, map(float, of_arm[measure]), strict=True) if math.isfinite(value)}
