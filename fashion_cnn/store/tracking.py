"""The only module that imports MLflow: send a record to the tracking store, read records as tidy frames.

Sending brings the store up to date with a trajectory's folder, whatever it has already: run, params, metrics,
artifacts, model, end. Each step is noted beside the run once the store has taken it, and each is harmless when
repeated, so a send that was cut off at any point is simply done again.
"""

from __future__ import annotations

import calendar
import errno
import getpass
import hashlib
import html
import json
import os
import platform
import re
import shutil
import sqlite3
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from fashion_cnn.config import FIELDS, RunConfig
from fashion_cnn.events import is_drawn
from fashion_cnn.evidence.record import EPOCH_METRICS, HASHES, LIGHT, MODEL, RUN_METRICS, Record
from fashion_cnn.store.relocation import relocate
from fashion_cnn.store.trajectories import LOST, CutFiles, EpochLine, RunRecord, Trajectory

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

TAGS = (
    *("study", "arm", "seed", "smoke", "reuse", "record"),
    *("config_sha256", "trajectory_sha256", "data_sha256", "code_sha256", "environment_sha256"),
    *("weights_sha256", "artifacts_sha256", "git_commit", "git_dirty", "workers", "node"),
    *("heartbeat", "stop_reason", "error", "drawing_error", "published"),
)
FIGURES = ("feature_maps.png", "all_channels.png", "confusion_matrix.png", "mistakes.png")
TERMINATED = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
SERVER_TIMEOUT = 10  # seconds
READERS = 8  # requests for artifacts that a server has at a time
TOGETHER = 32  # records that are read before the first of them is used
HISTORIES = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"  # the UI's own; MLflow's client has nothing like it
MANY, MOST = 100, 25_000  # the runs that it takes, and the values that it gives
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
DATASET = "fashion-mnist"
DIGEST_LENGTH = 36  # MLflow's limit for a data set's digest
NATIVE = "data/model.keras"  # in a logged model
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # how MLflow's errors say so
RUN_ID, SHORT_ID = 32, 6  # digits of a run's id, and how many of them must be given
GRID = "images/"  # where MLflow keeps what its image grid shows
PATIENCE = 60.0  # seconds for a database that another program holds
QUEUE = 5 * PATIENCE  # seconds for those who open it before, each of whom may wait for it
LOCKED = "database is locked"  # how SQLite says so
ROOM = 2**20  # bytes that a folder must be able to take before anything is trained
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LOST_AFTER = 120.0  # seconds without a heartbeat
TRACEBACK = "traceback.txt"
FOREIGN_HOST = "Invalid Host header"  # MLflow's server, asked by a name that is none of its --allowed-hosts
KIND, CUSTOM = "mlflow.experimentKind", "custom_model_development"  # an experiment's tag, and what ours are
TIME = "%Y-%m-%dT%H:%M:%SZ"


class StoreError(RuntimeError):
    """The tracking store cannot be used: one line that says why and what to do."""


class StoreBusy(StoreError):
    """Another program holds the database for itself: it may be free again soon."""


@dataclass(frozen=True)
class Address:
    """Where a tracking store and what belongs to it are."""

    uri: str
    artifacts: str | None
    """Where a new experiment's artifacts go; None leaves it to the server."""
    trajectories: Path

    @property
    def name(self) -> str:
        """The address without credentials."""
        parts = urlsplit(self.uri)
        if not parts.netloc:
            return self.uri
        # A database's query may hold a password.
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def resolve(uri: str | None, repository: Path) -> Address:
    """The store of an address, of MLFLOW_TRACKING_URI, or the repository's own `mlruns/mlflow.db`.

    The trajectories of a sqlite store lie beside its file, those of any other in the folder that
    FASHION_CNN_TRAJECTORIES names, else in the repository's `mlruns`.

    Raises:
        StoreError: not an address of a database or a tracking server.
    """
    home = repository / "mlruns"
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"
    scheme = uri.partition(":")[0].partition("+")[0].lower()
    if scheme == "sqlite":
        home = Path(uri.partition(":///")[2]).absolute().parent
        return Address(f"sqlite:///{_sqlite_path(uri)}", (home / "artifacts").as_uri(), home / "trajectories")
    trajectories = Path(os.environ.get("FASHION_CNN_TRAJECTORIES") or home / "trajectories").absolute()
    if scheme in ("http", "https"):
        return Address(uri.rstrip("/"), None, trajectories)
    if scheme in DATABASES:
        return Address(uri, (home / "artifacts").as_uri(), trajectories)
    shown = re.sub("//.*@", "//", uri).partition("?")[0]  # it may hold a password all the same
    raise StoreError(
        f"{shown!r} is no tracking store; allowed: sqlite:///PATH, postgresql://…, or http(s)://… of a tracking server "
        "(MLflow gave up its old folder of files)"
    )


def _sqlite_path(uri: str) -> Path:
    path = Path(uri.partition(":///")[2]).absolute()
    if not uri.partition(":///")[2] or path.is_dir():
        raise StoreError(f"{uri!r} names no file; write sqlite:///PATH/mlflow.db")
    if found := re.search(r"\?|%[0-9A-Fa-f]{2}|[^\x20-\x7e\x80-\U0010ffff]", str(path)):
        # MLflow would open another file: it takes the path for an address, with a query and escapes.
        raise StoreError(
            f"{str(path)!r} cannot be a store, because of the {found[0]!r} in it; name another with --tracking-uri"
        )
    return path


