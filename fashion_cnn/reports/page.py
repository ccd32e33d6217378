"""Studies and tidy frames in, one offline HTML page out. Nothing here reads a store, a file or a clock.

The page loads nothing (its content security policy forbids it) and needs no script: plots are inline SVG, pictures
base64 files, and a slider is a row of radio buttons. What decides the numbers is here and typed; what the page looks
like is in `templates/report.html.j2`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import jinja2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fashion_cnn import figures
from fashion_cnn.evidence.costs import TARGET, costs
from fashion_cnn.evidence.images import MEASURE, ONLY_THESE, Answers, flips, is_limited, over_images
from fashion_cnn.evidence.record import BASIS
from fashion_cnn.evidence.selection import reasons_left_out, select
from fashion_cnn.evidence.sizes import compared_sizes, doublings
from fashion_cnn.evidence.statistics import Sentence
from fashion_cnn.evidence.verdicts import CAVEATS, PRINTED_COLUMNS, Verdicts, misses, with_counted_times
from fashion_cnn.intervals import half_width
from fashion_cnn.reports import maps
from fashion_cnn.reports.claimed import claimed
from fashion_cnn.reports.labels import labelled
from fashion_cnn.reports.pictures import DPI, as_svg, picture
from fashion_cnn.sample import epoch_steps
from fashion_cnn.study import Study

_FORMATS: Final = {"score": ".4f", "seconds": ",.1f", "count": ",.0f", "plain": ".4g", "p": ".4f"}
_SMALLEST_P: Final = 0.0001
_NONE: Final = "\N{EN DASH}"
_MEASURES: Final = {
    "test_accuracy": ("test accuracy", "score"),
    "test_loss": ("test loss", "score"),
    "accuracy": ("training accuracy, last epoch", "score"),
    "loss": ("training loss, last epoch", "score"),
    "epochs_trained": ("epochs", "plain"),
    "seconds_per_epoch": ("seconds an epoch", "seconds"),
}


@dataclass(frozen=True)
class StudyView:
    """A study and what is recorded of it, whatever became of the runs."""

    study: Study
    runs: pd.DataFrame  # one row per run, as `Store.runs` gives them
    epochs: pd.DataFrame  # one row per epoch of a run: `run_id`, `epoch` and the metrics, as `Store.epochs` gives them
    incomplete: Mapping[str, str] = field(default_factory=dict)
    """By run id what is missing or contradictory in a record that is no evidence therefore."""
    activations: Mapping[str, figures.Activations] = field(default_factory=dict)
    """By arm, of its lowest seed's run, of the `images`; an arm may be missing or have none."""
    shown: Mapping[str, str] = field(default_factory=dict)
    """By arm which run these are of: its seed and epoch, in words."""
    images: NDArray[np.uint8] | None = None  # (n, 28, 28): what the activations are of; None without any
    indices: Sequence[int] = ()  # the images' places among the test images
    class_name: str = ""  # the images' class
    answers: Mapping[str, Answers] = field(default_factory=dict)
    """By run id what its network answered to the test images, where that was recorded."""
    sheets: Mapping[str, maps.Thumbnails] = field(default_factory=dict)
    """By arm, of its lowest seed's run, every channel of each layer after some of its epochs."""
    drawn: Mapping[str, str] = field(default_factory=dict)
    """By name, as `study_figures` has them, figures that the page shall show as they are: SVG."""

    @classmethod
    def of(
        cls,
        study: Study,
        runs: pd.DataFrame,
        epochs: pd.DataFrame,
        answers: Mapping[str, Answers] = MappingProxyType({}),
    ) -> StudyView:
        """The view of a study over those of some runs and their epochs that belong to it."""
        of_study = runs[runs["study"] == study.name]
        return cls(study, of_study, epochs[epochs["run_id"].isin(of_study["run_id"])], answers=answers)


