"""Tables and numbers in GitHub's Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

Row = Sequence[str]
_MINUS: Final = "\N{MINUS SIGN}"
_NONE: Final = "\N{EN DASH}"


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
    return _NONE if value is None or math.isnan(value) else f"{value:,.{decimals}f}".replace("-", _MINUS)