@dataclass(frozen=True)
class _Sending:
    """One run on its way into the store."""

    trajectory: Trajectory
    record: RunRecord
    lines: Sequence[EpochLine]
    """The trajectory's epochs so far."""
    sent: dict[str, Any]
    """What the store has of the run."""

    @property
    def run_id(self) -> str:
        return str(self.sent["run_id"])

    def note(self, **values: Any) -> None:
        """Keep beside the run what the store has taken now."""
        self.sent.update(values)
        self.trajectory.save_sent(self.record, self.sent)


class Store:
    """A tracking store that answers."""

    def __init__(self, address: Address, *, create: bool = True) -> None:
        """Open a store; a database that is not there yet is created, once, however many start together.

        Args:
            address: from `resolve`.
            create: whether to create a database; without, a missing one is an error.

        Raises:
            StoreError: it does not answer, cannot be written, or is something else.
        """
        self.address = address
        self.notices: list[str] = []
        """What the user should be told about the store, a line each."""
        self._experiments: dict[str, str] = {}
        if address.uri.startswith("sqlite:"):
            _check_sqlite(_sqlite_path(address.uri), create)
        elif address.uri.startswith("http"):
            _check_server(address)
        _check_writable(address.trajectories, room=ROOM if create else 0)
        self.client = _client(address)
        if address.uri.startswith("sqlite:"):
            path = _sqlite_path(address.uri)
            with _store_errors(address), _alone(path):
                self.notices = relocate(path, path.parent / "artifacts")

    # -- sending -------------------------------------------------------------------------------------------

    def send(self, trajectory: Trajectory) -> None:
        """Bring the store up to date with a trajectory's folder.

        Raises:
            StoreError: the store did not take all of it; what it took is noted.
        """
        lines: list[EpochLine] | None = None
        for record in trajectory.runs(self.address.name):
            sent = trajectory.sent(record)
            if sent.get("done") == record.status:
                continue
            lines = trajectory.epochs() if lines is None else lines
            with _store_errors(self.address):
                self._send_run(_Sending(trajectory, record, lines, sent))

    def unsent(self, trajectory: Trajectory) -> list[RunRecord]:
        """The runs of a trajectory that are for this store, have ended, and are not in it as they ended."""
        records = trajectory.runs(self.address.name)
        return [one for one in records if one.status != "running" and trajectory.sent(one).get("done") != one.status]

    def holds(self, sent: Mapping[str, Any]) -> bool:
        """Whether a finished run that was (or is still to be) sent is in the store, as far as can be told."""
        from mlflow.exceptions import MlflowException

        if not sent.get("done"):
            return True
        try:
            info = self.client.get_run(sent["run_id"]).info
        except MlflowException as error:
            return bool(error.error_code != "RESOURCE_DOES_NOT_EXIST")
        return bool(info.lifecycle_stage == "active")

    def check_rights(self, questions: Mapping[str, str]) -> None:
        """Make sure, before anything is trained, that this user may record runs; a database has no users.

        Args:
            questions: of the studies to record, by name.

        Raises:
            StoreError: the server does not allow it.
        """
        if self.address.uri.startswith("http"):
            with _store_errors(self.address):
                for study, question in questions.items():
                    experiment = self.client.get_experiment(self.experiment(study, question))
                    # Needs the same right as recording a run. A tag that is there and stays as it is: MLflow's server
                    # fails where two callers add one at once.
                    kind = experiment.tags.get(KIND, CUSTOM)
                    self.client.set_experiment_tag(experiment.experiment_id, KIND, kind)

    def beat(self, run_ids: Sequence[str]) -> None:
        """Tell that these runs are alive."""
        with _store_errors(self.address):
            for run_id in run_ids:
                self.client.set_tag(run_id, "heartbeat", _now_text())

    def close_lost(self, here: Collection[str]) -> list[str]:
        """Mark runs whose heartbeat stopped as killed, where their trajectory's folder is on no disk of this machine.

        Args:
            here: the records that this machine has a folder of; the lock of that tells whether they are alive.

        Returns:
            The names of the runs that were closed.

        Raises:
            StoreError: the store does not answer.
        """
        closed = []
        with _store_errors(self.address):
            for run in list(self._search(None, "tags.study != '' and attributes.status = 'RUNNING'")):
                row = _row(run)
                if row.get("record") in here or not is_lost(row, time.time()):
                    continue
                self._log(row["run_id"], tags={"stop_reason": "lost", "error": LOST})
                ended = max(round(1000 * _last_sign(row)), row["start_time"])
                self.client.set_terminated(row["run_id"], "KILLED", end_time=ended)
                closed.append(f"{row['study']}: {row['name']}")
        return closed

    def _send_run(self, one: _Sending) -> None:
        trajectory, record, lines, sent = one.trajectory, one.record, one.lines, one.sent
        if "run_id" not in sent:
            run_id = self._create(trajectory, record)
            params = {**record.run_config().params(), "seed": str(record.seed)}
            self._log(run_id, params=params)
            self._log_data_set(run_id, trajectory.header.identity.data_sha256, trajectory.header.images)
            one.note(run_id=run_id, epochs=0)
        if sent.get("done"):  # it was killed or failed, and goes on
            self.client.update_run(one.run_id, status="RUNNING")
            self._log(one.run_id, tags={"stop_reason": "", "error": "", "heartbeat": _now_text()})
            one.note(done=None)
        if sent.get("tags") != record.tags:
            self._log(one.run_id, tags=record.tags)
            one.note(tags=dict(record.tags))
        started = trajectory.started()
        if started is not None and sent.get("node") != started.node:  # another one where the first was lost
            self._log(one.run_id, params={"parameters": str(started.parameters)}, tags={"node": started.node})
            one.note(node=started.node)
        # The trajectory may be longer than the run, also while the run waits for its cut to be evaluated.
        cut = record.run_config().cut([line.metrics["loss"] for line in lines])
        carried = lines[sent["epochs"] : cut.epoch if cut else None]
        if carried:
            metrics = [
                _metric(name, line.metrics[name], line.ended_at, line.epoch)
                for line in carried
                for name in EPOCH_METRICS
            ]
            alive = {"heartbeat": _now_text()} if record.status == "running" else {}
            self._log(one.run_id, metrics=metrics, tags=alive)
            one.note(epochs=carried[-1].epoch)
        self._send_sheets(one)
        if record.status == "finished":
            self._finish(one)
        elif record.status != "running":
            tags = {"stop_reason": record.stop_reason or "error", "error": (record.error or "")[:5000]}
            self._log(one.run_id, tags=tags)
            if record.traceback:
                self.client.log_text(one.run_id, record.traceback, TRACEBACK)
            # Nobody knows when a lost run ended: its last epoch is the last sign of life.
            seen = lines[-1].ended_at if lines else record.start_time
            ended = seen if record.stop_reason == "lost" else _now()
            # A clock that was set back must not make it end before it began.
            self.client.set_terminated(one.run_id, TERMINATED[record.status], end_time=max(ended, record.start_time))
        if record.status != "running":
            one.note(done=record.status)

    def _send_sheets(self, one: _Sending) -> None:
        """Send feature maps for MLflow's image grid: the files that `log_image` would write.

        It gives them a random name, so that an image sent twice would be shown twice; these have the same name again.
        """
        done, record = list(one.sent.get("sheets", ())), one.record
        last = record.cut or one.sent["epochs"]
        due = {
            epoch: paths
            for epoch, paths in one.trajectory.sheets().items()
            if epoch not in done and epoch <= last and (is_drawn(epoch) or epoch == record.cut)
        }
        if not due:
            return
        from mlflow.tracking.multimedia import compress_image_size
        from PIL import Image

        for epoch, paths in due.items():
            at = one.lines[epoch - 1].ended_at if epoch else record.start_time
            with tempfile.TemporaryDirectory() as folder:
                for path in paths:
                    name = uuid.uuid5(uuid.NAMESPACE_OID, f"{record.record} {path.stem} {epoch}")
                    file = Path(folder, f"feature_maps~{path.stem}+step+{epoch}+timestamp+{at}+{name}")
                    shutil.copyfile(path, f"{file}.png")
                    with Image.open(path) as image:
                        compress_image_size(image).save(f"{file}+compressed.webp")
                self.client.log_artifacts(one.run_id, folder, GRID.rstrip("/"))
            self._log(one.run_id, tags={"mlflow.loggedImages": "True"})
            done.append(epoch)
            one.note(sheets=done)

    def _create(self, trajectory: Trajectory, record: RunRecord) -> str:
        """The MLflow run of a record: the one that an earlier, cut off send made, or a new one."""
        experiment = self.experiment(record.study, record.question)
        made = self.client.search_runs([experiment], f"tags.record = '{record.record}'", max_results=1)
        if made:
            return str(made[0].info.run_id)
        header = trajectory.header
        config = record.run_config()
        tags = {
            "study": record.study,
            "arm": record.arm,
            "seed": str(record.seed),
            "smoke": str(record.smoke).lower(),
            "reuse": "on" if record.reuse else "off",
            "record": record.record,
            "config_sha256": config.sha256(),
            "trajectory_sha256": header.trajectory_sha256,
            "data_sha256": header.identity.data_sha256,
            "code_sha256": header.identity.code_sha256,
            "environment_sha256": header.identity.environment_sha256,
            "heartbeat": _now_text(),
            "mlflow.note.content": _description(record, None),
            "mlflow.source.name": record.command,
            "mlflow.source.type": "LOCAL",
            "mlflow.user": _user(),
            **record.tags,
        }
        if record.tags.get("git_commit", "unknown") != "unknown":
            tags["mlflow.source.git.commit"] = record.tags["git_commit"]
        run = self.client.create_run(
            experiment, start_time=record.start_time, tags=tags, run_name=f"{record.arm} · seed {record.seed}"
        )
        return str(run.info.run_id)

    def _finish(self, one: _Sending) -> None:
        trajectory, record, sent, lines = one.trajectory, one.record, one.sent, one.lines[: one.record.cut]
        assert record.cut is not None
        cut, started = trajectory.cut(record.cut), trajectory.started()
        if cut is None or started is None:
            raise StoreError(f"{trajectory.folder.name} lacks what its cut at epoch {record.cut} left behind")
        # Kept with the first part that tells them: the next worker of the trajectory starts in another time.
        values = sent.get("values") or {
            "fit_seconds": sum(line.metrics["epoch_seconds"] for line in lines),
            "fit_cpu_seconds": sum(line.metrics["epoch_cpu_seconds"] for line in lines),
            "trace_seconds": started.trace_seconds,
            "evaluate_seconds": cut.evaluate_seconds,
            "epochs_trained": float(record.cut),
            "reused_epochs": float(record.reused_epochs),
            "peak_memory_mib": cut.peak_memory_mib,
        }
        if not sent.get("artifacts_sha256"):
            with tempfile.TemporaryDirectory() as folder:
                _write_artifacts(Path(folder), trajectory, record, lines, cut, started.model_summary, values)
                digest = _write_hashes(Path(folder), cut.files["model.keras"])
                self.client.log_artifacts(one.run_id, folder)
            table = json.dumps([{"path": "per_class.json", "type": "table"}])
            self._log(one.run_id, tags={"mlflow.loggedArtifacts": table})
            one.note(artifacts_sha256=digest, values=values)
        if "model_id" not in sent:
            one.note(model_id=self._model(one.run_id, record, cut))
        at = lines[-1].ended_at
        tags = {
            "weights_sha256": cut.weights_sha256,
            "artifacts_sha256": sent["artifacts_sha256"],
            "stop_reason": str(record.stop_reason),
            "error": "",
            "drawing_error": cut.drawing_error[:5000],
            "heartbeat": _now_text(),
            "mlflow.note.content": _description(record, lines[-1]),
        }
        metrics = [_metric(name, value, at, record.cut) for name, value in values.items()]
        # Logged once more with the model's id and the data set's, these stand on the model's own page, too.
        of_model = {
            "model_id": sent["model_id"],
            "dataset_name": DATASET,
            "dataset_digest": trajectory.header.identity.data_sha256[:DIGEST_LENGTH],
        }
        metrics += [
            _metric(name, lines[-1].metrics[name], at, record.cut, **of_model)
            for name in ("test_loss", "test_accuracy")
        ]
        self._log(one.run_id, metrics=metrics, tags=tags)
        spent = round(1000 * (values["fit_seconds"] + values["evaluate_seconds"]))
        self.client.set_terminated(one.run_id, "FINISHED", end_time=record.start_time + spent)

    def _log(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        from mlflow.entities import Param, RunTag

        self.client.log_batch(
            run_id,
            metrics=metrics[:1000],
            params=[Param(name, value) for name, value in (params or {}).items()],
            tags=[RunTag(name, value) for name, value in (tags or {}).items()],
        )
        for start in range(1000, len(metrics), 1000):
            self.client.log_batch(run_id, metrics=metrics[start : start + 1000])

    def _log_data_set(self, run_id: str, sha256: str, images: tuple[int, int] | None) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = {"uri": "https://github.com/zalandoresearch/fashion-mnist"}
        profile = {"sha256": sha256, **({"first_images": list(images)} if images else {})}
        data = Dataset(
            name=DATASET,
            digest=sha256[:DIGEST_LENGTH],
            source_type="http",
            source=json.dumps(source),
            profile=json.dumps(profile),
        )
        tag = InputTag("mlflow.data.context", "training")
        self.client.log_inputs(run_id, datasets=[DatasetInput(dataset=data, tags=[tag])])

    def _model(self, run_id: str, record: RunRecord, cut: CutFiles) -> str:
        """Log the run's network as an MLflow model that holds the native `.keras` file; returns its id."""
        from mlflow.entities import LoggedModelOutput

        experiment = self.experiment(record.study, record.question)
        found = self.client.search_logged_models([experiment], f"source_run_id = '{run_id}'", max_results=1)
        if found:
            model_id = found[0].model_id
        else:
            config = record.run_config()
            made = self.client.create_logged_model(
                experiment,
                name=config.model,
                source_run_id=run_id,
                params={**config.params(), "seed": str(record.seed)},
                tags={"study": record.study, "arm": record.arm, "weights_sha256": cut.weights_sha256},
                model_type="keras",
            )
            model_id = made.model_id
        with tempfile.TemporaryDirectory() as folder:
            _write_model(Path(folder), run_id, model_id, cut.files["model.keras"])
            self.client.log_model_artifacts(model_id, folder)
        outputs = self.client.get_run(run_id).outputs
        if outputs is None or model_id not in {one.model_id for one in outputs.model_outputs}:
            self.client.log_outputs(run_id, [LoggedModelOutput(model_id, cut.epoch)])
        self.client.finalize_logged_model(model_id, "READY")
        return str(model_id)

    def experiment(self, study: str, question: str) -> str:
        """The id of a study's experiment, made where it is missing."""
        from mlflow.exceptions import MlflowException

        if study not in self._experiments:
            experiment = self.client.get_experiment_by_name(study)
            if experiment is None:
                # Without this tag a new experiment opens in MLflow's view for language models.
                tags = {KIND: CUSTOM, "mlflow.note.content": question}
                place = self.address.artifacts and f"{self.address.artifacts}/{quote(study)}"
                try:
                    self.client.create_experiment(study, place, tags)
                except MlflowException as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":  # else somebody was faster
                        raise
                experiment = self.client.get_experiment_by_name(study)
            if experiment is None or experiment.lifecycle_stage != "active":
                raise StoreError(f"the experiment {study} is in the store's bin; restore it there, or empty the bin")
            self._experiments[study] = experiment.experiment_id
        return self._experiments[study]

    def import_published(self, record: Record, question: str, figures: Mapping[str, bytes]) -> None:
        """Bring a published record into the store, as a run of its study, tagged `published` with its id.

        Args:
            record: of `results.read`.
            question: the study's.
            figures: more artifacts, by path.

        Raises:
            StoreError: the store did not take all of it; the run is not FINISHED then.
        """
        row, states = record.row, record.states()
        told = f"Published: imported from `experiments/results`, not recorded here; there it is run {row['run_id']}."
        tags = {
            **{name: str(row[name]) for name in TAGS if row.get(name) is not None},
            "published": str(row["run_id"]),
            "mlflow.note.content": f"{question}\n\n{told}",
        }
        params = {name: str(row[name]) for name in (*FIELDS, "seed", "parameters")}
        metrics = [
            _metric(name, state[name], int(state["ended_at"]), int(state["epoch"]))
            for state in states
            for name in EPOCH_METRICS
        ]
        last = states[-1]
        metrics += [_metric(name, row[name], int(last["ended_at"]), int(last["epoch"])) for name in RUN_METRICS]
        with _store_errors(self.address), tempfile.TemporaryDirectory() as folder:
            for name, content in {**record.artifacts, **figures}.items():
                path = Path(folder, name)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            experiment = self.experiment(str(row["study"]), question)
            run = self.client.create_run(experiment, int(row["start_time"]), tags, run_name=str(row["name"]))
            self.client.log_artifacts(run.info.run_id, folder)
            self._log(run.info.run_id, metrics, params)
            self._log_data_set(run.info.run_id, str(row["data_sha256"]), None)
            self.client.set_terminated(run.info.run_id, str(row["status"]), end_time=int(row["end_time"]))

    def delete(self, run_id: str) -> None:
        """Move a run to the store's bin."""
        with _store_errors(self.address):
            self.client.delete_run(run_id)

    # -- reading -------------------------------------------------------------------------------------------

    def runs(self, studies: Sequence[str] | None = None) -> pd.DataFrame:
        """One row a run of these studies (or of all), oldest first.

        Returns:
            `run_id`, `experiment_id`, `artifact_uri`, `name`, `status` (MLflow's), `start_time`, `end_time` (ms), the
            params as text, the last value of each metric (float, NaN where missing), the tags as text.
        """
        import pandas as pd

        with _store_errors(self.address):
            rows = [_row(run) for run in self._search(studies)]
        names = ["run_id", "experiment_id", "artifact_uri", "name", "status", "start_time", "end_time"]
        columns = [*names, *TAGS, *FIELDS, "parameters", *EPOCH_METRICS, *RUN_METRICS]
        frame = pd.DataFrame(rows, columns=columns)
        return frame.astype(dict.fromkeys((*EPOCH_METRICS, *RUN_METRICS), float))

    def epochs(self, run_ids: Sequence[str]) -> pd.DataFrame:
        """One row an epoch of these runs: `run_id`, `epoch` (from 1), and the epoch metrics (float)."""
        import pandas as pd

        with _store_errors(self.address):
            values = [
                (run_id, epoch, name, value)
                for name in EPOCH_METRICS
                for run_id, epoch, value in self._histories(run_ids, name)
            ]
        if not values:
            return pd.DataFrame(columns=["run_id", "epoch", *EPOCH_METRICS])
        long = pd.DataFrame(values, columns=["run_id", "epoch", "metric", "value"])
        wide = long.drop_duplicates(["run_id", "epoch", "metric"], keep="last")
        wide = wide.pivot(index=["run_id", "epoch"], columns="metric", values="value").reset_index()
        return wide.reindex(columns=["run_id", "epoch", *EPOCH_METRICS]).rename_axis(columns=None)

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
        with _store_errors(self.address):
            ids = [run.info.run_id for run in self._search(None, f"tags.published LIKE '{start}%'")]
            if len(start) < RUN_ID:
                ids += [run.info.run_id for run in self._search(None) if run.info.run_id.startswith(start)]
        if len(ids) > 1:
            raise StoreError(f"the ids of {len(ids)} runs start with {start!r}: {', '.join(ids[:3])}; give more digits")
        return self.run(ids[0] if ids else start)

    def run(self, run_id: str) -> dict[str, Any]:
        """One run, as a row of `runs`.

        Raises:
            StoreError: there is none with this id, or none of this project's.
        """
        from mlflow.exceptions import MlflowException

        try:
            with _store_errors(self.address):
                found = self.client.get_run(run_id)
        except StoreError as error:
            cause = error.__cause__
            if isinstance(cause, MlflowException) and cause.error_code in ABSENT:
                found = None
            else:
                raise
        if found is None or not found.data.tags.get("study"):
            raise StoreError(
                f"{self.address.name} has no recorded run {run_id[:80]!r}; `fashion-cnn list` shows those it has"
            )
        names = (*TAGS, *FIELDS, "parameters", *EPOCH_METRICS, *RUN_METRICS)
        return {**dict.fromkeys(names), **_row(found)}

    def record(self, row: Mapping[str, Any], epochs: Sequence[Mapping[str, float]], *, whole: bool = True) -> Record:
        """All that the store holds of a run, for who checks it.

        Args:
            row: of `runs`.
            epochs: of `epochs`, this run's, in order.
            whole: whether to read every artifact and the model; without, only the texts that hashes depend on.

        Raises:
            StoreError: the store does not answer.
        """
        with _store_errors(self.address), tempfile.TemporaryDirectory() as folder:
            artifacts = dict(self._artifacts(row["artifact_uri"], None if whole else LIGHT, folder))
            if whole:
                outputs = self.client.get_run(row["run_id"]).outputs
                for output in outputs.model_outputs if outputs else ():
                    place = self.client.get_logged_model(output.model_id).artifact_location
                    for _, content in self._artifacts(place, (NATIVE,), folder):
                        artifacts[MODEL] = content
        return Record(row, epochs, artifacts, whole)

    def records(
        self,
        rows: Sequence[Mapping[str, Any]],
        epochs: Mapping[str, Sequence[Mapping[str, float]]],
        *,
        whole: bool = True,
    ) -> Iterator[Record]:
        """What `record` gives of many runs, in their order; from a server several are read at a time.

        Args:
            rows: of `runs`.
            epochs: of `epochs`, in order, by run id; a run without any may be missing.
            whole: see `record`.

        Raises:
            StoreError: the store does not answer.
        """

        def read(row: Mapping[str, Any]) -> Record:
            return self.record(row, epochs.get(str(row["run_id"]), ()), whole=whole)

        with ThreadPoolExecutor(READERS if self.address.uri.startswith("http") else 1) as pool:
            for start in range(0, len(rows), TOGETHER):
                yield from pool.map(read, rows[start : start + TOGETHER])

    def _artifacts(self, uri: str, names: Sequence[str] | None, folder: str) -> Iterator[tuple[str, bytes]]:
        """The named artifacts of a place that are there, or all of it but the image grid's."""
        from mlflow.exceptions import MlflowException
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
        from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

        place = get_artifact_repository(uri, tracking_uri=self.address.uri)
        local = isinstance(place, LocalArtifactRepository)
        for name in _listed(place) if names is None else _among(place.list_artifacts, names):
            try:
                path = Path(str(place.download_artifacts(name, None if local else folder)))  # type: ignore[no-untyped-call]
                yield name, path.read_bytes()
            except (OSError, MlflowException) as error:
                # A server that does not answer must not look like a record that lacks something.
                if not isinstance(error, FileNotFoundError) and getattr(error, "error_code", "") not in ABSENT:
                    raise

    def artifact(self, run_id: str, name: str) -> Path | None:
        """A local copy of a run's artifact, or None where the run has none of this name."""
        with _store_errors(self.address):
            if not _among(partial(self.client.list_artifacts, run_id), [name]):
                return None
            return Path(self.client.download_artifacts(run_id, name))

    def _search(self, studies: Sequence[str] | None, wanted: str = "tags.study != ''") -> Iterator[Run]:
        experiments = self._patiently(self.client.search_experiments)
        ids = [one.experiment_id for one in experiments if studies is None or one.name in studies]
        token: str | None = None
        while ids:
            ask = partial(self.client.search_runs, ids, wanted, max_results=1000, page_token=token)
            page = self._patiently(partial(ask, order_by=["attributes.start_time"]))
            yield from page
            token = page.token
            if not token:
                return

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """What a query answers, once nobody holds the database for themselves; MLflow's patience ends after 20 s."""
        until, told = time.monotonic() + PATIENCE, False
        while True:
            try:
                return ask()
            except Exception as error:
                if LOCKED not in _reason(error) or time.monotonic() > until:
                    raise
            if not told:
                tell_waiting(self.address)
                told = True
            time.sleep(1)

    def _histories(self, run_ids: Sequence[str], name: str) -> Iterator[tuple[str, int, float]]:
        """Every value of a metric, with its run and step: one query for 100 runs."""
        for start in range(0, len(run_ids), MANY):
            some = list(run_ids[start : start + MANY])
            if self.address.uri.startswith("http"):
                yield from self._served_histories(some, name)
            else:
                found = self.client._tracking_client.store.get_metric_history_bulk(some, name, 1_000_000)
                yield from ((one.run_id, one.step, one.value) for one in found)

    def _served_histories(self, run_ids: Sequence[str], name: str) -> Iterator[tuple[str, int, float]]:
        """As `_histories`, through a server and of at most so many runs as it takes at once."""
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request_safe

        who, asked = get_default_host_creds(self.address.uri), {"run_id": run_ids, "metric_key": name}  # type: ignore[no-untyped-call]
        found = http_request_safe(who, HISTORIES, "GET", params=asked).json()["metrics"]  # type: ignore[no-untyped-call]
        if len(found) < MOST:
            yield from ((one["run_id"], int(one["step"]), float(one["value"])) for one in found)
            return
        for run_id in run_ids:  # it gave no more than so many of them
            yield from ((run_id, one.step, one.value) for one in self.client.get_metric_history(run_id, name))


def _among(listing: Callable[[str | None], Any], names: Sequence[str]) -> list[str]:
    """Those of some artifacts that are there: a server tells of one that it lacks like of its own failure.

    Args:
        listing: what is in a folder; None is the uppermost.
        names: of the artifacts.
    """
    folders = {name.rpartition("/")[0] or None for name in names}
    there = {item.path for folder in folders for item in listing(folder)}
    return [name for name in names if name in there]


def _listed(place: Any, folder: str | None = None) -> Iterator[str]:
    """The paths of all artifacts of a place but the image grid's.

    Raises:
        StoreError: a path that leads out of it; a server can send any.
    """
    for item in place.list_artifacts(folder):
        inside = PurePosixPath(item.path).parts[:-1] == PurePosixPath(folder or "").parts
        if not inside or ".." in item.path.split("/") or not item.path.isprintable() or "\\" in item.path:
            raise StoreError(f"the store lists an artifact by the path {item.path[:80]!r}, which is none of its folder")
        if item.is_dir and f"{item.path}/" != GRID:
            yield from _listed(place, item.path)
        elif not item.is_dir:
            yield item.path


def _row(run: Run) -> dict[str, Any]:
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
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def is_lost(row: Mapping[str, Any], now: float) -> bool:
    """Whether a run is said to be running but has given no sign of life for two minutes.

    Args:
        row: of `Store.runs`.
        now: seconds since 1970.
    """
    return bool(row["status"] == "RUNNING" and now - _last_sign(row) > LOST_AFTER)


def _last_sign(row: Mapping[str, Any]) -> float:
    """When a run last gave a sign of life, in seconds since 1970."""
    try:
        return float(calendar.timegm(time.strptime(str(row.get("heartbeat")), TIME)))
    except ValueError:
        return float(row["start_time"]) / 1000


def _set_up_mlflow() -> None:
    """What must be set before MLflow is imported."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    # It would print a server's address as given, password and all, among what a program may read.
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    # MLflow's own seven retries take four minutes; what was not taken is sent again from the folder instead.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")


def _client(address: Address) -> MlflowClient:
    _set_up_mlflow()
    if not address.uri.startswith("sqlite:"):
        with _store_errors(address):
            return _connected(address)
    path = _sqlite_path(address.uri)
    with _store_errors(address), _alone(path):
        _await_database(path)
        return _connected(address)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time: MLflow takes no lock when it creates a database, and two first starts would collide."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=QUEUE)
    except Timeout:
        raise StoreError(
            f"another program has held {path}.lock for {QUEUE:.0f} seconds; end that program, or name another store "
            "with --tracking-uri"
        ) from None
    try:
        yield
    finally:
        lock.release()


def tell_waiting(address: Address) -> None:
    """Tell the user why nothing happens."""
    name = address.name.removeprefix("sqlite:///")
    print(f"waiting for the store {name}: another program holds it", file=sys.stderr, flush=True)


def _await_database(path: Path) -> None:
    """Wait until nobody holds a database for themselves; MLflow's own patience ends after 5 seconds.

    Raises:
        StoreError: it was held for a minute.
    """
    until, told = time.monotonic() + PATIENCE, False
    while path.exists():
        with closing(sqlite3.connect(path, timeout=1)) as connection:
            try:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                return
            except sqlite3.Error as error:
                if "locked" not in str(error):
                    return  # MLflow tells what is wrong with it
        if time.monotonic() > until:
            raise StoreError(
                f"another program has held the store {path} for {PATIENCE:.0f} seconds; end that program, or name "
                "another store with --tracking-uri"
            )
        if not told:
            print(f"waiting for the store {path}: another program holds it", file=sys.stderr, flush=True)
            told = True


def _connected(address: Address) -> MlflowClient:
    import logging

    # Alembic tells each step of a first creation; an error of the database is raised besides being told at length.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    from mlflow import MlflowClient

    if address.uri.startswith("http"):
        _check_version(address)
    client = MlflowClient(tracking_uri=address.uri, registry_uri=address.uri)
    client.search_experiments(max_results=1)
    return client


def _check_sqlite(path: Path, create: bool) -> None:
    if path.exists():
        try:
            with path.open("rb") as file:
                start = file.read(16)
        except OSError as error:
            raise StoreError(f"the store {path} cannot be read: {error.strerror}") from None
        if start not in (b"", b"SQLite format 3\0"):
            raise StoreError(f"the store {path} is no SQLite database; name another file, or move this one away")
    elif not create:
        raise StoreError(
            f"there is no store at {path} yet; record a run first (make studies), or import the published runs "
            "(make ui)"
        )
    _check_writable(path.parent)


def _check_writable(folder: Path, room: int = 0) -> None:
    """Raises a StoreError where a folder cannot take a file of so many bytes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(room))
            file.flush()
    except OSError as error:
        remedy = "make room there" if error.errno in FULL else "make it writable"
        raise StoreError(
            f"{folder} cannot be written ({error.strerror}); {remedy} or name another store with --tracking-uri"
        ) from None


