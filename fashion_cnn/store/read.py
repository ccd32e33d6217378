"""Reading a tracking store: runs and epochs as tidy frames, records as what evidence is judged by."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_cnn.evidence.record import EPOCH_METRICS, LIGHT, MODEL, PARAMS, RUN_METRICS, TAGS, Record
from fashion_cnn.store.address import StoreError
from fashion_cnn.store.artifacts import among, read_artifacts
from fashion_cnn.store.assets import NATIVE
from fashion_cnn.store.connection import Connection
from fashion_cnn.store.errors import ABSENT

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

READERS = 8  # requests for artifacts that a server has at a time
TOGETHER = 32  # records that are read before the first of them is used
HISTORIES = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"  # the UI's own; MLflow's client has nothing like it
MANY, MOST = 100, 25_000  # the runs that it takes, and the values that it gives
RUN_ID, SHORT_ID = 32, 6  # digits of a run's id, and how many of them must be given
_INFO = ("run_id", "experiment_id", "artifact_uri", "name", "status", "start_time", "end_time")
_METRICS = (*EPOCH_METRICS, *RUN_METRICS)


def runs(connection: Connection, studies: Sequence[str] | None = None) -> pd.DataFrame:
    """One row per run; see `Store.runs`."""
    import pandas as pd

    with connection.errors():
        rows = [row_of(run) for run in search(connection, studies)]
    frame = pd.DataFrame(rows, columns=[*_INFO, *TAGS, *PARAMS, *_METRICS])
    return frame.astype(dict.fromkeys(_METRICS, float))


def epochs(connection: Connection, run_ids: Sequence[str]) -> pd.DataFrame:
    """One row per epoch; see `Store.epochs`."""
    import pandas as pd

    with connection.errors():
        values = [
            (run_id, epoch, name, value)
            for name in EPOCH_METRICS
            for run_id, epoch, value in _histories(connection, run_ids, name)
        ]
    if not values:
        return pd.DataFrame(columns=["run_id", "epoch", *EPOCH_METRICS])
    long = pd.DataFrame(values, columns=["run_id", "epoch", "metric", "value"])
    wide = long.drop_duplicates(["run_id", "epoch", "metric"], keep="last")
    wide = wide.pivot(index=["run_id", "epoch"], columns="metric", values="value").reset_index()
    return wide.reindex(columns=["run_id", "epoch", *EPOCH_METRICS]).rename_axis(columns=None)


def find(connection: Connection, start: str) -> dict[str, Any]:
    """The one run whose id starts so; see `Store.find`."""
    start = start.strip().lower()
    if not re.fullmatch(r"[0-9a-f]+", start):
        return run(connection, start)
    if len(start) < SHORT_ID:
        raise StoreError(f"{start!r} is too short for a run's id; give at least its first {SHORT_ID} digits")
    with connection.errors():
        ids = [stored.info.run_id for stored in search(connection, None, f"tags.published LIKE '{start}%'")]
        if len(start) < RUN_ID:
            ids += [stored.info.run_id for stored in search(connection, None) if stored.info.run_id.startswith(start)]
    if len(ids) > 1:
        raise StoreError(f"the ids of {len(ids)} runs start with {start!r}: {', '.join(ids[:3])}; give more digits")
    return run(connection, ids[0] if ids else start)


def run(connection: Connection, run_id: str) -> dict[str, Any]:
    """The run of an id; see `Store.run`."""
    from mlflow.exceptions import MlflowException

    stored: Run | None = None
    try:
        with connection.errors():
            stored = connection.client.get_run(run_id)
    except StoreError as error:
        cause = error.__cause__
        if not isinstance(cause, MlflowException) or cause.error_code not in ABSENT:
            raise
    if stored is None or not stored.data.tags.get("study"):
        raise StoreError(
            f"{connection.address.name} has no recorded run {run_id[:80]!r}; `fashion-cnn list` shows those it has"
        )
    return {**dict.fromkeys((*TAGS, *PARAMS, *_METRICS)), **row_of(stored)}


def record(
    connection: Connection, row: Mapping[str, Any], epochs: Sequence[Mapping[str, float]], *, whole: bool = True
) -> Record:
    """All that the store holds of a run; see `Store.record`."""
    with connection.errors(), tempfile.TemporaryDirectory() as folder:
        artifacts = dict(read_artifacts(connection, row["artifact_uri"], None if whole else LIGHT, folder))
        if whole:
            outputs = connection.client.get_run(row["run_id"]).outputs
            for output in outputs.model_outputs if outputs else ():
                uri = connection.client.get_logged_model(output.model_id).artifact_location
                for _, content in read_artifacts(connection, uri, (NATIVE,), folder):
                    artifacts[MODEL] = content
    return Record(row, epochs, artifacts, whole)


def records(
    connection: Connection,
    rows: Sequence[Mapping[str, Any]],
    epochs: Mapping[str, Sequence[Mapping[str, float]]],
    *,
    whole: bool = True,
) -> Iterator[Record]:
    """What `record` gives of many runs, in their order; see `Store.records`."""

    def read(row: Mapping[str, Any]) -> Record:
        return record(connection, row, epochs.get(str(row["run_id"]), ()), whole=whole)

    with ThreadPoolExecutor(READERS if connection.address.is_server else 1) as pool:
        for start in range(0, len(rows), TOGETHER):
            yield from pool.map(read, rows[start : start + TOGETHER])


def artifact(connection: Connection, run_id: str, name: str) -> Path | None:
    """A local copy of a run's artifact, or None where the run has none of this name."""
    client = connection.client
    with connection.errors():
        if not among(partial(client.list_artifacts, run_id), [name]):
            return None
        return Path(client.download_artifacts(run_id, name))


