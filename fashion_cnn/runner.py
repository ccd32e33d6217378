"""Plan -> executor -> recorder: have runs trained and recorded, several at a time, and say what came of it."""

from __future__ import annotations

import os
import signal
import statistics
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from types import FrameType
from typing import Any

from fashion_cnn.config import RunConfig
from fashion_cnn.console import duration
from fashion_cnn.data import Dataset, find, load_dataset
from fashion_cnn.environment import (
    REPOSITORY,
    Checkout,
    checkout,
    code_sha256,
    fingerprint,
    fingerprint_sha256,
    packages,
)
from fashion_cnn.events import EpochDone, Identity, Job, State
from fashion_cnn.executor import Ended, LocalExecutor, Worker
from fashion_cnn.progress import TrainingProgress
from fashion_cnn.recorder import Recorder
from fashion_cnn.study import (
    SMOKE_IMAGES,
    Plan,
    PlannedTrajectory,
    Run,
    Study,
    epoch_work,
    plan,
    rerun_command,
    select_runs,
)
from fashion_cnn.tracking import Address, Store, resolve
from fashion_cnn.trajectories import (
    RunRecord,
    Trajectory,
    TrajectoryError,
    folder_name,
    header_of,
    trajectories,
)

POLL = 0.5  # seconds
# Where nothing was measured yet: seconds per unit of `epoch_work`, of a 2.6 GHz AVX-512 server core.
SECONDS_PER_WORK = 0.07
BYTES_PER_RUN = 3_000_000  # artifacts and model, about; the state beside them is of the same size


class RunnerError(ValueError):
    """Runs cannot be made as asked: one line that says why."""


class Stopped(Exception):
    """A signal asks to stop."""

    def __init__(self, number: int) -> None:
        """Stopped by this signal."""
        super().__init__(signal.Signals(number).name)
        self.number = number


@dataclass(frozen=True)
class Options:
    """How runs are made; nothing here changes what comes out."""

    workers: int | None = None
    """Trajectories at a time; None is as many as the cores carry."""
    smoke: bool = False
    reuse: bool = True
    data_dir: str | None = None
    tracking_uri: str | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Outcome:
    """What came of a call."""

    runs: tuple[RunRecord, ...]
    """As they ended."""
    recorded: tuple[Run, ...]
    """Skipped, because they were recorded already."""
    seconds: float
    """Wall time of it all."""
    trouble: str | None
    """Why the store lacks something, or None."""
    unsent: int
    """Runs of which the store lacks something."""


@dataclass(eq=False)
class _Active:
    """A trajectory that this process holds."""

    planned: PlannedTrajectory
    trajectory: Trajectory
    records: list[RunRecord] = field(default_factory=list)


