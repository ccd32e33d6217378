"""What MLflow's UI shows of a study first: its views, and a description of the experiment with arms and verdicts.

Both are written when runs were recorded or imported, of the runs that count: those recorded in this store and the
published ones apart, each as claims and tables choose them. What somebody changed in the UI stays.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from fashion_cnn.config import RunConfig, feature_map_sizes
from fashion_cnn.evidence.record import Record
from fashion_cnn.evidence.selection import select
from fashion_cnn.evidence.statistics import decide
from fashion_cnn.evidence.verdicts import with_counted_times
from fashion_cnn.figures import COLOURS
from fashion_cnn.reports.markdown import evidence, noted, plain, table
from fashion_cnn.reports.page import study_table
from fashion_cnn.reports.published import ORIGIN
from fashion_cnn.reports.stored import incomplete
from fashion_cnn.store.artifacts import maps_in_grid
from fashion_cnn.store.description import NOTE, literal, signed
from fashion_cnn.store.tracking import PROCESSOR, Store
from fashion_cnn.store.views import (
    COLOUR,
    COUNTS,
    HERE,
    PICTURES,
    PUBLISHED,
    Source,
    View,
    address,
    views,
    write,
)
from fashion_cnn.study import Study

_RANGED: Final = ("test_accuracy", "test_loss")
_ROOM: Final = 0.05  # of an axis, above and below the values
_HEADS: Final = ("arm", "n", "post: accuracy", "test accuracy", "post: loss", "test loss", "epochs", "CPU s")


@dataclass(frozen=True)
class Part:
    """Runs of one source that count, and their views."""

    source: Source
    chosen: pd.DataFrame
    """As `select` gives them."""

    @property
    def views(self) -> list[View]:
        """In order."""
        return views(self.source)


def tags_of_counted(studies: Sequence[Study], source: Source) -> dict[tuple[str, str], dict[str, str]]:
    """The tags of runs that count, by study and arm: where they count, and the arm's colour."""
    return {
        (study.name, arm): {COUNTS: source.counts, COLOUR: COLOURS[place % len(COLOURS)]}
        for study in studies
        for place, arm in enumerate(study.arms)
    }


def refresh(store: Store, studies: Sequence[Study], post: Path) -> list[str]:
    """Write views and descriptions of some studies anew; returns what was left as somebody changed it, a line each.

    `post` is the file of the post's printed numbers. Raises a StoreError where the store does not take them.
    """
    runs = store.runs([study.name for study in studies], (COUNTS, COLOUR, PICTURES, PROCESSOR))
    processors = dict(zip(runs["run_id"], runs[PROCESSOR], strict=True))  # of imported runs

    def see(record: Record) -> None:
        processors[record.row["run_id"]] = record.processor()

    lacking, epochs = incomplete(store, studies, runs, see=see)
    runs = runs.assign(processor=[processors[run_id] for run_id in runs["run_id"]])
    ours = runs[runs["published"].isna()]
    theirs = runs[runs["published"].notna() & (runs["imported"].isna() | runs["imported"].eq(ORIGIN))].assign(
        published=None
    )
    sources = ((HERE, ours, epochs), (PUBLISHED, theirs, store.epochs(list(theirs["run_id"]), _RANGED)))
    printed, left = pd.read_csv(post), []
    for study in studies:
        of_study = runs[runs["study"] == study.name]
        if of_study.empty:
            continue
        parts = []
        for source, rows, curves in sources:
            chosen, _ = select(rows[rows["study"] == study.name], study, lacking)
            if len(chosen):
                parts.append(Part(_looked_at(store, source, study, chosen, curves), chosen))
        _mark(store, study, of_study, parts)
        experiment = str(of_study["experiment_id"].iloc[0])
        texts = {
            view.tag: view.envelope(int(part.chosen["start_time"].max()) - place)
            for part in parts
            for place, view in enumerate(part.views)
        }
        texts[NOTE] = signed(describe(study, parts, experiment, printed))
        changed = write(store, experiment, texts, replaceable=("", study.question))
        named = {NOTE: "the description"} | {view.tag: f"the view {view.name}" for part in parts for view in part.views}
        left += [f"{study.name}: {named[tag]} was changed in the UI, and is left as it is" for tag in changed]
    return left


def _mark(store: Store, study: Study, runs: pd.DataFrame, parts: Sequence[Part]) -> None:
    """Tag the runs that count, and no others, so that the views' filters find them; a colour that a run has stays."""
    wanted: dict[str, dict[str, str]] = {}
    for part in parts:
        of_arm = tags_of_counted([study], part.source)
        wanted |= {row["run_id"]: of_arm[study.name, row["arm"]] for row in part.chosen.to_dict("records")}
    with store.errors():
        for row in runs.to_dict("records"):
            tags = wanted.get(row["run_id"], {})
            missing = {name: value for name, value in tags.items() if not isinstance(row[name], str)}
            if tags and row[COUNTS] != tags[COUNTS]:
                missing[COUNTS] = tags[COUNTS]
            if missing:
                store.log(row["run_id"], tags=missing)
            elif not tags and isinstance(row[COUNTS], str):
                store.client.delete_tag(row["run_id"], COUNTS)


