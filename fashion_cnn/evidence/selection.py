"""Which records count: one for each study, arm and seed, of one data set, code and environment. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fashion_cnn.evidence.record import BASIS, Record, absent
from fashion_cnn.study import Study

if TYPE_CHECKING:
    import pandas as pd

CELL: Final = ["study", "arm", "seed"]
_SCORES: Final = ("test_accuracy", "test_loss")
_COLUMNS: Final = (*CELL, *BASIS, *_SCORES, "start_time", "run_id", "smoke", "published", "status", "config_sha256")
_LARGEST: Final = 1.7e308


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
    cells = list(zip(*(runs[name] for name in CELL), strict=True))

    def cell(place: int) -> tuple[str, str, int]:
        study, arm, seed = cells[place]
        return study, arm, int(seed)

    places = sorted((place for place, reason in enumerate(reasons) if not reason), key=cell)
    return runs.iloc[places], list(reasons[reasons != ""].value_counts(sort=False).items())


def reasons_left_out(runs: pd.DataFrame, study: Study | None = None, incomplete: Collection[str] = ()) -> pd.Series:
    """Why each run is left out by `select`; "" for those that are in. Arguments as there."""
    import pandas as pd

    configs = None if study is None else {arm: config.sha256() for arm, config in study.arms.items()}
    # Row by row: with the few rows of a study, each operation on a frame takes longer than all that is done here.
    columns = [name for name in _COLUMNS if name in runs]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*(runs[name] for name in columns), strict=True)]
    reasons = [_own_reason(row, configs, incomplete) for row in rows]
    left = [place for place, reason in enumerate(reasons) if not reason]
    bases = {place: tuple("" if absent(rows[place][name]) else rows[place][name] for name in BASIS) for place in left}
    newest: dict[tuple[Any, ...], int] = {}
    for place in sorted(left, key=lambda place: (rows[place]["start_time"], rows[place]["run_id"])):
        newest[bases[place], *(rows[place][name] for name in CELL)] = place
    kept = set(newest.values())
    starts: dict[tuple[str, ...], list[Any]] = {}
    for place in kept:
        starts.setdefault(bases[place], []).append(rows[place]["start_time"])
    wanted = max(starts, key=lambda basis: (len(starts[basis]), max(starts[basis]), basis), default=())
    for place in left:
        others = [word for word, ours, its in zip(BASIS.values(), wanted, bases[place], strict=True) if its != ours]
        if others:
            reasons[place] = f"another {others[0]}"
        elif place not in kept:
            reasons[place] = "an older duplicate"
    return pd.Series(reasons, index=runs.index, dtype=object)


def _own_reason(row: Mapping[str, Any], configs: Mapping[str, str] | None, incomplete: Collection[str]) -> str:
    """Why a run is left out whatever other runs there are, or nothing; `configs` are the hashes of a study's arms."""
    if row["smoke"] == "true":
        return "smoke run"
    if not absent(row.get("published")):  # a column of a store's
        return "published, recorded elsewhere"
    if row["status"] != "FINISHED":
        return "not finished"
    if configs is not None and row["arm"] not in configs:
        return "not an arm of the study any more"
    if configs is not None and row["config_sha256"] != configs[row["arm"]]:
        return "another config than the arm has now"
    if any(absent(row[name]) or not abs(float(row[name])) < _LARGEST for name in _SCORES):
        return "a score that is not a number"
    return "an incomplete record" if row["run_id"] in incomplete else ""


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
