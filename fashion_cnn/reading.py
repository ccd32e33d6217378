"""What is recorded or published, for a notebook: tidy frames of runs and epochs, and a run's network.

TensorFlow is imported by `load_network` alone, MLflow only where a store is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from fashion_cnn.checkout import REPOSITORY
from fashion_cnn.config import FIELDS, kind, nearest
from fashion_cnn.environment import own_kernels
from fashion_cnn.evidence.record import EPOCH_METRICS, PARAMS, RUN_METRICS, TABLE_TAGS, Record, absent, whole_number
from fashion_cnn.evidence.selection import CELL, select
from fashion_cnn.evidence.tables import frames
from fashion_cnn.store.address import resolve
from fashion_cnn.study import StudyError

if TYPE_CHECKING:
    import keras
    import pandas as pd

    from fashion_cnn.store.tracking import Store

_WHOLE: Final = ("seed", "workers", "record_format", "parameters")
_TRUTHS: Final = ("smoke", "git_dirty")
_TIMES: Final = ("start_time", "end_time")
_SETTING: Final = {int: "Int64", float: "float64", str: "object"}
_DTYPES: Final[Mapping[str, str]] = {
    **dict.fromkeys((*CELL, "run_id", "name", "status"), "object"),
    **dict.fromkeys((*EPOCH_METRICS, *RUN_METRICS), "float64"),
    **{name: _SETTING[kind(name)] for name in FIELDS},
    **dict.fromkeys((*_TIMES, *PARAMS[len(FIELDS) :], *TABLE_TAGS), "object"),
    **dict.fromkeys(_WHOLE, "Int64"),
    **dict.fromkeys(_TRUTHS, "boolean"),
    **dict.fromkeys(_TIMES, "datetime64[ms, UTC]"),
    "seed": "int64",
}
"""The columns of `load_runs`, in order, each with its type; `Int64` and `boolean` can be empty."""


def load_runs(
    study: str | Sequence[str] | None = None,
    *,
    published: bool = False,
    every: bool = False,
    tracking_uri: str | None = None,
) -> pd.DataFrame:
    """One row per run, typed, as the figures take it: of each study, arm and seed the one that counts.

    Which one that is, `evidence.selection.select` says: finished, no smoke run, the newest of one code, environment and
    data set. Whether its record is complete is not looked at: `fashion-cnn check` and `claims` do that.

    Args:
        study: a study's name, or several; None is all.
        published: of the published results, in place of a store.
        every: every run, whatever became of it.
        tracking_uri: of the store; by default MLFLOW_TRACKING_URI, else the repository's own.

    Returns:
        `study`, `arm`, `seed` (int64), `run_id`, `name`, `status`; the metrics (float64, those of an epoch as they
        were after the last one); the settings (`Int64`, float64 or text; empty where a network has none, or where a
        loss to stop at was not set) and `parameters`; `start_time` and `end_time` (UTC); the tags, `smoke` and
        `git_dirty` as truth values. By study, arm and seed.

    Raises:
        StudyError: there are no runs of that study; says of which there are.
        StoreError: there is no store, or it does not answer.
        ResultsError: nothing is published.
    """
    return _runs(_source(published, tracking_uri), study, every)


def load_epochs(
    study: str | Sequence[str] | None = None,
    *,
    published: bool = False,
    every: bool = False,
    tracking_uri: str | None = None,
) -> pd.DataFrame:
    """One row per epoch of the runs that `load_runs` gives for the same arguments, with the same errors.

    Returns:
        `study`, `arm`, `seed` (int64), `run_id`, `epoch` (int64, from 1) and the epoch metrics (float64). By study,
        arm, seed and epoch.
    """
    source = _source(published, tracking_uri)
    runs = _runs(source, study, every)
    epochs = source.epochs(list(runs["run_id"]))
    epochs = runs[[*CELL, "run_id"]].merge(epochs.astype({"run_id": "object"}), on="run_id", how="inner")
    return epochs.astype({"epoch": "int64", **dict.fromkeys(EPOCH_METRICS, "float64")}).sort_values(
        [*CELL, "run_id", "epoch"], ignore_index=True
    )


def load_network(run_id: str, *, tracking_uri: str | None = None) -> keras.Model:
    """The network of a recorded run, once it is known to be the one that was recorded.

    Args:
        run_id: or its first digits, at least 6.
        tracking_uri: of the store; by default MLFLOW_TRACKING_URI, else the repository's own.

    Returns:
        A model from images (n, 28, 28, 1), float32 in 0..1, to class probabilities (n, 10), float32.

    Raises:
        LoadingError: the run has no model, or the model is not the one that was recorded.
        StoreError: no such run, no store, or it does not answer.
    """
    own_kernels()
    from fashion_cnn.review import network

    return network.load_network(_store(tracking_uri), run_id)


class _Published:
    """The published records, read as a store is."""

    def __init__(self) -> None:
        from fashion_cnn.reports.publish import read
        from fashion_cnn.reports.published import ORIGIN

        self.name = ORIGIN
        self._runs, self._epochs = frames(read(REPOSITORY / ORIGIN))

    def runs(self) -> pd.DataFrame:
        return self._runs

    def epochs(self, run_ids: Sequence[str]) -> pd.DataFrame:
        return self._epochs[self._epochs["run_id"].isin(run_ids)]


def _source(published: bool, tracking_uri: str | None) -> _Published | Store:
    return _Published() if published else _store(tracking_uri)


def _store(tracking_uri: str | None) -> Store:
    from fashion_cnn.store.tracking import Store

    return Store(resolve(tracking_uri, REPOSITORY), create=False)


def _runs(source: _Published | Store, study: str | Sequence[str] | None, every: bool) -> pd.DataFrame:
    import pandas as pd

    runs = source.runs()
    there = sorted(set(runs["study"].dropna()))
    wanted = there if study is None else [study] if isinstance(study, str) else list(study)
    for name in wanted:
        if name not in there:
            raise StudyError(
                f"there are no runs of {name!r}{nearest(str(name), there)}; there are of: {', '.join(there) or 'none'}"
            )
    of_studies = [runs[runs["study"] == name] for name in wanted]
    chosen = pd.concat([runs[:0], *(part if every else select(part)[0] for part in of_studies)])
    return _typed(chosen.to_dict("records")).sort_values([*CELL, "start_time"], ignore_index=True)


def _typed(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of a store, or of published records, with each column in its own type."""
    import pandas as pd

    rows = [{**row, **_settings(row)} for row in rows]
    columns = {}
    for name, dtype in _DTYPES.items():
        values = [None if absent(row.get(name)) else row[name] for row in rows]
        if dtype == "boolean":
            values = [{"true": True, "false": False}.get(str(value)) for value in values]
        elif name in _WHOLE:
            values = [None if value is None else whole_number(str(value)) for value in values]  # tags can be edited
        elif name in _TIMES:
            values = list(pd.to_datetime(pd.Series(values, dtype="float64"), unit="ms", utc=True))
        columns[name] = pd.Series(values, dtype=dtype)
    return pd.DataFrame(columns)


def _settings(row: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings as values, default where its format had no param for one; None where it tells no config."""
    config = Record(row, (), {}).config()
    return asdict(config) if config else dict.fromkeys(FIELDS)
