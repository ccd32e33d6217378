"""Do verdicts hold for other test images, too? What runs answered in, intervals over seeds and images out. Pure.

The seeds' intervals take the test images as given. Here both are drawn anew: the crossed (or pigeonhole) bootstrap
takes seeds with replacement and, independently of them, images with replacement, and each pair counts as often as its
seed times its image was taken (McCullagh 2000, Bernoulli 6; Owen 2007, Ann. Appl. Statist. 1). Nothing is drawn: the
variance that its draws would have is computed. It errs towards wide, but of n seeds' own variance it has (n - 1) / n.
So its standard error is taken √(n / (n - 1)) times, and the interval is Student's: with few seeds percentiles would be
narrower than the seeds' own interval.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from fashion_cnn.claims import Stops
from fashion_cnn.data import CLASS_NAMES
from fashion_cnn.evidence.predictions import PREDICTIONS, PredictionsError, from_bytes, labels_of
from fashion_cnn.evidence.record import Record
from fashion_cnn.evidence.selection import select
from fashion_cnn.evidence.statistics import Part, Sentence, judge
from fashion_cnn.evidence.verdicts import Verdicts
from fashion_cnn.intervals import half_width

if TYPE_CHECKING:
    import pandas as pd

MEASURE: Final = "test_accuracy"
ONLY_THESE: Final = "for these test images only"


@dataclass(frozen=True, eq=False)
class Answers:
    """What a run's network answered to the test images."""

    classes: NDArray[np.uint8]
    """(n,): the most probable class of each."""
    labels: NDArray[np.uint8]
    """(n,): the true ones."""


@dataclass(frozen=True)
class OverImages:
    """A difference of two arms' test accuracies, or the level of one's, over seeds and test images."""

    says: str
    """The sentence that it is a part of."""
    part: Part
    n: int
    """Seeds whose runs of all its arms have answers."""
    images: int
    low: float
    high: float
    """The crossed bootstrap's interval, of the part's own confidence."""

    @property
    def interval_text(self) -> str:
        """The interval in print."""
        return replace(self.part, low=self.low, high=self.high).interval_text

    @property
    def only_these(self) -> bool:
        """Whether the verdict on the part is decided over seeds, and this interval does not bear it out."""
        supported, contradicted = judge(self.part.claim, np.array(self.low), np.array(self.high))
        borne_out = {"supported": bool(supported), "contradicted": bool(contradicted)}
        return not borne_out.get(self.part.verdict, True)


@dataclass(frozen=True)
class Flips:
    """How the answers of an arm's runs differ from seed to seed."""

    arm: str
    n: int
    images: int
    flipped: float | None
    """Images that two seeds answer differently: the mean over all pairs; None with one seed."""
    unlike: int
    """Images that not all seeds answer alike."""
    never_right: int
    """Images that no seed answers rightly."""


def answers_of(records: Iterable[Record]) -> dict[str, Answers]:
    """The answers of those runs that have some to images whose classes are known, by run id."""
    found: dict[str, Answers] = {}
    for record in records:
        labels = labels_of(record.json("trajectory.json"))
        try:
            classes = from_bytes(record.artifacts[PREDICTIONS]).classes
        except (KeyError, PredictionsError):
            continue
        if labels is not None and len(labels) == len(classes):
            found[str(record.row["run_id"])] = Answers(classes, labels)
    return found


def crossed_interval(table: NDArray[np.int8], confidence: float) -> tuple[float, float]:
    """The crossed bootstrap's interval of the mean of a table, (seeds, images) of at least two seeds.

    With W_i the times that seed i of n is taken, and V_j those of image j of m: E[W_i W_k] = 1 - 1/n + (i = k), and
    likewise E[V_j V_l]. So the expected square of the sum of W_i V_j x_ij follows from the table's sums.
    """
    n, m = table.shape
    # Whole numbers: their sums are the same on any processor.
    whole = table.astype(np.int64)
    total, squares = int(whole.sum()), int((whole**2).sum())
    of_seeds, of_images = (int((whole.sum(axis=axis) ** 2).sum()) for axis in (1, 0))
    variance = (1 - 1 / m) * of_seeds + (1 - 1 / n) * of_images + squares - (1 / n + 1 / m - 1 / (n * m)) * total**2
    mean, error = total / (n * m), math.sqrt(max(variance, 0.0) * n / (n - 1)) / (n * m)
    half = half_width(error * math.sqrt(n), n, confidence)  # which divides by √n
    return mean - half, mean + half


