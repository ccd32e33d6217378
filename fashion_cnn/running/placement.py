"""Where a planned trajectory is trained, and in which folder its states are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from fashion_cnn.running.executor import Place
from fashion_cnn.running.plan import PlannedTrajectory
from fashion_cnn.running.session import Session
from fashion_cnn.store.trajectories import Header, Trajectory, folder_name, header_of


class Placement:
    """The places of a session's executor, and the folder that a trajectory has for each of them."""

    def __init__(self, session: Session) -> None:
        """Places are looked up anew at each call, because nodes of a cluster come and go."""
        self._session = session

    def places(self, planned: PlannedTrajectory) -> Sequence[Place]:
        """Where a trajectory can be trained.

        Raises:
            ExecutorError: nowhere.
        """
        return self._session.executor.places(planned.config.threads)

    def best(self, planned: PlannedTrajectory, taken: Iterable[Place]) -> Place | None:
        """Where a trajectory is furthest, else where most workers are free; None while all of that is taken.

        Args:
            planned: the trajectory.
            taken: the place of each worker that is running.
        """
        places = self.places(planned)
        if len(places) == 1:
            return places[0]  # as many workers as were asked for, even if they are more than fit
        workers = Counter(place.environment_sha256 for place in taken)
        free = {place: place.workers - workers[place.environment_sha256] for place in places}
        trained = {place: len(Trajectory(self.folder(planned, place)).epochs()) for place in places}
        best = max(places, key=lambda place: (trained[place], free[place]))
        return best if free[best] > 0 else None

    def remains(self, planned: PlannedTrajectory, place: Place) -> bool:
        """Whether a machine of this place's environment is left."""
        return place.environment_sha256 in {other.environment_sha256 for other in self.places(planned)}

    def header(self, planned: PlannedTrajectory, place: Place) -> Header:
        """The header of a trajectory that is trained there."""
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

    def folder(self, planned: PlannedTrajectory, place: Place, alone: str | None = None) -> Path:
        """The folder of a trajectory that is trained there; see `folder_name`."""
        name = folder_name(self.header(planned, place).trajectory_sha256, alone)
        return self._session.address.trajectories / name
