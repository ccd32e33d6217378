"""One connection to a tracking store: opening it, what is written through it, and its errors in one line each."""

from __future__ import annotations

import errno
import functools
import logging
import os
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from fashion_cnn.store import direct
from fashion_cnn.store.address import Address, StoreError
from fashion_cnn.store.clock import Clock, of_database, of_folder
from fashion_cnn.store.experiments import CUSTOM, KIND, Binned, Experiments, binned, experiment_of, grouped, listing
from fashion_cnn.store.files import TrajectoryError, Unwritable
from fashion_cnn.store.relocation import relocate
from fashion_cnn.store.schema import make, mismatch

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

SERVER_TIMEOUT = 10  # seconds
PATIENCE = 60.0  # seconds for a database that another program holds
QUEUE = 5 * PATIENCE  # seconds for those who open it before, each of whom may wait for it
ROOM = 2**20  # bytes that a folder must be able to take before anything is trained
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
BATCH = 1000  # metrics that MLflow takes at once
BEAT = "%Y-%m-%dT%H:%M:%SZ"  # the time in a heartbeat
LONGEST = 2000  # characters of a reason: a page of a server's would be no line
LOCKED = "database is locked"  # how SQLite says so
FOREIGN_HOST = "Invalid Host header"  # MLflow's server, asked by a name that is none of its --allowed-hosts
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # how MLflow's errors say so
_Answer = TypeVar("_Answer")


class StoreBusy(StoreError):
    """Another program holds the database for itself: it may be free again soon."""


