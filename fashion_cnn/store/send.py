"""Sending: bring the tracking store up to date with a trajectory's folder, whatever it has already.

A list of steps, taken in order. Each knows from what the store has taken (`Sent`) whether it is due, notes beside the
run what it took, and is harmless when repeated: a send that was cut off at any point is simply done again.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from fashion_cnn.events import Started, is_drawn
from fashion_cnn.evidence import record
from fashion_cnn.evidence.predictions import PREDICTIONS
from fashion_cnn.evidence.record import HASHES, MODEL, PER_CLASS, TRACEBACK
from fashion_cnn.store import grid, metrics
from fashion_cnn.store.address import StoreError
from fashion_cnn.store.artifacts import DATASET, digest_of, location, log_data_set, log_model, upload
from fashion_cnn.store.connection import Connection, metric
from fashion_cnn.store.description import NOTE, RUNNING, described, outcome
from fashion_cnn.store.entries import RunEntry, Sent
from fashion_cnn.store.epochs import EpochLine
from fashion_cnn.store.experiments import NoExperiment
from fashion_cnn.store.heading import figure_heading, headed
from fashion_cnn.store.trajectories import CutFiles, Trajectory
from fashion_cnn.terminal import complain

FIGURES = ("feature_maps.png", "all_channels.png", "confusion_matrix.png", "mistakes.png")
LONGEST = 5000  # characters of an error: MLflow's limit for a tag


@dataclass
class Sending:
    """One run on its way into the store."""

    connection: Connection
    trajectory: Trajectory
    run: RunEntry
    lines: Sequence[EpochLine]
    """The trajectory's epochs so far."""
    sent: Sent
    """What the store has of the run."""

    @property
    def run_id(self) -> str:
        """MLflow's id of the run, once it was created."""
        assert self.sent.run_id is not None
        return self.sent.run_id

    def note(self, **values: Any) -> None:
        """Keep beside the run what the store has taken now: fields of `Sent`."""
        self.sent = replace(self.sent, **values)
        self.trajectory.save_sent(self.run, self.sent)

    def ending(self) -> tuple[CutFiles, Started, Sequence[EpochLine]]:
        """Of a finished run: what its cut left behind, what its worker said at the start, its epochs."""
        assert self.run.cut is not None
        cut, started = self.trajectory.cut(self.run.cut), self.trajectory.started()
        if cut is None or started is None:
            raise StoreError(f"{self.trajectory.folder.name} lacks what its cut at epoch {self.run.cut} left behind")
        return cut, started, self.lines[: self.run.cut]


def send(connection: Connection, trajectory: Trajectory) -> None:
    """Bring the store up to date with a trajectory's folder; see `Store.send`."""
    lines: list[EpochLine] | None = None
    refused: NoExperiment | None = None
    for run in trajectory.runs(connection.address.name):
        sent = trajectory.sent(run)
        if sent.is_all_of(run):
            continue
        lines = trajectory.epochs() if lines is None else lines
        sending = Sending(connection, trajectory, run, lines, sent)
        with connection.errors():
            try:
                _take_or_make_anew(sending)
            except NoExperiment as error:  # the trajectory's other runs may be of other studies
                refused = refused or error
    if refused:
        raise refused


def _take_or_make_anew(sending: Sending) -> None:
    connection, run, run_id = sending.connection, sending.run, sending.sent.run_id
    try:
        _take(sending)
    except Exception:
        if run_id is None or connection.active(run_id) is not None:
            raise
        complain(f"{run.study}: {run.arm} · seed {run.seed}: its run is gone from the store; it is made anew")
        connection.forget(run.study)  # its experiment may be gone as well
        sending.note(**vars(Sent()))
        _take(sending)


def _take(sending: Sending) -> None:
    for step in STEPS:
        if step.due(sending):
            step.take(sending)


