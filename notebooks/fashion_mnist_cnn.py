# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Fashion-MNIST with a small convolutional network
#
# A blog post trained a dense network and a handful of small convolutional networks (CNNs) on Fashion-MNIST, once
# each, and read the results off the console. This notebook follows the same path, and asks at each step what is left
# of the answer when the same training is repeated with other seeds.
#
# One small network is trained here, in a few seconds. Everything else is read from the published runs of this
# repository, in `experiments/results`: no number of a run stands in the text, each is computed by the cell above or
# below it.

# %%
from contextlib import redirect_stdout

import pandas as pd
from IPython.display import Image, Markdown, display

from experiments import POST_RESULTS, RESULTS, STUDIES
from fashion_cnn import figures
from fashion_cnn.builder import ModelBuilder
from fashion_cnn.claims import MEASURES
from fashion_cnn.config import CNN, DENSE, feature_map_sizes
from fashion_cnn.data import CLASS_NAMES
from fashion_cnn.download import load_dataset
from fashion_cnn.evidence.selection import select
from fashion_cnn.evidence.tables import frames
from fashion_cnn.models import build
from fashion_cnn.reports import publish as publishing
from fashion_cnn.reports import published as results
from fashion_cnn.reports import readme as summary
from fashion_cnn.reports.page import arm_table, post_comparison
from fashion_cnn.training import epoch_order, set_up_process

set_up_process(threads=1)  # before anything is computed: one thread, and the same bits each time

# %% [markdown]
# The published runs come as two tidy tables: one row per run, and one row per epoch of a run. A *study* is a question,
# its *arms* are the settings that are compared, and a run is an arm with a seed.

# %%
published, post = publishing.read(RESULTS), POST_RESULTS.read_bytes()
runs, epochs = frames(published)
studies = {study.name: study for study in STUDIES}
verdicts = results.verdicts_over(STUDIES, published, post)


def chosen(study):
    """The runs of a study that count: one per arm and seed, all of one code and environment."""
    return select(runs[runs["study"] == study.name], study)[0]


def table(study, part):
    """A study's `arms` or `claims`, as docs/results.md has them."""
    display(Markdown(summary.parts([study], published, verdicts.of([study]), {})[part]()))


def picture(figure):
    """A figure, at 100 pixels per inch."""
    display(Image(figures.png(figure, dpi=100)))


def scores(study):
    """Test accuracy and test loss of a study's arms, beside what the post printed."""
    printed = post_comparison(study, verdicts)
    picture(figures.scores_by_arm(chosen(study), list(study.arms), printed=printed, title=study.question))


def curves(study):
    """Loss and accuracy of a study's arms, epoch by epoch."""
    of_runs = epochs.merge(chosen(study)[["run_id", "arm", "seed"]], on="run_id")
    picture(figures.curves_by_arm(of_runs, list(study.arms), title=study.question))


display(Markdown(summary.parts(STUDIES, published, verdicts, {})["basis"]()))

# %% [markdown]
# ## The data
#
# Fashion-MNIST has the format of the handwritten digits of MNIST: gray pictures of 28 by 28 pixels in ten classes,
# but of clothes. The files are checked against a pinned SHA-256 each time they are loaded.

# %%
data = load_dataset()
print(f"{data.name}, SHA-256 {data.sha256[:16]}")
print(f"training images {data.train_images.shape}, test images {data.test_images.shape}, {data.train_images.dtype}")

# %% [markdown]
# ## A first look
#
# Shirts, pullovers and coats are hard to tell apart at this size, for people too; trousers and bags are not.

# %%
picture(figures.samples_by_class(data.train_images, data.train_labels, CLASS_NAMES))

# %% [markdown]
# All classes are the same size, so accuracy is a fair summary, and guessing gets a tenth right.

# %%
picture(figures.class_counts(data.train_labels, data.test_labels, CLASS_NAMES))

# %% [markdown]
# Much of a picture is background. Sandals cover few pixels, coats and pullovers many: the mean brightness alone
# separates some of the classes. For the network, pixels are divided by 255.

