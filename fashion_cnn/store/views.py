"""Saved views of a study's experiment in MLflow's UI: which runs, in which charts and columns. Pure but for `write`.

A view is a tag of the experiment, in the format in which MLflow 3.17's own *Save view* writes it. That format is no
promise: the tests open each view in a browser. What is written is signed with a hash of itself, so that a view or a
description that somebody changed in the UI is recognized, and left alone from then on.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from fashion_cnn.evidence.record import EPOCH_METRICS, RUN_METRICS
from fashion_cnn.store import grid
from fashion_cnn.store.connection import Connection
from fashion_cnn.store.description import digest, is_signed
from fashion_cnn.store.experiments import ACTIVE, MARK

COUNTS: Final = "fashion_cnn.counts"
"""The tag of the runs that count, one per arm and seed, as claims and tables choose them: what the views filter by."""
COLOUR: Final = "mlflow.runColor"
(PICTURES,) = grid.SHOWN
"""The tag of a run that has pictures in the image grid."""
VIEW: Final = "mlflow.sharedViewState."
WRITTEN: Final = "fashion_cnn.written"
"""The experiment's tag that lists the views which were written here: one that is gone was deleted by somebody."""
COLUMNS: Final = (
    "params.`seed`", "metrics.`epochs_trained`", "metrics.`test_accuracy`", "metrics.`test_loss`",
    "metrics.`fit_cpu_seconds`",
)  # fmt: skip
_SYSTEM: Final = tuple(f"system/{name}" for name in ("peak_memory_mib", "other_load"))
_ALL: Final = 1000  # runs that a chart shows
_CARD: Final = 360  # pixels: the height that MLflow gives a card
_PICTURE: Final = 250  # pixels: of a picture in the grid, with what is around it


@dataclass(frozen=True)
class Source:
    """Runs of a study that count together, and what their views are to show."""

    key: str
    """How the views' keys end, in addresses."""
    counts: str
    """The value of their tag `COUNTS`, and in words where they come from."""
    layers: Sequence[str] = ()
    """Those with feature maps."""
    seed: str | None = None
    """Whose runs' feature maps are compared; None where there are none."""
    epoch: int = 0
    """After which they are shown first."""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """From where to where the axis of a metric reaches."""

    @property
    def filter(self) -> str:
        """MLflow's filter for the runs."""
        return f"tags.`{COUNTS}` = '{self.counts}'"


HERE: Final = Source("here", "this store")
PUBLISHED: Final = Source("published", "published")
SOURCES: Final = (HERE, PUBLISHED)


@dataclass(frozen=True)
class View:
    """A saved view."""

    key: str
    """Its name in addresses."""
    name: str
    state: Mapping[str, Any]
    """MLflow's state of the page."""

    @property
    def tag(self) -> str:
        """The experiment's tag that holds it."""
        return VIEW + self.key

    def envelope(self, at: int) -> str:
        """The tag's value, of a view made `at` a time in ms; the same arguments give the same text."""
        packed = zlib.compress(json.dumps(self.state, separators=(",", ":")).encode(), 9)
        state = f"deflate;{base64.b64encode(packed).decode()}"
        signature = digest(self.name + state)
        return json.dumps({"name": self.name, "createdAt": at, "updatedAt": at, "state": state, "written": signature})


def address(experiment: str, view: str) -> str:
    """The address of a view below that of a server, which opens it as charts and as model training."""
    place = f"#/experiments/{experiment}/runs?viewStateShareKey={view}"
    return f"{place}&compareRunsMode=CHART&workflowType=machine_learning"


def views(source: Source) -> list[View]:
    """The views of a source's runs, the first to look at first; none of feature maps where there are none."""
    made = [_view(source, "by-arm", "By arm", _by_arm(source), grouped=True)]
    if source.seed is not None and source.layers:
        made.append(_view(source, "feature-maps", "Feature maps", _feature_maps(source), seed=source.seed))
    made.append(_view(source, "seeds", "Seeds", _seeds(source)))
    made.append(_view(source, "cost", "Cost", _cost(source)))
    return made


def _view(
    source: Source, key: str, name: str, sections: Sequence[_Section], *, grouped: bool = False, seed: str | None = None
) -> View:
    charts = [
        {"uuid": f"{place}-{number}", "metricSectionId": f"section-{place}", "deleted": False, **chart}
        for place, section in enumerate(sections)
        for number, chart in enumerate(section.charts)
    ]
    by_arm = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "arm"}]}
    state = {
        "searchFilter": source.filter + (f" and params.seed = '{seed}'" if seed is not None else ""),
        # Of more runs than the 100 that MLflow loads at once each arm has as many then.
        "orderByKey": "params.`seed`",
        "orderByAsc": True,
        "selectedColumns": list(COLUMNS),
        "columnOrder": list(COLUMNS),
        "runsHiddenMode": "SHOW_ALL",
        "groupBy": by_arm if grouped else None,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "isAccordionReordered": True,
        "compareRunSections": [section.state(f"section-{place}") for place, section in enumerate(sections)],
        "compareRunCharts": [*charts, *_hidden(charts, source.layers)],
    }
    return View(f"{key}-{source.key}", f"{name}, {source.counts}", state)


