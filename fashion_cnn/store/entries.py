"""The runs of a trajectory, as its folder holds them, and what the tracking store has of each."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from fashion_cnn.config import RunConfig
from fashion_cnn.store.files import read_json, shaped, write_json

LOST = "the process that made it died"
RunStatus = Literal["running", "finished", "failed", "killed"]


@dataclass(frozen=True)
class RunEntry:
    """A run as its trajectory's folder holds it."""

    record: str
    """Names the run for ever, in the folder and as a tag in the store."""
    store: str
    """The name of the tracking store it is for."""
    study: str
    question: str
    arm: str
    seed: int
    config: Mapping[str, Any]
    smoke: bool
    reuse: bool
    start_time: int
    """Milliseconds since 1970."""
    command: str
    """The command that reruns it."""
    tags: Mapping[str, str] = field(default_factory=dict)
    code_diff: str = ""
    packages: tuple[str, ...] = ()
    remote: str | None = None
    """Where others find the repository, without credentials."""
    status: RunStatus = "running"
    stop_reason: str | None = None
    cut: int | None = None
    """The epoch it ended at, once it did."""
    reused_epochs: int = 0
    error: str | None = None
    """Why it failed or was killed: one line."""
    traceback: str = ""
    """Of its latest failure, where that was an exception; stays when the run resumes."""
    resumed: int = 0
    """How many times it was resumed."""

    def run_config(self) -> RunConfig:
        """Its config."""
        return RunConfig.from_mapping(self.config)


@dataclass(frozen=True)
class Sent:
    """What the tracking store has taken of a run; nothing before the first send."""

    run_id: str | None = None
    """MLflow's id of the run."""
    epochs: int = 0
    """How many epochs' metrics."""
    tags: Mapping[str, str] | None = None
    """Those of the entry, as they were sent last."""
    node: str | None = None
    """The node of the worker that was sent last."""
    sheets: tuple[int, ...] = ()
    """The epochs whose feature maps are in the image grid."""
    artifacts_sha256: str | None = None
    values: Mapping[str, float] | None = None
    """The metrics of the run as a whole, as the artifacts state them."""
    model_id: str | None = None
    done: RunStatus | None = None
    """How the run ended, once all of it is there; None while it is running, again where it resumed."""
    resumed: int | None = None
    """How many times the run had been resumed when it ended so; None is never."""

    def is_all_of(self, run: RunEntry) -> bool:
        """Whether the store has the run as it ended: not as it had ended before it was resumed."""
        return (self.done, self.resumed or 0) == (run.status, run.resumed)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Sent:
        """From the object in a run's `.sent.json`; what other code keeps there is left out."""
        known = {part.name: values[part.name] for part in fields(cls) if part.name in values}
        return cls(**{**known, "sheets": tuple(known.get("sheets", ()))})

    def to_json(self) -> dict[str, Any]:
        """The object for a run's `.sent.json`: what is known, in the order of the fields."""
        return {name: value for name, value in asdict(self).items() if value is not None and value != ()}


class RunFiles:
    """The folder `runs` of a trajectory; who writes in it holds the trajectory's lock."""

    def __init__(self, folder: Path) -> None:
        """Look at a trajectory's folder, which need not be there yet."""
        self.folder = folder

    def runs(self, store: str | None = None) -> list[RunEntry]:
        """The runs for a store (or for all), in the order they were planned.

        A TrajectoryError names a file that is damaged, or of code that keeps other things of a run.
        """
        entries = []
        for path in (self.folder / "runs").glob("*.json"):
            if not path.name.endswith(".sent.json"):
                with shaped(path, "a run as this code keeps it"):
                    entries.append(RunEntry(**read_json(path)))
                    entries[-1].run_config()
        chosen = [entry for entry in entries if store is None or _same_store(entry.store, store)]
        return sorted(chosen, key=lambda entry: (entry.start_time, entry.record))

    def save_run(self, entry: RunEntry) -> None:
        """Write a run, new or changed."""
        write_json(self.folder / "runs" / f"{entry.record}.json", asdict(entry))

    def end_runs(
        self, store: str, status: RunStatus, stop_reason: str, error: str | None, traceback: str = ""
    ) -> list[RunEntry]:
        """Mark the runs for a store that are still running as failed or killed; returns them as they are now."""
        ended = [
            replace(entry, status=status, stop_reason=stop_reason, error=error, traceback=traceback)
            for entry in self.runs(store)
            if entry.status == "running"
        ]
        for entry in ended:
            with suppress(OSError):  # on a full disk it stays running, as that of a process that died
                self.save_run(entry)
        return ended

    def sent(self, entry: RunEntry) -> Sent:
        """What the tracking store has of a run."""
        path = self.folder / "runs" / f"{entry.record}.sent.json"
        if not path.exists():
            return Sent()
        values = read_json(path)
        with shaped(path, "what this code keeps of a run that was sent"):
            return Sent.from_json(values)

    def save_sent(self, entry: RunEntry, sent: Sent) -> None:
        """Note what the tracking store has of a run."""
        write_json(self.folder / "runs" / f"{entry.record}.sent.json", sent.to_json())


def _same_store(first: str, second: str) -> bool:
    """Whether two addresses name one store; a sqlite store may be moved or copied, its trajectories beside it."""
    first, second = (name.rpartition("/")[2] if name.startswith("sqlite:") else name for name in (first, second))
    return first == second
