"""The tracking store: sends what trajectories' folders hold, reads runs as tidy frames and records as evidence."""

from __future__ import annotations

import calendar
import math
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_cnn.evidence.record import (
    EPOCH_METRICS,
    LIGHT,
    MODEL,
    PARAMS,
    RUN_METRICS,
    TAGS,
    Record,
    absent,
    is_published,
)
from fashion_cnn.store import direct, grid, metrics
from fashion_cnn.store.address import StoreError
from fashion_cnn.store.artifacts import NATIVE, among, read_artifacts
from fashion_cnn.store.bulk import WholeRun, put_run
from fashion_cnn.store.connection import ABSENT, BEAT, Connection
from fashion_cnn.store.description import NOTE, described, outcome
from fashion_cnn.store.entries import LOST, RunEntry
from fashion_cnn.store.experiments import OUR_TAG, OURS
from fashion_cnn.store.imported import mark, told_apart
from fashion_cnn.store.send import send
from fashion_cnn.store.trajectories import Trajectory
from fashion_cnn.terminal import printable

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

LOST_AFTER = 120.0  # seconds without a heartbeat
PROCESSOR = "fashion_cnn.processor"  # the tag of an imported run: what its times were taken on
READERS = 8  # requests for artifacts that a server has at a time
TOGETHER = 32  # records that are read before the first of them is used
HISTORIES = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"  # the UI's own; MLflow's client has nothing like it
MANY, MOST = 100, 25_000  # the runs that it takes, and the values that it gives
RUN_ID, SHORT_ID = 32, 6  # digits of a run's id, and how many of them must be given
_INFO = ("run_id", "experiment_id", "artifact_uri", "name", "status", "start_time", "end_time")
_METRICS = (*EPOCH_METRICS, *RUN_METRICS)


