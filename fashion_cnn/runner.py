"""Plan -> executor -> recorder: have runs trained and recorded, several at a time, and say what came of it."""

from __future__ import annotations

import signal
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from fashion_cnn.environment import Checkout, checkout, packages
from fashion_cnn.events import EpochDone, Job, State
from fashion_cnn.executor import Ended, LocalExecutor, Worker
from fashion_cnn.progress import TrainingProgress
from fashion_cnn.recorder import Recorder
from fashion_cnn.session import Outcome, Session, result_of
from fashion_cnn.study import Plan, PlannedTrajectory, rerun_command
from fashion_cnn.trajectories import RunRecord, Trajectory, TrajectoryError, folder_name, header_of

POLL = 0.5  # seconds


class Stopped(Exception):
    """A signal asks to stop."""

    def __init__(self, number: int) -> None:
        """Stopped by this signal."""
        super().__init__(signal.Signals(number).name)
        self.number = number


@dataclass(eq=False)
class _Active:
    """A trajectory that this process holds."""

    planned: PlannedTrajectory
    trajectory: Trajectory


def run(session: Session, todo: Plan) -> Outcome:
    """Train and record what a plan says.

    Raises:
        Stopped: by a signal; the runs under way are marked killed, and their state is kept.
    """
    started = time.monotonic()
    recorder = Recorder(session.store)
    with recorder, TrainingProgress(sum(one.epochs for one in todo.trajectories)) as bars:
        ended = _Execution(session, recorder, bars, session.workers(todo), checkout(), packages()).run(todo)
    made = [result_of(record, trajectory) for record, trajectory in ended]
    lacking = [record for record, trajectory in ended if record in session.store.unsent(trajectory)]
    return Outcome(
        results=tuple([*made, *(session.recorded[skipped.key()] for skipped in todo.recorded)]),
        made=len(made),
        failed=sum(result.status != "finished" for result in made),
        seconds=time.monotonic() - started,
        unsent=len(lacking),
        trouble=recorder.trouble,
    )


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
        self._ended: dict[str, tuple[RunRecord, Trajectory]] = {}

    def run(self, todo: Plan) -> list[tuple[RunRecord, Trajectory]]:
        """Make all runs of a plan; returns them as they ended."""
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
                    self._ended[record.record] = (record, trajectory)  # another process was faster
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
        history = tuple(line.metrics for line in trajectory.epochs())
        losses = [metrics["loss"] for metrics in history]
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
            history=history,
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
        self._ended[record.record] = (record, trajectory)
        assert record.cut is not None
        metrics = trajectory.epochs()[record.cut - 1].metrics
        self._bars.tell(
            f"{record.study}: {record.arm} · seed {record.seed}: {record.cut} epochs, "
            f"test accuracy {metrics['test_accuracy']:.4f}, test loss {metrics['test_loss']:.4f}"
        )

    def _failed(self, active: _Active, records: Sequence[RunRecord]) -> None:
        for record in records:
            self._ended[record.record] = (record, active.trajectory)
        if records:
            last = (records[0].error or "").strip().splitlines()[-1:]
            count = "its run" if len(records) == 1 else f"its {len(records)} runs"
            self._bars.tell(f"{_name(active.planned)}: {count} failed: {''.join(last)}")

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
