"""Tables, numbers and verdicts in Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from fashion_cnn.claims import MEASURES, Between, Equivalent, Higher, Lower, Stops
from fashion_cnn.reports.page import typeset

if TYPE_CHECKING:
    from fashion_cnn.claims import Test
    from fashion_cnn.evidence.statistics import Part, Sentence

Row: TypeAlias = Sequence[str]
MINUS: Final = "\N{MINUS SIGN}"
NONE: Final = "\N{EN DASH}"


def processor(name: str | None) -> str:
    """A processor as people name it: "AMD EPYC (family 25, model 1)" of `environment.machine`'s; else what it is."""
    told = re.fullmatch(r"\S+ (\d+) (\d+) (.+)", name or "")
    return f"{told[3]} (family {told[1]}, model {told[2]})" if told else name or "an unknown processor"


def table(heads: Row, rows: Iterable[Row], numbers: Iterable[int] = ()) -> str:
    """A table in GitHub's Markdown, its columns `numbers` aligned to the right; what would end a cell is escaped."""
    right = set(numbers)
    rule = ["---:" if column in right else "---" for column, _ in enumerate(heads)]
    cells = ([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, rule, *cells))


def named_once(rows: Sequence[Row]) -> list[Row]:
    """The rows, their first cells as code; a first cell that repeats the one above it is left empty."""
    above = [None, *(row[0] for row in rows)]
    return [["" if row[0] == last else f"`{row[0]}`", *row[1:]] for row, last in zip(rows, above, strict=False)]


def plain(value: float | None, decimals: int) -> str:
    """A number with so many decimals; a dash where there is none."""
    return NONE if value is None or math.isnan(value) else f"{value:,.{decimals}f}".replace("-", MINUS)


def evidence(sentence: Sentence) -> str:
    """What the runs say of a sentence, part by part, or why it is not tested."""
    return "; ".join(_part(part, sentence) for part in sentence.parts) or " ".join(sentence.notes)


def noted(sentence: Sentence) -> str:
    """A sentence, and beside it what a reader must know; where nothing is tested, `evidence` says it."""
    return f"{sentence.says} ({' '.join(sentence.notes)})" if sentence.parts and sentence.notes else sentence.says


def findings(sentence: Sentence) -> str:
    """What the runs say of a sentence, part by part, in short."""
    return "; ".join(
        _found(part, sentence)
        + _margin(part.claim)
        + ("" if part.verdict == sentence.verdict else f" ({part.verdict})")
        for part in sentence.parts
    )


def decided(part: Part | None) -> tuple[str, str]:
    """The cells of a part: what was found, and its verdict; dashes without one."""
    return (NONE, NONE) if part is None else (_found(part), f"**{part.verdict}**")


def _found(part: Part, sentence: Sentence | None = None) -> str:
    """The difference and the interval that decides; the arm is named where the sentence leaves it open."""
    claim = part.claim
    if part.estimate is None:
        return str(claim)
    if isinstance(claim, Stops):
        return f"{claim}: in {part.wins} of {part.n} runs"
    measures = [other.claim.measure for other in sentence.parts] if sentence else []
    whose = f" of {claim.arm}" if isinstance(claim, Between) or measures.count(claim.measure) > 1 else ""
    interval = f" ({typeset(part.interval_text)})" if part.interval_text else ""
    return f"{MEASURES[claim.measure]}{whose} {typeset(part.estimate_text)}{interval}"


def _part(part: Part, sentence: Sentence) -> str:
    """What a part's runs say, what was claimed of it, and its verdict where it is not supported."""
    claim, found = part.claim, _found(part, sentence)
    verdict = "" if part.verdict == "supported" else f" ({'; '.join(filter(None, (part.verdict, part.needs)))})"
    if part.estimate is None:
        return f"{found}{verdict}"
    if isinstance(claim, Higher | Lower):
        found += f", {'higher' if isinstance(claim, Higher) else 'lower'} in {part.wins} of {part.n} seeds"
    return f"{found}{_margin(claim)}{verdict}"


def _margin(claim: Test) -> str:
    """What was claimed, where that is more than a direction."""
    if isinstance(claim, Stops):
        return ""
    if isinstance(claim, Between):
        return f", claimed from {claim.least:g} to {claim.most:g}"
    if isinstance(claim, Equivalent):
        return f", claimed ± {claim.amount(claim.within)}"
    return f", claimed by more than {claim.amount(claim.margin)}" if claim.margin else ""