class Connection:
    """A tracking store that answers, for what writes to it; `Store` reads as well."""

    def __init__(self, address: Address, *, create: bool = True) -> None:
        """Open a store; a database that is not there yet is created, once, however many start together.

        Args:
            address: from `resolve`.
            create: whether to create a database; without, a missing one is an error.

        Raises:
            StoreError: it does not answer, cannot be written, or is something else.
        """
        self.address = address
        self.notices: Sequence[str] = ()
        """What the user should be told about the store, a line each."""
        self.clock = Clock(self._ask_the_time)
        self.locations: dict[str, str] = {}
        """Where the artifacts of runs go, by run id, as far as that was asked for."""
        self._experiments: dict[str, str] = {}
        self.tables: Path | None = None
        """The database that can be read without MLflow, if this store is one."""
        path = address.file
        if path is not None:
            _check_sqlite(path, create)
        elif address.is_server:
            _check_server(address)
        _check_writable(address.trajectories, room=ROOM if create else 0)
        _set_up_mlflow()
        if not address.is_server:
            os.environ["MLFLOW_ENABLE_WORKSPACES"] = "false"  # a server's: here nobody says which one is meant
        with self.errors():
            if path is None:
                self.client = _client(address)
                return
            with _alone(path):
                self._await(path)
                make(address, path)
                self.tables = path if direct.is_current(path) else None
                if self.tables is None:
                    self.client = _client(address)
                self.notices = relocate(path, path.parent / "artifacts")

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Within it, MLflow's and the database's errors become a StoreError of one line; a signal passes.

        So does what is wrong with a trajectory's folder, which says so itself.
        """
        try:
            yield
        except (StoreError, TrajectoryError, Unwritable):
            raise
        except Exception as error:
            raise _store_error(self.address, error) from error

    @functools.cached_property
    def client(self) -> MlflowClient:
        """MLflow's client, made when it is needed: importing MLflow takes seconds, and reading does without."""
        return _client(self.address)

    def listing(self) -> list[Any]:
        """All experiments of the store, the newest first: `experiment_id`, `name`, `lifecycle_stage`, `tags`."""
        return listing(self.client) if self.tables is None else direct.experiments(self.tables)

    def experiments(self) -> Experiments:
        """Those that are not in its bin, by study or name."""
        return grouped(self.listing())

    def experiment(self, study: str, question: str) -> str:
        """The id of a study's experiment, made where there is none; a StoreError where it cannot be used."""
        if study not in self._experiments:
            self._experiments[study] = experiment_of(self.client, self.address, study, question)
        return self._experiments[study]

    def forget(self, study: str) -> None:
        """Look for a study's experiment anew when it is needed next."""
        self._experiments.pop(study, None)

    def renamed(self) -> dict[str, str]:
        """What the experiments of studies are called that somebody renamed."""
        with self.errors():
            return self.patiently(self.experiments).renamed

    def binned(self, studies: Sequence[str]) -> list[Binned]:
        """Why nothing can be recorded of some studies: those whose experiment is in the bin."""
        with self.errors():
            return binned(self.listing(), self.address, studies)

    def active(self, run_id: str) -> Run | None:
        """A run, unless it is gone or in the store's bin; another error of the store's is raised."""
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise
            return None
        return run if run.info.lifecycle_stage == "active" else None

    def check_rights(self, questions: Mapping[str, str]) -> None:
        """Make sure, before anything is trained, that runs of these studies can be recorded, and by this user.

        The studies' questions are given by name. Raises a StoreError where an experiment is in the bin, or the server
        does not allow it; a database has no users.
        """
        with self.errors():
            for study, question in questions.items():
                experiment_id = self.experiment(study, question)
                if not self.address.is_server:
                    continue
                experiment = self.client.get_experiment(experiment_id)
                # Needs the same right as recording a run. A tag that is there and stays as it is: MLflow's server
                # fails where two callers add one at once.
                kind = experiment.tags.get(KIND, CUSTOM)
                self.client.set_experiment_tag(experiment.experiment_id, KIND, kind)

    def log(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log metrics, params and tags of a run, all in one request where they are no more than it takes.

        The store has them then, whatever a variable or a caller set: asynchronous logging swallows failures.
        """
        from mlflow.entities import Param, RunTag

        self.client.log_batch(
            run_id,
            metrics=metrics[:BATCH],
            params=[Param(name, value) for name, value in (params or {}).items()],
            tags=[RunTag(name, value) for name, value in (tags or {}).items()],
            synchronous=True,
        )
        for start in range(BATCH, len(metrics), BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + BATCH], synchronous=True)

    def heartbeat(self) -> dict[str, str]:
        """The tag for `log` that says a run is alive now."""
        return {"heartbeat": time.strftime(BEAT, time.gmtime(self.clock.now()))}

    def patiently(self, ask: Callable[[], _Answer]) -> _Answer:
        """What a query answers, once nobody holds the database for themselves; MLflow's patience ends after 20 s."""
        until, announced = time.monotonic() + PATIENCE, False
        while True:
            try:
                return ask()
            except Exception as error:
                if LOCKED not in _reason(error) or time.monotonic() > until:
                    raise
            if not announced:
                tell_waiting(self.address)
                announced = True
            time.sleep(1)

    def _ask_the_time(self) -> float:
        if self.address.file is not None:
            return of_folder(self.address.file.parent)
        if self.address.is_server:
            return parsedate_to_datetime(_answer(self.address, "/version").headers["Date"]).timestamp()
        return of_database(self.client._tracking_client.store.engine)

    def _await(self, path: Path) -> None:
        """Wait until nobody holds the database; MLflow's own patience when it opens one ends after 5 seconds."""

        def look() -> None:
            if path.exists():
                with closing(sqlite3.connect(path, timeout=1)) as connection:
                    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()

        try:
            self.patiently(look)
        except sqlite3.Error as error:
            if LOCKED not in str(error):
                return  # MLflow tells what is wrong with it
            raise StoreError(
                f"another program has held the store {path} for {PATIENCE:.0f} seconds; end that program, or name "
                "another store with --tracking-uri"
            ) from None


def tell_waiting(address: Address) -> None:
    """Tell the user why nothing happens."""
    name = address.name.removeprefix("sqlite:///")
    print(f"waiting for the store {name}: another program holds it", file=sys.stderr, flush=True)


def metric(name: str, value: float, timestamp: int, step: int, **of_model: str) -> Metric:
    """A value for `Connection.log`; the time in ms since 1970."""
    from mlflow.entities import Metric

    return Metric(name, value, timestamp, step, **of_model)


def _store_error(address: Address, error: Exception) -> StoreError:
    reason = address.without_password(_reason(error))
    if other := mismatch(address, reason):
        return other
    status, name = getattr(error, "get_http_status_code", int)(), address.name
    if status == 401:
        return _unknown_user(address)
    if status == 403 and FOREIGN_HOST in reason:
        return StoreError(
            f"the tracking server {name} does not go by the name {urlsplit(name).netloc}: use a name of its "
            "--allowed-hosts, or have this one added there"
        )
    if status == 403:
        return StoreError(
            f"the tracking server {name} does not allow this user that; its administrator can, with EDIT for the "
            f"study's experiment ({reason})"
        )
    busy_or_not = StoreBusy if LOCKED in reason else StoreError
    return busy_or_not(f"the tracking store {name} did not answer as it should: {reason}")


def _unknown_user(address: Address) -> StoreError:
    return StoreError(
        f"the tracking server {address.name} asks for a user that it knows, with the right password: set "
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    )


def _reason(error: BaseException) -> str:
    """What an error comes down to, in one line: the system's own words, or else what it was raised from."""
    cause: BaseException | None = error
    system = None
    while cause is not None:
        system = cause if isinstance(cause, OSError) and cause.strerror else system
        cause = cause.__cause__ or cause.__context__
    if system is not None:
        path = system.filename2 or system.filename
        return f"{system.strerror}: {path}" if path else str(system.strerror)
    while error.__cause__ is not None:
        error = error.__cause__
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} …"


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time: MLflow takes no lock when it creates a database, and two first starts would collide."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=QUEUE)
    except Timeout:
        raise StoreError(
            f"another program has held {path}.lock for {QUEUE:.0f} seconds; end that program, or name another store "
            "with --tracking-uri"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _client(address: Address) -> MlflowClient:
    from mlflow import MlflowClient

    if address.is_server:
        _check_version(address)
    client = MlflowClient(tracking_uri=address.uri, registry_uri=address.uri)
    client.search_experiments(max_results=1)
    return client


def _set_up_mlflow() -> None:
    """What must be set before MLflow is imported."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.pop("MLFLOW_ACTIVE_MODEL_ID", None)  # another tool's model: metrics would be sent to it
    # It would print a server's address as given, password and all, among what a program may read.
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    # Alembic tells each step of a first creation; an error of the database is raised besides being told at length.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    # MLflow's own seven retries take four minutes; what was not taken is sent again from the folder instead.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")


def _check_sqlite(path: Path, create: bool) -> None:
    if os.path.exists(path):  # False, and no error, of what may not be looked at
        try:
            with path.open("rb") as file:
                start = file.read(16)
        except OSError as error:
            raise StoreError(f"the store {path} cannot be read: {error.strerror}") from None
        if start not in (b"", b"SQLite format 3\0"):
            raise StoreError(f"the store {path} is no SQLite database; name another file, or move this one away")
    elif not create:
        first = "record a run first (make studies), or import the published runs (make ui)"
        raise StoreError(f"there is no store at {path} yet; {first}")
    _check_writable(path.parent)


def _check_writable(folder: Path, room: int = 0) -> None:
    """Raises a StoreError where a folder cannot take a file of so many bytes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(room))
            file.flush()
    except OSError as error:
        remedy = "make room there" if error.errno in FULL else "make it writable"
        raise StoreError(
            f"{folder} cannot be written ({error.strerror}); {remedy} or name another store with --tracking-uri"
        ) from None


