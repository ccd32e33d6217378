"""The store's records of some studies, as the report and the claims take them."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fashion_cnn.data import CLASS_NAMES, DataError, Dataset
from fashion_cnn.download import load_dataset
from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.images import Answers, answers_of
from fashion_cnn.evidence.record import Record, missing
from fashion_cnn.evidence.selection import Selection, select
from fashion_cnn.evidence.together import compared, implausible_together
from fashion_cnn.evidence.verdicts import Verdicts, verdicts
from fashion_cnn.reports.maps import Thumbnails
from fashion_cnn.reports.page import StudyView
from fashion_cnn.store.artifacts import map_thumbnails, read_artifacts
from fashion_cnn.store.tracking import Store
from fashion_cnn.study import Study

ACTIVATIONS = "activations.npz"  # of a run


@dataclass(frozen=True)
class StoreFrames:
    """What a store holds of some studies, as tidy frames."""

    runs: pd.DataFrame  # one row per run, whatever became of it
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
    lacking, epochs = incomplete(store, studies, runs, answers=answers)
    return StoreFrames(runs, epochs, lacking, answers)


def study_views(
    store: Store, studies: Sequence[Study], data: Dataset | None, frames: StoreFrames | None = None
) -> list[StudyView]:
    """What the report needs of some studies, in their order.

    `data` has the images that feature maps are of: without it, these are shown without them. `frames` is what the store
    holds of at least these studies, where that is known.
    """
    frames = frames or recorded(store, studies)
    return [_study_view(store, study, data, frames) for study in studies]


def _study_view(store: Store, study: Study, data: Dataset | None, frames: StoreFrames) -> StudyView:
    of_study = frames.runs[frames.runs["study"] == study.name]
    chosen, _ = select(of_study, study, frames.incomplete)
    activations: dict[str, dict[str, Any]] = {}
    sheets: dict[str, Thumbnails] = {}
    for row in first_runs(chosen):
        with store.errors(), tempfile.TemporaryDirectory() as folder:
            kept = dict(read_artifacts(store, row["artifact_uri"], [ACTIVATIONS], folder))
            activations[row["arm"]] = activations_of(kept[ACTIVATIONS]) if kept else {}
            sheets[row["arm"]] = map_thumbnails(store, row["artifact_uri"])
    view = StudyView(
        study=study,
        runs=of_study,
        epochs=frames.epochs[frames.epochs["run_id"].isin(chosen["run_id"])],
        incomplete=_of_runs(frames.incomplete, of_study),
        answers=frames.answers,
        sheets=sheets,
    )
    return with_maps(view, chosen, activations, data)


def first_runs(chosen: pd.DataFrame) -> list[dict[str, Any]]:
    """Of the arms that have feature maps, the run of the lowest seed; `chosen` as `selection.select` gives them."""
    convolutional = chosen[chosen["model"] == "cnn"]
    in_order = convolutional.sort_values("seed", key=lambda seeds: seeds.astype(int))
    return [dict(row) for row in in_order.drop_duplicates("arm").to_dict("records")]


def with_maps(
    view: StudyView, chosen: pd.DataFrame, activations: Mapping[str, dict[str, Any]], data: Dataset | None
) -> StudyView:
    """The view with the feature maps of its arms' first runs: `activations` as their files hold them, by arm."""
    indices = [int(index) for maps in activations.values() for index in maps.get("images", ())]
    indices = list(dict.fromkeys(indices))
    shown = data if indices else None
    return replace(
        view,
        activations={
            arm: {layer: maps for layer, maps in of_arm.items() if layer != "images"}
            for arm, of_arm in activations.items()
        },
        shown={
            row["arm"]: f"seed {row['seed']}, epoch {float(row['epochs_trained']):.0f}" for row in first_runs(chosen)
        },
        images=None if shown is None else shown.test_images[indices],
        indices=indices,
        class_name="" if shown is None else CLASS_NAMES[shown.test_labels[indices[0]]],
    )


def _of_runs(incomplete: Mapping[str, str], runs: pd.DataFrame) -> dict[str, str]:
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
        chosen_records.append(Selection(study, records, left_out, _of_runs(lacking, of_study)))
    return chosen_records


def incomplete(
    store: Store,
    studies: Sequence[Study],
    runs: pd.DataFrame,
    *,
    whole: bool = False,
    answers: dict[str, Answers] | None = None,
) -> tuple[dict[str, str], pd.DataFrame]:
    """Which runs would be chosen as evidence but are none, for their records lack or contradict something.

    They may contradict each other, too: then neither counts, for only a replay can tell which of them is the false one.
    The store is asked for the epochs and the light artifacts of what would be chosen, no more; `whole`: for every
    artifact and the model, too. `answers` is filled with what the networks answered. Returns the first thing that is
    wrong, by run id; and the epochs of all runs that were looked at.
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
            if answers is not None:
                answers |= answers_of([record])
        # A run without any epoch was looked at, too.
        empty = pd.DataFrame({"run_id": [row["run_id"] for row in rows if row["run_id"] not in by_run]})
        epochs = pd.concat([part for part in (epochs, read, empty) if len(part)], ignore_index=True)


def data_set(data_dir: str | None) -> Dataset | None:
    """The data set if it is on this machine, else None: a report needs no download."""
    try:
        return load_dataset(data_dir, download=False)
    except DataError:
        if data_dir is not None:
            raise
        return None


def activations_of(content: bytes) -> dict[str, Any]:
    """The arrays of an `activations.npz`, by layer, and the `images` they are of: (n,), places among test images."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
