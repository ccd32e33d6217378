"""The run entries of a planned trajectory, new or resumed, and the job that its worker gets for them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fashion_cnn.checkout import Checkout
from fashion_cnn.events import Job
from fashion_cnn.evidence.record import RECORD_FORMAT
from fashion_cnn.running.plan import PlannedTrajectory, Run, rerun_command
from fashion_cnn.running.results import key_of
from fashion_cnn.running.session import Session
from fashion_cnn.state import State
from fashion_cnn.store.entries import LOST, RunEntry
from fashion_cnn.store.epochs import EpochLine
from fashion_cnn.store.trajectories import Trajectory


def provenance(code: Checkout, packages: Sequence[str], workers: int) -> dict[str, Any]:
    """What the entry of a run says of the code and packages that make it, and of the trajectories at a time.

    The format stands here, not where a run is sent: what older code made and left unsent stays of its own format.
    """
    tags = {"git_commit": code.commit, "git_dirty": str(code.dirty).lower(), "workers": str(workers)}
    tags |= {"record_format": str(RECORD_FORMAT)}
    return {"tags": tags, "remote": code.remote, "code_diff": code.diff, "packages": tuple(packages)}


def open_entries(
    session: Session, planned: PlannedTrajectory, trajectory: Trajectory, made_with: Mapping[str, Any]
) -> tuple[list[RunEntry], list[RunEntry]]:
    """The entries of a trajectory's runs that are to be made; the caller holds the trajectory's lock.

    Runs of a process that died, which are not resumed now, are marked as lost: they are not planned, or the store has
    them as something else.

    Args:
        session: whose store the runs are for.
        planned: the trajectory and its runs.
        trajectory: its folder.
        made_with: see `provenance`.

    Returns:
        Entries to be made, and those that another process has finished in the meantime.
    """
    known, lines = trajectory.runs(session.address.name), trajectory.epochs()
    to_make, finished = [], []
    for run in planned.runs:
        its = [entry for entry in known if key_of(entry) == run.key() and session.store.holds(trajectory, entry)]
        if not its:
            to_make.append(_new_entry(session, run, lines, made_with))
        elif its[-1].status == "finished":
            finished.append(its[-1])
        else:
            again = replace(its[-1], status="running", stop_reason=None, error=None, resumed=its[-1].resumed + 1)
            to_make.append(replace(again, **made_with))
    resumed = {entry.record for entry in to_make}
    for entry in known:
        if entry.status == "running" and entry.record not in resumed:
            trajectory.save_run(replace(entry, status="killed", stop_reason="lost", error=LOST))
    return to_make, finished


def _new_entry(session: Session, run: Run, lines: Sequence[EpochLine], made_with: Mapping[str, Any]) -> RunEntry:
    spent = sum(line.metrics["epoch_seconds"] for line in lines[: run.config.epochs])
    return RunEntry(
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
        **made_with,
    )


def job_of(session: Session, planned: PlannedTrajectory, trajectory: Trajectory) -> tuple[Job | None, list[str]]:
    """What a worker has left to do for the runs that are running, or None.

    Returns:
        The job, and a line for each kept state that cannot be used and what that costs.
    """
    running = [entry for entry in trajectory.runs(session.address.name) if entry.status == "running"]
    if not running:
        return None, []
    refused: list[str] = []
    state = trajectory.latest_state(refused)
    then = f"going on after epoch {state.epoch}" if state else "training again from the start"
    history = tuple(line.metrics for line in trajectory.epochs())
    losses = [metrics["loss"] for metrics in history]
    cuts = {cut.epoch for entry in running if (cut := entry.run_config().cut(losses))} - trajectory.cuts()
    past: list[State] = []
    for epoch in sorted(cuts):
        weights = trajectory.weights(epoch)
        if state is None or epoch > state.epoch:
            continue  # will be trained, or trained again, on the way
        if weights is None:
            state, past = None, []  # cleaned away: train it again from the start
            break
        past.append(State(epoch, weights, {}))
    job = Job(
        settings=planned.config.canonical(),
        rules=tuple(entry.config for entry in running),
        seed=planned.seed,
        data_dir=str(session.data_dir),
        images=session.images,
        state=state,
        history=history,
        past_cuts=tuple(past),
        done_cuts=trajectory.cuts(),
        device=session.options.device,
        arithmetic=trajectory.header.environment["arithmetic"],
    )
    return job, [f"{reason}; {then}" for reason in refused]
