"""What the figures refuse to draw: arrays and frames that are empty or do not fit together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Pixels: TypeAlias = NDArray[np.uint8]
Labels: TypeAlias = NDArray[np.integer[Any]]


class FigureError(ValueError):
    """Nothing can be drawn of this. One line: what was wrong, what there is."""


def check_labels(class_names: Sequence[str], *labels: Labels, images: Pixels | None = None) -> None:
    """Refuse labels outside `class_names`, and images that are none or not as many as the first labels.

    Raises:
        FigureError: see above.
    """
    if images is not None and (not len(images) or len(images) != len(labels[0])):
        raise FigureError(f"there are {len(images)} images and {len(labels[0])} labels; as many of each are needed")
    for array in labels:
        if len(array) and not 0 <= array.min() <= array.max() < len(class_names):
            raise FigureError(f"labels run from {array.min()} to {array.max()}; there are {len(class_names)} classes")


def complete_rows(
    frame: pd.DataFrame, columns: Sequence[str], what: str, arms: Sequence[str] | None = None
) -> pd.DataFrame:
    """The rows that can be drawn: of these arms, and with a value in each column.

    Args:
        frame: tidy.
        columns: names of columns that must be there.
        what: the rows are called in a message, such as `runs`.
        arms: names to keep; None keeps all.

    Raises:
        FigureError: a column is missing, or no row is left.
    """
    if missing := [column for column in columns if column not in frame]:
        raise FigureError(
            f"the frame of {what} has no column {missing[0]!r}; there are: {', '.join(map(str, frame)) or 'none'}"
        )
    rows = frame.dropna(subset=list(columns))
    if rows.empty:
        raise FigureError(f"there are no {what} to draw: of {len(frame)} rows in the frame none is complete")
    if arms is None:
        return rows
    chosen = rows[rows["arm"].isin(list(arms))]
    if chosen.empty:
        raise FigureError(f"there are no {what} of {', '.join(arms)}; there are: {', '.join(rows['arm'].unique())}")
    return chosen
