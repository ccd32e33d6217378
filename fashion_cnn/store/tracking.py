"""The tracking store: sends what trajectories' folders hold, reads records as tidy frames."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_cnn.evidence.record import Record
from fashion_cnn.store import heartbeat, imports, read, send
from fashion_cnn.store.address import Address
from fashion_cnn.store.connection import connect
from fashion_cnn.store.entries import RunEntry, Sent
from fashion_cnn.store.trajectories import Trajectory

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient


class Store:
    """A tracking store that answers. Everything is done by the room's other modules, on one connection."""

    def __init__(self, address: Address, *, create: bool = True) -> None:
        """Open a store; a database that is not there yet is created, once, however many start together.

        Args:
            address: from `resolve`.
            create: whether to create a database; without, a missing one is an error.

        Raises:
            StoreError: it does not answer, cannot be written, or is something else.
        """
        self._connection = connect(address, create=create)
        self.address = address
        self.client: MlflowClient = self._connection.client
        self.notices: Sequence[str] = self._connection.notices
        """What the user should be told about the store, a line each."""

    def check_rights(self, questions: Mapping[str, str]) -> None:
        """Make sure, before anything is trained, that this user may record runs; a database has no users.

        Args:
            questions: of the studies to record, by name.

        Raises:
            StoreError: the server does not allow it.
        """
        self._connection.check_rights(questions)

    def experiment(self, study: str, question: str) -> str:
        """The id of a study's experiment, created where it is missing."""
        return self._connection.experiment(study, question)

    def send(self, trajectory: Trajectory) -> None:
        """Bring the store up to date with a trajectory's folder.

        Raises:
            StoreError: the store did not take all of it; what it took is noted.
        """
        send.send(self._connection, trajectory)

    def unsent(self, trajectory: Trajectory) -> list[RunEntry]:
        """The runs of a trajectory that are for this store, have ended, and are not in it as they ended."""
        return send.unsent(self._connection, trajectory)

    def holds(self, sent: Sent) -> bool:
        """Whether a finished run that was (or is still to be) sent is in the store, as far as can be told."""
        return send.holds(self._connection, sent)

    def beat(self, run_ids: Sequence[str]) -> None:
        """Tell that these runs are alive."""
        heartbeat.beat(self._connection, run_ids)

    def close_lost(self, here: Collection[str]) -> list[str]:
        """Mark runs whose heartbeat stopped as killed, where their trajectory's folder is on no disk of this machine.

        Args:
            here: the records that this machine has a folder of; the lock of that tells whether they are alive.

        Returns:
            The names of the runs that were closed.

        Raises:
            StoreError: the store does not answer.
        """
        return heartbeat.close_lost(self._connection, here)

    def import_published(self, record: Record, question: str, figures: Mapping[str, bytes]) -> None:
        """Bring a published record into the store, as a run of its study, tagged `published` with its id.

        Args:
            record: of `results.read`.
            question: the study's.
            figures: more artifacts, by path.

        Raises:
            StoreError: the store did not take all of it; the run is not FINISHED then.
        """
        imports.import_published(self._connection, record, question, figures)

    def import_record(self, record: Record, question: str) -> str:
        """Bring a record into the store as if it had been recorded there, without a model; returns its run's id.

        Args:
            record: with a state per epoch in `trajectory.json`.
            question: the study's.

        Raises:
            StoreError: the store did not take all of it; the run is not FINISHED then.
        """
        return imports.import_record(self._connection, record, question, {}, {})

    def delete(self, run_id: str) -> None:
        """Move a run to the store's bin."""
        with self._connection.errors():
            self.client.delete_run(run_id)

    def runs(self, studies: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per run of these studies (or of all), oldest first.

        Returns:
            `run_id`, `experiment_id`, `artifact_uri`, `name`, `status` (MLflow's), `start_time`, `end_time` (ms), the
            tags as text, the params as text, the last value of each metric (float, NaN where missing).
        """
        return read.runs(self._connection, studies)

    def epochs(self, run_ids: Sequence[str]) -> pd.DataFrame:
        """One row per epoch of these runs: `run_id`, `epoch` (from 1), and the epoch metrics (float)."""
        return read.epochs(self._connection, run_ids)

    def find(self, start: str) -> dict[str, Any]:
        """The one run whose id is this or starts so, as a row of `runs`; an imported one has its published id as well.

        Raises:
            StoreError: fewer than 6 digits, no such run, or several.
        """
        return read.find(self._connection, start)

    def run(self, run_id: str) -> dict[str, Any]:
        """One run, as a row of `runs`.

        Raises:
            StoreError: there is none with this id, or none of this project's.
        """
        return read.run(self._connection, run_id)

    def record(self, row: Mapping[str, Any], epochs: Sequence[Mapping[str, float]], *, whole: bool = True) -> Record:
        """All that the store holds of a run, for whoever checks it.

        Args:
            row: of `runs`.
            epochs: of `epochs`, this run's, in order.
            whole: whether to read every artifact and the model; without, only the texts that hashes depend on.

        Raises:
            StoreError: the store does not answer.
        """
        return read.record(self._connection, row, epochs, whole=whole)

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
        return read.records(self._connection, rows, epochs, whole=whole)

    def artifact(self, run_id: str, name: str) -> Path | None:
        """A local copy of a run's artifact, or None where the run has none of this name."""
        return read.artifact(self._connection, run_id, name)
