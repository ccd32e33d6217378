"""The published runs as a replay takes them: which are trained again, and what is said of each training. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from fashion_cnn.evidence.record import Record
from fashion_cnn.review.comparison import WORST_FIRST, Comparison
from fashion_cnn.review.replay import ReplayError
from fashion_cnn.study import Study


def marked(records: Iterable[Record]) -> list[Record]:
    """Published records, tagged as an import into a store would tag them: less is asked of them."""
    return [replace(record, row={**record.row, "published": record.row["run_id"]}) for record in records]


def of_lowest_seed(records: Sequence[Record], studies: Sequence[Study]) -> list[Record]:
    """The records of some studies with the lowest seed that these have; a ReplayError names a study without any."""
    for study in studies:
        if all(record.row["study"] != study.name for record in records):
            raise ReplayError(f"{study.name} has no published runs; fashion-cnn results shows what is published")
    names = [study.name for study in studies]
    chosen = [record for record in records if record.row["study"] in names]
    lowest = min((int(record.row["seed"]) for record in chosen), default=None)
    return [record for record in chosen if int(record.row["seed"]) == lowest]


def by_trajectory(comparisons: Iterable[Comparison]) -> list[tuple[Comparison, int]]:
    """For each trajectory, in order, what its replay says and how many runs are cut from it.

    That is the comparison of the run with the worst answer, and among several the longest run's.
    """
    trajectories: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        trajectories.setdefault(comparison.trajectory, []).append(comparison)
    return [
        (min(runs, key=lambda run: (WORST_FIRST.index(run.answer), -run.recorded)), len(runs))
        for runs in trajectories.values()
    ]
