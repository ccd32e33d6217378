"""The experiments: one script a study. `STUDIES` holds them in order."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fashion_cnn.study import Study

    STUDIES: tuple[Study, ...]

POST_RESULTS = Path(__file__).parent / "post_results.csv"  # what the post printed
RESULTS = Path(__file__).parent / "results"  # what is published
SCRIPTS = (
    "baseline_study",
    "epochs_study",
    "filter_study",
    "depth_study",
    "callback_study",
    "data_study",
    "split_study",
    "order_study",
)


def __getattr__(name: str) -> Any:
    # Imported when asked for, so that `python -m experiments.filter_study` does not import itself twice.
    if name == "STUDIES":
        return tuple(import_module(f"experiments.{script}").STUDY for script in SCRIPTS)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
