"""A person at a store: what they do in MLflow's UI and in folders, and what they may count on when they call a command.

`Person.call` looks at the whole store before a command and after, and asks what must hold whatever came before.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from fashion_cnn.config import RunConfig, trajectory_sha256
from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.record import missing
from fashion_cnn.store.address import resolve
from fashion_cnn.store.description import NOTE
from fashion_cnn.store.experiments import MARK
from fashion_cnn.store.tracking import Store
from fashion_cnn.store.views import COLOUR, COUNTS, VIEW, WRITTEN
from tests.support import scripted
from tests.support.dump import Dump, StoredExperiment, StoredRun, contents, dump
from tests.support.playing import STUDIES, Incident, forget_connections, identity, killed, number, play
from tests.support.stores import shows_its_images

REFUSALS = ("is in the store's bin", "another study's experiment was renamed to")
SHOWN = (COUNTS, COLOUR)
ADDED = "notes/mine.txt"  # an artifact that is the person's
QUESTIONS = {study.name: study.question for study in STUDIES}


class Wanted(NamedTuple):
    """A run that a call of `run` is to leave recorded."""

    study: str
    arm: str
    seed: int
    config: RunConfig
    clone: str

    @property
    def trajectory(self) -> str:
        return trajectory_sha256(self.config, self.seed, **asdict(identity(self.clone)))


def wanted(studies: Collection[str], seeds: Sequence[int], clone: str) -> list[Wanted]:
    return [
        Wanted(study.name, arm, seed, config, clone)
        for study in STUDIES
        if study.name in studies
        for arm, config in study.arms.items()
        for seed in seeds
    ]


class Person:
    """One store, wherever it is moved to, and whose each of its runs is."""

    def __init__(self, root: Path) -> None:
        self.root, self.places, self.depth = root, 0, 0
        self.folder = self._next_place()
        self.foreign: set[str] = set()
        self.imported: set[str] = set()
        self.words: dict[str, dict[str, str]] = {}
        """The tags that the person gave each run."""
        self.pages: dict[str, dict[str, str]] = {}
        """The descriptions and views that the person wrote, by experiment and tag."""
        self.deleted_pages: dict[str, set[str]] = {}
        """Those of ours that they deleted."""
        self.notes: set[str] = set()
        """The files that the person put into the store's folder, by path."""
        self.originals: list[tuple[Path, dict[str, str]]] = []
        """What was copied elsewhere, which nobody is at any more."""
        scripted.open_store(self.folder)

    def _next_place(self) -> Path:
        self.places += 1
        forget_connections()
        return self.root / f"place {self.places}"

    @property
    def store(self) -> Store:
        return Store(resolve(scripted.database(self.folder), self.folder))

    @property
    def client(self) -> Any:
        return self.store.client

    def experiments(self, stage: str) -> list[str]:
        """The ids of our studies' experiments that are active, or deleted."""
        return [
            key
            for key, experiment in dump(self.folder).experiments.items()
            if experiment.stage == stage and experiment.tags.get(MARK) in QUESTIONS
        ]

    def experiment(self, study: str) -> str | None:
        """The id of a study's experiment, wherever it is."""
        found = dump(self.folder).experiments.items()
        return next((key for key, experiment in found if experiment.tags.get(MARK) == study), None)

    def experiment_of_others(self) -> str:
        found = self.client.get_experiment_by_name("churn")
        return str(
            found.experiment_id
            if found
            else self.client.create_experiment("churn", f"{self.folder.as_uri()}/artifacts/churn")
        )

    # What a person does in the UI.

    def tag(self, run_id: str, word: str, value: str) -> None:
        self.client.set_tag(run_id, word, value)
        self.words.setdefault(run_id, {})[word] = value

    def untag(self, run_id: str, word: str) -> None:
        if word in dump(self.folder).runs[run_id].tags:
            self.client.delete_tag(run_id, word)
        self.words.get(run_id, {}).pop(word, None)

    def add(self, run_id: str) -> None:
        """A file, a metric and a description."""
        client = self.client
        client.log_text(run_id, "of mine", ADDED)
        client.log_metric(run_id, "my_score", 0.5, step=7)
        self.tag(run_id, "mlflow.note.content", "look at epoch 2")

    def purge(self, run_id: str) -> None:
        """What `mlflow gc` does to a run in the bin."""
        shutil.rmtree(self.client.get_run(run_id).info.artifact_uri.removeprefix("file://"), ignore_errors=True)
        self.client._tracking_client.store._hard_delete_run(run_id)
        self._forget([run_id])

    def work_of_others(self, experiment: str, finished: bool, tags: dict[str, str]) -> None:
        run_id = str(self.client.create_run(experiment, tags=tags).info.run_id)
        self.foreign.add(run_id)
        self.client.log_metric(run_id, "test_accuracy", 0.99, step=1)
        self.client.log_param(run_id, "seed", "0")
        self.client.log_text(run_id, "of mine", "notes.txt")
        if finished:
            self.client.set_terminated(run_id)

    def write_page(self, experiment: str, tag: str) -> None:
        """Write a description or save a view, over ours or anew."""
        self.client.set_experiment_tag(experiment, tag, "of mine")
        self.pages.setdefault(experiment, {})[tag] = "of mine"
        self.deleted_pages.get(experiment, set()).discard(tag)

    def delete_page(self, experiment: str, tag: str) -> None:
        tags = dump(self.folder).experiments[experiment].tags
        if tag not in tags:
            return
        self.client.delete_experiment_tag(experiment, tag)
        self.pages.get(experiment, {}).pop(tag, None)
        if tag in tags.get(WRITTEN, ""):  # one that is not ours may be written later
            self.deleted_pages.setdefault(experiment, set()).add(tag)

    # What a person does to the folder.

    def note(self, name: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("of mine")
        self.notes.add(name)

    def trajectories(self) -> list[str]:
        """The trajectories' folders, by name."""
        return sorted(path.parent.relative_to(self.folder).as_posix() for path in self.folder.glob("*/*/header.json"))

    def move(self) -> None:
        before, self.folder = self.folder, self._next_place()
        before.rename(self.folder)

    def copy(self) -> None:
        before, self.folder = self.folder, self._next_place()
        shutil.copytree(before, self.folder)
        self.originals.append((before, contents(before)))

    def remove_database(self) -> None:
        self.move()
        (self.folder / "mlflow.db").unlink()
        scripted.open_store(self.folder)
        self._forget([*self.foreign, *self.imported, *self.words])
        self.pages.clear()
        self.deleted_pages.clear()

    def remove_trajectory(self, name: str) -> None:
        shutil.rmtree(self.folder / name)
        self.notes = {note for note in self.notes if not note.startswith(f"{name}/")}

    def _forget(self, run_ids: Collection[str]) -> None:
        self.foreign.difference_update(run_ids)
        self.imported.difference_update(run_ids)
        for run_id in run_ids:
            self.words.pop(run_id, None)

    # What a person calls, and what must hold then.

    def run(
        self, studies: Sequence[str], seeds: Sequence[int], clone: str = "ours", *, at: int | None = None, **how: Any
    ) -> None:
        """Have runs recorded; `how` is that of `call`."""
        plan, before = wanted(studies, seeds, clone), dump(self.folder)
        words = ["run", *studies, "--first-seed", seeds[0], "--seeds", len(seeds)]
        status, said = self.call(*words, clone=clone, at=at, **how)
        after = dump(self.folder)
        if status == 2:
            assert self.is_refused(said), said
            assert after.runs == before.runs
            return
        assert status in ((0,) if "incident" not in how else (0, 1, 130)) or at, (status, said)
        if status not in (0, 1):
            return
        binned = {key for key, experiment in after.experiments.items() if experiment.stage == "deleted"}
        seen = [run for run in self._ours(after) if run.active and str(run.info["experiment_id"]) not in binned]
        left = [run.tags for run in seen if run.status == "RUNNING"]
        assert left == [] or self.depth, f"a run is left open: {left}\n{said}"
        for each in plan:
            had, has = self.recorded(before, each), self.recorded(after, each)
            if "incident" not in how:
                assert len(has) == 1 or (had and has == had), f"{each} is recorded {len(has)} times, not once\n{said}"
            for run_id in has - had:
                self._check_numbers(run_id, after.runs[run_id], each)

    def recorded(self, found: Dump, each: Wanted) -> set[str]:
        """The runs that count as this one's record."""
        said = {"study": each.study, "arm": each.arm, "config_sha256": each.config.sha256(), "smoke": "false"}
        said |= {"trajectory_sha256": each.trajectory, **asdict(identity(each.clone))}
        home = {
            key
            for key, experiment in found.experiments.items()
            if experiment.stage == "active" and experiment.tags.get(MARK) == each.study
        }
        return {
            run_id
            for run_id, run in found.runs.items()
            if run_id not in self.foreign | self.imported
            and run.active
            and run.status == "FINISHED"
            and str(run.info["experiment_id"]) in home
            and said.items() <= run.tags.items()
            and run.params.get("seed") == str(each.seed)
        }

    def call(self, *words: object, at: int | None = None, **how: Any) -> tuple[int | None, str]:
        """Call a command, which SIGKILL may end at one of its writes; see `play` and `killed`.

        Its incident is given as the number of an event, and what the person does then.
        """
        self._before, self._settled = dump(self.folder), self._noted(str(words[0]))
        if "incident" in how:
            moment, act = how["incident"]
            how["incident"] = Incident(moment, lambda: self._meanwhile(str(words[0]), act))
        called = play(self.folder, *words, **how) if at is None else killed(at, self.folder, *words, **how)
        assert "--debug shows where" not in called[1], called[1]
        self.check(str(words[0]))
        return called

    def _meanwhile(self, command: str, act: Callable[[], Any]) -> Any:
        self.check(command)
        self.depth += 1
        answer = act()
        self.depth -= 1
        self._before, self._settled = dump(self.folder), self._noted(command)
        return answer

    def check(self, command: str) -> None:
        """Ask that a command changed nothing but what it is for since this was asked last."""
        before, now = self._before, dump(self.folder)
        for run_id, run in now.runs.items():
            if run_id not in before.runs:
                assert command in ("run", "sync", "ui", "import"), f"{command} made a run"
                assert ("record" in run.tags) == (command in ("run", "sync"))
                if command in ("ui", "import"):
                    self.imported.add(run_id)
        for run_id, was in before.runs.items():
            assert run_id in now.runs, f"{command} lost a run: {was}"
            self._check_run(command, run_id, was, now.runs[run_id], now)
        for key, experiment in before.experiments.items():
            self._check_experiment(command, key, experiment, now.experiments[key])
        for name in self.notes:
            assert (self.folder / name).exists(), f"{command} lost {name}"
        records = [run.tags["record"] for run in self._ours(now) if run.active and run.status == "FINISHED"]
        assert len(records) == len(set(records)), "one run is there twice"

    def _check_experiment(self, command: str, key: str, was: StoredExperiment, then: StoredExperiment) -> None:
        assert (then.name, then.stage) == (was.name, was.stage), f"{command} changed an experiment"
        assert set(was.tags) <= set(then.tags), f"{command} lost {set(was.tags) - set(then.tags)}"
        changed = {tag for tag, text in then.tags.items() if was.tags.get(tag) != text}
        assert all(tag in (MARK, NOTE, WRITTEN) or tag.startswith(VIEW) for tag in changed), f"{command}: {changed}"
        assert (mine := self.pages.get(key, {})).items() <= then.tags.items(), f"{command} wrote over one of {mine}"
        assert not (back := self.deleted_pages.get(key, set()) & set(then.tags)), f"{command} wrote {back} again"

    def _check_run(self, command: str, run_id: str, was: StoredRun, then: StoredRun, now: Dump) -> None:
        words = self.words.get(run_id, {})
        if command in ("run", "sync", "ui", "import"):  # these say which runs count, and in which colour
            was, then = (
                replace(run, tags={name: text for name, text in run.tags.items() if name not in {*SHOWN} - {*words}})
                for run in (was, then)
            )
        told = f"{command} changed {run_id}: {_difference(was, then)}"
        if run_id in self.imported and command in ("ui", "import"):
            if then.active or not was.active:  # else it is published no more, or was cut off
                assert then == was, told
        elif run_id in self.foreign | self.imported | self._settled:
            assert then == was, told
        else:
            assert then.info["lifecycle_stage"] == was.info["lifecycle_stage"], told
            assert words.items() <= then.tags.items() and was.params.items() <= then.params.items(), told
            assert was.metrics <= then.metrics and set(was.files) <= set(then.files), told

    def _noted(self, command: str) -> set[str]:
        """The runs that a command must leave as they are, for all of them is in the store."""
        settled = set()
        for entry, sent in self._entries():
            if sent.get("done") == entry["status"] and (command != "run" or entry["status"] == "finished"):
                settled.add(str(sent["run_id"]))
        return settled

    def _entries(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """What the folders hold of each run, and of what was sent of it."""
        for path in self.folder.glob("trajectories/*/runs/*.json"):
            if not path.name.endswith(".sent.json") and not path.name.startswith("."):
                sent = path.with_suffix(".sent.json")
                yield json.loads(path.read_bytes()), json.loads(sent.read_bytes()) if sent.exists() else {}

    def _ours(self, found: Dump) -> list[StoredRun]:
        return [run for run_id, run in found.runs.items() if run_id not in self.foreign | self.imported]

    def is_refused(self, said: str) -> bool:
        """Whether a command says that an experiment is in the bin, or its name another's, and it is so."""
        return any(text in said for text in REFUSALS) and any(
            experiment.stage == "deleted" or experiment.tags.get(MARK, experiment.name) != experiment.name
            for experiment in dump(self.folder).experiments.values()
        )

    def _check_numbers(self, run_id: str, run: StoredRun, each: Wanted) -> None:
        script, epochs = number(each.trajectory), each.config.epochs
        found = {(name, step): value for name, value, _, step in run.metrics}
        assert run.tags["weights_sha256"] == scripted.state(script, epochs).weights_sha256(), f"{run_id}: its weights"
        for epoch in range(1, epochs + 1):
            for name, value in scripted.metrics(script, epoch).items():
                assert found[name, epoch] == value, f"{run_id}: {name} after epoch {epoch}"
        steps = [(name, step) for name, _, _, step in run.metrics if name != "my_score"]
        assert len(steps) == len(set(steps)), f"{run_id}: two values of one metric and step"
        assert run.params.items() >= each.config.params().items(), f"{run_id}: {run.params}"
        store = self.store
        record = store.record(store.run(run_id), store.epochs([run_id]).to_dict("records"))
        record = replace(record, artifacts={name: file for name, file in record.artifacts.items() if name != ADDED})
        assert (wrong := [*missing(record), *contradictions(record)]) == [], wrong
        assert shows_its_images(record), f"{run_id} lacks images, or has one twice"

    def ends_well(self) -> None:
        """What was deleted is restored, and then the next `run` leaves each run recorded once."""
        client = self.client
        everything = dump(self.folder).experiments
        for key, experiment in everything.items():
            if experiment.stage == "deleted":
                client.restore_experiment(key)
        for key, experiment in everything.items():
            if experiment.name in QUESTIONS and experiment.tags.get(MARK, experiment.name) != experiment.name:
                client.rename_experiment(key, f"{experiment.name} of {key}")
        self.run(["baseline_study"], (0,), "another")
        self.run(list(QUESTIONS), (0, 1))
        before = dump(self.folder)
        self.run(list(QUESTIONS), (0, 1))
        assert dump(self.folder) == before, "a run of what is recorded changed something"
        for folder, was in self.originals:
            now = contents(folder)
            assert now == was, f"the original of a copy was changed: {set(now.items()) ^ set(was.items())}"


def _difference(was: StoredRun, then: StoredRun) -> str:
    """What differs, of each part what is there no more and what is new."""
    told = []
    for name in ("info", "tags", "params", "metrics", "files", "others"):
        before, now = (
            set(map(str, part.items() if isinstance(part, dict) else part))
            for part in (getattr(was, name), getattr(then, name))
        )
        told += [f"{name}: {sorted(before - now)} -> {sorted(now - before)}"] if before != now else []
    return "; ".join(told)