@dataclass(frozen=True)
class Exploratory:
    """The data set, for the post's first look at it; labels are places in `class_names`."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.integer[Any]]
    test_labels: NDArray[np.integer[Any]]
    class_names: Sequence[str]


def arm_table(runs: pd.DataFrame, arms: Sequence[str], overlap: float = 0.0) -> pd.DataFrame:
    """What each of the arms, in order, reached and cost over its seeds; `runs` as `selection.select` chooses them.

    `overlap` is the study's, where each seed draws its own images: see `intervals.half_width`.

    Returns:
        One row per arm: `arm`, `n`; of test accuracy and test loss `*_mean`, `*_sd` (ddof = 1), `*_low` and `*_high`
        (the mean's 95 % interval); `epochs_mean`, `epochs_min`, `epochs_max`; `cpu_seconds` and `wall_seconds` of
        training (means of the times that count). NaN where there is no value: with one seed there is no spread, without
        runs n = 0.
    """
    rows, runs = [], with_counted_times(runs)
    for arm in arms:
        part = runs[runs["arm"] == arm]
        epochs = part["epochs_trained"]
        row = {"arm": arm, "n": len(part)}
        for measure in ("test_accuracy", "test_loss"):
            row |= {f"{measure}_{name}": value for name, value in _spread(part[measure], overlap).items()}
        row |= {f"epochs_{name}": epochs.agg(name) for name in ("mean", "min", "max")}
        rows.append({**row, "cpu_seconds": part["fit_cpu_seconds"].mean(), "wall_seconds": part["fit_seconds"].mean()})
    return pd.DataFrame(rows)


def study_table(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The `arm_table` of a study; besides, `steps` are the training steps that the mean epochs have."""
    table = arm_table(runs, list(study.arms), study.overlap)
    return table.assign(steps=table["epochs_mean"] * [epoch_steps(config) for config in study.arms.values()])


def _spread(values: pd.Series, overlap: float) -> dict[str, float]:
    """Mean, standard deviation, and the mean's 95 % interval; see `intervals.half_width`."""
    mean, sd, n = float(values.mean()), float(values.std(ddof=1)), len(values)
    half = half_width(sd, n, overlap=overlap) if n > 1 else math.nan
    return {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half}


def post_comparison(study: Study, verdicts: Verdicts) -> pd.DataFrame:
    """What the post printed of a study's arms at their last epoch, beside our runs of the same config.

    One row per arm and measure: the columns of `printed.printed_values` for test and training scores, and
    `epochs_trained` and `seconds_per_epoch` likewise but without an interval.
    """
    post = verdicts.post[verdicts.post["study"] == study.name].sort_values("epoch")
    pool = with_counted_times(verdicts.pool)
    pool = pool.assign(seconds_per_epoch=pool["fit_seconds"] / pool["epochs_trained"])
    rows: list[dict[str, Any]] = []
    for arm, config in study.arms.items():
        theirs, ours = post[post["arm"] == arm], pool[pool["config_sha256"] == config.sha256()]
        if theirs.empty:
            continue
        last = theirs["epoch"].max()
        of_arm = (verdicts.printed["study"] == study.name) & (verdicts.printed["arm"] == arm)
        printed = verdicts.printed[of_arm & (verdicts.printed["epoch"] == last)].set_index("measure", drop=False)
        counted = {"epochs_trained": last, "seconds_per_epoch": theirs["epoch_seconds"].mean()}
        for measure in _MEASURES:
            if measure in printed.index:
                rows.append(printed.loc[measure].to_dict())
            elif measure in counted:
                row = {"study": study.name, "arm": arm, "measure": measure, "epoch": last}
                row["n"] = int(ours[measure].notna().sum())
                row |= {"printed": float(counted[measure]), "inside": None}
                rows.append({**row, "mean": ours[measure].mean(), "sd": ours[measure].std(ddof=1)})
    return pd.DataFrame(rows, columns=PRINTED_COLUMNS)


def render_report(
    views: Sequence[StudyView],
    *,
    verdicts: Verdicts | None = None,
    made_at: str,
    exploratory: Exploratory | None = None,
    published: bool = False,
) -> str:
    """The report of some studies: one HTML page; the same arguments give the same page.

    Args:
        views: of the studies, in order. Where a study has no runs, or only smoke runs, the page says so.
        verdicts: on the claims of at least these studies and on the post's numbers; without it, both are left out.
        made_at: the time, as text.
        exploratory: the data set; without it, the page does not show it.
        published: whether the runs are the published ones, not those of a store.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        loader=jinja2.PackageLoader("fashion_cnn.reports"),
    )  # fmt: skip
    environment.filters |= {"number": number, "moment": moment, "typeset": typeset}
    environment.globals |= {"figures": figures, "picture": picture, "measures": _MEASURES, "caveats": CAVEATS}
    environment.globals |= {"labelled": labelled}
    environment.globals["target"] = f"{TARGET:.0%}".replace("%", " %")
    environment.tests["given"] = lambda value: isinstance(value, str) and value != ""
    sections = [_section(view, verdicts) for view in views]
    spent = _costs(views)
    cost = partial(figures.accuracy_by_cost, spent, target=TARGET) if len(spent) else None
    tests = None if verdicts is None else misses(verdicts.of([view.study for view in views]).test_results)
    tables = [table for section in sections for table in section["tables_of_maps"].values()]
    stops = max((len(table.stops) for table in tables if isinstance(table, maps.MapTable)), default=0)
    return environment.get_template("report.html.j2").render(
        made_at=made_at, sections=sections, tests=tests, cost=cost, data=exploratory, published=published, stops=stops
    )


def study_figures(view: StudyView, verdicts: Verdicts | None = None) -> dict[str, bytes]:
    """The figures of a study as files, by name; what cannot be drawn (no runs, no maps) is left out.

    `scores.svg`, `curves.svg`, `seconds.svg`; `differences.svg` with `verdicts` on its claims; `images.svg` where it
    compares numbers of images; and, for each image that there are activations of,
    `feature_maps_<its place among the test images>.png`.
    """
    section, title = _section(view, verdicts), view.study.name
    drawn: dict[str, bytes] = {}
    for name in ("scores", "curves", "seconds", "differences", "sizes"):
        if section[name] is not None:
            with suppress(figures.FigureError):
                file = "images" if name == "sizes" else name
                drawn[f"{file}.svg"] = as_svg(section[name](title=title)).encode()
    mapped = {arm: view.activations[arm] for arm in view.study.arms if view.activations.get(arm)}
    if view.images is None or not mapped:
        return drawn
    for index in view.indices:
        named: dict[str, Any] = {"class_name": view.class_name, "title": title, "notes": view.shown}
        sheet = figures.arms_feature_maps(mapped, view.images, indices=view.indices, image=index, **named)
        drawn[f"feature_maps_{index}.png"] = figures.png(sheet, DPI)
    return drawn


def cost_figure(views: Sequence[StudyView]) -> dict[str, bytes]:
    """`cost.svg`, accuracy against cost over the arms of some studies; nothing where there are no runs."""
    with suppress(figures.FigureError):
        return {"cost.svg": figures.svg(figures.accuracy_by_cost(_costs(views), target=TARGET)).encode()}
    return {}


def _costs(views: Sequence[StudyView]) -> pd.DataFrame:
    """See `costs.costs`; of no views, no rows."""
    if not views:
        return pd.DataFrame()
    chosen = {view.study.name: select(view.runs, view.study, view.incomplete)[0] for view in views}
    epochs = pd.concat([view.epochs for view in views]).drop_duplicates(["run_id", "epoch"])
    return costs([view.study for view in views], chosen, epochs)


def number(value: float, kind: str, signed: bool = False) -> str:
    """A number as the page writes it, its `kind` one of `_FORMATS`; a dash where there is none."""
    if kind == "p" and value < _SMALLEST_P:
        return f"< {_SMALLEST_P:{_FORMATS[kind]}}"
    text = format(value, ("+" if signed else "") + _FORMATS[kind]) if math.isfinite(value) else _NONE
    return text.replace("-", "\N{MINUS SIGN}")


def typeset(text: str) -> str:
    """The text of a claim's numbers as the page writes it, with minus signs; a dash where there are none."""
    return text.replace("-", "\N{MINUS SIGN}") or _NONE


def moment(milliseconds: float) -> str:
    """A time, milliseconds since 1970, in UTC to the minute; a dash where there is none."""
    if not math.isfinite(milliseconds):
        return _NONE
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M}"


