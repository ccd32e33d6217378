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
# # Compare runs
#
# Picks runs from the store and puts settings, curves, feature maps and costs side by side. What to look at is chosen
# in the second cell; change it and run the cells again. The whole store in a browser: `make ui`.

# %%
from math import ceil
from tempfile import TemporaryDirectory

import pandas as pd
from IPython.display import Image, display
from matplotlib.figure import Figure
from matplotlib.image import imread

from experiments import RESULTS, STUDIES
from fashion_cnn import figures
from fashion_cnn.config import FIELDS
from fashion_cnn.evidence.record import BASIS
from fashion_cnn.evidence.selection import select
from fashion_cnn.reports import publish as publishing
from fashion_cnn.store.address import resolve
from fashion_cnn.store.tracking import Store

# %%
STUDIES_AND_ARMS = {"filter_study": ["16 filters", "32 filters", "64 filters"], "epochs_study": ["20 epochs"]}
REFERENCE = "32 filters"  # what the other arms are compared with, seed by seed
SEED = "0"  # whose feature maps are shown

# %% [markdown]
# ## The store
#
# The store is the one that `MLFLOW_TRACKING_URI` names, else this repository's own. If it holds no finished runs of
# these studies other than trials (`--smoke`), the published ones are imported into a temporary store that goes away
# with this notebook; yours stays as it is.

# %%
studies = [study for study in STUDIES if study.name in STUDIES_AND_ARMS]
names, repository = [study.name for study in studies], RESULTS.parent.parent


def chosen(store):
    """The runs that can be compared: those that are published as well as those that were recorded here."""
    runs = store.runs(names).drop(columns="published")
    return pd.concat([select(runs[runs["study"] == study.name], study)[0] for study in studies])


store = Store(resolve(None, repository))
runs = chosen(store)
if runs.empty:
    scratch = TemporaryDirectory()
    store = Store(resolve(f"sqlite:///{scratch.name}/mlflow.db", repository))
    print(f"{publishing.import_runs(store, studies, RESULTS)} published runs imported into a temporary store")
    runs = chosen(store)

# %% [markdown]
# One finished run per arm and seed: the newest. Where there are several codes or environments (processor, libraries,
# threads), a study's runs are those of the one that has the most: numbers of others should not be compared with them.

# %%
display(runs.groupby(["study", "arm"]).size().to_frame("seeds"))

# %% [markdown]
# ## The runs that are compared
#
# A frame of runs is a plain table: any other choice is a line of pandas.

# %%
wanted = [arm in STUDIES_AND_ARMS[study] for study, arm in zip(runs["study"], runs["arm"], strict=True)]
picked = runs[wanted].reset_index(drop=True)
arms = [arm for several in STUDIES_AND_ARMS.values() for arm in several if arm in set(picked["arm"])]
first = picked[picked["seed"] == SEED].set_index("arm").reindex(arms).dropna(subset="run_id")
print(f"{len(picked)} runs of {len(arms)} arms; with seed {SEED}: {len(first)}")

# %% [markdown]
# ## Settings that differ
#
# All others are the same in these runs. `parameters` is what follows: the numbers that are trained.

# %%
settings = first[[*FIELDS, "parameters"]].astype(str)
display(settings.loc[:, settings.nunique() > 1].T)

# %% [markdown]
# Two studies could still have been run with different data sets, codes or environments. There should be one of each:

# %%
display(picked[list(BASIS)].rename(columns=BASIS).nunique().to_frame("different ones"))

# %% [markdown]
# ## Scores
#
# Each seed is a small mark, at the same height in every arm.

# %%
display(Image(figures.png(figures.scores_by_arm(picked, arms), dpi=100)))

# %% [markdown]
# Runs of one seed share what chance decides, the order of the images and often the initial weights, so their
# differences say more than the difference of two means. Test accuracy, each arm minus the reference, by seed, of the
# seeds that all arms have:

# %%
accuracy = picked.pivot_table(index="seed", columns="arm", values="test_accuracy")[arms].dropna()
display(accuracy.sub(accuracy[REFERENCE], axis=0).sort_index(key=lambda seeds: seeds.astype(int)).map("{:+.4f}".format))

# %% [markdown]
# ## Curves

# %%
epochs = store.epochs(list(picked["run_id"])).merge(picked[["run_id", "arm", "seed"]], on="run_id")
display(Image(figures.png(figures.curves_by_arm(epochs, arms), dpi=100)))

# %% [markdown]
# ## Feature maps
#
# What the layers of each network make of the same three test images. Only the strongest channels (the lower half of
# each picture) may be compared between networks; a channel's number means nothing. A dense network has no maps.

# %%
found = {arm: store.artifact(run_id, "figures/feature_maps.png") for arm, run_id in first["run_id"].items()}
maps = {arm: imread(path) for arm, path in found.items() if path is not None}
sheet = Figure((11, 7.4 * ceil(len(maps) / 2)), layout="constrained")
for place, (arm, pixels) in enumerate(maps.items(), start=1):
    axes = sheet.add_subplot(ceil(len(maps) / 2), 2, place, title=arm)
    axes.imshow(pixels)
    axes.set_axis_off()
display(Image(figures.png(sheet, dpi=100)))

# %% [markdown]
# ## Costs
#
# Means over the seeds: epochs, seconds and CPU seconds of training, the most memory that the process had in use
# (MiB), and the parameters. An epoch that several runs share counts in each of them with the seconds it took.
# Seconds depend on the machine and on what else it was doing; CPU seconds less so.

# %%
columns = ["parameters", "epochs_trained", "fit_seconds", "fit_cpu_seconds", "peak_memory_mib"]
costs = picked.astype({"parameters": int}).groupby("arm")[columns].mean().loc[arms].astype({"parameters": int})
costs["CPU seconds per epoch"] = costs["fit_cpu_seconds"] / costs["epochs_trained"]
display(costs.round(1))
display(Image(figures.png(figures.seconds_by_arm(picked, arms), dpi=100)))
