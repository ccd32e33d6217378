"""Plan -> executor -> recorder: have runs trained and recorded, several at a time, and say what came of it."""

from __future__ import annotations

import time
import traceback
import uuid
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fashion_cnn.environment import Checkout, checkout, packages
from fashion_cnn.events import EpochDone, Job, State
from fashion_cnn.running.executor import Ended, ExecutorError, Place
from fashion_cnn.running.plan import Plan, PlannedTrajectory, Run, rerun_command
from fashion_cnn.running.progress import TrainingProgress
from fashion_cnn.running.session import Outcome, Result, Session, result_of
from fashion_cnn.signals import Stopped, stoppable
from fashion_cnn.store.address import StoreError
from fashion_cnn.store.entries import LOST, RunEntry, RunStatus
from fashion_cnn.store.files import TrajectoryError
from fashion_cnn.store.recorder import Recorder
from fashion_cnn.store.trajectories import Header, Trajectory, folder_name, header_of, trajectories

POLL = 0.5  # seconds
LOSSES = 3  # workers lost in a row before a trajectory is given up: it may be what brings the machines down


@dataclass(eq=False)
class _Active:
    """A trajectory that this process holds."""

    planned: PlannedTrajectory
    place: Place
    trajectory: Trajectory
    retry: bool = False
    """Whether its worker was ended by a signal before."""
    losses: int = 0
    """How many workers it lost in a row without an epoch between."""
    error: str = ""
    """Why this process itself ended its worker."""


