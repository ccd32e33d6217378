"""The parts of a study's sentences as the rows that `figures.differences` draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import pandas as pd

from fashion_cnn.claims import MEASURES, Between, Stops, Test
from fashion_cnn.evidence.statistics import Part, Sentence

_MINUS: Final = "\N{MINUS SIGN}"


def claimed(sentences: Sequence[Sentence]) -> pd.DataFrame:
    """One row per part, in order; see `figures.differences` for the columns. None of sentences that are not tested."""
    return pd.DataFrame([_row(sentence.says, part) for sentence in sentences for part in sentence.parts])


def _row(says: str, part: Part) -> dict[str, Any]:
    claim = part.claim
    start, end = claim.holds
    interval = f" ({part.interval_text})" if part.interval_text else ""
    words = f"{part.estimate_text}{interval}\nn = {part.n}{f'; {part.needs}' if part.needs else ''}"
    return {
        "measure": _heading(claim),
        "says": says,
        "claim": str(claim).removeprefix(f"{MEASURES[claim.measure]}: "),
        "estimate": _number(part.estimate),
        "low": _number(part.low),
        "high": _number(part.high),
        "from": start,
        "to": end,
        "neutral": math.nan if isinstance(claim, Between | Stops) else 0.0,
        "share": isinstance(claim, Stops) or getattr(claim, "relative", False),
        "verdict": part.verdict,
        "words": words.replace("-", _MINUS).strip(),
    }


def _heading(claim: Test) -> str:
    """What the numbers are, on the axis of which a part is drawn."""
    measure = MEASURES[claim.measure]
    if isinstance(claim, Stops):
        return "Share of the runs that end in time"
    if isinstance(claim, Between):
        return f"Mean {measure}"
    if claim.relative:
        return f"Difference in {measure}, as a share of the second arm's"
    return f"Difference in {measure}"


def _number(value: float | None) -> float:
    return math.nan if value is None else value
