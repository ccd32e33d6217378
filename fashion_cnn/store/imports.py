"""Bringing whole records into a store, such as published ones."""

from __future__ import annotations

from collections.abc import Mapping

from fashion_cnn.evidence.record import EPOCH_METRICS, PARAMS, RUN_METRICS, TAGS, Record
from fashion_cnn.store.artifacts import put_artifacts
from fashion_cnn.store.assets import log_data_set
from fashion_cnn.store.connection import Connection, metric


def import_record(
    connection: Connection, record: Record, question: str, tags: Mapping[str, str], artifacts: Mapping[str, bytes]
) -> str:
    """Bring a record into the store; see `Store.import_record`."""
    row, states = record.row, record.states()
    last = states[-1]
    tags = {**{name: str(row[name]) for name in TAGS if row.get(name) is not None}, **tags}
    params = {name: str(row[name]) for name in (*PARAMS, "seed")}
    metrics = [
        metric(name, state[name], int(state["ended_at"]), int(state["epoch"]))
        for state in states
        for name in EPOCH_METRICS
    ]
    metrics += [metric(name, row[name], int(last["ended_at"]), int(last["epoch"])) for name in RUN_METRICS]
    with connection.errors():
        experiment = connection.experiment(str(row["study"]), question)
        created = connection.client.create_run(experiment, int(row["start_time"]), tags, run_name=str(row["name"]))
        run_id = str(created.info.run_id)
        put_artifacts(connection, run_id, str(created.info.artifact_uri), {**record.artifacts, **artifacts})
        connection.log(run_id, metrics, params)
        log_data_set(connection, run_id, str(row["data_sha256"]), None)
        connection.client.set_terminated(run_id, str(row["status"]), end_time=int(row["end_time"]))
    return run_id


def import_published(connection: Connection, record: Record, question: str, figures: Mapping[str, bytes]) -> None:
    """Bring a published record into the store; see `Store.import_published`."""
    published = str(record.row["run_id"])
    origin = f"Published: imported from `experiments/results`, not recorded here; there it is run {published}."
    tags = {"published": published, "mlflow.note.content": f"{question}\n\n{origin}"}
    import_record(connection, record, question, tags, figures)
