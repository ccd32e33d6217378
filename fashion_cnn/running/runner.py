"""Plan -> executor -> recorder: have runs trained and recorded, several at a time, and say what came of it."""

from __future__ import annotations

import traceback
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fashion_cnn.checkout import Checkout, checkout
from fashion_cnn.environment import packages
from fashion_cnn.events import EpochDone, Event
from fashion_cnn.running.entries import job_of, open_entries, provenance
from fashion_cnn.running.executor import Ended, ExecutorError, Place
from fashion_cnn.running.loop import WorkerLoop
from fashion_cnn.running.placement import Placement
from fashion_cnn.running.plan import Plan, PlannedTrajectory
from fashion_cnn.running.progress import (
    TrainingProgress,
    environment_lines,
    finished_lines,
    run_name,
    trajectory_name,
)
from fashion_cnn.running.results import CallResult, EndedRuns, key_of
from fashion_cnn.running.session import Session
from fashion_cnn.signals import Stopped, stoppable
from fashion_cnn.store.address import StoreError
from fashion_cnn.store.entries import LOST, RunEntry, RunStatus
from fashion_cnn.store.files import TrajectoryError, told_together
from fashion_cnn.store.recorder import Recorder
from fashion_cnn.store.trajectories import Trajectory, trajectories

LOSSES = 3  # workers lost in a row before a trajectory is given up: it may be what brings the machines down


def run(session: Session, todo: Plan) -> CallResult:
    """Train and record what a plan says.

    Raises:
        Stopped: by a signal; the runs under way are marked killed, and their state is kept.
        StoreError: the tracking server does not let this user record.
        ExecutorError: the cluster is gone; likewise.
    """
    session.store.check_rights({run.study.name: run.study.question for run in todo.runs})
    recorder, code = Recorder(session.store), checkout()
    with recorder, TrainingProgress(sum(planned.whole_epochs for planned in todo.trajectories)) as bars:
        if code.lacks and todo.runs and not session.smoke:
            bars.tell(code.lacks)
        ended = Execution(session, todo, recorder, bars, code, packages()).run()
        for lost in ended.refuse_lost(todo):
            bars.tell(
                f"{lost.study.name}: {lost.arm} · seed {lost.seed}: its folder is gone or cannot be read; the same "
                "command trains it again"
            )
    made = ended.results()
    return CallResult(
        results=(*made, *(todo.results[skipped.key()] for skipped in todo.recorded)),
        made=len(made),
        failed=sum(result.status != "finished" for result in made),
        unsent=ended.unsent(session.store),
        trouble=recorder.trouble,
    )


def close_lost(session: Session, recorder: Recorder, planned: Collection[Path], tell: Callable[[str], None]) -> None:
    """Close the runs that dead processes left running, and send what they did not send.

    Args:
        session: whose store the runs are for.
        recorder: sends them.
        planned: the folders of trajectories whose runs may be resumed now; these are left alone.
        tell: is given a line for each run that is closed, and for what cannot be used.
    """
    here: dict[str, str | None] = {}
    closed, errors = [], list[Exception]()
    for trajectory in trajectories(session.address.trajectories):
        try:
            here |= {entry.record: trajectory.sent(entry).run_id for entry in trajectory.runs(session.address.name)}
            lost = recorder.tidy(trajectory) if trajectory.folder not in planned else []
            closed += [run_name(entry) for entry in lost]
        except (TrajectoryError, OSError) as error:  # of this folder alone
            errors.append(error)
    for line in told_together(errors):
        tell(f"{line}; it is left alone")
    try:
        closed += session.store.close_lost(here)
    except StoreError as error:
        tell(f"{error}; training goes on")
    for name in closed:
        tell(f"{name}: closed as lost, {LOST}")


@dataclass(eq=False)
class HeldTrajectory:
    """A planned trajectory whose lock this process holds."""

    planned: PlannedTrajectory
    place: Place
    trajectory: Trajectory
    retried: bool = False
    """Whether its worker was ended by a signal before."""
    losses: int = 0
    """How many workers it lost in a row without an epoch between."""
    error: str = ""
    """Why this process itself ended its worker."""

    @property
    def name(self) -> str:
        """What it is called on the terminal."""
        return trajectory_name(self.planned.arms, self.planned.seed)


