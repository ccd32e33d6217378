"""What the pages say of other test images: in Markdown, from what `evidence.images` computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from fashion_cnn.evidence.images import ONLY_THESE, Flips, OverImages
from fashion_cnn.reports.markdown import named_once, plain, table
from fashion_cnn.reports.page import typeset

NONE_KEPT: Final = (
    "The published runs hold no predictions: they were made before these were part of a record. So nothing can be said "
    "here of other test images."
)


def images_part(compared: Mapping[str, Sequence[OverImages]], flipped: Mapping[str, Sequence[Flips]]) -> str:
    """By study, what is claimed of test accuracy over seeds and images, and how many images flip between seeds."""
    if not any(compared.values()) and not any(flipped.values()):
        return NONE_KEPT
    rows = [
        [
            study,
            str(each.part.claim),
            str(each.n),
            *map(typeset, (each.part.estimate_text, each.part.interval_text, each.interval_text)),
            f"**{each.part.verdict}**{f' {ONLY_THESE}' if each.only_these else ''}",
        ]
        for study, parts in compared.items()
        for each in parts
    ]
    heads = ["study", "of the sentence", "n", "estimate", "over seeds", "over seeds and images", "verdict over seeds"]
    counts = [
        [study, arm.arm, str(arm.n), plain(arm.flipped, 1), f"{arm.unlike:,}", f"{arm.never_right:,}"]
        for study, arms in flipped.items()
        for arm in arms
    ]
    titles = ["study", "arm", "n", "images that two seeds answer differently", "not all seeds alike", "no seed rightly"]
    return (
        f"{table(heads, named_once(rows), numbers=range(2, 6))}\n\n"
        f"*Over seeds and images*: the crossed bootstrap's interval, at the confidence of the part's own. A verdict "
        f"that it does not bear out is one {ONLY_THESE}. Test losses are not asked: published are answers without "
        "their probabilities.\n\n"
        f"{table(titles, named_once(counts), numbers=range(2, 6))}\n\n"
        "An arm with the networks of one above is left out."
    )
