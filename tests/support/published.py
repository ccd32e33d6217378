"""A small made-up folder of published results: two studies, seven seeds; and activations that can lie beside them."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from experiments import POST_RESULTS, STUDIES
from fashion_cnn.config import CNN, DENSE
from fashion_cnn.evidence import tables
from fashion_cnn.evidence.record import Record
from fashion_cnn.evidence.verdicts import claims_values
from fashion_cnn.reports import published as results
from fashion_cnn.reports import readme as summary
from fashion_cnn.reports.problems import check
from fashion_cnn.study import Study
from tests.support.recorded import record

BASELINE = STUDIES[0]
EPOCHS = Study("epochs_study", "How long?", {f"{n} epochs": replace(CNN, epochs=n) for n in (5, 10)})
STUDY = (replace(BASELINE, arms={"dense": replace(DENSE, epochs=2), "cnn": replace(CNN, epochs=2)}), EPOCHS)
POST = POST_RESULTS.read_bytes()
SEEDS = 7
SHAPES = {
    "convolution_1": (26, 26, 32),
    "pooling_1": (13, 13, 32),
    "convolution_2": (11, 11, 32),
    "pooling_2": (5, 5, 32),
}


def arrays() -> bytes:
    """Activations of three images."""
    buffer = io.BytesIO()
    maps = {layer: np.random.default_rng(0).random((3, *shape), np.float32) for layer, shape in SHAPES.items()}
    np.savez_compressed(buffer, images=np.array([0, 23, 28]), **maps)  # type: ignore[arg-type]  # its stub knows no names
    return buffer.getvalue()


ARRAYS = arrays()


def records(*seeds: int, studies: tuple[Study, ...] = STUDY, **settings: Any) -> list[Record]:
    """One for each arm and seed; the settings are those of `recorded.record`."""
    return [
        record(study, arm, seed, **settings)
        for study in studies
        for arm in study.arms
        for seed in seeds or range(SEEDS)
    ]


def parts(
    studies: Sequence[Study],
    found: Sequence[Record],
    benchmarks: Mapping[str, Any] = MappingProxyType({}),
    pilot: bytes = b"",
    post: bytes = POST,
) -> dict[str, Callable[[], str]]:
    """The generated parts of documents by published records."""
    return summary.parts(studies, found, results.verdicts_over(studies, found, post), benchmarks, pilot)


def file_problems(files: Mapping[str, bytes], studies: Sequence[Study], post: bytes = POST) -> list[str]:
    """What does not hold of published files, also where they cannot be read."""
    try:
        return list(check(files, studies, post).problems)
    except results.ResultsError as error:
        return [str(error)]


def published(found: list[Record], studies: tuple[Study, ...] = STUDY) -> dict[str, bytes]:
    files = results.record_tables(results.merge(studies, [], found).records)
    said = results.verdicts_over(studies, results.published_records(files), POST)
    files[results.CLAIMS] = tables.to_json(claims_values(said))
    files["figures/baseline_study/scores.svg"] = b"<svg/>"
    return {**files, results.MANIFEST: results.manifest(files)}