# %%
picture(figures.pixel_intensities(data.train_images, data.train_labels, CLASS_NAMES))

# %% [markdown]
# ## The baseline: a dense network
#
# The network to beat has one hidden layer: the 784 pixels of a picture in a row, 128 neurons that see all of them,
# and 10 outputs, one per class. It does not know which pixels are neighbours.


# %%
def layers(model):
    """What each layer of a model puts out, and how many numbers it consists of."""
    rows = [(layer.name, layer.output.shape[1:], layer.count_params()) for layer in model.layers]
    return pd.DataFrame(rows, columns=["layer", "output", "parameters"]).set_index("layer")


dense = build(DENSE, seed=0)
display(layers(dense))
print(f"{dense.count_params():,} parameters")

# %% [markdown]
# ## The CNN, layer by layer
#
# A convolution moves a window of 3 by 3 pixels over the picture and computes, with the same nine weights everywhere,
# one number per position; each filter has its own weights and gives its own picture. `ModelBuilder` has the
# interface of the post: filters, additional convolutions, epochs, and a loss to stop at.

# %%
builder = ModelBuilder()
display(layers(builder.model))
print(f"{builder.model.count_params():,} parameters")
print("sides in pixels: 28, " + ", ".join(f"{side} after {name}" for name, side in feature_map_sizes(CNN)))

# %% [markdown]
# - The picture is 28 pixels wide and high. Without padding the window's centre never reaches the outermost row or
#   column, so each convolution takes two pixels off each side length.
# - A pooling layer keeps the largest of each 2 by 2 pixels: half the side, rounded down.
# - So the sides go 28, 26, 13, 11, 5, and 5 by 5 pixels of 32 filters are 800 numbers, in one row after `flatten`.
#   (The post's text says 64 filters and 1,600 cells there, beside a summary with 32 and 800: both are right for
#   their filters.)
# - What follows is the dense network again, except that it sees 800 features in place of 784 pixels.
# - The first convolution has 32 filters of 3 by 3 weights and a bias each: 320 parameters. The second looks at all
#   32 maps at once: 32 filters of 3 by 3 by 32 weights and a bias, 9,248. Nine tenths of all parameters are in the
#   hidden dense layer.

# %% [markdown]
# ## One training, live
#
# The first 6,000 training images, a tenth of them, and three epochs: a few seconds. The builder runs on one thread
# and draws all its randomness from its seed, so that the same call gives the same network, bit for bit, on any
# processor with AVX2 and FMA. The lines it prints are suppressed here because they show seconds, which differ each
# time.

# %%
part = data.first(6_000, 10_000)
live = ModelBuilder(part.train_images, part.train_labels, part.test_images, part.test_labels, epochs=3, seed=0)
with redirect_stdout(None):
    history = live.fit().history
display(pd.DataFrame(history).rename(lambda place: place + 1).rename_axis("epoch").map("{:.2f}".format))
print(f"accuracy on the test images: {live.test()[1]:.2f}")

# %% [markdown]
# Loss and accuracy in the table are those of the images that the network learns from. How well it does on images
# that it has never seen is another question, and how much of that is luck is a third: one training cannot
# tell. From here on everything comes from the published runs, each trained on all 60,000 images.

# %% [markdown]
# ## Dense or convolutional?
#
# The post gives the CNN half the epochs of the dense network. A small mark is a seed; where there are several, the
# large one is their mean with its 95 % interval.

# %%
baseline = studies["baseline_study"]
scores(baseline)
table(baseline, "arms")

# %% [markdown]
# The sentences of the post are stated as claims before the runs that decide them (the results of seeds 0 to 9, a pilot,
# were known by then: docs/history.md). An interval decides each part: of the paired
# differences within a seed, and as wide as it must be for all parts of a study. Fewer than six seeds decide nothing,
# whatever they show.

# %%
table(baseline, "claims")