@dataclass(frozen=True)
class _Section:
    """Charts below one heading."""

    name: str
    charts: Sequence[Mapping[str, Any]]
    columns: int = 2
    height: int = _CARD

    def state(self, uuid: str) -> dict[str, Any]:
        shape = {"columns": self.columns, "cardHeight": self.height}
        return {"uuid": uuid, "name": self.name, "display": True, "isReordered": True, **shape}


def _by_arm(source: Source) -> list[_Section]:
    return [
        _Section("On the test images", [_line(source, name) for name in ("test_accuracy", "test_loss")]),
        _Section("In training", [_line(source, name) for name in ("loss", "accuracy")]),
        _Section("Cost", [_bar(name) for name in ("fit_cpu_seconds", "epochs_trained", "peak_memory_mib")], columns=3),
    ]


def _feature_maps(source: Source) -> list[_Section]:
    card = {
        "type": "IMAGE",
        "imageKeys": [f"{grid.MAPS}/{layer}" for layer in source.layers],
        "step": source.epoch,
        "showRunParams": False,
        "displayName": f"Feature maps, seed {source.seed}: move the slider over the epochs",
    }
    return [_Section("Feature maps", [card], columns=1, height=200 + _PICTURE * len(source.layers))]


def _seeds(source: Source) -> list[_Section]:
    return [_Section("Each run, in its arm's colour", [_line(source, name) for name in ("test_accuracy", "test_loss")])]


def _cost(source: Source) -> list[_Section]:
    def against_seconds(name: str) -> dict[str, Any]:
        x, y = ({"key": key, "type": "METRIC"} for key in ("fit_cpu_seconds", name))
        return {"type": "SCATTER", "xaxis": x, "yaxis": y, "runsCountToCompare": _ALL}

    charts = [against_seconds("test_accuracy"), against_seconds("test_loss")]
    return [_Section("Each run, in its arm's colour", charts, height=_CARD * 3 // 2)]


def _line(source: Source, metric: str) -> dict[str, Any]:
    low, high = source.ranges.get(metric, (None, None))
    limits = {} if low is None else {"yMin": low, "yMax": high}
    axes = {"xAxisKey": "step", "xAxisScaleType": "linear", "scaleType": "linear", "yAxisKey": "metric"}
    alone = {"useGlobalXaxisKey": False, "useGlobalLineSmoothing": False, "lineSmoothness": 0, "ignoreOutliers": False}
    return {**_of_metric("LINE", metric), "selectedMetricKeys": [metric], "range": limits, **axes, **alone}


def _bar(metric: str) -> dict[str, Any]:
    return _of_metric("BAR", metric)


def _of_metric(kind: str, metric: str) -> dict[str, Any]:
    return {"type": kind, "metricKey": metric, "runsCountToCompare": _ALL}


def _hidden(shown: Collection[Mapping[str, Any]], layers: Sequence[str]) -> list[dict[str, Any]]:
    """Deleted charts of all that is not shown: MLflow adds one for each metric and image key that has none."""
    taken = {chart.get("metricKey") for chart in shown}
    metrics = [name for name in (*EPOCH_METRICS, *RUN_METRICS, *_SYSTEM) if name not in taken]
    pictures = [*(f"{grid.MAPS}/{name}" for name in layers), *(f"figures/{name}" for name in grid.FIGURES)]
    gone = {"deleted": True, "isGenerated": True, "metricSectionId": "section-0"}
    return [
        *({"uuid": f"no-{name}", "type": "BAR", "metricKey": name, **gone} for name in metrics),
        *({"uuid": f"no-{key}", "type": "IMAGE", "imageKeys": [key], **gone} for key in pictures),
    ]


def is_unchanged(value: str) -> bool:
    """Whether a view's or a description's text is as it was written here."""
    if is_signed(value):
        return True
    with suppress(ValueError, KeyError, TypeError):
        view = json.loads(value)
        return bool(view["written"] == digest(view["name"] + view["state"]))
    return False


def write(
    connection: Connection, experiment: str, texts: Mapping[str, str], replaceable: Collection[str] = ()
) -> list[str]:
    """Write tags of an experiment by name, but over nothing that somebody changed or deleted; returns those left alone.

    The texts are signed. One that is `replaceable` is replaced all the same.
    """
    with connection.errors():
        there: dict[str, str] = connection.client.get_experiment(experiment).tags
        known = _names(there.get(WRITTEN))
        left = []
        for tag, text in texts.items():
            found = there.get(tag)
            if found == text:
                continue
            gone = found is None and tag in known
            if gone or not (found is None or is_unchanged(found) or found in replaceable):
                left.append(tag)
            else:
                connection.client.set_experiment_tag(experiment, tag, text)
        if not known.issuperset(texts):
            connection.client.set_experiment_tag(experiment, WRITTEN, json.dumps(sorted(known | {*texts})))
        return left


def there(connection: Connection) -> dict[str, tuple[str, list[str]]]:
    """By study its experiment's id and the keys of the views that it has, whoever saved them."""
    with connection.errors():
        found = connection.patiently(connection.listing)
    return {
        each.tags[MARK]: (each.experiment_id, [tag.removeprefix(VIEW) for tag in each.tags if tag.startswith(VIEW)])
        for each in found
        if MARK in each.tags and each.lifecycle_stage == ACTIVE
    }


def _names(value: str | None) -> set[str]:
    """What the tag `WRITTEN` lists; nothing where somebody wrote something else there."""
    with suppress(ValueError):
        names = json.loads(value or "[]")
        return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()
    return set()
