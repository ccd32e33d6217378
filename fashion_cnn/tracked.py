"""One run, recorded from Python as `fashion-cnn train` records it: the same worker, recorder and store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fashion_cnn.config import RunConfig
from fashion_cnn.evidence.record import absent
from fashion_cnn.running.plan import Run
from fashion_cnn.running.results import IDENTIFYING
from fashion_cnn.running.runner import run
from fashion_cnn.running.session import Options, Session
from fashion_cnn.store.address import StoreError
from fashion_cnn.store.tracking import Store
from fashion_cnn.study import AD_HOC, ad_hoc, arm_name
from fashion_cnn.terminal import complain


class RunFailed(RuntimeError):
    """The worker of a run could not end it; why stands in the line before."""


@dataclass(frozen=True)
class TrackedRun:
    """A run that the store holds."""

    store: Store
    run_id: str
    epochs: Sequence[Mapping[str, float]]
    """A mapping per epoch, in order: `epoch` (from 1) and the epoch metrics."""


def track(config: RunConfig, seed: int) -> TrackedRun:
    """Have a run trained and recorded, or found where it is recorded already.

    The store is that of MLFLOW_TRACKING_URI, else the repository's own; the study is that of single runs. What was
    interrupted resumes, and a longer run continues a shorter one.

    Raises:
        DataError, StoreError, SessionError, EnvironmentFault: the data set or the store cannot be used.
        RunFailed: the worker failed; a line on standard error says why.
        StoreError: the run was trained, but the store did not take it.
    """
    study = ad_hoc({arm_name(config): config})
    with Session(Options()) as session:
        for notice in session.store.notices:
            complain(notice)
        todo = session.plan([study], (), [seed])
        (wanted,) = (*todo.runs, *todo.recorded)
        if todo.runs and run(session, todo).failed:
            raise RunFailed(f"the run {wanted.arm} · seed {seed} failed; see the line above")
        rows = [row for row in session.store.runs([AD_HOC]).to_dict("records") if _is_of(row, wanted, session)]
        if not rows:
            raise StoreError(
                f"{session.address.name} did not take the run, which is kept beside it; fashion-cnn sync sends it, "
                "and the same call finds it then"
            )
        run_id = str(rows[-1]["run_id"])
        epochs = session.store.epochs([run_id]).sort_values("epoch").to_dict("records")
        return TrackedRun(session.store, run_id, epochs)


def _is_of(row: Mapping[str, Any], wanted: Run, session: Session) -> bool:
    """Whether a row of the store is the record of a run under the present hashes."""
    named = (*map(str, wanted.key()), str(session.smoke).lower())
    places = session.executor.places(wanted.config.threads)
    keys = {(*named, *asdict(session.identity(place)).values()) for place in places}
    finished = row["status"] == "FINISHED" and absent(row["published"])
    return finished and tuple(str(row[name]) for name in IDENTIFYING) in keys
