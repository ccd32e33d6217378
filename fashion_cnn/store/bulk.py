"""All values of a new run at once: what takes longest of an import, where a database is asked directly.

MLflow makes an object of each value, and looks each up before it is written. A new run has none, so that its values
go into MLflow's own tables as they are; through a server they go as any others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fashion_cnn.store.connection import Connection

if TYPE_CHECKING:
    from mlflow.entities import Metric


def put_values(connection: Connection, run_id: str, metrics: Sequence[Metric], params: Mapping[str, str]) -> None:
    """Log metrics and params of a run that has none yet."""
    if connection.address.is_server:
        connection.log(run_id, metrics, params)
        return
    from mlflow.store.tracking.dbmodels import models
    from sqlalchemy import insert

    store: Any = connection.client._tracking_client.store
    values = {_key(metric): _values(store, run_id, metric) for metric in metrics}  # each once, as MLflow would
    latest = {metric.key: values[_key(metric)] for metric in sorted(metrics, key=_age)}
    told = [{"run_uuid": run_id, "key": name, "value": value} for name, value in params.items()]
    tables = ((models.SqlMetric, values.values()), (models.SqlLatestMetric, latest.values()), (models.SqlParam, told))
    with store.ManagedSessionMaker(read_only=False) as session:
        for table, rows in tables:
            if rows:
                session.execute(insert(table), list(rows))


def _key(metric: Metric) -> tuple[str, int, int, float]:
    return metric.key, metric.step, metric.timestamp, metric.value


def _age(metric: Metric) -> tuple[int, int, float]:
    """By which MLflow says which value of a metric is the latest."""
    return metric.step, metric.timestamp, metric.value


def _values(store: Any, run_id: str, metric: Metric) -> dict[str, Any]:
    is_nan, value = store.sanitize_metric_value(metric.value)
    place = {"run_uuid": run_id, "key": metric.key, "step": metric.step, "timestamp": metric.timestamp}
    return {**place, "value": value, "is_nan": is_nan}