def _check_server(address: Address) -> None:
    """Raises a StoreError where no server answers; one that asks for another user does."""
    _set_up_mlflow()
    from mlflow.exceptions import MlflowException

    try:
        answer = _answer(address, "/health")
    except MlflowException as error:
        reason = address.without_password(_reason(error))
        raise StoreError(
            f"the tracking server {address.name} does not answer ({reason}); start it, or name another store with "
            "--tracking-uri"
        ) from None
    if answer.status_code not in (200, 401, 403):
        raise _no_server(address, answer)


def _check_version(address: Address) -> None:
    """Raises a StoreError where a server does not let this user in, or has another major version of MLflow."""
    from mlflow.version import VERSION

    answer = _answer(address, "/version")
    if answer.status_code == 401:
        raise _unknown_user(address)
    theirs = re.match(r"\s*(\d+)\.[\w.]+", answer.text)
    if answer.status_code != 200 or not theirs:
        raise _no_server(address, answer)
    if theirs[1] != VERSION.split(".")[0]:
        raise StoreError(
            f"the tracking server {address.name} runs MLflow {theirs[0].strip()}, and here is {VERSION}: the major "
            "version decides how a store is laid out; upgrade the older one"
        )


def _no_server(address: Address, answer: Any) -> StoreError:
    return StoreError(f"{address.name} is no MLflow tracking server (it answers {answer.status_code})")


def _answer(address: Address, path: str) -> Any:
    """A server's answer, asked for as MLflow's client does all: with its variables for certificates and users."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    credentials = get_default_host_creds(address.uri)  # type: ignore[no-untyped-call]
    options: dict[str, Any] = {"max_retries": 0, "raise_on_status": False, "timeout": SERVER_TIMEOUT}
    return http_request(credentials, path, "GET", **options)  # type: ignore[no-untyped-call]
