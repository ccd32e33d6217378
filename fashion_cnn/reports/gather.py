"""What the report shows of the studies in a store."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from fashion_cnn.data import CLASS_NAMES, DataError, Dataset
from fashion_cnn.download import load_dataset
from fashion_cnn.evidence.predictions import UNREADABLE
from fashion_cnn.evidence.selection import select
from fashion_cnn.reports.maps import Thumbnails
from fashion_cnn.reports.page import StudyView
from fashion_cnn.reports.stored import StoreFrames, of_runs, recorded
from fashion_cnn.store.artifacts import map_thumbnails, read_artifacts
from fashion_cnn.store.tracking import Store
from fashion_cnn.study import Study

ACTIVATIONS = "activations.npz"  # of a run


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
        incomplete=of_runs(frames.incomplete, of_study),
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


def data_set(data_dir: str | None) -> Dataset | None:
    """The data set if it is on this machine, else None: a report needs no download."""
    try:
        return load_dataset(data_dir, download=False)
    except DataError:
        if data_dir is not None:
            raise
        return None


def activations_of(content: bytes) -> dict[str, Any]:
    """The arrays of an `activations.npz`, by layer, and the `images` they are of: (n,), places among test images.

    Of a file that is none there are none: the report says which arms lack feature maps.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except UNREADABLE:
        return {}