def run(session: Session, todo: Plan) -> Outcome:
    """Train and record what a plan says.

    Raises:
        Stopped: by a signal; the runs under way are marked killed, and their state is kept.
        StoreError: the tracking server does not let this user record.
        ExecutorError: the cluster is gone; likewise.
    """
    started = time.monotonic()
    session.store.check_rights({run.study.name: run.study.question for run in todo.runs})
    recorder = Recorder(session.store)
    with recorder, TrainingProgress(sum(one.epochs for one in todo.trajectories)) as bars:
        execution = _Execution(session, recorder, bars, session.workers(todo), checkout(), packages())
        ended, refused = execution.run(todo)
    made = [result_of(record, trajectory) for record, trajectory in ended]
    made += [Result(run.study.name, run.arm, run.seed, "failed", 0, 0.0, {}) for run in refused]
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
        self._executor = session.executor
        self._held: list[_Active] = []
        self._active: dict[Any, _Active] = {}
        self._waiting: deque[PlannedTrajectory] = deque()
        self._again: deque[_Active] = deque()
        self._ended: dict[str, tuple[RunEntry, Trajectory]] = {}
        self._refused: list[Run] = []

    def run(self, todo: Plan) -> tuple[list[tuple[RunEntry, Trajectory]], list[Run]]:
        """Make all runs of a plan.

        Returns:
            Them as they ended, and those that could not even be begun.
        """
        waiting = self._waiting
        waiting.extend(todo.trajectories)
        with stoppable("the same command goes on from the last epoch"):
            try:
                self._tell_environments()
                self._tidy({self._folder(planned, place) for planned in waiting for place in self._places(planned)})
                while waiting or self._again or self._active:
                    self._workers = self._session.workers(todo)  # nodes of a cluster come and go
                    for _ in range(len(waiting)):
                        if len(self._active) >= self._workers:
                            break
                        planned = waiting.popleft()
                        if not self._begin(planned):
                            # Another process is at it and may record what we want, or its place is taken.
                            waiting.append(planned)
                    # Last, when others may have left it more memory.
                    while self._again and len(self._active) < self._workers:
                        self._resume(self._again.popleft())
                    if self._active:
                        for worker, event in self._executor.events(POLL):
                            self._take(worker, event)
                    elif waiting:
                        time.sleep(POLL)
            except Stopped as stop:
                self._stop("killed", "killed", f"stopped by {stop.signal}")
                raise
            except ExecutorError as error:  # by no fault of the runs
                self._stop("killed", "lost", str(error))
                raise
            except BaseException as error:
                told = f"the runner ended with {type(error).__name__}: {error}"
                self._stop("failed", "error", told, traceback.format_exc())
                raise
        return list(self._ended.values()), self._refused

    def _tell_environments(self) -> None:
        """Where machines differ, say which are alike: their runs are never taken for each other's."""
        places = self._executor.places(threads=1)
        if len(places) > 1:
            self._bars.tell(f"{len(places)} environments; a trajectory stays in the one that it was begun in:")
        for place in places if len(places) > 1 else ():
            where, what = ", ".join(place.machines), place.environment["processor"]
            self._bars.tell(f"  {place.environment_sha256[:16]}: {place.workers} CPUs on {where} ({what})")

    def _tidy(self, planned: Collection[Path]) -> None:
        """Close what dead processes left running and is not planned now, and have sent what they did not send."""
        session, here = self._session, set()
        closed = []
        for trajectory in trajectories(session.address.trajectories):
            try:
                here |= {record.record for record in trajectory.runs(session.address.name)}
                lost = self._recorder.tidy(trajectory) if trajectory.folder not in planned else []
                closed += [f"{record.study}: {record.arm} · seed {record.seed}" for record in lost]
            except (TrajectoryError, OSError) as error:  # of this one alone
                self._bars.tell(f"{error}; it is left alone")
        try:
            closed += session.store.close_lost(here)
        except StoreError as error:
            self._bars.tell(f"{error}; training goes on")
        for name in closed:
            self._bars.tell(f"{name}: closed as lost, {LOST}")

    def _places(self, planned: PlannedTrajectory) -> Sequence[Place]:
        return self._executor.places(planned.config.threads)

    def _place(self, planned: PlannedTrajectory) -> Place | None:
        """Where to train it: where it has come farthest, else where most is free; None while all of that is taken."""
        places = self._places(planned)
        if len(places) == 1:
            return places[0]  # as many workers as were asked for, be they more than fit
        taken = Counter(active.place.environment_sha256 for active in self._active.values())
        free = {place: place.workers - taken[place.environment_sha256] for place in places}
        come = {place: len(Trajectory(self._folder(planned, place)).epochs()) for place in places}
        best = max(places, key=lambda place: (come[place], free[place]))
        return best if free[best] > 0 else None

    def _header(self, planned: PlannedTrajectory, place: Place) -> Header:
        session = self._session
        return header_of(
            planned.config,
            planned.seed,
            session.identity(place),
            place.environment,
            session.images,
            session.data.file_sha256,
            session.code_files,
        )

    def _folder(self, planned: PlannedTrajectory, place: Place, alone: str | None = None) -> Path:
        name = folder_name(self._header(planned, place).trajectory_sha256, alone)
        return self._session.address.trajectories / name

    def _begin(self, planned: PlannedTrajectory) -> bool:
        """Start a worker for a trajectory, unless another process holds it or its place is taken; tells which."""
        place = self._place(planned)
        if place is None:
            return False
        alone = None if self._session.options.reuse else uuid.uuid4().hex
        active = _Active(planned, place, Trajectory(self._folder(planned, place, alone)))
        held = True
        with self._refusing(active):
            held = active.trajectory.acquire()
            if held:
                self._held.append(active)
                active.trajectory.create(self._header(planned, place))
                self._start(active)
        return held

    @contextmanager
    def _refusing(self, active: _Active) -> Iterator[None]:
        """Where a folder cannot be used, its runs fail and the others go on."""
        try:
            yield
        except (TrajectoryError, OSError) as error:
            with suppress(TrajectoryError, OSError):
                for record in self._recorder.end(active.trajectory, "failed", "error", str(error)):
                    self._ended[record.record] = (record, active.trajectory)
            ended = {_key(record) for record, trajectory in self._ended.values() if trajectory is active.trajectory}
            self._refused += [run for run in active.planned.runs if _planned_key(run) not in ended]
            self._bars.tell(f"{_name(active.planned)}: cannot be trained: {error}")
            self._leave(active)

    def _leave(self, active: _Active) -> None:
        self._recorder.leave(active.trajectory)
        if active in self._held:
            self._held.remove(active)

    def _start(self, active: _Active) -> None:
        """Start a worker for a trajectory that this process holds, unless all of it is done."""
        planned, trajectory = active.planned, active.trajectory
        for record in self._recorder.begin(trajectory, self._records(planned, trajectory)):
            self._finished(trajectory, record)
        job = self._job(planned, trajectory)
        if job is None:
            self._leave(active)
            return
        try:
            worker = self._executor.start(job, trajectory.folder / "worker.log", active.place.environment_sha256)
        except ExecutorError as error:  # its last machine went down since its place was chosen
            self._gone(active, Ended(str(error), lost=True))
            return
        self._active[worker] = active
        self._bars.begin(worker, _name(planned), planned.epochs, job.state.epoch if job.state else 0)

    def _records(self, planned: PlannedTrajectory, trajectory: Trajectory) -> list[RunEntry]:
        """The records of a trajectory's runs, new or gone on with, now that nobody else can make them."""
        session = self._session
        known = {_key(record): record for record in trajectory.runs(session.address.name)}
        wanted = {_planned_key(run) for run in planned.runs}
        lines = trajectory.epochs()
        records = []
        for run in planned.runs:
            record = known.get(_planned_key(run))
            if record is not None and record.status == "finished":
                if session.store.holds(trajectory.sent(record)):
                    self._ended[record.record] = (record, trajectory)  # another process was faster
                    continue
                record = None
            if record is not None:
                records.append(replace(record, status="running", stop_reason=None, error=None, **self._code_now()))
                continue
            spent = sum(line.metrics["epoch_seconds"] for line in lines[: run.config.epochs])
            records.append(
                RunEntry(
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
                    **self._code_now(),
                )
            )
        for key, record in known.items():
            if record.status == "running" and key not in wanted:  # its process died, and nobody asked for it now
                trajectory.save_run(replace(record, status="killed", stop_reason="lost", error=LOST))
        return records

    def _code_now(self) -> dict[str, Any]:
        """What a run's record says of the code and the packages that make it."""
        tags = {
            "git_commit": self._code.commit,
            "git_dirty": str(self._code.dirty).lower(),
            "workers": str(self._workers),
        }
        remote, diff = self._code.remote, self._code.diff
        return {"tags": tags, "remote": remote, "code_diff": diff, "packages": self._packages}

    def _job(self, planned: PlannedTrajectory, trajectory: Trajectory) -> Job | None:
        """What a worker has left to do, or None."""
        running = [record for record in trajectory.runs(self._session.address.name) if record.status == "running"]
        if not running:
            return None
        refused: list[str] = []
        state = trajectory.latest_state(refused)
        then = f"going on after epoch {state.epoch}" if state else "training again from the start"
        for reason in refused:
            self._bars.tell(f"{_name(planned)}: {reason}; {then}")
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

    def _take(self, worker: Any, event: Any) -> None:
        active = self._active.get(worker)
        if active is None:
            return
        try:
            if isinstance(event, Ended):
                del self._active[worker]
                self._bars.end(worker)
                self._gone(active, event)
                return
            ended = self._recorder.take(active.trajectory, event)
        except (TrajectoryError, OSError) as error:
            # The worker's next event finds nobody; its runs end here.
            active.error = str(error)
            self._failed(active, self._recorder.end(active.trajectory, "failed", "error", active.error))
            self._executor.cancel(worker)
            return
        if isinstance(event, EpochDone):
            active.losses = 0
            self._bars.epoch(worker, event.metrics)
        self._failed(active, [record for record in ended if record.status == "failed"])
        for record in ended:
            if record.status == "finished":
                self._finished(active.trajectory, record)

    def _gone(self, active: _Active, event: Ended) -> None:
        """A worker ended: what it left undone has failed, or is tried again."""
        if active.error:  # told already; but on a full disk it could not be written down, and now there may be room
            for record in self._recorder.end(active.trajectory, "failed", "error", active.error):
                self._ended[record.record] = (record, active.trajectory)
            self._leave(active)
            return
        error = event.error or "the worker ended before its runs did"
        status: RunStatus = "killed" if event.lost else "failed"
        left = self._recorder.end(active.trajectory, status, "lost" if event.lost else "error", error)
        if left and event.lost and active.losses < LOSSES:
            active.losses += 1
            self._failed(active, left, "; it goes on elsewhere")
            self._again.append(active)
        elif left and event.by_signal and not active.retry:
            active.retry = True
            self._failed(active, left, "; it is tried once more")
            self._again.append(active)
        else:
            self._failed(active, left)
            self._leave(active)

    def _resume(self, active: _Active) -> None:
        """Start another worker for a trajectory that lost its own."""
        if active.place.environment_sha256 in {place.environment_sha256 for place in self._places(active.planned)}:
            with self._refusing(active):
                self._start(active)
            return
        # Nobody is left who could go on with it: it is trained anew in another environment, as another trajectory.
        mine = {record.record: record for record, trajectory in self._ended.values() if trajectory is active.trajectory}
        done = {_key(record) for record in mine.values() if record.status == "finished"}
        for record in mine.values():
            if record.status != "finished":
                del self._ended[record.record]
        self._leave(active)
        runs = tuple(run for run in active.planned.runs if _planned_key(run) not in done)
        self._waiting.append(replace(active.planned, runs=runs))

    def _finished(self, trajectory: Trajectory, record: RunEntry) -> None:
        self._ended[record.record] = (record, trajectory)
        assert record.cut is not None
        metrics = trajectory.epochs()[record.cut - 1].metrics
        self._bars.tell(
            f"{record.study}: {record.arm} · seed {record.seed}: {record.cut} epochs, "
            f"test accuracy {metrics['test_accuracy']:.4f}, test loss {metrics['test_loss']:.4f}"
        )
        cut = trajectory.cut(record.cut)
        if cut is not None and cut.drawing_error:
            self._bars.tell(f"{record.study}: {record.arm} · seed {record.seed}: not drawn: {cut.drawing_error}")

    def _failed(self, active: _Active, records: Sequence[RunEntry], then: str = "") -> None:
        for record in records:
            self._ended[record.record] = (record, active.trajectory)
        if records:
            count = "its run" if len(records) == 1 else f"its {len(records)} runs"
            self._bars.tell(f"{_name(active.planned)}: {count} failed: {records[0].error}{then}")

    def _stop(self, status: RunStatus, reason: str, error: str, traceback: str = "") -> None:
        """Mark the runs under way and end their workers; in this order, for a cluster may take this process with it."""
        for active in self._held:
            self._recorder.end(active.trajectory, status, reason, error, traceback)
        self._executor.stop()
        for active in list(self._held):
            self._leave(active)


def _key(record: RunEntry) -> tuple[str, str, str]:
    return record.study, record.arm, record.run_config().sha256()


def _planned_key(run: Run) -> tuple[str, str, str]:
    return run.study.name, run.arm, run.config.sha256()


def _name(planned: PlannedTrajectory) -> str:
    first = planned.runs[0]
    more = f" and {len(planned.runs) - 1} more" if len(planned.runs) > 1 else ""
    return f"{first.arm}{more} · seed {planned.seed}"
