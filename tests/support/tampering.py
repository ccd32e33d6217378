"""Records that were changed after they were made: carelessly, or with all hashes made to fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fashion_cnn.evidence.record import HASHES, Record


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


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