def _check_server(address: Address) -> None:
    """Raises a StoreError where no server answers; one that asks for another user does."""
    _set_up_mlflow()
    from mlflow.exceptions import MlflowException

    try:
        answer = _answer(address, "/health")
    except MlflowException as error:
        reason = _without_password(_reason(error), address)
        raise StoreError(
            f"the tracking server {address.name} does not answer ({reason}); start it, or name another store with "
            "--tracking-uri"
        ) from None
    if answer.status_code not in (200, 401, 403):
        raise StoreError(f"{address.name} is no MLflow tracking server (it answers {answer.status_code})")


def _answer(address: Address, path: str) -> Any:
    """A server's answer, asked for as MLflow's client does all: with its variables for certificates and users."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    who = get_default_host_creds(address.uri)  # type: ignore[no-untyped-call]
    how: dict[str, Any] = {"max_retries": 0, "raise_on_status": False, "timeout": SERVER_TIMEOUT}
    return http_request(who, path, "GET", **how)  # type: ignore[no-untyped-call]


def _check_version(address: Address) -> None:
    """Raises a StoreError where a server does not let this user in, or has another major version of MLflow."""
    from mlflow.version import VERSION

    answer = _answer(address, "/version")
    if answer.status_code == 401:
        raise StoreError(_unknown_user(address))
    theirs = re.match(r"\s*(\d+)\.[\w.]+", answer.text)
    if answer.status_code != 200 or not theirs:
        raise StoreError(f"{address.name} is no MLflow tracking server (it answers {answer.status_code})")
    if theirs[1] != VERSION.split(".")[0]:
        raise StoreError(
            f"the tracking server {address.name} runs MLflow {theirs[0].strip()}, and here is {VERSION}: the major "
            "version decides how a store is laid out; upgrade the older one"
        )


def _unknown_user(address: Address) -> str:
    return (
        f"the tracking server {address.name} asks for a user that it knows, with the right password: set "
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    )


class _store_errors:
    """Turns MLflow's and the database's errors into a StoreError of one line."""

    def __init__(self, address: Address) -> None:
        self.address = address

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None or isinstance(error, StoreError) or not isinstance(error, Exception):
            return
        reason = _without_password(_reason(error), self.address)
        status = getattr(error, "get_http_status_code", int)()
        if status == 401:
            raise StoreError(_unknown_user(self.address)) from error
        if status == 403 and FOREIGN_HOST in reason:
            host = urlsplit(self.address.name).netloc
            raise StoreError(
                f"the tracking server {self.address.name} does not go by the name {host}: use a name of its "
                "--allowed-hosts, or have this one added there"
            ) from error
        if status == 403:
            raise StoreError(
                f"the tracking server {self.address.name} does not allow this user that; its administrator can, with "
                f"EDIT for the study's experiment ({reason})"
            ) from error
        told = StoreBusy if LOCKED in reason else StoreError
        raise told(f"the tracking store {self.address.name} did not answer as it should: {reason}") from error


def _without_password(text: str, address: Address) -> str:
    secrets = (urlsplit(address.uri).password, os.environ.get("MLFLOW_TRACKING_PASSWORD"))
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text


def _reason(error: BaseException) -> str:
    """What an error comes down to, in one line: the system's own words, or else what it was raised from."""
    seen: BaseException | None = error
    system = None
    while seen is not None:
        system = seen if isinstance(seen, OSError) and seen.strerror else system
        seen = seen.__cause__ or seen.__context__
    if system is not None:
        place = system.filename2 or system.filename
        return f"{system.strerror}: {place}" if place else str(system.strerror)
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def _metric(name: str, value: float, timestamp: int, step: int, **of_model: str) -> Metric:
    from mlflow.entities import Metric

    return Metric(name, value, timestamp, step, **of_model)