class Store(Connection):
    """A tracking store that answers. Whatever asks it raises a StoreError where it does not answer as it should."""

    def send(self, trajectory: Trajectory) -> None:
        """Bring the store up to date with a trajectory's folder; what it took before an error is noted."""
        send(self, trajectory)

    def unsent(self, trajectory: Trajectory) -> list[RunEntry]:
        """The runs of a trajectory that are for this store, have ended, and are not in it as they ended."""
        runs = trajectory.runs(self.address.name)
        return [run for run in runs if run.status != "running" and not trajectory.sent(run).is_all_of(run)]

    def holds(self, trajectory: Trajectory, entry: RunEntry) -> bool:
        """Whether a run that was (or is still to be) sent is in the store as what it was, as far as can be told.

        An unfinished one may be gone: it is made anew when it is sent. But one that a person has given other tags would
        never count as this run's record.
        """
        sent, finished = trajectory.sent(entry), entry.status == "finished"
        if not (sent.is_all_of(entry) if finished else sent.run_id):
            return True
        try:
            with self.errors():
                run = self.active(str(sent.run_id))
        except StoreError:
            return True
        if run is None or (finished and run.info.status != "FINISHED"):
            return not finished
        said = {"study": entry.study, "arm": entry.arm, "config_sha256": entry.run_config().sha256()}
        said |= {"smoke": str(entry.smoke).lower(), "trajectory_sha256": trajectory.header.trajectory_sha256}
        said |= asdict(trajectory.header.identity)
        return said.items() <= run.data.tags.items()

    def beat(self, run_id: str) -> None:
        """Tell that a run is alive."""
        with self.errors():
            self.log(run_id, tags=self.heartbeat())

    def close_lost(self, here: Mapping[str, str | None]) -> list[str]:
        """Mark runs whose heartbeat stopped as killed, where no folder on a disk of this machine is theirs.

        `here` are the records that it has a folder of, whose lock tells more, each with the run's id if one is noted: a
        run that was deleted, made anew under another id, and restored is nobody's. Returns the closed runs' names.
        """
        closed = []
        with self.errors():
            for run in list(_search(self, None, "tags.record != '' and attributes.status = 'RUNNING'")):
                row = _row(run)
                noted = here.get(str(row["record"]), "")
                if noted in (None, row["run_id"]) or not is_lost(row, self.clock.now()):
                    continue
                self.log(row["run_id"], tags={"stop_reason": "lost", "error": LOST})
                ended = max(round(1000 * _last_sign(row)), row["start_time"])
                self.client.set_terminated(row["run_id"], "KILLED", end_time=ended)
                closed.append(f"{row['study']}: {row['name']}")
        return closed

    def import_record(self, record: Record, question: str) -> str:
        """Bring a record into the store as if it had been recorded there, without a model; returns its run's id.

        It needs a state per epoch in its `trajectory.json`. A run that the store did not take whole is not FINISHED.
        """
        return _import(self, record, question, {})

    def import_elsewhere(
        self, record: Record, question: str, origin: str, tags: Mapping[str, str] | None = None
    ) -> None:
        """As `import_record`, of one that was recorded elsewhere: it never counts here.

        It is tagged `published` with its id, `imported` with its origin, `PROCESSOR` where that is told, and with
        `tags`, and marked beside the store.
        """
        row, original = record.row, str(record.row["run_id"])
        note = f"Imported from {origin}, not recorded here; there it is run {original}."
        again = f"fashion-cnn replay {original[:8]}"
        said = described(question, str(row["arm"]), row["seed"], outcome(len(record.states()), row), again, note)
        on = {} if (processor := record.processor()) is None else {PROCESSOR: processor}
        _import(self, record, question, {"published": original, "imported": origin, NOTE: said, **on, **(tags or {})})

    def delete(self, run_id: str) -> None:
        """Move a run to the store's bin."""
        with self.errors():
            self.client.delete_run(run_id)

    def runs(self, studies: Sequence[str] | None = None, more: Sequence[str] = ()) -> pd.DataFrame:
        """One row per run of these studies (or of all), oldest first.

        Returns:
            `run_id`, `experiment_id`, `artifact_uri`, `name`, `status` (MLflow's), `start_time`, `end_time` (ms), the
            tags as text and those named in `more`, the params as text, the last value of each metric (float, NaN where
            missing).
        """
        import pandas as pd

        with self.errors():
            rows = _rows(self, studies, more)
        frame = pd.DataFrame(rows, columns=[*_INFO, *TAGS, *more, *PARAMS, *_METRICS])
        return frame.astype(dict.fromkeys(_METRICS, float))

    def epochs(self, run_ids: Sequence[str], metrics: Sequence[str] = EPOCH_METRICS) -> pd.DataFrame:
        """One row per epoch of these runs: `run_id`, `epoch` (from 1), and the epoch metrics, or some (float)."""
        import pandas as pd

        with self.errors():
            values = [
                (run_id, epoch, name, value)
                for name in metrics
                for run_id, epoch, value in _histories(self, run_ids, name)
            ]
        if not values:
            return pd.DataFrame(columns=["run_id", "epoch", *metrics])
        long = pd.DataFrame(values, columns=["run_id", "epoch", "metric", "value"])
        wide = long.drop_duplicates(["run_id", "epoch", "metric"], keep="last")
        wide = wide.pivot(index=["run_id", "epoch"], columns="metric", values="value").reset_index()
        return wide.reindex(columns=["run_id", "epoch", *metrics]).rename_axis(columns=None)

    def find(self, start: str) -> dict[str, Any]:
        """The one run whose id is this or starts so, as a row of `runs`; an imported one has its published id as well.

        Raises:
            StoreError: fewer than 6 digits, no such run, or several.
        """
        start = start.strip().lower()
        if not re.fullmatch(r"[0-9a-f]+", start):
            return self.run(start)
        if len(start) < SHORT_ID:
            raise StoreError(f"{start!r} is too short for a run's id; give at least its first {SHORT_ID} digits")
        if len(start) == RUN_ID:
            with suppress(StoreError):
                return self.run(start)
        with self.errors():
            ids = [
                str(row["run_id"])
                for row in _rows(self, None)
                if any(str(row.get(name)).startswith(start) for name in ("run_id", "published"))
            ]
        if len(ids) > 1:
            raise StoreError(f"the ids of {len(ids)} runs start with {start!r}: {', '.join(ids[:3])}; give more digits")
        return self.run(ids[0] if ids else start)

    def run(self, run_id: str) -> dict[str, Any]:
        """The run of an id, as a row of `runs`; a StoreError where it is none, or none of this project's."""
        from mlflow.exceptions import MlflowException

        stored: Run | None = None
        try:
            with self.errors():
                stored = self.client.get_run(run_id)
        except StoreError as error:
            cause = error.__cause__
            if not isinstance(cause, MlflowException) or cause.error_code not in ABSENT:
                raise
        if stored is None or not stored.data.tags.get("trajectory_sha256"):
            raise StoreError(
                f"{self.address.name} has no recorded run {run_id[:80]!r}; `fashion-cnn list` shows those it has"
            )
        (row,) = told_apart(self.address.trajectories, [_row(stored)])
        return {**dict.fromkeys((*TAGS, *PARAMS, *_METRICS)), **row}

    def record(self, row: Mapping[str, Any], epochs: Sequence[Mapping[str, float]], *, whole: bool = True) -> Record:
        """All that the store holds of a run: a row of `runs`, its rows of `epochs`, and artifacts.

        Without `whole` these are only those that hashes depend on; with it, every artifact and the model. An imported
        run has not all that it was recorded with.
        """
        with self.errors(), tempfile.TemporaryDirectory() as folder:
            artifacts = dict(read_artifacts(self, row["artifact_uri"], None if whole else LIGHT, folder))
            if whole:
                outputs = self.client.get_run(row["run_id"]).outputs
                for output in outputs.model_outputs if outputs else ():
                    uri = self.client.get_logged_model(output.model_id).artifact_location
                    for _, content in read_artifacts(self, uri, (NATIVE,), folder):
                        artifacts[MODEL] = content
        return Record(row, epochs, artifacts, whole and not is_published(row))

    def records(
        self,
        rows: Sequence[Mapping[str, Any]],
        epochs: Mapping[str, Sequence[Mapping[str, float]]],
        *,
        whole: bool = True,
    ) -> Iterator[Record]:
        """What `record` gives of many runs, in their order; from a server several are read at a time.

        The rows of `epochs` are given by run id; a run without any may be missing.
        """

        def read(row: Mapping[str, Any]) -> Record:
            return self.record(row, epochs.get(str(row["run_id"]), ()), whole=whole)

        with ThreadPoolExecutor(READERS if self.address.is_server else 1) as pool:
            for start in range(0, len(rows), TOGETHER):
                yield from pool.map(read, rows[start : start + TOGETHER])

    def artifact(self, run_id: str, name: str) -> Path | None:
        """A local copy of a run's artifact, or None where the run has none of this name."""
        with self.errors():
            if not among(partial(self.client.list_artifacts, run_id), [name]):
                return None
            return Path(self.client.download_artifacts(run_id, name))


