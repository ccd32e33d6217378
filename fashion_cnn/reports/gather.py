"""The store's records of some studies, as the report and the claims take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fashion_cnn.data import CLASS_NAMES, DataError, Dataset, load_dataset
from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.record import missing
from fashion_cnn.evidence.selection import Selection, select
from fashion_cnn.reports.page import Exploratory, StudyRecords
from fashion_cnn.store.tracking import Store
from fashion_cnn.study import Study


@dataclass(frozen=True)
class Recorded:
    """What a store holds of some studies, as tidy frames."""

    runs: pd.DataFrame
    """A row a run, whatever became of it."""
    epochs: pd.DataFrame
    """A row an epoch, at least of the runs that count."""
    incomplete: Mapping[str, str]
    """See `incomplete`."""


def recorded(store: Store, studies: Sequence[Study]) -> Recorded:
    """What a store holds of some studies.

    Args:
        store: is asked once for the runs, once a metric for the epochs of up to 100 runs.
        studies: whose runs and arms.

    Raises:
        StoreError: the store does not answer.
    """
    runs = store.runs([study.name for study in studies])
    lacking, epochs = incomplete(store, studies, runs)
    return Recorded(runs, epochs, lacking)


def study_records(
    store: Store, studies: Sequence[Study], data: Dataset | None, found: Recorded | None = None
) -> list[StudyRecords]:
    """What the report needs of some studies, in their order.

    Args:
        store: is asked for the activations of each arm.
        studies: in order.
        data: the images that the activations are of; None leaves the feature maps out.
        found: what the store holds of at least these studies, where that is known.

    Raises:
        StoreError: the store does not answer.
    """
    found = found or recorded(store, studies)
    records = []
    for study in studies:
        mine = found.runs[found.runs["study"] == study.name]
        tables, _ = select(mine, study, found.incomplete)
        activations: dict[str, dict[str, Any]] = {}
        indices: list[int] = []
        for row in tables.sort_values("seed", key=lambda seeds: seeds.astype(int)).to_dict("records"):
            if data is not None and row["arm"] not in activations and row["model"] == "cnn":
                maps = _activations(store.artifact(row["run_id"], "activations.npz"))
                indices = [int(index) for index in maps.pop("images", ())] or indices
                activations[row["arm"]] = maps
        records.append(
            StudyRecords(
                study=study,
                runs=mine,
                epochs=found.epochs[found.epochs["run_id"].isin(tables["run_id"])],
                incomplete={run_id: why for run_id, why in found.incomplete.items() if run_id in set(mine["run_id"])},
                activations=activations,
                images=data.test_images[indices] if data is not None and indices else None,
                indices=indices,
                class_name=CLASS_NAMES[data.test_labels[indices[0]]] if data is not None and indices else "",
            )
        )
    return records


def selections(store: Store, studies: Sequence[Study]) -> list[Selection]:
    """The records of some studies that count, in their order, as a bundle takes them.

    Args:
        store: is asked for every artifact and model of what counts: a bundle holds their hashes in their place.
        studies: whose runs and arms.

    Raises:
        StoreError: the store does not answer.
    """
    runs = store.runs([study.name for study in studies])
    lacking, epochs = incomplete(store, studies, runs, whole=True)
    by_run = {run_id: part.to_dict("records") for run_id, part in epochs.groupby("run_id")}
    found = []
    for study in studies:
        mine = runs[runs["study"] == study.name]
        chosen, left_out = select(mine, study, lacking)
        records = list(store.records(chosen.to_dict("records"), by_run, whole=False))
        reasons = {run_id: lacking[run_id] for run_id in mine["run_id"] if run_id in lacking}
        found.append(Selection(study, records, left_out, reasons))
    return found


def incomplete(
    store: Store, studies: Sequence[Study], runs: pd.DataFrame, *, whole: bool = False
) -> tuple[dict[str, str], pd.DataFrame]:
    """Which runs would be chosen as evidence but are none, because their records lack or contradict something.

    Args:
        store: is asked for the epochs and the texts of what would be chosen, no more.
        studies: whose arms decide.
        runs: of `Store.runs`.
        whole: whether to compare every artifact and the model with its hash, too.

    Returns:
        By run id the first thing that is wrong; and the epochs of all runs that were looked at.

    Raises:
        StoreError: the store does not answer.
    """
    lacking: dict[str, str] = {}
    epochs = store.epochs([])
    while True:
        chosen = [select(runs[runs["study"] == study.name], study, lacking)[0] for study in studies]
        known = set(epochs["run_id"])  # once: a store may hold thousands of runs
        rows = [row for frame in chosen for row in frame.to_dict("records") if row["run_id"] not in known]
        if not rows:
            return lacking, epochs
        found = store.epochs([row["run_id"] for row in rows])
        by_run = {run_id: part.to_dict("records") for run_id, part in found.groupby("run_id")}
        for record in store.records(rows, by_run, whole=whole):
            if wrong := [*missing(record), *contradictions(record)]:
                lacking[record.row["run_id"]] = str(wrong[0])
        # One without any epoch was looked at, too.
        looked_at = pd.DataFrame({"run_id": [row["run_id"] for row in rows if row["run_id"] not in by_run]})
        epochs = pd.concat([one for one in (epochs, found, looked_at) if len(one)], ignore_index=True)


def data_set(data_dir: str | None) -> Dataset | None:
    """The data set if it is on this machine, else None: a report needs no download."""
    try:
        return load_dataset(data_dir, download=False)
    except DataError:
        if data_dir is not None:
            raise
        return None


def first_look(data: Dataset) -> Exploratory:
    """The data set as the report shows it."""
    return Exploratory(data.train_images, data.train_labels, data.test_labels, CLASS_NAMES)


def _activations(path: Path | None) -> dict[str, Any]:
    """The arrays of an `activations.npz`, by layer, and the `images` they are of; nothing where it is missing."""
    if path is None:
        return {}
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
