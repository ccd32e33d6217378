"""Nothing that is handed to others runs: what a spreadsheet or a browser would run in a cell, page or picture. Pure."""

from __future__ import annotations

import html
import io
import re
import zipfile
from collections.abc import Iterator
from typing import Final

import numpy as np

from fashion_cnn.evidence.predictions import UNREADABLE

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A spreadsheet takes a cell that begins with one of these for a formula, or passes over the blank one before it."""
_ZIP: Final = b"PK\x03\x04"
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_RUNS: Final = re.compile(
    r"<\s{0,8}/?\s{0,8}(script|iframe|object|embed|applet|base|form|foreignobject)\b|javascript:", re.I
)
_LOADS: Final = re.compile(r"@import|url\((?!\s*['\"]?(?:#|data:))|<!entity|<!\[cdata|<\?", re.I)
PAGE_HEAD: Final = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
"""
"""How a page begins: by this policy a browser runs and loads nothing of the rest, however it reads that."""
_LINKS: Final = ("href", "src", "srcset", "data", "action", "formaction", "poster", "background")
_INSIDE: Final = ("#", "data:image/png;base64,")
_ACTIVE_TAGS: Final = {
    "script", "iframe", "object", "embed", "applet", "base", "form", "foreignobject", "animate", "set", "handler",
    "animatetransform", "animatemotion", "listener", "frame", "frameset", "portal",
}  # fmt: skip

# Every `<` of our pages begins a tag of this form. Other forms are refused, comments among them: programs read these
# in different ways. No part of the patterns gives back what it took, so that the time grows with the length alone.
_OPENING: Final = re.compile("<")
_ATTRIBUTE: Final = re.compile(
    r"""[\s/]++([^\s"'<>/=]++)(?:\s*+=\s*+("[^"<]*+"|'[^'<]*+'|[^\s"'<>=`]++))?+""",
)
_TAG: Final = re.compile(rf"</?+([a-z][\w:.-]*+)((?:{_ATTRIBUTE.pattern})*+)[\s/]*+>", re.I)


def inert_cell(text: str) -> str:
    """A text as a cell of a CSV file: with an apostrophe before what a spreadsheet would run."""
    return f"'{text}" if _would_run(text) else text


def text_of_cell(cell: str) -> str:
    """The text that `inert_cell` made a cell of."""
    return cell[1:] if cell.startswith("'") and _would_run(cell) else cell


def _would_run(text: str) -> bool:
    # One that has its apostrophe already gets another, so that each cell is that of one text.
    return text.lstrip("'").startswith(FORMULA)


def active_parts(name: str, content: bytes) -> Iterator[str]:
    """What a page, a picture or arrays (`.html`, `.svg`, `.png`, `.npz`) would run, or load from elsewhere."""
    if name.endswith(".png"):
        if not content.startswith(_PNG):
            yield "it is no PNG"
        return
    if name.endswith(".npz"):
        if not _plain_arrays(content):
            yield "it holds something else than arrays of numbers"
        return
    try:
        text = content.decode()
    except UnicodeDecodeError:
        yield "it is no UTF-8"
        return
    if "\0" in text:
        yield "it is no text"
    if name.endswith(".html") and not text.lstrip().startswith(PAGE_HEAD):
        yield "it does not begin with the policy by which a browser runs and loads nothing"
    for pattern, what in ((_RUNS, "it would run"), (_LOADS, "it would load or define")):
        if match := pattern.search(text):
            yield f"{what} {match[0]!r:.40}"
    yield from _tags(text.lstrip().removeprefix(PAGE_HEAD))


def _plain_arrays(content: bytes) -> bool:
    """Whether an npz file holds arrays of numbers, none of objects, which NumPy would unpickle where it is told to."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                with archive.open(name) as file:
                    np.lib.format.read_magic(file)
                    _, _, kind = np.lib.format.read_array_header_1_0(file)
                    if kind.hasobject or not name.endswith(".npy"):
                        return False
    except UNREADABLE:
        return False
    return content.startswith(_ZIP)


def _tags(text: str) -> Iterator[str]:
    """What tags would run or load, up to the first `<` that begins none."""
    for opening in _OPENING.finditer(text):
        if (found := _TAG.match(text, opening.start())) is None:
            yield f"it has {text[opening.start() :][:40]!r}, which is no plain tag"
            return
        tag = found[1].lower()
        if tag.rpartition(":")[2] in _ACTIVE_TAGS:
            yield f"it has a <{tag[:40]}>"
        for attribute in _ATTRIBUTE.finditer(found[2]):
            name = attribute[1].lower()
            plain, link = name.rpartition(":")[2], html.unescape((attribute[2] or "").strip("\"'")).strip()
            if plain.startswith("on"):
                yield f"<{tag[:40]}> has {name[:40]}"
            elif plain in _LINKS and not link.startswith(_INSIDE) and link != "data:,":
                yield f"<{tag[:40]}> leads to {link!r:.80}"
            elif plain == "http-equiv" and link.lower() != "content-security-policy":
                yield f"<{tag[:40]}> has {name[:40]}={link!r:.40}"