def over_images(sentences: Sequence[Sentence], runs: pd.DataFrame, answers: Mapping[str, Answers]) -> list[OverImages]:
    """The parts that are about test accuracies, over seeds and images; those with fewer than two seeds are left out.

    `runs` are those that count, a row each, with `run_id`, `arm` and `seed`.
    """
    ids = {(row["arm"], str(row["seed"])): str(row["run_id"]) for row in runs.to_dict("records")}
    seeds = sorted({seed for _, seed in ids}, key=int)
    compared = []
    for sentence in sentences:
        for part in sentence.parts:
            claim = part.claim
            if isinstance(claim, Stops) or claim.measure != MEASURE:
                continue
            found = [[answers.get(ids.get((arm, seed), "")) for arm in claim.arms] for seed in seeds]
            whole = [[one for one in each if one is not None] for each in found if None not in each]
            if len(whole) > 1 and _of_the_same_images([one for each in whole for one in each]):
                table = np.array([functools.reduce(np.subtract, map(_right, each)) for each in whole])
                interval = crossed_interval(table, part.confidence)
                compared.append(OverImages(sentence.says, part, len(table), table.shape[1], *interval))
    return compared


def only_these_images(
    decided: Verdicts, runs: pd.DataFrame, answers: Mapping[str, Answers], incomplete: Collection[str] = ()
) -> dict[str, list[str]]:
    """The sentences by study whose verdict holds for these test images only; arguments as those of `verdicts`."""
    found: dict[str, list[str]] = {}
    for each in decided.studies:
        name = each.study.name
        chosen, _ = select(runs[runs["study"] == name], each.study, incomplete)
        compared = over_images(each.sentences, chosen, answers)
        if says := [sentence.says for sentence in each.sentences if is_limited(sentence, compared)]:
            found[name] = says
    return found


def is_limited(sentence: Sentence, compared: Sequence[OverImages]) -> bool:
    """Whether a sentence's verdict holds for these test images only: without the parts that do, it would be another."""
    narrow = [each.part for each in compared if each.only_these]
    deciding = [part in narrow for part in sentence.parts if part.verdict == sentence.verdict]
    return any(deciding) if sentence.verdict == "supported" else sentence.verdict == "contradicted" and all(deciding)


def _of_the_same_images(answers: Sequence[Answers]) -> bool:
    """By their classes: no two seeds draw images of the same ones."""
    return all(np.array_equal(each.labels, answers[0].labels) for each in answers)


def _right(answers: Answers) -> NDArray[np.int8]:
    right: NDArray[np.int8] = (answers.classes == answers.labels).astype(np.int8)
    return right


def flips(arms: Sequence[str], runs: pd.DataFrame, answers: Mapping[str, Answers]) -> list[Flips]:
    """How the answers of each arm's runs differ from seed to seed; arms without answers are left out."""
    found = []
    for arm in arms:
        of_arm = [answers[str(run_id)] for run_id in runs[runs["arm"] == arm]["run_id"] if str(run_id) in answers]
        if not of_arm or not _of_the_same_images(of_arm):
            continue
        table = np.array([each.classes for each in of_arm])
        pairs = math.comb(len(table), 2)
        counts = np.array([(table == value).sum(axis=0) for value in range(len(CLASS_NAMES))])
        alike = int((counts * (counts - 1) // 2).sum())
        found.append(
            Flips(
                arm,
                n=len(table),
                images=table.shape[1],
                flipped=(pairs * table.shape[1] - alike) / pairs if pairs else None,
                unlike=int((table != table[0]).any(axis=0).sum()),
                never_right=int((table != of_arm[0].labels).all(axis=0).sum()),
            )
        )
    return found
