"""Could a number that somebody printed once be one of our runs? Each is set in the distribution of our seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from fashion_cnn.claims import ALPHA, DIGITS
from fashion_cnn.intervals import prediction_interval

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: Final = [
    "study", "arm", "measure", "epoch", "printed", "give", "n", "mean", "sd", "low", "high", "inside",
]  # fmt: skip
"""Of the frame that `printed_values` returns."""


def printed_values(
    printed: pd.DataFrame, configs: Mapping[tuple[str, str], str], runs: pd.DataFrame, epochs: pd.DataFrame
) -> pd.DataFrame:
    """Each printed number in the distribution of our runs of the same config.

    Args:
        printed: one row per epoch of one run of an arm: `study`, `arm`, `epoch`, `loss`, `accuracy`, and with the last
            epoch `test_loss`, `test_accuracy`.
        configs: the `config_sha256` of each study and arm; rows of other arms are left out.
        runs: one row per config and seed: `run_id`, `config_sha256`, `test_loss`, `test_accuracy`; of any study.
        epochs: one row per epoch of a run: `run_id`, `epoch`, `loss`, `accuracy`. Runs that ended before an epoch have
            none.

    Returns:
        One row per number: `study`, `arm`, `measure`, `epoch`, `printed`, `give` (half its last digit), `n`, `mean`,
        `sd`, `low`, `high` (the 95 % prediction interval for one more run), and `inside`: whether the number, give or
        take half its last digit, meets the interval. Below n = 2 there is no interval and `inside` is None.
    """
    import pandas as pd

    scores = dict(iter(runs.groupby("config_sha256", sort=False)))
    of_config = epochs.merge(runs[["run_id", "config_sha256"]], on="run_id")
    curves = dict(iter(of_config.groupby(["config_sha256", "epoch"], sort=False)))
    rows = []
    for row in printed.to_dict("records"):
        config = configs.get((row["study"], row["arm"]))
        for measure, digits in DIGITS.items():
            if config is None or not math.isfinite(row[measure]):
                continue
            ours = scores.get(config) if measure.startswith("test_") else curves.get((config, row["epoch"]))
            spread = _spread(() if ours is None else ours[measure], row[measure], 10.0**-digits / 2)
            rows.append({name: row[name] for name in ("study", "arm", "epoch")} | {"measure": measure, **spread})
    return pd.DataFrame(rows, columns=COLUMNS).astype({"inside": object})


def _spread(values: Sequence[float], printed: float, give: float) -> dict[str, Any]:
    """The columns from `printed` on, of a number and our values of it."""
    import numpy as np

    ours = np.sort([value for value in values if math.isfinite(value)])  # so that their order changes no last digit
    n = len(ours)
    mean = float(ours.mean()) if n else math.nan
    sd, low, high, inside = math.nan, math.nan, math.nan, None
    if n > 1:
        sd = float(ours.std(ddof=1))
        low, high = prediction_interval(mean, sd, n, 1 - ALPHA)
        inside = bool(printed - give <= high and printed + give >= low)
    summary = {"n": n, "mean": mean, "sd": sd, "low": low, "high": high}
    return {"printed": printed, "give": give, **summary, "inside": inside}


def misses(values: pd.DataFrame) -> dict[str, float]:
    """How many of some `printed_values` lie outside, of how many `compared`, and how many `by_chance` would.

    One in twenty of numbers that are like ours would miss its 95 % interval if they were not rounded: half a last digit
    of room on both sides makes it fewer, so `by_chance` is the most. Numbers of one run miss together, so the count
    strays further from that than a binomial one.
    """
    compared = values[values["inside"].notna()]
    outside = int((~compared["inside"].astype(bool)).sum())
    return {"compared": len(compared), "outside": outside, "by_chance": ALPHA * len(compared)}