class Execution:
    """Has the trajectories of a plan trained, and passes what their workers say to the recorder."""

    def __init__(
        self,
        session: Session,
        todo: Plan,
        recorder: Recorder,
        bars: TrainingProgress,
        code: Checkout,
        packages: Sequence[str],
    ) -> None:
        """Nothing is started before `run`."""
        self._session, self._todo, self._recorder, self._bars = session, todo, recorder, bars
        self._code, self._packages = code, packages
        self._placement = Placement(session)
        self._workers = WorkerLoop[HeldTrajectory](session.executor, bars)
        self._waiting: deque[PlannedTrajectory | HeldTrajectory] = deque(todo.trajectories)
        self._held: list[HeldTrajectory] = []
        self._awaited: set[Path] = set()
        self._ended = EndedRuns()

    def run(self) -> EndedRuns:
        """Make all runs of the plan; they may fail.

        Raises:
            Stopped, ExecutorError: see `run` of this module. The runs that were under way are marked first.
        """
        todo, placement = self._todo, self._placement
        with stoppable("the same command goes on from the last epoch"):
            try:
                for line in environment_lines(self._session.executor):
                    self._bars.tell(line)
                planned = todo.trajectories
                folders = {placement.folder(one, place) for one in planned for place in placement.places(one)}
                close_lost(self._session, self._recorder, folders, self._bars.tell)
                self._workers.run(self._waiting, self._begin, self._take, lambda: self._session.workers(todo))
            except Stopped as stop:
                self._stop("killed", "killed", f"stopped by {stop.signal}")
                raise
            except ExecutorError as error:  # through no fault of the runs
                self._stop("killed", "lost", str(error))
                raise
            except BaseException as error:
                reason = f"the runner ended with {type(error).__name__}: {error}"
                self._stop("failed", "error", reason, traceback.format_exc())
                raise
        return self._ended

    def _begin(self, work: PlannedTrajectory | HeldTrajectory) -> bool:
        """Start a worker, or another one.

        Returns:
            False where another process holds the trajectory, and may record its runs, or where its place is taken.
        """
        if isinstance(work, HeldTrajectory):
            self._begin_again(work)
            return True
        place = self._placement.best(work, [held.place for held in self._workers.active])
        if place is None:
            return False
        alone = None if self._session.options.reuse else uuid.uuid4().hex
        held = HeldTrajectory(work, place, Trajectory(self._placement.folder(work, place, alone)))
        acquired = True
        with self._refusing(held):
            acquired = held.trajectory.acquire()
            if acquired:
                self._held.append(held)
                held.trajectory.create(self._placement.header(work, place))
                self._start(held)
            elif held.trajectory.folder not in self._awaited:  # this is asked again twice a second
                self._awaited.add(held.trajectory.folder)
                self._bars.tell(f"{held.name}: another process trains it; this one waits")
        return acquired

    def _begin_again(self, held: HeldTrajectory) -> None:
        """Start another worker for a trajectory that lost its own."""
        if self._placement.remains(held.planned, held.place):
            with self._refusing(held):
                self._start(held)
            return
        # No machine is left that could resume it: it is trained anew in another environment, as another trajectory.
        done = {key_of(entry) for entry in self._ended.of(held.trajectory) if entry.status == "finished"}
        self._ended.forget_unfinished(held.trajectory)
        self._leave(held)
        left = tuple(run for run in held.planned.runs if run.key() not in done)
        self._waiting.append(replace(held.planned, runs=left))

    @contextmanager
    def _refusing(self, held: HeldTrajectory) -> Iterator[None]:
        """Where a folder cannot be used, its runs fail and the others continue."""
        try:
            yield
        except (TrajectoryError, OSError) as error:
            with suppress(TrajectoryError, OSError):
                self._end(held, "failed", "error", str(error))
            ended = {key_of(entry) for entry in self._ended.of(held.trajectory)}
            self._ended.refused += [run for run in held.planned.runs if run.key() not in ended]
            self._bars.tell(f"{held.name}: cannot be trained: {error}")
            self._leave(held)

    def _start(self, held: HeldTrajectory) -> None:
        """Start a worker for a trajectory that this process holds, unless all of it is done."""
        session, planned, trajectory = self._session, held.planned, held.trajectory
        made_with = provenance(self._code, self._packages, session.workers(self._todo))
        to_make, finished = open_entries(session, planned, trajectory, made_with)
        self._ended.add(trajectory, finished)
        for entry in self._recorder.begin(trajectory, to_make):
            self._finished(trajectory, entry)
        job, refused = job_of(session, planned, trajectory)
        for reason in refused:
            self._bars.tell(f"{held.name}: {reason}")
        if job is None:
            self._leave(held)
            return
        output, environment = trajectory.folder / "worker.log", held.place.environment_sha256
        try:
            self._workers.start(
                held, job, output, name=held.name, epochs=planned.epochs, environment_sha256=environment
            )
        except ExecutorError as error:  # its last machine went down since its place was chosen
            self._worker_ended(held, Ended(str(error), lost=True))

    def _take(self, held: HeldTrajectory, event: Event | Ended) -> None:
        """Record what a worker says."""
        try:
            if isinstance(event, Ended):
                self._worker_ended(held, event)
                return
            ended = self._recorder.take(held.trajectory, event)
        except (TrajectoryError, OSError) as error:
            # The worker's next event finds nobody; its runs end here.
            held.error = str(error)
            with suppress(TrajectoryError, OSError):
                self._failed(held, self._end(held, "failed", "error", held.error))
            self._workers.cancel(held)
            return
        if isinstance(event, EpochDone):
            held.losses = 0
        self._failed(held, [entry for entry in ended if entry.status == "failed"])
        for entry in ended:
            if entry.status == "finished":
                self._finished(held.trajectory, entry)

    def _worker_ended(self, held: HeldTrajectory, event: Ended) -> None:
        """What a worker left undone has failed, or is tried again."""
        if held.error:  # reported already; but on a full disk it could not be written, and now there may be room
            with suppress(TrajectoryError, OSError):
                self._end(held, "failed", "error", held.error)
            self._leave(held)
            return
        error = event.error or "the worker ended before its runs did"
        left = self._end(held, "killed" if event.lost else "failed", "lost" if event.lost else "error", error)
        then = ""
        if left and event.lost and held.losses < LOSSES:
            held.losses += 1
            then = "; it goes on elsewhere"
        elif left and event.by_signal and not held.retried:
            held.retried = True
            then = "; it is tried once more"
        self._failed(held, left, then)
        if then:
            self._waiting.append(held)  # behind the others, which may have left it more memory by then
        else:
            self._leave(held)

    def _end(self, held: HeldTrajectory, status: RunStatus, reason: str, error: str) -> list[RunEntry]:
        """Mark the runs that are still running, and note them as ended."""
        entries = self._recorder.end(held.trajectory, status, reason, error)
        self._ended.add(held.trajectory, entries)
        return entries

    def _failed(self, held: HeldTrajectory, entries: Sequence[RunEntry], then: str = "") -> None:
        self._ended.add(held.trajectory, entries)
        if entries:
            count = "its run" if len(entries) == 1 else f"its {len(entries)} runs"
            self._bars.tell(f"{held.name}: {count} failed: {entries[0].error}{then}")

    def _finished(self, trajectory: Trajectory, entry: RunEntry) -> None:
        self._ended.add(trajectory, [entry])
        for line in finished_lines(trajectory, entry):
            self._bars.tell(line)

    def _leave(self, held: HeldTrajectory) -> None:
        self._recorder.leave(held.trajectory)
        if held in self._held:
            self._held.remove(held)

    def _stop(self, status: RunStatus, reason: str, error: str, traceback: str = "") -> None:
        """Mark the runs under way and end their workers; in this order, for a cluster may take this process with it."""
        for held in self._held:
            with suppress(TrajectoryError, OSError):  # of one folder: the others' runs are marked all the same
                self._recorder.end(held.trajectory, status, reason, error, traceback)
        self._session.executor.stop()
        for held in list(self._held):
            self._leave(held)