def _create(sending: Sending) -> None:
    """Create the run, or find the one that an earlier, cut off send created."""
    connection, run, header = sending.connection, sending.run, sending.trajectory.header
    experiment = connection.experiment(run.study, run.question)
    found = list(connection.client.search_runs([experiment], f"tags.record = '{run.record}'", max_results=1))
    created = found or [
        connection.client.create_run(experiment, run.start_time, _first_tags(sending), run_name=_name(run))
    ]
    run_id = str(created[0].info.run_id)
    connection.locations[run_id] = str(created[0].info.artifact_uri)
    connection.log(run_id, params={**run.run_config().params(), "seed": str(run.seed)})
    log_data_set(connection, run_id, header.identity.data_sha256, header.images)
    sending.note(run_id=run_id, tags=None if found else dict(run.tags))


def _name(run: RunEntry) -> str:
    """What MLflow calls a run: a trial must not look like a run that counts."""
    return f"{run.arm} · seed {run.seed}{' · smoke' if run.smoke else ''}"


def _first_tags(sending: Sending) -> dict[str, str]:
    run, header = sending.run, sending.trajectory.header
    tags = {
        "study": run.study,
        "arm": run.arm,
        "seed": str(run.seed),
        "smoke": str(run.smoke).lower(),
        "reuse": "on" if run.reuse else "off",
        "record": run.record,
        "config_sha256": run.run_config().sha256(),
        "trajectory_sha256": header.trajectory_sha256,
        **asdict(header.identity),
        **_arithmetic(header.environment),
        **sending.connection.heartbeat(),
        **grid.SHOWN,
        NOTE: _description(run, None),
        "mlflow.source.name": run.command,
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
        **run.tags,
    }
    if run.tags.get("git_commit", "unknown") != "unknown":
        tags["mlflow.source.git.commit"] = run.tags["git_commit"]
    return tags


def _arithmetic(environment: Mapping[str, Any]) -> dict[str, str]:
    """The tag; there is none where a trajectory was begun before there were two."""
    return {"arithmetic": environment["arithmetic"]} if "arithmetic" in environment else {}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"


def _resume(sending: Sending) -> None:
    """A run that was killed or failed, and resumed."""
    connection, run_id = sending.connection, sending.run_id
    connection.client.update_run(run_id, status="RUNNING")
    _drop(sending, connection.client.get_run(run_id).data.tags, ("stop_reason", "error"))
    connection.log(run_id, tags=connection.heartbeat())
    sending.note(done=None)


def _drop(sending: Sending, there: Mapping[str, str], names: Sequence[str]) -> None:
    """Take away tags that no longer hold, where they are there: MLflow shows an empty one as a bare label."""
    for name in names:
        if name in there:
            sending.connection.client.delete_tag(sending.run_id, name)


def _send_tags(sending: Sending) -> None:
    sending.connection.log(sending.run_id, tags=sending.run.tags)
    sending.note(tags=dict(sending.run.tags))


def _has_new_worker(sending: Sending) -> bool:
    """Another one where the first was lost."""
    started = sending.trajectory.started()
    return started is not None and sending.sent.node != started.node


def _send_worker(sending: Sending) -> None:
    started = sending.trajectory.started()
    assert started is not None
    params, tags = {"parameters": str(started.parameters)}, {"node": started.node}
    sending.connection.log(sending.run_id, params=params, tags=tags)
    sending.note(node=started.node)


def _new_lines(sending: Sending) -> Sequence[EpochLine]:
    """The trajectory may be longer than the run, also while the run waits for its cut to be evaluated."""
    cut = sending.run.run_config().cut([line.metrics["loss"] for line in sending.lines])
    return sending.lines[sending.sent.epochs : cut.epoch if cut else None]


def _send_epochs(sending: Sending) -> None:
    lines = _new_lines(sending)
    measured = [value for line in lines for value in metrics.of_epoch(line.metrics, line.ended_at, line.epoch)]
    alive = sending.connection.heartbeat() if sending.run.status == "running" else {}
    sending.connection.log(sending.run_id, metrics=measured, tags=alive)
    sending.note(epochs=lines[-1].epoch)


def _new_sheets(sending: Sending) -> dict[int, list[Path]]:
    run, sent = sending.run, sending.sent
    last = run.cut or sent.epochs
    return {
        epoch: paths
        for epoch, paths in sending.trajectory.sheets().items()
        if epoch not in sent.sheets and epoch <= last and (is_drawn(epoch) or epoch == run.cut)
    }


