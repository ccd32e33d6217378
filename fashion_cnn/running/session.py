"""What all runs of one call share: data, code, environment, store; and from them the plan."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fashion_cnn.checkout import REPOSITORY
from fashion_cnn.config import RunConfig
from fashion_cnn.data import Dataset
from fashion_cnn.download import find, load_dataset
from fashion_cnn.environment import Arithmetic
from fashion_cnn.events import Identity
from fashion_cnn.running.executor import Executor, LocalExecutor, Place
from fashion_cnn.running.plan import SMOKE_IMAGES, Plan, epoch_work, plan, select_runs
from fashion_cnn.running.results import recorded_results
from fashion_cnn.sources import code_files, files_sha256
from fashion_cnn.store.address import Address, resolve
from fashion_cnn.store.files import TrajectoryError
from fashion_cnn.store.tracking import Store
from fashion_cnn.store.trajectories import trajectories
from fashion_cnn.study import Study

# Where nothing was measured yet: seconds per unit of `epoch_work`, of a 2.6 GHz AVX-512 server core.
SECONDS_PER_WORK = 0.07
BYTES_PER_RUN = 3_000_000  # artifacts and model, about; the state beside them is of the same size


class SessionError(ValueError):
    """Runs cannot be made as asked: one line that says why."""


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
    arithmetic: Arithmetic | None = None
    """None is the portable one where the machines can."""
    executor: str = "local"
    """`local` or `ray`."""
    address: str | None = None
    """Of the Ray cluster."""

    def check(self) -> None:
        """Raise a SessionError where options do not go together; this looks at nothing else."""
        if self.executor == "local" and self.address is not None:
            raise SessionError("an address names a Ray cluster: it goes with --executor ray")
        if self.executor == "ray" and self.device != "cpu":
            raise SessionError(f"device is {self.device}; with --executor ray only cpu is allowed")
        if self.workers is not None and self.workers < 1:
            raise SessionError(f"workers is {self.workers}; allowed: a whole number of at least 1")
        if self.device == "gpu" and (self.workers or 1) != 1:
            raise SessionError(f"workers is {self.workers}; with --device gpu only 1 is allowed")


class Session:
    """One call of `run`: the data, code, store and executor that all its runs share.

    Making one costs nothing: each of these is looked at when it is first needed. As a context manager it looks at all
    of them at once, so that what cannot be used is reported before anything is planned, and it stops the executor.
    """

    def __init__(self, options: Options, *, trains: bool = True) -> None:
        """A session with these options.

        Args:
            options: of the call.
            trains: whether workers are to be started: they are prepared for while the store is opened.

        Raises:
            SessionError: they do not go together.
        """
        options.check()
        self.options, self._trains = options, trains

    def __enter__(self) -> Session:
        """Look at data, code, executor and store, in this order; nothing is written but an empty store.

        Raises:
            DataError, StoreError, SessionError, EnvironmentFault, ExecutorError: these cannot be used.
        """
        try:
            _ = self.data, self.code_sha256, self.address, self.executor
            if self._trains:
                self.executor.prepare()
            _ = self.store
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the executor, if there is one yet."""
        if "executor" in vars(self):
            self.executor.stop()

    @cached_property
    def _loaded(self) -> tuple[Dataset, Path]:
        data, folder = load_dataset(self.options.data_dir), find(self.options.data_dir)
        assert folder is not None
        return data, folder

    @property
    def data_dir(self) -> Path:
        """The data set's folder."""
        return self._loaded[1]

    @cached_property
    def images(self) -> tuple[int, int] | None:
        """How many training and test images a smoke run uses, from the first on; None is all."""
        if not self.options.smoke:
            return None
        whole, _ = self._loaded
        return min(SMOKE_IMAGES[0], len(whole.train_labels)), min(SMOKE_IMAGES[1], len(whole.test_labels))

    @cached_property
    def data(self) -> Dataset:
        """The images that runs use."""
        whole, _ = self._loaded
        return whole.first(*self.images) if self.options.smoke and self.images else whole

    @property
    def smoke(self) -> bool:
        """Whether the runs are no evidence: they use few images, or made-up ones."""
        return self.options.smoke or self.data.made_up

    @cached_property
    def code_files(self) -> Mapping[str, str]:
        """The SHA-256 of each module that decides numbers."""
        return code_files()

    @cached_property
    def code_sha256(self) -> str:
        """The SHA-256 of all of them."""
        return files_sha256(self.code_files)

    @cached_property
    def address(self) -> Address:
        """Where the store is."""
        return resolve(self.options.tracking_uri, REPOSITORY)

    @cached_property
    def executor(self) -> Executor[Any]:
        """Where workers run."""
        if self.options.executor == "local":
            return LocalExecutor(self.options.device, self.options.arithmetic)
        from fashion_cnn.running.cluster.executor import RayExecutor

        return RayExecutor(self.options.address, self.data_dir, self.options.arithmetic)

    @cached_property
    def store(self) -> Store:
        """The store.

        Raises:
            SessionError: it is for one machine, and the executor has several.
        """
        store = Store(self.address)
        if self.options.executor == "ray" and self.address.uri.startswith("sqlite:"):
            nodes = sum(len(place.machines) for place in self.executor.places(threads=1))
            if nodes > 1:
                raise SessionError(
                    f"the store {self.address.name} is a SQLite file, which is for one machine; a cluster of {nodes} "
                    "nodes needs a tracking server: name one with --tracking-uri (docs/server.md)"
                )
        return store

    def identity(self, place: Place) -> Identity:
        """The hashes that a trajectory would be trained under now at this place."""
        return Identity(self.data.sha256, self.code_sha256, place.environment_sha256)

    def plan(self, studies: Sequence[Study], arms: Sequence[str], seeds: Sequence[int]) -> Plan:
        """What these studies still need, and what came of their runs that are recorded under the present hashes.

        A record of any environment that there is a place of counts.

        Raises:
            StudyError: an unknown arm.
            ExecutorError: more threads than any machine has.
        """
        runs = select_runs(studies, arms=arms, seeds=seeds, smoke=self.options.smoke)
        known = recorded_results(self.store, list({run.study.name for run in runs}))
        results = {}
        for run in runs:
            named = (*map(str, run.key()), str(self.smoke).lower())
            for place in self.executor.places(run.config.threads):
                if result := known.get((*named, *asdict(self.identity(place)).values())):
                    results[run.key()] = result
        todo = plan(runs, results, reuse=self.options.reuse, images=len(self.data.train_labels))
        return replace(todo, results=results)

    def seconds_per_work(self) -> tuple[float, bool]:
        """Seconds for a unit of `epoch_work`, and whether they were measured where the next would be."""
        measured = []
        here = [place.environment for place in self.executor.places(threads=1)]
        for trajectory in trajectories(self.address.trajectories):
            with suppress(TrajectoryError, OSError, TypeError, ValueError):  # reported when the plan was made
                header = trajectory.header
                if header.images is None and {**header.environment, "threads": 1} in here:
                    work = epoch_work(RunConfig(**header.settings))
                    measured += [line.metrics["epoch_seconds"] / work for line in trajectory.epochs()]
        return (statistics.median(measured), True) if measured else (SECONDS_PER_WORK, False)

    def workers(self, todo: Plan) -> int:
        """How many trajectories are trained at a time."""
        threads = max((run.config.threads for run in todo.runs), default=1)
        return self.options.workers or sum(place.workers for place in self.executor.places(threads))
