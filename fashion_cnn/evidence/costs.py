"""What arms of all studies cost and reached, and how long until they reached a test accuracy. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from fashion_cnn.evidence.verdicts import with_counted_times
from fashion_cnn.study import Study

if TYPE_CHECKING:
    import pandas as pd

TARGET: Final = 0.9
"""The test accuracy whose cost is told."""


def costs(
    studies: Sequence[Study], chosen: Mapping[str, pd.DataFrame], epochs: pd.DataFrame, target: float = TARGET
) -> pd.DataFrame:
    """One row per config and seed of some studies, for `figures.accuracy_by_cost`.

    Arms of one config are one, under up to two of their names. Left out are arms on a split of their own, whose scores
    are of other test images, and those of which no time counts. Where all arms share seeds whose times count, only the
    times of these are told: another seed's would raise the mean of some arms and not of others.

    Args:
        studies: in order.
        chosen: by study, the runs that count: `run_id`, `arm`, `seed`, `config_sha256`, `test_accuracy`,
            `fit_cpu_seconds`.
        epochs: at least of these runs: `run_id`, `epoch`, `test_accuracy`, `epoch_cpu_seconds`.
        target: a test accuracy, 0..1.

    Returns:
        `arm`, `seed`, `test_accuracy`; and of runs whose times are told `fit_cpu_seconds` and `seconds_to_target`: the
        CPU seconds of the epochs up to the first after which the test accuracy was at least the target, infinite where
        it never was.
    """
    import pandas as pd

    names = _names(studies)
    columns = ["arm", "seed", "test_accuracy", "fit_cpu_seconds"]
    runs = with_counted_times(pd.concat(chosen.values(), ignore_index=True))
    runs = runs[runs["config_sha256"].isin(names)].dropna(subset="test_accuracy")
    runs = runs.drop_duplicates(["config_sha256", "seed"])
    runs = runs.assign(arm=runs["config_sha256"].map(names))
    timed = runs.dropna(subset="fit_cpu_seconds")
    arms = timed.groupby("seed")["arm"].nunique()
    if len(shared := arms[arms == timed["arm"].nunique()]):
        timed = timed[timed["seed"].isin(shared.index)]
    runs = runs[runs["arm"].isin(timed["arm"])].astype(dict.fromkeys(columns[2:], float))
    reached = runs["run_id"].map(seconds_to(epochs, target)).fillna(math.inf)
    untold = ~runs["run_id"].isin(timed["run_id"])
    runs = runs[columns].assign(seconds_to_target=reached)
    runs.loc[untold, ["fit_cpu_seconds", "seconds_to_target"]] = math.nan
    return runs.reset_index(drop=True)


def seconds_to(epochs: pd.DataFrame, target: float) -> dict[str, float]:
    """By run id the CPU seconds of its epochs until the test accuracy was at least the target; `epochs` as `costs`."""
    ordered = epochs.sort_values(["run_id", "epoch"]).astype({"test_accuracy": float, "epoch_cpu_seconds": float})
    spent = ordered.groupby("run_id")["epoch_cpu_seconds"].cumsum()
    there = ordered.assign(spent=spent)[ordered["test_accuracy"] >= target]
    return {str(run_id): float(seconds) for run_id, seconds in there.groupby("run_id")["spent"].first().items()}


def _names(studies: Sequence[Study]) -> dict[str, str]:
    """A name for each config on the given split, of all arms that have it."""
    arms: dict[str, list[tuple[str, str]]] = {}
    for study in studies:
        for arm, config in study.arms.items():
            if "split" not in config.canonical():
                arms.setdefault(config.sha256(), []).append((arm, study.name))
    names = {sha256: _joined([arm for arm, _ in of_config]) for sha256, of_config in arms.items()}
    taken = Counter(names.values())
    return {sha256: name if taken[name] == 1 else f"{name} ({arms[sha256][0][1]})" for sha256, name in names.items()}


def _joined(arms: Sequence[str]) -> str:
    first, *others = dict.fromkeys(arms)
    if not others:
        return first
    more = len(others) - 1
    also = f" = {more} other arm{'s' if more > 1 else ''}" if more else ""
    return f"{first} = {others[0]}{also}"