# %% [markdown]
# ## How many epochs?
#
# A run of 5 epochs is the beginning of a run of 20 with the same seed, so these arms are one training, cut at four
# places. On the left are the test images, on the right the training images. What to look for: where the test loss turns
# and climbs while the training loss keeps falling, the network begins to learn its images by heart. It overfits.

# %%
curves(studies["epochs_study"])
table(studies["epochs_study"], "arms")

# %%
table(studies["epochs_study"], "claims")

# %% [markdown]
# Loss and accuracy need not agree. The accuracy counts right answers; the loss also asks how sure the network was. A
# network that overfits is surer of its mistakes, too: its loss can climb while the share of right answers stays as
# it was.

# %% [markdown]
# ## What the layers see
#
# Three ankle boots of the test set on their way through the network that was trained for ten epochs: what one filter
# makes of them after each convolution and pooling. Above is the channel that the post chose, below the strongest of
# each layer, because a channel's number means nothing: chance decides which filter learns what.

# %%
ten = chosen(studies["epochs_study"]).query("arm == '10 epochs'").iloc[0]
display(Image(RESULTS / results.map_name(ten), width=660))

# %% [markdown]
# A first convolution finds edges and surfaces, and one still recognises what it looks at. Pooling makes it coarser.
# After the second pair there are 5 by 5 pixels left that say where in the picture something was found, rather than
# what it looks like. A map that is all 0 is that of a filter which finds nothing in these images.

# %% [markdown]
# ## Exercise 1: more or fewer filters
#
# What do 16 or 64 filters change against 32, in accuracy, loss and time? The post prints seconds of wall time; CPU
# seconds depend less on what else a machine does.

# %%
filters = studies["filter_study"]
scores(filters)
picture(figures.seconds_by_arm(chosen(filters), list(filters.arms)))
table(filters, "arms")

# %%
table(filters, "claims")

# %% [markdown]
# ## Exercises 2 and 3: fewer or more convolutions
#
# Without the second convolution, more pixels reach the dense layers, and there are many more parameters. A third
# pair still fits; a fourth does not, because a picture of one pixel has nothing left to look at. With padding, which
# keeps the side of a picture in a convolution, it does. The post leaves the question of more convolutions open;
# those arms and their claims are ours.

# %%
depth = studies["depth_study"]
sides = {arm: [28, *(side for _, side in feature_map_sizes(config))] for arm, config in depth.arms.items()}
display(pd.Series({arm: ", ".join(map(str, one)) for arm, one in sides.items()}, name="sides in pixels").to_frame())

# %%
scores(depth)
picture(figures.seconds_by_arm(chosen(depth), list(depth.arms)))
table(depth, "arms")

# %%
table(depth, "claims")

# %% [markdown]
# ## Exercise 4: stop at a loss
#
# A callback that ends the training after the first epoch with a training loss below 0.19 needs no number of epochs;
# but the loss to stop at has to be guessed in its place, and it is a loss of the training images, which says nothing
# about overfitting. The post's message counts epochs from 0, as Keras does; here they count from 1.

# %%
callback = studies["callback_study"]
scores(callback)
table(callback, "arms")

# %%
table(callback, "claims")

# %% [markdown]
# ## Beyond the post: a seeded `fit` freezes the order
#
# Images should come in a new order each epoch, and Keras' `fit(shuffle=True)`, the default, is taken to see to that.
# But given arrays or tensors after `keras.utils.set_random_seed`, Keras 3.15 on TensorFlow restarts the seeded
# shuffling with each epoch: **every epoch, and every later `fit`, goes through the images in the same order.** Without
# a seed it does not. So anyone who adds a seed to a script to make it repeatable trains differently from before, and
# nothing says so. `tests/science/test_keras_order.py` shows it on the installed Keras.
#
# This project draws each epoch's order from the run's seed and the epoch's number. For `order_study` it can also
# keep the order of the first epoch, as a seeded `fit` does. The first six images of the first three epochs:

