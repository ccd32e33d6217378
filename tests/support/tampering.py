"""Records that were changed after they were made: carelessly, or with all hashes made to fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fashion_cnn.config import trajectory_sha256
from fashion_cnn.evidence.record import BASIS, HASHES, Record


def with_row(record: Record, **values: Any) -> Record:
    """The record with other values in its row, and nothing else changed."""
    return replace(record, row={**record.row, **values})


def with_artifact(record: Record, name: str, content: bytes | None) -> Record:
    """The record with an artifact changed, added or (None) removed, and nothing else."""
    left = {key: value for key, value in record.artifacts.items() if key != name}
    return replace(record, artifacts=left if content is None else {**left, name: content})


def rehashed(record: Record, **artifacts: Mapping[str, Any]) -> Record:
    """The record with JSON artifacts changed and the hashes of all artifacts made to fit, as a forger would.

    Args:
        record: to change.
        artifacts: by name without `.json`: what is to be another in it.
    """
    contents = {name: content for name, content in record.artifacts.items() if name != HASHES}
    for name, changes in artifacts.items():
        contents[f"{name}.json"] = json.dumps({**json.loads(contents[f"{name}.json"]), **changes}).encode()
    contents[HASHES] = json.dumps({name: _sha256(content) for name, content in contents.items()}).encode()
    return with_row(replace(record, artifacts=contents), artifacts_sha256=_sha256(contents[HASHES]))


def forged(record: Record, epoch: int = -1, **values: Any) -> Record:
    """The record with other numbers of an epoch (its place), in the table, `trajectory.json` and, of the last, the row.

    Sums over the epochs and all hashes are made to fit.
    """
    trajectory = json.loads(record.artifacts["trajectory.json"])
    epochs = [dict(each) for each in record.epochs]
    names = [name for name in values if name != "weights_sha256"]
    epochs[epoch] |= {name: values[name] for name in names}
    trajectory["epochs"][epoch] |= values
    row = {**record.row}
    if epoch in (-1, len(epochs) - 1):
        row |= values
    for name, part in (("fit_seconds", "epoch_seconds"), ("fit_cpu_seconds", "epoch_cpu_seconds")):
        row[name] = trajectory["run"][name] = sum(each[part] for each in epochs)
    return rehashed(replace(record, row=row, epochs=epochs), trajectory=trajectory)


def as_seed(record: Record, seed: int, **tags: Any) -> Record:
    """The record as if it were another seed's, with the same weights; `tags` are others of its row."""
    row = {**record.row, "seed": str(seed), "name": f"{record.row['arm']} · seed {seed}", **tags}
    config = record.config()
    assert config is not None
    row["run_id"] = _sha256(f"{row['run_id']} {seed}".encode())[:32]
    row["trajectory_sha256"] = trajectory_sha256(config, seed, **{name: row[name] for name in BASIS})
    told = {name: row[name] for name in ("trajectory_sha256", *BASIS)}
    return rehashed(replace(record, row=row), config={"seed": seed}, trajectory={**told, "seed": seed})


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
