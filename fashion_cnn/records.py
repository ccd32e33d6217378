"""The store's records of some studies, as the report takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.data import CLASS_NAMES, DataError, Dataset, load_dataset
from fashion_cnn.evidence import select
from fashion_cnn.report import Exploratory, StudyRecords
from fashion_cnn.study import Study
from fashion_cnn.tracking import Store


def study_records(store: Store, studies: Sequence[Study], data: Dataset | None) -> list[StudyRecords]:
    """What a store holds of some studies, in their order.

    Args:
        store: is asked once for the runs, once a metric for the epochs of up to 100 runs.
        studies: in order.
        data: the images that the activations are of; None leaves the feature maps out.

    Raises:
        StoreError: the store does not answer.
    """
    runs = store.runs([study.name for study in studies])
    chosen = {study.name: select(runs[runs["study"] == study.name], study)[0] for study in studies}
    wanted = [run_id for frame in chosen.values() for run_id in frame["run_id"]]
    epochs = store.epochs(wanted)
    found = []
    for study in studies:
        tables = chosen[study.name]
        activations: dict[str, dict[str, Any]] = {}
        indices: list[int] = []
        for row in tables.sort_values("seed", key=lambda seeds: seeds.astype(int)).to_dict("records"):
            if data is not None and row["arm"] not in activations and row["model"] == "cnn":
                maps = _activations(store.artifact(row["run_id"], "activations.npz"))
                indices = [int(index) for index in maps.pop("images", ())] or indices
                activations[row["arm"]] = maps
        found.append(
            StudyRecords(
                study=study,
                runs=runs[runs["study"] == study.name],
                epochs=epochs[epochs["run_id"].isin(tables["run_id"])],
                activations=activations,
                images=data.test_images[indices] if data is not None and indices else None,
                indices=indices,
                class_name=CLASS_NAMES[data.test_labels[indices[0]]] if data is not None and indices else "",
            )
        )
    return found


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