def is_lost(row: Mapping[str, Any], now: float) -> bool:
    """Whether a row of `Store.runs` is said to be running but silent for two minutes; now is the store's time, in s."""
    return bool(row["status"] == "RUNNING" and now - _last_sign(row) > LOST_AFTER)


def _last_sign(row: Mapping[str, Any]) -> float:
    """When a run last gave a sign of life, in seconds since 1970; infinity where somebody wrote no time there."""
    if absent(row.get("heartbeat")):
        return float(row["start_time"]) / 1000
    try:
        return float(calendar.timegm(time.strptime(str(row["heartbeat"]), BEAT)))
    except ValueError:
        return math.inf


def _import(connection: Connection, record: Record, question: str, tags: Mapping[str, str]) -> str:
    """As `Store.import_record`, with more tags than the record has."""
    row, states = record.row, record.states()
    end = int(states[-1]["ended_at"])
    pictures = grid.figures(record.artifacts, end)
    known = {name: str(row[name]) for name in TAGS if not absent(row.get(name)) and row[name] != ""}
    shown = pictures or any(name.startswith(f"{grid.FOLDER}/") for name in record.artifacts)
    tags = {**known, **(grid.SHOWN if shown else {}), **tags}
    params = {name: str(row[name]) for name in (*PARAMS, "seed") if not absent(row.get(name))}
    measured = [
        value for state in states for value in metrics.of_epoch(state, int(state["ended_at"]), int(state["epoch"]))
    ]
    measured += metrics.of_run({name: row[name] for name in RUN_METRICS if not absent(row.get(name))}, end)
    run = WholeRun(
        name=str(row["name"]),
        status=str(row["status"]),
        start_time=int(row["start_time"]),
        end_time=int(row["end_time"]),
        tags=tags,
        params=params,
        metrics=measured,
        data_sha256=str(row["data_sha256"]),
        artifacts={**record.artifacts, **grid.files(str(row.get("run_id")), pictures)},
    )

    def begin(run_id: str) -> None:
        if "published" in tags:
            mark(connection.address.trajectories, run_id, tags["published"], tags["imported"])

    with connection.errors():
        experiment = connection.experiment(str(row["study"]), question)
        return put_run(connection, experiment, run, begin)