def _looked_at(store: Store, source: Source, study: Study, chosen: pd.DataFrame, epochs: pd.DataFrame) -> Source:
    """A source with what its views are to show of the chosen runs."""
    of_chosen = epochs[epochs["run_id"].isin(chosen["run_id"])]
    later = of_chosen[of_chosen["epoch"] > 1]  # the first epoch lies far from the others
    ranges = {name: _range(later if len(later) else of_chosen, name) for name in _RANGED if len(of_chosen)}
    source = replace(source, ranges=ranges)
    drawn = chosen[chosen[PICTURES].notna() & (chosen["model"] == "cnn")]
    if drawn.empty:
        return source
    # The lowest seed of those that most arms have pictures of.
    arms_of = Counter({int(seed): part["arm"].nunique() for seed, part in drawn.groupby("seed")})
    seed = min(seed for seed, count in arms_of.items() if count == max(arms_of.values()))
    compared = drawn[drawn["seed"] == str(seed)].to_dict("records")
    there = {str(row["arm"]): set(maps_in_grid(store, row["artifact_uri"]).values()) for row in compared}
    if not (every := {layer for shown in there.values() for layer, _ in shown}):
        return source
    depths = {name: place for arm in there for place, name in enumerate(_layers(study.arms[arm]))}
    layers = sorted(every, key=lambda name: (depths.get(name, -1), name))
    common = set.intersection(*({epoch for _, epoch in shown} for shown in there.values() if shown))
    return replace(source, seed=str(seed), layers=layers, epoch=max(common, default=0))


def _range(epochs: pd.DataFrame, name: str) -> tuple[float, float]:
    values = epochs[name].to_numpy(dtype=float)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = _ROOM * (high - low) or _ROOM * abs(high)
    return round(low - room, 4), round(high + room, 4)


def _layers(config: RunConfig) -> list[str]:
    """The layers of a network that feature maps are drawn of, by their names."""
    counts: Counter[str] = Counter()
    names = []
    for kind, _ in feature_map_sizes(config):
        counts[kind] += 1
        names.append(f"{kind}_{counts[kind]}")
    return names


def describe(study: Study, parts: Sequence[Part], experiment: str, post: pd.DataFrame) -> str:
    """A study's dashboard in Markdown: its question, and of each source its views, its arms and its verdicts.

    `post` has the numbers that the post printed, as in `verdicts`; `experiment` is the id of the study's.
    """
    said = [study.question]
    if not parts:
        said.append("No run counts yet: smoke runs and unfinished ones do not.")
    for part in parts:
        seeds = sorted({int(seed) for seed in part.chosen["seed"]})
        reach = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
        links = " · ".join(f"[{view.name}]({address(experiment, view.key)})" for view in part.views)
        said.append(f"#### Runs that count, {part.source.counts}: {len(part.chosen)} ({reach})")
        said.append(links)
        said.append(table(_HEADS, _arm_rows(study, part.chosen, post), numbers=range(1, len(_HEADS))))
        sentences = decide(study.claims, with_counted_times(part.chosen), study.overlap)
        said.append(
            "\n".join(f"- **{each.verdict}**: {noted(each)}. {evidence(each).rstrip('.')}." for each in sentences)
        )
    said.append(
        "The mean of an arm stands with its 95 % interval. `fashion-cnn claims` tests the sentences, and `fashion-cnn "
        "report` writes the page with all figures."
    )
    return "\n\n".join(paragraph for paragraph in said if paragraph)


def _arm_rows(study: Study, chosen: pd.DataFrame, post: pd.DataFrame) -> list[list[str]]:
    """The cells below `_HEADS`."""
    rows = []
    for row in study_table(chosen, study).to_dict("records"):
        printed = _printed(post, study.name, row["arm"])
        scores: list[str] = []
        for measure in _RANGED:
            mean, low, high = (row[f"{measure}_{name}"] for name in ("mean", "low", "high"))
            interval = "" if math.isnan(low) else f" ({plain(low, 4)} to {plain(high, 4)})"
            scores += [plain(printed.get(measure), 2), plain(mean, 4) + interval]
        epochs = plain(row["epochs_mean"], 0 if row["epochs_min"] == row["epochs_max"] else 1)
        arm = literal(row["arm"]).replace("\\|", "|")  # which `table` escapes
        rows.append([arm, str(row["n"]), *scores, epochs, plain(row["cpu_seconds"], 0)])
    return rows


def _printed(post: pd.DataFrame, study: str, arm: str) -> Mapping[str, Any]:
    """The test results that the post printed of an arm, by measure."""
    rows = post[(post["study"] == study) & (post["arm"] == arm)].dropna(subset=list(_RANGED))
    return {} if rows.empty else rows.iloc[-1][list(_RANGED)].to_dict()
