"""The store's records of some studies: what counts, and what is wrong with the rest. Nothing is drawn here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.images import Answers, answers_of
from fashion_cnn.evidence.record import Record, missing
from fashion_cnn.evidence.selection import Selection, select
from fashion_cnn.evidence.together import compared, implausible_together
from fashion_cnn.evidence.verdicts import Verdicts, verdicts
from fashion_cnn.store.tracking import Store
from fashion_cnn.study import Study


@dataclass(frozen=True)
class StoreFrames:
    """What a store holds of some studies, as tidy frames."""

    runs: pd.DataFrame  # one row per run, whatever became of it; with `processor` of those that were looked at
    epochs: pd.DataFrame  # one row per epoch, at least of the runs that count
    incomplete: Mapping[str, str]  # see `incomplete`
    answers: Mapping[str, Answers] = field(default_factory=dict)  # of runs that were looked at, by id

    def verdicts(self, studies: Sequence[Study], post: Path) -> Verdicts:
        """What they say of the claims of these studies and of the post's printed numbers, a CSV file."""
        return verdicts(studies, self.runs, self.epochs, pd.read_csv(post), self.incomplete)


def recorded(store: Store, studies: Sequence[Study]) -> StoreFrames:
    """What a store holds of some studies; it is asked once for the runs, and once per metric and 100 runs' epochs."""
    runs = store.runs([study.name for study in studies])
    answers: dict[str, Answers] = {}
    processors: dict[str, str | None] = {}

    def see(record: Record) -> None:
        answers.update(answers_of([record]))
        processors[record.row["run_id"]] = record.processor()

    lacking, epochs = incomplete(store, studies, runs, see=see)
    runs = runs.assign(processor=[processors.get(run_id) for run_id in runs["run_id"]])
    return StoreFrames(runs, epochs, lacking, answers)


def of_runs(incomplete: Mapping[str, str], runs: pd.DataFrame) -> dict[str, str]:
    """What is wrong with the records of some runs, in their order."""
    return {run_id: incomplete[run_id] for run_id in runs["run_id"] if run_id in incomplete}


def selections(store: Store, studies: Sequence[Study]) -> list[Selection]:
    """The records of some studies that count, in their order, as a bundle takes them.

    The store is asked for every artifact and model of what counts: a bundle holds their hashes in their place.
    """
    runs = store.runs([study.name for study in studies])
    lacking, epochs = incomplete(store, studies, runs, whole=True)
    by_run = {run_id: part.to_dict("records") for run_id, part in epochs.groupby("run_id")}
    chosen_records = []
    for study in studies:
        of_study = runs[runs["study"] == study.name]
        chosen, left_out = select(of_study, study, lacking)
        records = list(store.records(chosen.to_dict("records"), by_run, whole=False))
        chosen_records.append(Selection(study, records, left_out, of_runs(lacking, of_study)))
    return chosen_records


def incomplete(
    store: Store,
    studies: Sequence[Study],
    runs: pd.DataFrame,
    *,
    whole: bool = False,
    see: Callable[[Record], object] = lambda record: None,
) -> tuple[dict[str, str], pd.DataFrame]:
    """Which runs would be chosen as evidence but are none, for their records lack or contradict something.

    They may contradict each other, too: then neither counts, for only a replay can tell which of them is the false one.
    The store is asked for the epochs and the light artifacts of what would be chosen, no more; `whole`: for every
    artifact and the model, too. `see` is given each of these records. Returns the first thing that is wrong, by run id;
    and the epochs of all runs that were looked at.
    """
    lacking: dict[str, str] = {}
    sound: dict[str, Record] = {}
    epochs = store.epochs([])
    while True:
        chosen = [select(runs[runs["study"] == study.name], study, lacking)[0] for study in studies]
        known = set(epochs["run_id"])  # once: a store may hold thousands of runs
        rows = [row for frame in chosen for row in frame.to_dict("records") if row["run_id"] not in known]
        if not rows:
            taken = [sound[run_id] for frame in chosen for run_id in frame["run_id"]]
            breaches = implausible_together(taken)
            if not breaches:
                return lacking, epochs
            lacking |= {run_id: str(each[0]) for run_id, each in breaches.items()}
            continue
        read = store.epochs([row["run_id"] for row in rows])
        by_run = {run_id: part.to_dict("records") for run_id, part in read.groupby("run_id")}
        for record in store.records(rows, by_run, whole=whole):
            if faults := [*missing(record), *contradictions(record)]:
                lacking[record.row["run_id"]] = str(faults[0])
            else:
                sound[record.row["run_id"]] = compared(record)
            see(record)
        # A run without any epoch was looked at, too.
        empty = pd.DataFrame({"run_id": [row["run_id"] for row in rows if row["run_id"] not in by_run]})
        epochs = pd.concat([part for part in (epochs, read, empty) if len(part)], ignore_index=True)
