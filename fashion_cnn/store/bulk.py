"""A whole run at once, as an import brings it: into a database's tables directly, in one transaction.

MLflow's client makes six transactions of it, and an object of each value, which it looks up before it is written. A
new run has none of them: its rows go into MLflow's own tables, named by MLflow's own classes, as they are. A server,
and a store whose artifacts lie elsewhere, is asked through the client.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fashion_cnn.store.artifacts import data_set_input, upload
from fashion_cnn.store.connection import Connection

if TYPE_CHECKING:
    from mlflow.entities import Metric

_Row = dict[str, Any]


@dataclass(frozen=True)
class WholeRun:
    """A run that has ended, with all that is known of it."""

    name: str
    status: str
    start_time: int
    """In ms, as `end_time`."""
    end_time: int
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Sequence[Metric]
    data_sha256: str
    artifacts: Mapping[str, bytes]
    """By path."""


def put_run(connection: Connection, experiment: str, run: WholeRun, begin: Callable[[str], None]) -> str:
    """Bring a run into an experiment; `begin` is told its id before the store has it. Returns the id."""
    location = "" if connection.address.is_server else _location(connection, experiment)
    if not location.startswith("file:"):
        return _through_the_client(connection, experiment, run, begin)
    run_id = uuid.uuid4().hex
    uri = f"{location.rstrip('/')}/{run_id}/artifacts"  # where MLflow would have them
    begin(run_id)
    upload(connection, uri, run.artifacts)
    _insert(connection, experiment, run_id, uri, run)
    return run_id


@functools.lru_cache
def _location(connection: Connection, experiment: str) -> str:
    """Where the artifacts of an experiment's runs go; it never changes."""
    return str(connection.client.get_experiment(experiment).artifact_location)


def _through_the_client(connection: Connection, experiment: str, run: WholeRun, begin: Callable[[str], None]) -> str:
    client = connection.client
    created = client.create_run(experiment, run.start_time, dict(run.tags), run_name=run.name)
    run_id = str(created.info.run_id)
    begin(run_id)
    upload(connection, str(created.info.artifact_uri), run.artifacts)
    connection.log(run_id, run.metrics, run.params)
    client.log_inputs(run_id, datasets=[data_set_input(run.data_sha256, None)])
    client.set_terminated(run_id, run.status, end_time=run.end_time)
    return run_id


def _insert(connection: Connection, experiment: str, run_id: str, uri: str, run: WholeRun) -> None:
    from mlflow.store.tracking.dbmodels import models
    from sqlalchemy import insert

    store: Any = connection.client._tracking_client.store
    times = {"start_time": run.start_time, "end_time": run.end_time, "status": run.status}
    place = {"run_uuid": run_id, "experiment_id": int(experiment), "artifact_uri": uri, "lifecycle_stage": "active"}
    whence = {"source_type": "UNKNOWN", "source_name": "", "entry_point_name": "", "source_version": ""}
    row = {"name": run.name, "user_id": run.tags.get("mlflow.user", "unknown"), **place, **times, **whence}
    values = {(each.key, each.step, each.timestamp, each.value): each for each in run.metrics}  # each once
    latest = {each.key: each for each in run.metrics}  # in their order: the first is the one that the UI draws
    latest |= {each.key: each for each in sorted(run.metrics, key=lambda one: (one.step, one.timestamp, one.value))}
    texts: dict[Any, Mapping[str, str]] = {
        models.SqlTag: {"mlflow.runName": run.name, **run.tags},
        models.SqlParam: run.params,
    }
    with store.ManagedSessionMaker(read_only=False) as session:  # into tables: by classes it takes an eighth more
        session.execute(insert(models.SqlRun.__table__), [row])
        for table, named in texts.items():
            rows = [{"run_uuid": run_id, "key": key, "value": value} for key, value in named.items()]
            session.execute(insert(table.__table__), rows)
        for table, metrics in ((models.SqlMetric, values.values()), (models.SqlLatestMetric, latest.values())):
            session.execute(insert(table.__table__), [_metric_row(store, run_id, each) for each in metrics])
        _insert_input(session, experiment, run_id, run.data_sha256)


def _metric_row(store: Any, run_id: str, metric: Metric) -> _Row:
    is_nan, value = store.sanitize_metric_value(metric.value)
    when = {"step": metric.step, "timestamp": metric.timestamp}
    return {"run_uuid": run_id, "key": metric.key, **when, "value": value, "is_nan": is_nan}


def _insert_input(session: Any, experiment: str, run_id: str, data_sha256: str) -> None:
    """The data set that a run used; its experiment has one row for all runs."""
    from mlflow.store.tracking.dbmodels.models import SqlDataset, SqlInput, SqlInputTag
    from sqlalchemy import insert, select

    used = data_set_input(data_sha256, None)
    data = used.dataset
    same = (SqlDataset.name == data.name, SqlDataset.digest == data.digest)
    known: Any = select(SqlDataset.dataset_uuid).where(SqlDataset.experiment_id == int(experiment), *same)
    dataset = session.execute(known).scalar()
    if dataset is None:
        dataset = uuid.uuid4().hex
        source = {"dataset_source_type": data.source_type, "dataset_source": data.source}
        told = {"dataset_schema": data.schema, "dataset_profile": data.profile, **source}
        place = {"dataset_uuid": dataset, "experiment_id": int(experiment)}
        session.execute(insert(SqlDataset.__table__), [{"name": data.name, "digest": data.digest, **told, **place}])
    edge = uuid.uuid4().hex
    ends = {"source_type": "DATASET", "source_id": dataset, "destination_type": "RUN", "destination_id": run_id}
    session.execute(insert(SqlInput.__table__), [{"input_uuid": edge, **ends}])
    tags = [{"input_uuid": edge, "name": tag.key, "value": tag.value} for tag in used.tags]
    session.execute(insert(SqlInputTag.__table__), tags)
