"""Pictures for MLflow's image grid, in files such as `log_image` would write.

It gives them a random name, so that an image sent twice would be shown twice; these have the same name again.
"""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

FOLDER: Final = "images"
SHOWN: Final = {"mlflow.loggedImages": "True"}
"""The tag of a run that has pictures."""
MAPS: Final = "feature_maps"
"""The first part of the key of a layer's feature maps."""
FIGURES: Final = ("confusion_matrix", "learning_curves", "mistakes")
"""The figures of a run that the grid compares, by the name of their file in `figures/`, without `.png`."""
_THUMBNAIL: Final = "+compressed.webp"  # how the name of a picture's smaller copy ends
_MAPS_THUMBNAIL: Final = re.compile(rf"{MAPS}~(\w+)\+step\+(\d+)\+.*{re.escape(_THUMBNAIL)}")
_BROKEN: Final = (OSError, SyntaxError, ValueError)  # what Pillow says of a file that is no picture


@dataclass(frozen=True)
class Picture:
    """One place of the grid."""

    key: str
    """`feature_maps/<layer>` or `figures/<name>`: the grid has a section for each first part."""
    step: int
    """The epoch; 0 of a figure, so that runs of different lengths stand side by side."""
    at: int
    """When it was drawn, in ms since 1970."""
    png: bytes = field(repr=False)


def figures(artifacts: Mapping[str, bytes], at: int) -> list[Picture]:
    """The figures among a run's artifacts that the grid compares."""
    paths = {f"figures/{name}": f"figures/{name}.png" for name in FIGURES}
    return [Picture(key, 0, at, artifacts[path]) for key, path in paths.items() if path in artifacts]


def files(record: str, pictures: Iterable[Picture]) -> dict[str, bytes]:
    """The files of a run's pictures by path: each as it is and as a thumbnail. `record` names the run for ever.

    What cannot be read as a picture is left out: a picture is not worth a run.
    """
    pictures = list(pictures)
    with ThreadPoolExecutor() as pool:  # Pillow needs the interpreter for little of it
        thumbnails = list(pool.map(_thumbnail, (picture.png for picture in pictures)))
    named: dict[str, bytes] = {}
    for picture, thumbnail in zip(pictures, thumbnails, strict=True):
        name = uuid.uuid5(uuid.NAMESPACE_OID, f"{record} {picture.key.rpartition('/')[2]} {picture.step}")
        start = f"{FOLDER}/{picture.key.replace('/', '~')}+step+{picture.step}+timestamp+{picture.at}+{name}"
        if thumbnail is not None:
            named |= {f"{start}.png": picture.png, f"{start}{_THUMBNAIL}": thumbnail}
    return named


def _thumbnail(png: bytes) -> bytes | None:
    from mlflow.tracking.multimedia import compress_image_size
    from PIL import Image

    buffer = io.BytesIO()
    with suppress(*_BROKEN), Image.open(io.BytesIO(png)) as image:
        compress_image_size(image).save(buffer, "WEBP", method=0)  # a third of the time; these become no larger
    return buffer.getvalue() or None


def thumbnail_of(name: str) -> tuple[str, int] | None:
    """The layer and the epoch whose feature maps a file of the grid shows small, by its name; None of any other."""
    found = _MAPS_THUMBNAIL.fullmatch(name)
    return None if found is None else (found[1], int(found[2]))
