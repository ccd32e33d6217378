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
# in the second cell; change it and run the cells again. It opens in JupyterLab by `make lab`. The whole store in a
# browser: `make ui`.

# %%
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from IPython.display import Image, display

from experiments import RESULTS, STUDIES
from fashion_cnn import figures
from fashion_cnn.config import FIELDS
from fashion_cnn.data import CLASS_NAMES
from fashion_cnn.evidence.record import BASIS
from fashion_cnn.evidence.selection import select
from fashion_cnn.reports import publish as publishing
from fashion_cnn.reports.gather import activations_of, data_set
from fashion_cnn.store.address import resolve
from fashion_cnn.store.tracking import Store

# %%
STUDIES_AND_ARMS = {"filter_study": ["16 filters", "32 filters", "64 filters"], "epochs_study": ["20 epochs"]}
REFERENCE = "32 filters"  # what the other arms are compared with, seed by seed; else the first arm that has runs
SEED = None  # whose settings and feature maps are shown: "0", for example; None is the lowest that most arms have
IMAGE = 0  # of the test images that activations are kept of, the place of the one that is shown

# %% [markdown]
# ## The store
#
# The store is the one that `MLFLOW_TRACKING_URI` names, else this repository's own. If it holds no finished run of
# these arms other than trials (`--smoke`), the published ones are imported into a temporary store that goes away with
# this notebook; yours stays as it is.

# %%
studies = [study for study in STUDIES if study.name in STUDIES_AND_ARMS]
names, repository = [study.name for study in studies], RESULTS.parent.parent


def chosen(store):
    """The runs that can be compared: those that are published as well as those that were recorded here."""
    runs = store.runs(names).drop(columns="published")
    return pd.concat([select(runs[runs["study"] == study.name], study)[0] for study in studies])


def wanted(runs):
    """Those of the arms named above."""
    return runs[[arm in STUDIES_AND_ARMS[study] for study, arm in zip(runs["study"], runs["arm"], strict=True)]]


store = Store(resolve(None, repository))
runs = chosen(store)
if wanted(runs).empty:
    trials = int((store.runs(names)["smoke"] == "true").sum())
    there = f"{trials} trials" if trials else "no runs"
    print(f"your store has no finished run of these arms that counts ({there} and {len(runs)} runs of other arms)")
    scratch = TemporaryDirectory()
    store = Store(resolve(f"sqlite:///{scratch.name}/mlflow.db", repository))
    print(f"{publishing.import_runs(store, studies, RESULTS)} published runs imported into a temporary store")
    runs = chosen(store)

# %% [markdown]
# One finished run per arm and seed: the newest. Where there are several codes or environments (libraries, threads,
# arithmetic), a study's runs are those of the one that has the most: numbers of others should not be compared with
# them.

# %%
display(runs.groupby(["study", "arm"]).size().to_frame("seeds"))

# %% [markdown]
# ## The runs that are compared
#
# A frame of runs is a plain table: any other choice is a line of pandas.

# %%
picked = wanted(runs).reset_index(drop=True)
every = [arm for several in STUDIES_AND_ARMS.values() for arm in several]
arms = [arm for arm in every if arm in set(picked["arm"])]
counts = picked["seed"].astype(int).value_counts()
seed = SEED or str(min(counts.index[counts == counts.max()], default=0))
first = picked[picked["seed"] == seed].set_index("arm").reindex(arms).dropna(subset="run_id")
reference = REFERENCE if REFERENCE in arms else arms[0]
print(f"{len(picked)} runs of {len(arms)} arms; with seed {seed}: {len(first)}")
if missing := [arm for arm in every if arm not in arms]:
    print(f"no runs of: {', '.join(missing)}")

# %% [markdown]
# ## Settings that differ
#
# All others are the same in these runs. `parameters` is what follows: the numbers that are trained.

# %%
settings = first[[*FIELDS, "parameters"]].astype(str)
differing = settings.loc[:, settings.nunique() > 1].T
if len(differing):
    display(differing)
else:
    print(f"none: there are runs of {len(first)} arm with seed {seed}")

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
differences = accuracy.sub(accuracy[reference], axis=0).sort_index(key=lambda seeds: seeds.astype(int))
if len(arms) > 1 and len(differences):
    display(differences.map("{:+.4f}".format))
else:
    print("there are runs of one arm only" if len(arms) == 1 else "there is no seed that all arms have")

# %% [markdown]
# ## Curves

# %%
epochs = store.epochs(list(picked["run_id"])).merge(picked[["run_id", "arm", "seed"]], on="run_id")
display(Image(figures.png(figures.curves_by_arm(epochs, arms), dpi=100)))

# %% [markdown]
# ## Feature maps
#
# What the layers of each network make of the same test image: each layer's strongest channel, drawn from the recorded
# activations with one colour scale a layer over the arms. A channel's number means nothing across networks, and a dense
# network has no maps.

# %%
paths = {arm: store.artifact(run_id, "activations.npz") for arm, run_id in first["run_id"].items()}
kept = {arm: activations_of(path.read_bytes()) for arm, path in paths.items() if path is not None}
if missing := [arm for arm in arms if arm not in kept]:
    print(f"no activations are kept of: {', '.join(missing)} (seed {seed})")
if kept:
    places = [int(place) for place in next(iter(kept.values()))["images"]]
    maps = {arm: {layer: of_layer[layer] for layer in of_layer if layer != "images"} for arm, of_layer in kept.items()}
    data = data_set(None)
    images = np.zeros((len(places), 28, 28), np.uint8) if data is None else data.test_images[places]
    word = "" if data is None else CLASS_NAMES[data.test_labels[places[IMAGE]]]
    drawn = figures.arms_feature_maps(maps, images, indices=places, image=places[IMAGE], class_name=word)
    display(Image(figures.png(drawn, dpi=100)))

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
