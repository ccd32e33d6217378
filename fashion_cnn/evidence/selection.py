"""Which records count: one for each study, arm and seed, of one data set, code and environment. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fashion_cnn.evidence.record import BASIS, Record
from fashion_cnn.study import Study

if TYPE_CHECKING:
    import pandas as pd

CELL: Final = ["study", "arm", "seed"]


def select(
    runs: pd.DataFrame, study: Study | None = None, incomplete: Collection[str] = ()
) -> tuple[pd.DataFrame, list[tuple[str, int]]]:
    """One record per study, arm and seed: the newest under one code, one environment and one data set.

    Of the combinations of data, code and environment that one is taken which has the most arms and seeds; of equals
    the one with the newest run. Whether a run reused another's epochs makes no difference: it has the same bits.

    Args:
        runs: one row per run, as `Store.runs` gives them.
        study: of these runs; where given, runs of arms that it no longer has, or has with another config, are left out.
        incomplete: the ids of runs whose record is not complete, or contradicts itself.

    Returns:
        The chosen rows by study, arm and seed, and how many were left out for which reason, the first that holds.
    """
    reasons = reasons_left_out(runs, study, incomplete)
    chosen = runs[reasons == ""]
    chosen = chosen.sort_values(CELL, key=lambda column: column.astype(int) if column.name == "seed" else column)
    return chosen, list(reasons[reasons != ""].value_counts(sort=False).items())


def reasons_left_out(runs: pd.DataFrame, study: Study | None = None, incomplete: Collection[str] = ()) -> pd.Series:
    """Why each run is left out by `select`; "" for those that are in. Arguments as there."""
    import pandas as pd

    reasons = pd.Series("", index=runs.index, dtype=object)

    def leave_out(which: pd.Series, reason: str) -> None:
        reasons[which & (reasons == "")] = reason

    leave_out(runs["smoke"] == "true", "smoke run")
    if "published" in runs:  # a column of a store's
        leave_out(runs["published"].notna(), "published, recorded elsewhere")
    leave_out(runs["status"] != "FINISHED", "not finished")
    if study is not None:
        configs = {arm: config.sha256() for arm, config in study.arms.items()}
        leave_out(~runs["arm"].isin(configs), "not an arm of the study any more")
        leave_out(runs["config_sha256"] != runs["arm"].map(configs), "another config than the arm has now")
    numbers = runs[["test_accuracy", "test_loss"]].astype(float).abs() < 1.7e308
    leave_out(~numbers.all(axis=1), "a score that is not a number")
    leave_out(runs["run_id"].isin(list(incomplete)), "an incomplete record")
    basis = runs[list(BASIS)].fillna("")
    left = runs.assign(**basis)[reasons == ""].sort_values(["start_time", "run_id"])
    if left.empty:
        return reasons
    newest = left.drop_duplicates([*CELL, *BASIS], keep="last")
    weighed = newest.groupby(list(BASIS))["start_time"].agg(["size", "max"]).sort_values(["size", "max"])
    for name, wanted in zip(BASIS, weighed.index[-1], strict=True):
        leave_out(basis[name] != wanted, f"another {BASIS[name]}")
    leave_out(~runs.index.isin(newest.index), "an older duplicate")
    return reasons


@dataclass(frozen=True)
class Selection:
    """The records of a study that count, and how many do not."""

    study: Study
    records: Sequence[Record]
    """Complete, one per arm and seed, of one data set, code and environment: as `select` orders them."""
    left_out: Sequence[tuple[str, int]]
    """How many of the store's runs of the study are not among them, by reason."""
    incomplete: Mapping[str, str] = field(default_factory=dict)
    """Of these, what is missing or contradictory in a record that is no evidence therefore, by the run's id."""