def search(connection: Connection, studies: Sequence[str] | None, wanted: str = "tags.study != ''") -> Iterator[Run]:
    """The runs of some studies' experiments, or of all, that a filter of MLflow's lets pass; oldest first."""
    experiments = connection.patiently(connection.client.search_experiments)
    ids = [experiment.experiment_id for experiment in experiments if studies is None or experiment.name in studies]
    token: str | None = None
    while ids:
        ask = partial(connection.client.search_runs, ids, wanted, max_results=1000, page_token=token)
        page = connection.patiently(partial(ask, order_by=["attributes.start_time"]))
        yield from page
        token = page.token
        if not token:
            return


def row_of(run: Run) -> dict[str, Any]:
    """A run's params, last metrics, tags and what MLflow itself says of it, by name."""
    info = run.info
    return {
        **{name: _printable(value) for name, value in run.data.params.items()},
        **run.data.metrics,
        **{name: _printable(value) for name, value in run.data.tags.items()},
        "run_id": info.run_id,
        "artifact_uri": info.artifact_uri,
        "experiment_id": info.experiment_id,
        "name": _printable(info.run_name or ""),
        "status": info.status,
        "start_time": info.start_time,
        "end_time": info.end_time,
    }


def _printable(text: str) -> str:
    """A text without what could act on a terminal or feign a line: others may write to the store, too."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _histories(connection: Connection, run_ids: Sequence[str], name: str) -> Iterator[tuple[str, int, float]]:
    """Every value of a metric, with its run and step: one query for 100 runs."""
    for start in range(0, len(run_ids), MANY):
        some = list(run_ids[start : start + MANY])
        if connection.address.is_server:
            yield from _served_histories(connection, some, name)
        else:
            values = connection.client._tracking_client.store.get_metric_history_bulk(some, name, 1_000_000)
            yield from ((value.run_id, value.step, value.value) for value in values)


def _served_histories(connection: Connection, run_ids: Sequence[str], name: str) -> Iterator[tuple[str, int, float]]:
    """As `_histories`, through a server and of at most so many runs as it takes at once."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request_safe

    credentials = get_default_host_creds(connection.address.uri)  # type: ignore[no-untyped-call]
    query = {"run_id": run_ids, "metric_key": name}
    answer = http_request_safe(credentials, HISTORIES, "GET", params=query)  # type: ignore[no-untyped-call]
    values = answer.json()["metrics"]
    if len(values) < MOST:
        yield from ((value["run_id"], int(value["step"]), float(value["value"])) for value in values)
        return
    for run_id in run_ids:  # it gave no more than so many of them
        history = connection.client.get_metric_history(run_id, name)
        yield from ((run_id, value.step, value.value) for value in history)