def _send_sheets(sending: Sending) -> None:
    run, sheets = sending.run, _new_sheets(sending)
    pictures = [
        grid.Picture(
            f"{grid.MAPS}/{path.stem}",
            epoch,
            sending.lines[epoch - 1].ended_at if epoch else run.start_time,
            path.read_bytes(),
        )
        for epoch, paths in sheets.items()
        for path in paths
    ]
    upload(sending.connection, location(sending.connection, sending.run_id), grid.files(run.record, pictures))
    sending.note(sheets=(*sending.sent.sheets, *sheets))


def _send_artifacts(sending: Sending) -> None:
    artifacts, (_, _, lines) = _artifacts(sending), sending.ending()
    shown = grid.files(sending.run.record, grid.figures(artifacts, lines[-1].ended_at))
    upload(sending.connection, location(sending.connection, sending.run_id), artifacts | shown)
    digest = hashlib.sha256(artifacts[HASHES]).hexdigest()
    sending.note(artifacts_sha256=digest, values=_measured(sending))


def _artifacts(sending: Sending) -> dict[str, bytes]:
    """All artifacts of a finished run but the image grid's, by path."""
    run, tags, header = sending.run, sending.run.tags, sending.trajectory.header
    cut, started, lines = sending.ending()
    artifacts = record.texts(
        config=run.config,
        settings=header.settings,
        seed=run.seed,
        hashes={"trajectory_sha256": header.trajectory_sha256, **asdict(header.identity)},
        fingerprint=header.environment,
        machine=started.machine,
        checkout={"commit": tags.get("git_commit"), "dirty": tags.get("git_dirty") == "true", "remote": run.remote},
        images=header.images,
        files={"data_files": header.data_files, "code_files": header.code_files},
        measured=_measured(sending),
        epochs=[
            {"epoch": line.epoch, **line.metrics, "weights_sha256": line.weights_sha256, "ended_at": line.ended_at}
            for line in lines
        ],
        packages=run.packages,
    )
    table = json.loads(cut.files[PER_CLASS].read_bytes())
    artifacts |= record.network_texts(table, started.model_summary, run.code_diff, run.traceback)
    curves = f"learning_curves.{run.stop_reason}.png"
    artifacts |= {name: cut.files[name].read_bytes() for name in (PREDICTIONS, "activations.npz") if name in cut.files}
    words = figure_heading(run.study, f"{run.arm} · seed {run.seed}", cut.epoch, sending.run_id, run.smoke)
    paths = {curves: "figures/learning_curves.png"} | {name: f"figures/{name}" for name in FIGURES}
    drawn = {path: cut.files[name] for name, path in paths.items() if name in cut.files}
    with ThreadPoolExecutor() as pool:  # Pillow needs the interpreter for little of it
        artifacts |= zip(drawn, pool.map(lambda file: headed(file.read_bytes(), words), drawn.values()), strict=True)
    artifacts[HASHES] = record.hashes_text({**artifacts, MODEL: cut.files[MODEL].read_bytes()})
    return artifacts


def _measured(sending: Sending) -> Mapping[str, float]:
    """The metrics of a finished run as a whole.

    Kept with the artifacts, which state them first: the next worker of the trajectory starts in another time.
    """
    if sending.sent.values:
        return sending.sent.values
    cut, started, lines = sending.ending()
    seconds = sum(line.metrics["epoch_seconds"] for line in lines)
    loads = [line.other_load * line.metrics["epoch_seconds"] for line in lines if line.other_load is not None]
    return {
        "fit_seconds": seconds,
        "fit_cpu_seconds": sum(line.metrics["epoch_cpu_seconds"] for line in lines),
        "trace_seconds": started.trace_seconds,
        "evaluate_seconds": cut.evaluate_seconds,
        "epochs_trained": float(cut.epoch),
        "reused_epochs": float(sending.run.reused_epochs),
        "peak_memory_mib": cut.peak_memory_mib,
        **({"other_load": sum(loads) / seconds} if len(loads) == len(lines) and seconds else {}),
    }