def _section(view: StudyView, verdicts: Verdicts | None) -> dict[str, Any]:
    """What the template shows of a study; figures as the functions that draw them when the template calls them."""
    study, arms = view.study, list(view.study.arms)
    chosen, left_out = select(view.runs, study, view.incomplete)
    decided, runs = None if verdicts is None else verdicts.of([study]), _in_order(view)
    curves = view.epochs.merge(chosen[["run_id", "arm", "seed"]], on="run_id")
    sentences = [sentence for each in decided.studies for sentence in each.sentences] if decided else []
    parts = claimed(sentences)
    found = len(parts) > 0 and bool(parts["estimate"].notna().any())
    post = None if decided is None else post_comparison(study, decided)
    sizes, overlap = compared_sizes(study, chosen), study.overlap
    return {
        "study": study,
        "runs": runs,
        "only_smoke": len(runs) > 0 and bool((runs["smoke"] == "true").all()),
        "chosen": chosen,
        "left_out": left_out,
        "basis": chosen[list(BASIS)].iloc[0].to_dict() if len(chosen) else {},
        "machines": chosen["node"].nunique(),
        "arms": study_table(chosen, study),
        "sentences": sentences,
        **_other_images(view, chosen, sentences),
        "times": "; ".join(each.about_times for each in decided.studies) if decided else "",
        "post": post,
        "epochs": None if decided is None else misses(decided.epoch_results),
        "scores": _drawn(view, "scores") or partial(figures.scores_by_arm, chosen, arms, printed=post, overlap=overlap),
        "curves": _drawn(view, "curves") or partial(figures.curves_by_arm, curves, arms),
        "seconds": _drawn(view, "seconds") or partial(figures.seconds_by_arm, with_counted_times(chosen), arms),
        "differences": partial(figures.differences, parts) if found else None,
        "sizes": partial(figures.scores_by_images, sizes, note=doublings(sizes)) if len(sizes) else None,
        "class_name": view.class_name,
        "maps": [arm for arm in arms if view.activations.get(arm)],
        "tables_of_maps": _tables_of_maps(view, chosen),
        "imported": int(runs["published"].notna().sum()) if "published" in runs else 0,
        "lacks": _lacks(view, chosen),
        "hashes": [  # what, which, how many runs, how many of them in the tables
            (what, value, len(part), int((part["left_out"] == "").sum()))
            for name, what in reversed(BASIS.items())
            for value, part in runs.groupby(runs[name].fillna(""), sort=False)
        ],
    }


