"""Looking after the trajectories' folders between runs: send what was not sent, drop what is not needed."""

from __future__ import annotations

from contextlib import suppress

from fashion_cnn.store.address import StoreError
from fashion_cnn.store.entries import LOST
from fashion_cnn.store.files import TrajectoryError
from fashion_cnn.store.tracking import Store
from fashion_cnn.store.trajectories import trajectories


def sync(store: Store) -> tuple[int, str | None]:
    """Send what was not sent of every trajectory that nobody is at; gives how many runs were, and the last error."""
    sent, trouble = 0, None
    for trajectory in trajectories(store.address.trajectories):
        # Whatever is wrong with one folder, the others are sent.
        try:
            with trajectory.held() as had:
                if not had:
                    continue
                trajectory.end_runs(store.address.name, "killed", "lost", LOST)  # whoever made them holds no lock
                waiting = len(store.unsent(trajectory))
                try:
                    store.send(trajectory)
                finally:
                    sent += waiting - len(store.unsent(trajectory))
        except (StoreError, TrajectoryError, OSError) as error:
            trouble = str(error)
    return sent, trouble


def clean(store: Store) -> tuple[int, int]:
    """Drop what recorded runs no longer need, where all runs of a trajectory are finished and sent.

    Returns:
        Bytes freed, and how many trajectories were left alone.
    """
    freed = left = 0
    for trajectory in trajectories(store.address.trajectories):
        with trajectory.held() as had, suppress(TrajectoryError):
            runs = trajectory.runs()
            if had and all(run.status == "finished" and trajectory.sent(run).done for run in runs):
                freed += trajectory.clean()
                continue
        left += 1
    return freed, left
