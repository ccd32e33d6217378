"""Intervals for means, shares and the next value. Nothing here knows what the values measure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

# SciPy's special functions are imported when called: the figures of one run are drawn without SciPy.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def half_width(sd: float, n: int, confidence: float = 0.95, overlap: float = 0.0) -> float:
    """Half the interval of a mean by Student's t: t((1 + confidence) / 2, n - 1) · sd · √(1/n + overlap).

    For n of at least 2; `sd` has ddof = 1. NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.5.2.

    `overlap` is 0 where the n values are independent. Where each is measured on a split of its own of one pool, it is
    n_test / n_train, since such splits share images: the corrected resampled t (Nadeau & Bengio 2003, "Inference for
    the generalization error", Machine Learning 52).
    """
    return _t_quantile(n, confidence) * sd * math.sqrt(1 / n + overlap)


def mean_interval(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """The interval of the mean of values (n,), n of at least 2; see `half_width`."""
    mean, half = float(values.mean()), half_width(float(values.std(ddof=1)), len(values), confidence)
    return mean - half, mean + half


def prediction_interval(mean: float, sd: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Where one more value is expected: mean ± t((1 + confidence) / 2, n - 1) · sd · √(1 + 1/n).

    For values that are independent and about normal (Hahn & Meeker 1991, Statistical Intervals, 4.7).
    """
    half = _t_quantile(n, confidence) * sd * math.sqrt(1 + 1 / n)
    return mean - half, mean + half


def share_interval(successes: int, n: int, confidence: float) -> tuple[float, float]:
    """The exact interval of a share, by quantiles of beta distributions (Clopper & Pearson 1934, Biometrika 26)."""
    from scipy import special

    tail = (1 - confidence) / 2
    low = float(special.betaincinv(successes, n - successes + 1, tail)) if successes > 0 else 0.0
    high = float(special.betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return low, high


def _t_quantile(n: int, confidence: float) -> float:
    from scipy import special  # `scipy.stats` takes longer to import

    return float(special.stdtrit(n - 1, (1 + confidence) / 2))