# %%
both = [(order, n) for order in ("fresh", "frozen") for n in (1, 2, 3)]
display(pd.DataFrame({(order, f"epoch {n}"): epoch_order(0, n, 60_000, order)[:6] for order, n in both}))

# %% [markdown]
# Does it matter? The claims were stated before the runs: the same network, the same initial weights, the same first
# epoch; only the order of the later epochs differs.

# %%
order_study = studies["order_study"]
curves(order_study)
table(order_study, "arms")

# %%
table(order_study, "claims")

# %% [markdown]
# The advice does not depend on the size of the difference, because a frozen order is not what one asked for:
#
# - Do not trust `set_random_seed` and `fit` to shuffle. Look at the labels of the first batches of two epochs: if
#   they are the same, the order is frozen.
# - Give `fit` a `tf.data` set with a `shuffle` of its own: seeded, too, it comes in a new order each epoch.
# - Or give each epoch an order that follows from the seed and the epoch's number, as in
#   `numpy.random.default_rng([seed, epoch]).permutation(n)`. That is repeatable and fresh, and a training that was
#   interrupted resumes with the right order.
# - Do not compare a seeded training with an unseeded one as if only the seed differed.

# %% [markdown]
# ## Beyond the post: other images
#
# The post guesses that more data is needed. `data_study` trains on fewer images, once for as many epochs and once for
# as many steps, and on mirror images besides. All of this rests on one set of 10,000 test images; in `split_study` each
# seed draws its own from all 70,000.

# %%
there = results.with_records(STUDIES, published)
for study in (studies["data_study"], studies["split_study"]):
    if study in there:
        table(study, "arms")
        table(study, "claims")
    else:
        print(f"{study.name} is not published yet")

# %% [markdown]
# ## What the seeds say
#
# How far apart are runs that differ in nothing but their seed? The standard deviation over seeds is the yardstick
# for every difference between two single runs. (With one seed there is none.) The 10,000 test images add an error of
# their own that more seeds do not reduce, the root of p (1 - p) / n: an accuracy of 0.92 is known to about 0.0027
# only.

# %%
spread = pd.concat([arm_table(chosen(study), list(study.arms)).assign(study=study.name) for study in there])
columns = ["test_accuracy_mean", "test_accuracy_sd", "test_loss_mean", "test_loss_sd"]
display(spread.set_index(["study", "arm", "n"])[columns].map("{:.4f}".format))

# %% [markdown]
# Could the numbers that the post printed have been one of our runs? A number is strictly inside where it lies in the
# 95 % prediction interval for one more run, and inside where it does give or take half of its last digit. Of fewer than
# six seeds neither is said.

# %%
printed = verdicts.test_results.replace({"measure": MEASURES}).set_index(["study", "arm", "measure"])
interval = printed[["mean", "low", "high"]].map("{:.4f}".format)
display(printed[["printed", "n"]].join(interval).join(printed[["inside", "strictly"]]))
display(Markdown(summary.parts(STUDIES, published, verdicts, {})["counts"]()))

# %% [markdown]
# And the sentences, by verdict. *Supported* and *contradicted* are decided by the seeds; *undecided* means that they
# are compatible with both.

# %%
judged = [(one.study, sentence) for one in verdicts.studies for sentence in one.sentences]
rows = [(study.name, sentence.source, sentence.verdict) for study, sentence in judged]
counted = pd.DataFrame(rows, columns=["study", "sentences of", "verdict"])
display(pd.crosstab([counted["study"], counted["sentences of"]], counted["verdict"]))

# %% [markdown]
# What was contradicted, and how far apart seeds alone are:

# %%
display(Markdown(summary.parts(STUDIES, published, verdicts, {})["surprises"]()))

# %% [markdown]
# `make ui` brings these runs into MLflow's own pages; from then on `fashion-cnn replay RUN_ID` trains any of them again
# and compares it bit by bit, on any processor that passes `fashion-cnn doctor`. `compare_runs.ipynb` puts runs side by
# side.
