"""What more training images bring: the runs of a study by number of images, and the gain for each doubling. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fashion_cnn.claims import ALPHA
from fashion_cnn.config import RunConfig
from fashion_cnn.intervals import mean_interval
from fashion_cnn.sample import epoch_images, epoch_steps
from fashion_cnn.study import Study

if TYPE_CHECKING:
    import pandas as pd

_VARIED = ("training_images", "augmentation")


def compared_sizes(study: Study, runs: pd.DataFrame) -> pd.DataFrame:
    """One row per run and comparison of numbers of images, for `figures.scores_by_images`; none in most studies.

    Arms are compared whose configs differ in the images alone (equal epochs), and those that differ in the epochs, too,
    so that each has seen as many images in all (equal steps, but for an epoch's last batch).

    Args:
        study: whose arms are looked at.
        runs: those that count: `arm`, `seed`, `test_accuracy`, `test_loss`.

    Returns:
        `comparison` (in words), `arm`, `seed`, `images` (as many as an epoch shows), `mirrored` (half of them are
        mirror images), `test_accuracy`, `test_loss`.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for words, arms in _comparisons(study):
        for arm in arms:
            config = study.arms[arm]
            about = {"comparison": words, "arm": arm, "images": epoch_images(config), "mirrored": _mirrored(config)}
            scores = runs.loc[runs["arm"] == arm, ["seed", "test_accuracy", "test_loss"]].to_dict("records")
            rows += [{**about, **score} for score in scores]
    columns = ["comparison", "arm", "seed", "images", "mirrored", "test_accuracy", "test_loss"]
    return pd.DataFrame(rows, columns=columns)


def doublings(compared: pd.DataFrame) -> str:
    """What twice the images went with, in sentences, from the frame of `compared_sizes`; nothing where there is none.

    The gain for a doubling is each seed's least squares slope of test accuracy over log2(images), without mirror
    images; its interval is that of the mean over seeds (Student's t). It is said of the sizes measured, and no more.
    """
    said, largest = [], 0
    for words, part in compared.groupby("comparison", sort=False):
        table = part[~part["mirrored"].astype(bool)].pivot_table(index="seed", columns="images", values="test_accuracy")
        table = table.dropna()
        sizes = [int(size) for size in table.columns]
        if len(table) < 2 or len(sizes) < 2:
            continue
        largest = max(largest, sizes[-1])
        logs = [math.log2(size) for size in sizes]
        middle = sum(logs) / len(logs)
        weights = [(log - middle) / sum((other - middle) ** 2 for other in logs) for log in logs]
        slopes = (table * weights).sum(axis=1)
        each = f"{words}: from {sizes[0]:,} to {sizes[-1]:,} images, a doubling went with {_gain(slopes)} test accuracy"
        last = ""
        if sizes[-1] == 2 * sizes[-2] and len(sizes) > 2:
            last = f", the last, from {sizes[-2]:,}, with {_gain(table[sizes[-1]] - table[sizes[-2]])}"
        said.append(f"{each}{last} ({len(table)} seeds).")
    if said:
        said.append("In brackets: the 95 % interval over seeds.")
        said.append(f"More than {largest:,} images were not measured: what twice as many would bring is not known.")
    return " ".join(said)


def _gain(values: pd.Series[float]) -> str:
    """The mean of one value per seed, and its interval."""
    low, high = mean_interval(values.to_numpy(float), 1 - ALPHA)
    text = f"{values.mean():+.4f} ({low:+.4f} to {high:+.4f})"
    return text.replace("-", "\N{MINUS SIGN}")


def _mirrored(config: RunConfig) -> bool:
    return config.augmentation == "mirror"


def _comparisons(study: Study) -> Iterator[tuple[str, Sequence[str]]]:
    """The groups of arms with at least two numbers of images, each in words."""
    epochs: dict[tuple[Any, ...], list[str]] = {}
    steps: dict[tuple[Any, ...], list[str]] = {}
    for arm, config in study.arms.items():
        rest = {name: value for name, value in config.canonical().items() if name not in _VARIED}
        epochs.setdefault(tuple(sorted(rest.items(), key=str)), []).append(arm)
        seen = {**rest, "epochs": config.epochs * epoch_images(config)}
        steps.setdefault(tuple(sorted(seen.items(), key=str)), []).append(arm)
    for groups in (epochs, steps):
        for arms in groups.values():
            if len({study.arms[arm].training_images for arm in arms}) > 1:
                yield _in_words(study.arms[arms[0]], groups is epochs), arms


def _in_words(config: RunConfig, by_epochs: bool) -> str:
    if by_epochs:
        return f"Equal epochs ({config.epochs} each)"
    return f"Equal steps (about {config.epochs * epoch_steps(config):,} each)"
