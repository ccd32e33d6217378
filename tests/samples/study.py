"""The study of the stored sample: networks so small that their states hardly take room."""

from __future__ import annotations

from dataclasses import replace

from fashion_cnn.config import CNN, DENSE
from fashion_cnn.study import Study

SAMPLE = Study(
    name="sample_study",
    question="Is a store that older code wrote still of use?",
    arms={
        "dense": replace(DENSE, dense_units=2, epochs=2),
        "cnn": replace(CNN, filters=2, dense_units=4, epochs=3),
        "long cnn": replace(CNN, filters=2, dense_units=4, batch_size=1, epochs=12),
    },
)
