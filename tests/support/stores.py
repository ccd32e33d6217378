"""What tests of stores ask for: short runs, waiting, whether a record is whole."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from PIL import Image

from fashion_cnn.config import DENSE
from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.record import Record, missing
from fashion_cnn.store.tracking import Store

FOUR, LONG = replace(DENSE, epochs=4), replace(DENSE, epochs=40)


def wait_until(holds: Any, seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.02)


def is_whole(store: Store, run_id: str) -> bool:
    """Whether a run's record is complete, contradicts itself nowhere, and shows each of its images."""
    row = store.run(run_id)
    record = store.record(row, store.epochs([run_id]).to_dict("records"))
    return not missing(record) and not contradictions(record) and shows_its_images(record)


def shows_its_images(record: Record) -> bool:
    """Whether a run whose artifacts lie on this machine has the image of each epoch that has one, once."""
    images = list(Path(unquote(urlsplit(record.row["artifact_uri"]).path), "images").glob("feature_maps~*.png"))
    for path in images:
        with Image.open(path) as image:
            image.load()
    steps = [int(path.name.split("+step+")[1].split("+")[0]) for path in images]
    drawn = [epoch for epoch in range(len(record.epochs) + 1) if epoch in (1, 2, len(record.epochs)) or epoch % 5 == 0]
    return sorted(steps) == drawn
