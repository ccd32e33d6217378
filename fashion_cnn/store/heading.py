"""A line above a picture of a run that says which run it is.

Runs of several studies may end at one state, whose figures are drawn once; so each run's name is added when they are
sent. That needs Pillow alone: the process that records runs never imports matplotlib.
"""

from __future__ import annotations

import io
from typing import Any, Final

_SIZE: Final = 15  # pixels: of the letters
_MARGIN: Final = 6  # pixels around the line
_MARK: Final = "Heading"  # names the heading's height in the file
_BROKEN: Final = (OSError, SyntaxError, ValueError)  # what Pillow says of a file that is no picture


def figure_heading(study: str, name: str, epoch: int, run_id: str, smoke: bool = False) -> str:
    """What stands above the figures of a run, whose `name` holds its arm and its seed."""
    return f"{study} · {name} · after epoch {epoch}{' · smoke' if smoke else ''} · run {run_id[:8]}"


def headed(picture: bytes, words: str) -> bytes:
    """A PNG with a line above it, in place of the line that it may have; the same arguments give the same bytes.

    What cannot be read as a picture stays as it is: a picture is not worth a run.
    """
    from PIL import Image, ImageDraw, ImageFont
    from PIL.PngImagePlugin import PngInfo

    try:
        with Image.open(io.BytesIO(picture)) as image:
            plain: Any = image.convert("RGB")
            shift, dpi = int(image.info.get(_MARK, 0)), image.info.get("dpi")
    except _BROKEN:
        return picture
    font = ImageFont.load_default(_SIZE)
    _, _, right, bottom = map(round, font.getbbox(words))
    height = bottom + 2 * _MARGIN
    whole = Image.new("RGB", (max(plain.width, right + 2 * _MARGIN), height + plain.height - shift), "white")
    ImageDraw.Draw(whole).text((_MARGIN, _MARGIN), words, "black", font)
    whole.paste(plain.crop((0, shift, plain.width, plain.height)), (0, height))
    info, buffer = PngInfo(), io.BytesIO()
    info.add_text(_MARK, str(height))
    whole.save(buffer, "PNG", pnginfo=info, **({"dpi": dpi} if dpi else {}))
    return buffer.getvalue()
