"""Each cell of a table of the page told its column, so that a narrow screen can show cells below each other."""

from __future__ import annotations

import re
from typing import Final

from markupsafe import Markup, escape

_ROW: Final = re.compile(r"<tr>.*?</tr>", re.S)
_CELL: Final = re.compile(r"<(t[hd])\b([^>]*)>(.*?)</\1>", re.S)
_SPAN: Final = {name: re.compile(rf'\b{name}="(\d+)"') for name in ("rowspan", "colspan")}


def labelled(table: str) -> Markup:
    """The head and bodies of a table, with `data-label` in each `td`: the heads of its column."""
    head, end, bodies = table.partition("</thead>")
    columns: dict[int, list[str]] = {}
    for row in _placed(head):
        for cell, at in row:
            for column in range(at, at + _span(cell, "colspan")):
                columns.setdefault(column, []).append(Markup(cell[3]).striptags())
    names = {column: ": ".join(dict.fromkeys(filter(None, heads))) for column, heads in columns.items()}
    pieces, last = [head, end], 0
    for row in _placed(bodies):
        for cell, at in row:
            if cell[1] == "td":
                pieces += [bodies[last : cell.start(2)], f' data-label="{escape(names.get(at, ""))}"']
                last = cell.start(2)
    return Markup("".join([*pieces, bodies[last:]]))


def _placed(rows: str) -> list[list[tuple[re.Match[str], int]]]:
    """The cells of some rows, each with the number of its first column."""
    taken: dict[int, int] = {}  # by column: how many more rows a cell above spans
    found = []
    for row in _ROW.finditer(rows):
        placed, column, below = [], 0, dict.fromkeys(taken, -1)
        for cell in _CELL.finditer(rows, row.start(), row.end()):
            while taken.get(column, 0) > 0:
                column += 1
            placed.append((cell, column))
            for spanned in range(column, column := column + _span(cell, "colspan")):
                below[spanned] = _span(cell, "rowspan") - 1
        taken = {at: more if more >= 0 else taken[at] - 1 for at, more in below.items()}
        found.append(placed)
    return found


def _span(cell: re.Match[str], name: str) -> int:
    stated = _SPAN[name].search(cell[2])
    return int(stated[1]) if stated else 1