def _description(record: RunRecord, last: EpochLine | None) -> str:
    result = (
        "still running"
        if last is None
        else (
            f"after {last.epoch} epochs: test accuracy {last.metrics['test_accuracy']:.4f}, "
            f"test loss {last.metrics['test_loss']:.4f}"
        )
    )
    lines = (
        record.question,
        f"Arm **{_plain(record.arm)}**, seed {record.seed}: {result}.",
        f"Again: {_code(record.command)}",
    )
    return "\n\n".join(line for line in lines if line)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]!#~|])", r"\\\1", html.escape(text, quote=False))


def _code(text: str) -> str:
    """A span of code in Markdown, whatever it holds."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence, gap = "`" * (longest + 1), " " * bool(longest)
    return f"{fence}{gap}{text}{gap}{fence}"


def _write_artifacts(
    folder: Path,
    trajectory: Trajectory,
    record: RunRecord,
    lines: Sequence[EpochLine],
    cut: CutFiles,
    summary: str,
    values: Mapping[str, float],
) -> None:
    header = trajectory.header

    def save(name: str, value: Any) -> None:
        (folder / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")

    save("config.json", {**record.config, "seed": record.seed})
    save(
        "environment.json",
        {
            "fingerprint": header.environment,
            "sha256": header.identity.environment_sha256,
            "checkout": {
                "commit": record.tags.get("git_commit"),
                "dirty": record.tags.get("git_dirty") == "true",
                "remote": record.remote,
            },
        },
    )
    save(
        "trajectory.json",
        {
            "trajectory_sha256": header.trajectory_sha256,
            "settings": header.settings,
            "seed": record.seed,
            "data_sha256": header.identity.data_sha256,
            "code_sha256": header.identity.code_sha256,
            "environment_sha256": header.identity.environment_sha256,
            "images": header.images,
            "data_files": header.data_files,
            "code_files": header.code_files,
            "run": values,
            "epochs": [
                {
                    "epoch": line.epoch,
                    **line.metrics,
                    "weights_sha256": line.weights_sha256,
                    "ended_at": line.ended_at,
                }
                for line in lines
            ],
        },
    )
    table = json.loads(cut.files["per_class.json"].read_bytes())
    rows = [list(row) for row in zip(*table.values(), strict=True)]
    save("per_class.json", {"columns": list(table), "data": rows})  # as MLflow's own log_table writes it
    (folder / "requirements.txt").write_text("\n".join(record.packages) + "\n", encoding="utf-8")
    (folder / "model_summary.txt").write_text(summary, encoding="utf-8")
    if record.code_diff:
        (folder / "code.diff").write_text(record.code_diff, encoding="utf-8")
    if record.traceback:  # it failed, and went on
        (folder / TRACEBACK).write_text(record.traceback, encoding="utf-8")
    if "activations.npz" in cut.files:
        shutil.copyfile(cut.files["activations.npz"], folder / "activations.npz")
    (folder / "figures").mkdir()
    for name in (*FIGURES, f"learning_curves.{record.stop_reason}.png"):
        if name in cut.files:
            shutil.copyfile(cut.files[name], folder / "figures" / name.replace(f".{record.stop_reason}", ""))


def _write_hashes(folder: Path, native: Path) -> str:
    """List the SHA-256 of every artifact in a folder and of the native model; returns that of the list."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in (*files.items(), (MODEL, native))}
    content = (json.dumps(digests, indent=1) + "\n").encode()
    (folder / HASHES).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _write_model(folder: Path, run_id: str, model_id: str, native: Path) -> None:
    """The folder that `mlflow.keras.save_model` would write, made without importing Keras."""
    from importlib.metadata import version

    import numpy as np
    from mlflow import pyfunc
    from mlflow.models import Model
    from mlflow.models.signature import ModelSignature
    from mlflow.types import Schema, TensorSpec

    (folder / "data").mkdir()
    (folder / "data" / "model.keras").write_bytes(native.read_bytes())
    (folder / "data" / "keras_module.txt").write_text("keras", encoding="utf-8")
    float32 = np.dtype(np.float32)
    signature = ModelSignature(
        inputs=Schema([TensorSpec(float32, (-1, 28, 28, 1))]), outputs=Schema([TensorSpec(float32, (-1, 10))])
    )
    model = Model(run_id=run_id, model_uuid=model_id, model_id=model_id, signature=signature)
    model.add_flavor(
        "keras",
        data="data",
        keras_version=version("keras"),
        keras_backend="tensorflow",
        save_exported_model=False,
    )
    pyfunc.add_to_model(model, loader_module="mlflow.keras", python_env="python_env.yaml")
    model.save(str(folder / "MLmodel"))
    needed = [f"{name}=={version(name)}" for name in ("mlflow", "keras", "tensorflow", "numpy")]
    (folder / "requirements.txt").write_text("\n".join(needed) + "\n", encoding="utf-8")
    python = f"python: {platform.python_version()}\nbuild_dependencies: []\ndependencies:\n- -r requirements.txt\n"
    (folder / "python_env.yaml").write_text(python, encoding="utf-8")


def config_of(row: Mapping[str, Any]) -> RunConfig:
    """The config of a row of `Store.runs`, from its params."""
    from fashion_cnn.config import parse

    return RunConfig.from_mapping({name: parse(name, str(row[name])) for name in FIELDS})


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"


def _now() -> int:
    return time.time_ns() // 1_000_000


def _now_text() -> str:
    return time.strftime(TIME, time.gmtime())