def default_workers(threads: int, device: str = "cpu") -> int:
    """How many runs of so many threads this machine's cores carry; a GPU carries one."""
    return 1 if device == "gpu" else max(1, len(os.sched_getaffinity(0)) // threads)


class Session:
    """One call of `run`: the data, environment and store that all its runs share."""

    def __init__(self, options: Options) -> None:
        """Look at data, code, environment and store; nothing is written but an empty store.

        Raises:
            DataError, StoreError, RunnerError, EnvironmentFault: these cannot be used.
        """
        if options.workers is not None and options.workers < 1:
            raise RunnerError(f"workers is {options.workers}; allowed: a whole number of at least 1")
        if options.device == "gpu" and (options.workers or 1) != 1:
            raise RunnerError(f"workers is {options.workers}; with --device gpu only 1 is allowed")
        self.options = options
        self.data: Dataset = load_dataset(options.data_dir)
        folder = find(options.data_dir)
        assert folder is not None
        self.data_dir = folder
        self.images: tuple[int, int] | None = None
        if options.smoke:
            train, test = len(self.data.train_labels), len(self.data.test_labels)
            self.images = (min(SMOKE_IMAGES[0], train), min(SMOKE_IMAGES[1], test))
            self.data = self.data.first(*self.images)
        self.smoke = options.smoke or self.data.made_up
        self.code_sha256 = code_sha256()
        self.address: Address = resolve(options.tracking_uri, REPOSITORY)
        self.store = Store(self.address)
        self._environments: dict[int, dict[str, Any]] = {}

    def environment(self, threads: int) -> dict[str, Any]:
        """The fingerprint of a worker of so many threads."""
        if threads not in self._environments:
            self._environments[threads] = fingerprint(threads, self.options.device)
        return self._environments[threads]

    def identity(self, config: RunConfig) -> Identity:
        """The hashes that a config's trajectory would be trained under now."""
        environment = fingerprint_sha256(self.environment(config.threads))
        return Identity(self.data.sha256, self.code_sha256, environment)

    def plan(self, studies: Sequence[Study], arms: Sequence[str], seeds: Sequence[int]) -> Plan:
        """What these studies still need.

        Raises:
            StudyError: an unknown arm.
            RunnerError: more threads than the machine has.
        """
        runs = select_runs(studies, arms=arms, seeds=seeds, smoke=self.options.smoke)
        cores = len(os.sched_getaffinity(0))
        for run in runs:
            if run.config.threads > cores:
                raise RunnerError(
                    f"threads is {run.config.threads}, but this machine has {cores}; allowed: 1 to {cores}"
                )
        return plan(runs, self._recorded(runs), reuse=self.options.reuse)

    def _recorded(self, runs: Sequence[Run]) -> set[tuple[str, str, int, str]]:
        """The keys of runs that are recorded, in the store or only in a folder, under the present hashes."""
        frame = self.store.runs(sorted({run.study.name for run in runs}))
        done = frame[(frame["status"] == "FINISHED") & (frame["published"].isna())]
        known = set(
            zip(
                *(done[name] for name in ("study", "arm", "seed", "config_sha256", "smoke")),
                *(done[name] for name in ("data_sha256", "code_sha256", "environment_sha256")),
                strict=True,
            )
        )
        for trajectory in trajectories(self.address.trajectories):
            identity = trajectory.header.identity
            for record in self.store.unsent(trajectory):
                if record.status == "finished":
                    key = (record.study, record.arm, str(record.seed), record.run_config().sha256())
                    known.add((*key, str(record.smoke).lower(), *asdict(identity).values()))
        found = set()
        for run in runs:
            study, arm, seed, config = run.key()
            hashes = asdict(self.identity(run.config)).values()
            if (study, arm, str(seed), config, str(self.smoke).lower(), *hashes) in known:
                found.add(run.key())
        return found

    def seconds_per_work(self) -> tuple[float, bool]:
        """Seconds for a unit of `epoch_work`, and whether they were measured on this machine."""
        measured = []
        for trajectory in trajectories(self.address.trajectories):
            header = trajectory.header
            if header.images is None and header.environment == self.environment(header.settings["threads"]):
                work = epoch_work(RunConfig(**header.settings))
                measured += [line.metrics["epoch_seconds"] / work for line in trajectory.epochs()]
        return (statistics.median(measured), True) if measured else (SECONDS_PER_WORK, False)

    def run(self, todo: Plan) -> Outcome:
        """Train and record what a plan says.

        Raises:
            Stopped: by a signal; the runs under way are marked killed, and their state is kept.
        """
        started = time.monotonic()
        workers = self.workers(todo)
        recorder = Recorder(self.store)
        with (
            recorder,
            TrainingProgress(sum(one.epochs for one in todo.trajectories), len(todo.trajectories)) as bars,
        ):
            records = _Execution(self, recorder, bars, workers, checkout(), packages()).run(todo)
        ours = {record.record for record in records}
        lacking = [
            run
            for one in trajectories(self.address.trajectories)
            for run in self.store.unsent(one)
            if run.record in ours
        ]
        seconds = time.monotonic() - started
        return Outcome(tuple(records), todo.recorded, seconds, recorder.trouble, len(lacking))

    def workers(self, todo: Plan) -> int:
        """How many trajectories are trained at a time."""
        threads = max((run.config.threads for run in todo.runs), default=1)
        return self.options.workers or default_workers(threads, self.options.device)

    def rows(self, outcome: Outcome) -> list[dict[str, Any]]:
        """The closing table: each run that was made, and those skipped, by study and arm, from their folders."""
        kept = {
            record.record: (record, one)
            for one in trajectories(self.address.trajectories)
            for record in one.runs(self.address.name)
        }
        rows = []
        for record in outcome.runs:
            lines = kept[record.record][1].epochs()[: record.cut]
            last = lines[-1].metrics if lines else {}
            rows.append(
                {
                    "study": record.study,
                    "arm": record.arm,
                    "seed": record.seed,
                    "status": record.status,
                    "epochs": len(lines),
                    **{name: last.get(name) for name in ("loss", "accuracy", "test_loss", "test_accuracy")},
                    "seconds": sum(line.metrics["epoch_seconds"] for line in lines),
                }
            )
        order = {name: index for index, name in enumerate(dict.fromkeys(record.study for record in outcome.runs))}
        return sorted(rows, key=lambda row: order[row["study"]])

    def notes(self, outcome: Outcome, studies: Sequence[str]) -> list[str]:
        """The lines below the closing table."""
        spent = sum(row["seconds"] for row in self.rows(outcome))
        notes = [
            f"{len(outcome.runs)} runs made in {duration(outcome.seconds)}; trained one after another, each from "
            f"the start, they would have taken {duration(spent)}."
        ]
        if outcome.recorded:
            notes.append(f"{len(outcome.recorded)} runs were recorded already (fashion-cnn list shows them).")
        if outcome.unsent:
            notes.append(
                f"{outcome.unsent} runs are not in the store yet ({outcome.trouble}): fashion-cnn sync sends them."
            )
        return [*notes, f"Compare them: fashion-cnn ui {studies[0] if len(studies) == 1 else ''}".rstrip()]


class _Execution:
    """The loop that keeps workers busy and passes what they say to the recorder."""

    def __init__(
        self,
        session: Session,
        recorder: Recorder,
        bars: TrainingProgress,
        workers: int,
        code: Checkout,
        installed: Sequence[str],
    ) -> None:
        self._session, self._recorder, self._bars = session, recorder, bars
        self._workers, self._code, self._packages = workers, code, tuple(installed)
        self._executor = LocalExecutor(session.options.device)
        self._active: dict[Worker, _Active] = {}
        self._ended: dict[str, RunRecord] = {}

    def run(self, todo: Plan) -> list[RunRecord]:
        """Make all runs of a plan; returns them as they ended, in the order of the plan."""
        waiting = deque(todo.trajectories)
        with _signals():
            try:
                while waiting or self._active:
                    for _ in range(len(waiting)):
                        if len(self._active) >= self._workers:
                            break
                        planned = waiting.popleft()
                        if not self._begin(planned):
                            waiting.append(planned)  # another process is at it: it may record what we want
                    if self._active:
                        for worker, event in self._executor.events(POLL):
                            self._take(worker, event)
                    elif waiting:
                        time.sleep(POLL)
            except Stopped as stop:
                self._stop(signal.Signals(stop.number).name)
                raise
            except BaseException:
                self._stop("error")
                raise
        return list(self._ended.values())

    def _begin(self, planned: PlannedTrajectory) -> bool:
        """Start a worker for a trajectory, unless another process holds it; tells which."""
        session = self._session
        identity = session.identity(planned.config)
        environment = session.environment(planned.config.threads)
        header = header_of(planned.config, planned.seed, identity, environment, session.images)
        alone = None if session.options.reuse else uuid.uuid4().hex
        folder = session.address.trajectories / folder_name(header.trajectory_sha256, alone)
        trajectory = Trajectory(folder)
        if not trajectory.acquire():
            return False
        try:
            trajectory.create(header)
            records = self._records(planned, trajectory)
            for record in self._recorder.begin(trajectory, records):
                self._finished(trajectory, record)
            job = self._job(planned, trajectory)
        except BaseException:
            trajectory.release()
            raise
        if job is None:
            self._recorder.leave(trajectory)
            return True
        worker = self._executor.start(job, folder / "worker.log")
        self._active[worker] = _Active(planned, trajectory)
        done = job.state.epoch if job.state else 0
        self._bars.begin(worker, _name(planned), planned.epochs, done)
        return True

    def _records(self, planned: PlannedTrajectory, trajectory: Trajectory) -> list[RunRecord]:
        """The records of a trajectory's runs, new or gone on with, now that nobody else can make them."""
        session = self._session
        known = {_key(record): record for record in trajectory.runs(session.address.name)}
        wanted = {(run.study.name, run.arm, run.config.sha256()) for run in planned.runs}
        lines = trajectory.epochs()
        records = []
        for run in planned.runs:
            record = known.get((run.study.name, run.arm, run.config.sha256()))
            if record is not None and record.status == "finished":
                if session.store.holds(trajectory.sent(record)):
                    self._ended[record.record] = record  # another process was faster
                    continue
                record = None
            if record is not None:
                records.append(replace(record, status="running", stop_reason=None, error=None, tags=self._tags()))
                continue
            spent = sum(line.metrics["epoch_seconds"] for line in lines[: run.config.epochs])
            records.append(
                RunRecord(
                    record=uuid.uuid4().hex,
                    store=session.address.name,
                    study=run.study.name,
                    question=run.study.question,
                    arm=run.arm,
                    seed=run.seed,
                    config=run.config.canonical(),
                    smoke=session.smoke,
                    reuse=session.options.reuse,
                    # So far back that MLflow's Duration can hold the epochs that are trained already.
                    start_time=time.time_ns() // 1_000_000 - round(1000 * spent),
                    command=rerun_command(run, smoke=session.options.smoke),
                    tags=self._tags(),
                    code_diff=self._code.diff,
                    packages=self._packages,
                )
            )
        for key, record in known.items():
            if record.status == "running" and key not in wanted:  # its process died, and nobody asked for it now
                trajectory.save_run(replace(record, status="killed", stop_reason="lost"))
        return records

    def _tags(self) -> dict[str, str]:
        return {
            "git_commit": self._code.commit,
            "git_dirty": str(self._code.dirty).lower(),
            "workers": str(self._workers),
        }

    def _job(self, planned: PlannedTrajectory, trajectory: Trajectory) -> Job | None:
        """What a worker has left to do, or None."""
        running = [record for record in trajectory.runs(self._session.address.name) if record.status == "running"]
        if not running:
            return None
        refused: list[str] = []
        state = trajectory.latest_state(refused)
        for reason in refused:
            self._bars.tell(f"{_name(planned)}: {reason}; going on from the one before")
        losses = tuple(line.metrics["loss"] for line in trajectory.epochs())
        cuts = {cut.epoch for record in running if (cut := record.run_config().cut(losses))} - trajectory.cuts()
        past: list[State] = []
        for epoch in sorted(cuts):
            weights = trajectory.weights(epoch)
            if state is None or epoch > state.epoch:
                continue  # will be trained, or trained again, on the way
            if weights is None:
                state, past = None, []  # cleaned away: train it again from the start
                break
            past.append(State(epoch, weights, {}))
        return Job(
            settings=planned.config.canonical(),
            rules=tuple(record.config for record in running),
            seed=planned.seed,
            data_dir=str(self._session.data_dir),
            images=self._session.images,
            state=state,
            losses=losses,
            past_cuts=tuple(past),
            done_cuts=trajectory.cuts(),
            device=self._session.options.device,
        )

    def _take(self, worker: Worker, event: Any) -> None:
        active = self._active.get(worker)
        if active is None:
            return
        try:
            if isinstance(event, Ended):
                del self._active[worker]
                self._bars.end(worker)
                error = event.error or "the worker ended before its runs did"
                self._failed(active, self._recorder.end(active.trajectory, "failed", "error", error))
                self._recorder.leave(active.trajectory)
                return
            ended = self._recorder.take(active.trajectory, event)
        except (TrajectoryError, OSError) as error:
            # The worker's next event finds nobody; its runs end here.
            self._failed(active, self._recorder.end(active.trajectory, "failed", "error", str(error)))
            self._executor.cancel(worker)
            return
        if isinstance(event, EpochDone):
            self._bars.epoch(worker, event.metrics)
        self._failed(active, [record for record in ended if record.status == "failed"])
        for record in ended:
            if record.status == "finished":
                self._finished(active.trajectory, record)

    def _finished(self, trajectory: Trajectory, record: RunRecord) -> None:
        self._ended[record.record] = record
        assert record.cut is not None
        metrics = trajectory.epochs()[record.cut - 1].metrics
        self._bars.tell(
            f"{record.study}: {record.arm} · seed {record.seed}: {record.cut} epochs, "
            f"test accuracy {metrics['test_accuracy']:.4f}, test loss {metrics['test_loss']:.4f}"
        )

    def _failed(self, active: _Active, records: Sequence[RunRecord]) -> None:
        for record in records:
            self._ended[record.record] = record
        if records:
            last = (records[0].error or "").strip().splitlines()[-1:]
            self._bars.tell(f"{_name(active.planned)}: {len(records)} runs failed: {''.join(last)}")

    def _stop(self, reason: str) -> None:
        """End the workers and mark their runs."""
        self._executor.stop()
        for active in self._active.values():
            if reason == "error":
                self._recorder.end(active.trajectory, "failed", "error", "the runner ended with an error")
            else:
                self._recorder.end(active.trajectory, "killed", "killed", f"stopped by {reason}")
            self._recorder.leave(active.trajectory)


@contextmanager
def _signals() -> Iterator[None]:
    """Turns the signals that ask a process to stop into `Stopped`, once; a second one changes nothing."""
    stopping = False

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _key(record: RunRecord) -> tuple[str, str, str]:
    return record.study, record.arm, record.run_config().sha256()


def _name(planned: PlannedTrajectory) -> str:
    first = planned.runs[0]
    more = f" and {len(planned.runs) - 1} more" if len(planned.runs) > 1 else ""
    return f"{first.arm}{more} · seed {planned.seed}"
