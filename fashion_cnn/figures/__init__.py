"""Arrays or tidy frames in, matplotlib figures out. Nothing here reads, saves, or touches pyplot or global settings.

Every figure is drawn in matplotlib's own style, whatever the user's matplotlibrc says, in colours that colour-blind
readers can distinguish, and with markers, dashes and hatches that print without colour. `png` and `svg` render a
figure; the same input gives the same bytes. The figures of one run, drawn in a worker, import matplotlib alone.

Throughout, `activations` are what convolution and pooling layers make of n images: by layer name, in layer order,
arrays (n, height, width, channels), float32; `images` are (n, 28, 28), uint8, and `indices` their places among the
test images; labels are (n,), whole numbers, places in `class_names`; frames are tidy: `runs` has one row per run,
`epochs` one row per epoch of a run; a `title` stands above a figure. What cannot be drawn (nothing there, parts that do
not fit together, an unknown layer, channel or image) is a FigureError that names what there is.
"""

from fashion_cnn.figures.checks import FigureError
from fashion_cnn.figures.data_set import class_counts, pixel_intensities, samples_by_class
from fashion_cnn.figures.maps import (
    Activations,
    all_channels,
    arms_feature_maps,
    channel_maps,
    channel_sheet,
    feature_maps,
    layer_scale,
    strongest_channel,
)
from fashion_cnn.figures.run import MOST_MISTAKES, confusion_matrix, learning_curves, mistakes
from fashion_cnn.figures.study import curves_by_arm, scores_by_arm, seconds_by_arm
from fashion_cnn.figures.style import COLOURS, png, svg

__all__ = [
    "COLOURS",
    "MOST_MISTAKES",
    "Activations",
    "FigureError",
    "all_channels",
    "arms_feature_maps",
    "channel_maps",
    "channel_sheet",
    "class_counts",
    "confusion_matrix",
    "curves_by_arm",
    "feature_maps",
    "layer_scale",
    "learning_curves",
    "mistakes",
    "pixel_intensities",
    "png",
    "samples_by_class",
    "scores_by_arm",
    "seconds_by_arm",
    "strongest_channel",
    "svg",
]
