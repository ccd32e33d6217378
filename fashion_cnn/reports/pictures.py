"""Figures in the report's page: inline SVG that follows the page's colours, light or dark, or PNG."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Callable
from typing import Any, Final

from markupsafe import Markup, escape

from fashion_cnn import figures

DPI: Final = 144
_TAG: Final = re.compile(r"<[^>]*>")
_IDS: Final = re.compile(r'( id="|href="#|url\(#)')
_COLOUR: Final = re.compile(r"((?:fill|stroke): )#([0-9a-f]{6})")


def picture(draw: Callable[..., Any], alt: str, prefix: str = "", **arguments: Any) -> Markup:
    """A figure as inline SVG, its ids with the prefix (else two of a page would share some); without one, as PNG.

    `draw` gives a matplotlib figure, or SVG that was drawn before. Where it cannot make it, the reason stands in its
    place; `alt` tells anyone who does not see it what it shows.
    """
    try:
        figure = draw(**arguments)
    except figures.FigureError as error:
        return Markup("<p>Not drawn: {}.</p>").format(error)
    if prefix:
        svg = _TAG.sub(lambda tag: _COLOUR.sub(_themed, _IDS.sub(rf"\g<1>{prefix}-", tag[0])), as_svg(figure))
        return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1))
    content = figures.png(figure, DPI)
    # The file's header says how large it is, and so does the page: nothing moves while it is decoded.
    width, height = (round(side * 96 / DPI) for side in struct.unpack(">2I", content[16:24]))
    image = Markup('<img src="{}" alt="{}" width="{}" height="{}">')
    return image.format(data_uri(content), alt, width, height)


def as_svg(figure: Any) -> str:
    """A figure as SVG; one that is SVG already stays as it is."""
    return figure if isinstance(figure, str) else figures.svg(figure)


def data_uri(content: bytes, kind: str = "png") -> str:
    """A picture's file as an address that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _themed(colour: re.Match[str]) -> str:
    """A colour of a figure in terms of the page's: greys lie between ink and paper, others get lighter on dark paper.

    Black that is filled is written nowhere in matplotlib's SVG; the page's style gives it the ink's colour.
    """
    what, digits = colour.groups()
    red, green, blue = (int(digits[place : place + 2], 16) for place in (0, 2, 4))
    if red == green == blue:
        return f"{what}color-mix(in srgb, var(--ink) {100 * (255 - red) / 255:.0f}%, var(--paper))"
    return f"{what}color-mix(in srgb, #{digits} var(--own), white)"