def _send_model(sending: Sending) -> None:
    cut, _, _ = sending.ending()
    sending.note(model_id=log_model(sending.connection, sending.run_id, sending.run, cut))


def _finish(sending: Sending) -> None:
    run, sent, values = sending.run, sending.sent, _measured(sending)
    cut, _, lines = sending.ending()
    last = lines[-1]
    tags = {
        "weights_sha256": cut.weights_sha256,
        "artifacts_sha256": str(sent.artifacts_sha256),
        "stop_reason": str(run.stop_reason),
        **({"drawing_error": cut.drawing_error[:LONGEST]} if cut.drawing_error else {}),
        "mlflow.loggedArtifacts": json.dumps([{"path": PER_CLASS, "type": "table"}]),
        **grid.SHOWN,
        **sending.connection.heartbeat(),
    }
    there = sending.connection.client.get_run(sending.run_id).data.tags
    _drop(sending, there, [name for name in ("error", "drawing_error") if name not in tags])
    if there.get(NOTE) in (None, _description(run, None)):  # else somebody wrote something there meanwhile
        tags[NOTE] = _description(run, last)
    measured = metrics.of_run(values, last.ended_at)
    # Logged once more with the model's id and the data set's, these stand on the model's own page, too.
    of_model = {
        "model_id": str(sent.model_id),
        "dataset_name": DATASET,
        "dataset_digest": digest_of(sending.trajectory.header.identity.data_sha256),
    }
    for name in ("test_loss", "test_accuracy"):
        measured.append(metric(name, last.metrics[name], last.ended_at, cut.epoch, **of_model))
    sending.connection.log(sending.run_id, metrics=measured, tags=tags)
    spent = round(1000 * (values["fit_seconds"] + values["evaluate_seconds"]))
    _terminate(sending, run.start_time + spent)


def _abort(sending: Sending) -> None:
    """A run that failed or was killed."""
    run = sending.run
    tags = {"stop_reason": run.stop_reason or "error", **({"error": run.error[:LONGEST]} if run.error else {})}
    sending.connection.log(sending.run_id, tags=tags)
    if run.traceback:
        sending.connection.client.log_text(sending.run_id, run.traceback, TRACEBACK)
    # Nobody knows when a lost run ended: its last epoch is the last sign of life.
    seen = sending.lines[-1].ended_at if sending.lines else run.start_time
    ended = seen if run.stop_reason == "lost" else time.time_ns() // 1_000_000
    # A clock that was set back must not make it end before it began.
    _terminate(sending, max(ended, run.start_time))


def _terminate(sending: Sending, end_time: int) -> None:
    status = sending.run.status
    sending.connection.client.set_terminated(sending.run_id, status.upper(), end_time=end_time)
    sending.note(done=status, resumed=sending.run.resumed or None)


def _description(run: RunEntry, last: EpochLine | None) -> str:
    """Of a run, by its last epoch where it has ended."""
    result = RUNNING if last is None else outcome(last.epoch, last.metrics)
    return described(run.question, run.arm, run.seed, result, run.command)


class Step(NamedTuple):
    """A part of a run: whether it is due, as the store lacks it and the folder has it; and what sends and notes it."""

    name: str
    due: Callable[[Sending], object]
    take: Callable[[Sending], None]


def _is_finished(sending: Sending) -> bool:
    return sending.run.status == "finished"


STEPS: Final = (
    Step("run", lambda sending: sending.sent.run_id is None, _create),
    Step("resumption", lambda sending: sending.sent.done, _resume),
    Step("tags", lambda sending: sending.sent.tags != sending.run.tags, _send_tags),
    Step("worker", _has_new_worker, _send_worker),
    Step("epochs", _new_lines, _send_epochs),
    Step("feature maps", _new_sheets, _send_sheets),
    Step("artifacts", lambda sending: _is_finished(sending) and not sending.sent.artifacts_sha256, _send_artifacts),
    Step("model", lambda sending: _is_finished(sending) and sending.sent.model_id is None, _send_model),
    Step("result", _is_finished, _finish),
    Step("failure", lambda sending: sending.run.status in ("failed", "killed"), _abort),
)
