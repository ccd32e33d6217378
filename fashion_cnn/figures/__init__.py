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

from fashion_cnn.figures.arms import curves_by_arm as curves_by_arm
from fashion_cnn.figures.arms import scores_by_arm as scores_by_arm
from fashion_cnn.figures.arms import seconds_by_arm as seconds_by_arm
from fashion_cnn.figures.charts import MOST_MISTAKES as MOST_MISTAKES
from fashion_cnn.figures.charts import class_counts as class_counts
from fashion_cnn.figures.charts import confusion_matrix as confusion_matrix
from fashion_cnn.figures.charts import learning_curves as learning_curves
from fashion_cnn.figures.charts import mistakes as mistakes
from fashion_cnn.figures.charts import pixel_intensities as pixel_intensities
from fashion_cnn.figures.charts import samples_by_class as samples_by_class
from fashion_cnn.figures.findings import VERDICTS as VERDICTS
from fashion_cnn.figures.findings import accuracy_by_cost as accuracy_by_cost
from fashion_cnn.figures.findings import differences as differences
from fashion_cnn.figures.findings import on_frontier as on_frontier
from fashion_cnn.figures.findings import scores_by_images as scores_by_images
from fashion_cnn.figures.maps import Activations as Activations
from fashion_cnn.figures.maps import all_channels as all_channels
from fashion_cnn.figures.maps import arms_feature_maps as arms_feature_maps
from fashion_cnn.figures.maps import channel_maps as channel_maps
from fashion_cnn.figures.maps import channel_sheet as channel_sheet
from fashion_cnn.figures.maps import coloured as coloured
from fashion_cnn.figures.maps import feature_maps as feature_maps
from fashion_cnn.figures.maps import layer_scale as layer_scale
from fashion_cnn.figures.maps import strongest_channel as strongest_channel
from fashion_cnn.figures.style import COLOURS as COLOURS
from fashion_cnn.figures.style import FigureError as FigureError
from fashion_cnn.figures.style import pixels_png as pixels_png
from fashion_cnn.figures.style import png as png
from fashion_cnn.figures.style import svg as svg
