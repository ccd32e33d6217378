"""Feature maps as the report's page shows them: a table of small pictures, and a slider that says which are seen.

Pictures are a layer's own pixels, enlarged by the browser: a few hundred bytes each, where a figure of them would be
drawn anew. Which of them is seen follows from the stop of the slider, without a script: each picture knows its stops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fashion_cnn import figures
from fashion_cnn.reports.pictures import data_uri

Thumbnails = Mapping[int, Mapping[str, bytes]]  # by epoch and layer, WebP or PNG files
MOST_STOPS: Final = 24
"""How many stops a slider may have: the page's style has a rule for each."""
_SIGNATURES: Final = {b"\x89PNG": "png", b"RIFF": "webp"}


@dataclass(frozen=True)
class Picture:
    """A picture in a cell of a table, and when it is seen."""

    source: str  # a data URI
    alt: str
    note: str  # below it
    stops: tuple[int, ...]  # places among the table's stops


@dataclass(frozen=True)
class MapRow:
    """A row of pictures."""

    name: str
    notes: Sequence[str]
    pictures: Mapping[str, Sequence[Picture]]  # by column; one that has none may be missing


@dataclass(frozen=True)
class MapTable:
    """Rows of pictures by column, of which a slider shows one in each cell."""

    stops: Sequence[str]  # what the slider says at each
    columns: Mapping[str, str]  # a note by name
    rows: Sequence[MapRow]
    inputs: Sequence[str] = field(default=())
    """What the rows are made of, one picture for each stop; or none."""


def strongest(
    activations: Mapping[str, figures.Activations],
    images: NDArray[np.uint8] | None,
    indices: Sequence[int],
    notes: Mapping[str, str],
) -> MapTable:
    """What the networks of some arms make of some images: each layer's strongest channel, a stop for each image.

    A layer has one colour scale over arms and images, and the strongest channel is that over all images, as in
    `figures.arms_feature_maps`.

    Args:
        activations: by arm, each layer's maps (n, height, width, channels), of all images.
        images: (n, 28, 28), or None where the data set is not at hand.
        indices: the images' places among the test images.
        notes: by arm, which run it is.

    Raises:
        FigureError: an arm has maps of another number of images.
    """
    arms = {arm: maps for arm, maps in activations.items() if maps}
    chosen = {
        arm: {layer: figures.channel_maps(maps, layer, "strongest") for layer in maps} for arm, maps in arms.items()
    }
    scale = figures.layer_scale([{layer: maps for layer, (_, maps) in layers.items()} for layers in chosen.values()])
    rows = []
    for arm, layers in chosen.items():
        cells = {}
        for layer, (channel, maps) in layers.items():
            if len(maps) != len(indices):
                raise figures.FigureError(
                    f"{layer} has maps of {len(maps)} images, but there are {len(indices)} images"
                )
            shape = "\N{MULTIPLICATION SIGN}".join(map(str, arms[arm][layer].shape[1:]))
            cells[layer] = [
                Picture(
                    _uri(figures.pixels_png(figures.coloured(shown, *scale[layer]))),
                    f"{layer} of {arm}, channel {channel}, for test image {index}",
                    f"{shape}, channel {channel}" + ("" if maps.any() else ": all 0"),
                    (stop,),
                )
                for stop, (index, shown) in enumerate(zip(indices, maps, strict=True))
            ]
        rows.append(MapRow(arm, [notes[arm]] if arm in notes else [], cells))
    columns = {layer: f"{low:.2g} to {high:.2g}" for layer, (low, high) in scale.items()}
    inputs = [] if images is None else [_uri(figures.pixels_png(image)) for image in images]
    return MapTable([f"test image {index}" for index in indices], columns, rows, inputs)


def over_epochs(sheets: Mapping[str, Thumbnails], alike: Mapping[str, str], notes: Mapping[str, str]) -> MapTable:
    """How the maps of some arms form: a stop for each epoch after which any of them were drawn.

    At a stop an arm shows its last pictures up to then.

    Args:
        sheets: by arm, a picture for each epoch and layer.
        alike: by arm, what it is trained by: arms that share it share a row, with the pictures of all of them.
        notes: by arm, which run it is.
    """
    together: dict[str, list[str]] = {}
    for arm, pictures in sheets.items():
        if pictures:
            together.setdefault(alike.get(arm, arm), []).append(arm)
    epochs = sorted({epoch for pictures in sheets.values() for epoch in pictures})
    if len(epochs) > MOST_STOPS:  # long trainings: the first ones, where most happens, and the last
        epochs = [*epochs[: MOST_STOPS - 1], epochs[-1]]
    layers: dict[str, str] = {}
    rows = []
    for arms in together.values():
        pictures = {epoch: shown for arm in arms for epoch, shown in sheets[arm].items() if epoch in epochs}
        cells: dict[str, list[Picture]] = {}
        for epoch in sorted(pictures):
            after = min((other for other in pictures if other > epoch), default=epochs[-1] + 1)
            stops = tuple(stop for stop, at in enumerate(epochs) if epoch <= at < after)
            for layer, content in pictures[epoch].items():
                layers.setdefault(layer, "")
                words = f"{layer.replace('_', ' ')} of {', '.join(arms)} after epoch {epoch}"
                cells.setdefault(layer, []).append(Picture(_uri(content), words, f"after epoch {epoch}", stops))
        rows.append(MapRow(", ".join(arms), list(dict.fromkeys(notes[arm] for arm in arms if arm in notes)), cells))
    return MapTable([str(epoch) for epoch in epochs], layers, rows)


def _uri(content: bytes) -> str:
    return data_uri(content, _SIGNATURES.get(content[:4], "png"))