def _drawn(view: StudyView, name: str) -> Callable[..., str] | None:
    """What gives a figure that the page shall show as it is."""
    svg = view.drawn.get(name)
    return None if svg is None else lambda **_: svg


def _tables_of_maps(view: StudyView, chosen: pd.DataFrame) -> dict[str, maps.MapTable | str]:
    """The tables of feature maps that a study has, by kind; why one cannot be made in its place."""
    arms = list(view.study.arms)
    found: dict[str, maps.MapTable | str] = {}
    if mapped := {arm: view.activations[arm] for arm in arms if view.activations.get(arm)}:
        try:
            found["strongest"] = maps.strongest(mapped, view.images, view.indices, view.shown)
        except figures.FigureError as error:
            found["strongest"] = str(error)
    if any(view.sheets.get(arm) for arm in arms):
        alike = {}
        if "trajectory_sha256" in chosen:
            first = chosen.sort_values("seed", key=lambda seeds: seeds.astype(int)).drop_duplicates("arm")
            alike = dict(zip(first["arm"], first["trajectory_sha256"], strict=True))
        sheets = {arm: view.sheets[arm] for arm in arms if view.sheets.get(arm)}
        found["epochs"] = maps.over_epochs(sheets, alike, view.shown)
    return found


def _lacks(view: StudyView, chosen: pd.DataFrame) -> list[tuple[str, str]]:
    """What arms of a study lack of what others have, or of what they could have: the arms, and what in words."""
    seeds = {arm: set(part["seed"].astype(int)) for arm, part in chosen.groupby("arm")}
    every = set[int]().union(*seeds.values())
    pictured = {arm for arms in (view.activations, view.sheets) for arm, pictures in arms.items() if pictures}
    found: dict[str, list[str]] = {}
    for arm, config in view.study.arms.items():
        runs = chosen[chosen["arm"] == arm]
        if runs.empty:
            found.setdefault("runs", []).append(arm)
            continue
        if missing := sorted(every - seeds[arm]):
            some = ", ".join(map(str, missing[:6])) + (" and more" if len(missing) > 6 else "")
            found.setdefault(f"{len(missing)} of {len(every)} seeds ({some})", []).append(arm)
        if arm not in pictured:
            dense = ", which no dense network has" if config.model == "dense" else ""
            found.setdefault(f"feature maps{dense}", []).append(arm)
        if silent := len(runs) - sum(run_id in view.answers for run_id in runs["run_id"]):
            found.setdefault(f"predictions of {silent} of {len(runs)} runs", []).append(arm)
    return [(", ".join(arms), what) for what, arms in found.items()]


def _in_order(view: StudyView) -> pd.DataFrame:
    """All runs of a study with `left_out`, why a run is in no table; by arm, seed and time."""
    return view.runs.assign(
        left_out=reasons_left_out(view.runs, view.study, view.incomplete),
        place=view.runs["arm"].map({arm: place for place, arm in enumerate(view.study.arms)}),
        seed_number=pd.to_numeric(view.runs["seed"], errors="coerce"),
    ).sort_values(["place", "arm", "seed_number", "start_time", "run_id"])


def _other_images(view: StudyView, chosen: pd.DataFrame, sentences: Sequence[Sentence]) -> dict[str, Any]:
    """What the template shows of how far verdicts and answers depend on the test images."""
    compared = over_images(sentences, chosen, view.answers)
    return {
        "over_images": compared,
        "only_these": {each.says: ONLY_THESE for each in sentences if is_limited(each, compared)},
        "flips": flips(list(view.study.arms), chosen, view.answers),
        "on_accuracy": any(part.claim.measure == MEASURE for sentence in sentences for part in sentence.parts),
    }