def _search(connection: Connection, studies: Sequence[str] | None, wanted: str = "") -> Iterator[Run]:
    """This project's runs of some studies, or of all, that a filter of MLflow's lets pass; oldest first."""
    there = connection.patiently(connection.experiments)
    ids = there.to_search(studies)

    def ours(run: Any) -> bool:
        return (studies is None or run.data.tags.get("study") in studies) and there.place(run)

    if connection.tables is not None and not wanted:
        yield from filter(ours, connection.patiently(partial(direct.runs, connection.tables, ids, OUR_TAG)))
        return
    token: str | None = None
    wanted = f"{OURS} and {wanted}" if wanted else OURS
    while ids:
        ask = partial(connection.client.search_runs, ids, wanted, max_results=1000, page_token=token)
        page = connection.patiently(partial(ask, order_by=["attributes.start_time"]))
        yield from filter(ours, page)
        token = page.token
        if not token:
            return


def _rows(connection: Connection, studies: Sequence[str] | None, more: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The runs of some studies, or of all, as rows: oldest first, `published` in the imported ones alone."""
    rows = (_row(run, more) for run in _search(connection, studies))
    return told_apart(connection.address.trajectories, rows)


def _row(run: Run, more: Sequence[str] = ()) -> dict[str, Any]:
    """A run's params, last metrics, tags and what MLflow itself says of it, by name, each from where we wrote it."""
    data, info = run.data, run.info
    params = (*PARAMS, "seed")
    return {
        **{name: printable(value) for name, value in data.tags.items() if name in TAGS or name in more},
        **{name: printable(value) for name, value in data.params.items() if name in params},
        **{name: value for name, value in data.metrics.items() if name in _METRICS},
        **{name: getattr(info, name) for name in _INFO if name != "name"},
        "name": printable(info.run_name or ""),
    }


def _histories(connection: Connection, run_ids: Sequence[str], name: str) -> Iterator[tuple[str, int, float]]:
    """Every value of a metric, with its run and step: one query for 100 runs."""
    for start in range(0, len(run_ids), MANY):
        some = list(run_ids[start : start + MANY])
        if connection.tables is not None:
            yield from direct.histories(connection.tables, some, name)
        elif connection.address.is_server:
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
