"""Whatever a person does to a store between two commands, nothing of theirs is lost and all is recorded once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from mlflow.exceptions import MlflowException

from fashion_cnn.evidence.selection import Selection
from tests.support.bundles import packed
from tests.support.dump import dump
from tests.support.person import QUESTIONS, Person
from tests.support.playing import STUDIES, ctrl_c, failure, forget_connections, out_of_memory
from tests.support.published import published, records

PICK = st.integers(0, 11)  # one of a list, counted around it
SEED = st.integers(0, 1)
WORD = st.sampled_from(["published", "imported", "study", "arm", "seed", "loss", "test_accuracy", "model", "status"])
VALUE = st.sampled_from(["in the paper", "baseline_study", "a" * 32, "0.99"])
NAME = st.sampled_from(["networks", "Filters", *QUESTIONS])
CHOSEN = st.sampled_from([["baseline_study"], ["epochs_study"], list(QUESTIONS)])
CLONE = st.sampled_from(["ours", "ours", "another"])
WRITE = st.none() | st.integers(1, 150)  # at which a command is killed
MOMENT = st.integers(1, 20)  # of a worker's events
DISTURBANCE = st.sampled_from([ctrl_c, failure, out_of_memory])
AT_THE_UI = st.sampled_from(["tag", "delete", "restore", "delete_experiment", "rename_experiment", "add"])
NOTED = st.sampled_from(["notes.txt", "trajectories/notes.txt", "trajectories/mine/notes.txt", "artifacts/notes.txt"])
WITHIN = st.sampled_from(["notes.txt", ".notes", "cuts/notes.txt", "sheets/notes.txt", "runs/notes.txt"])


class Steps(RuleBasedStateMachine):
    """A person's steps, in any order."""

    root: ClassVar[Path]
    """Where stores are made; the published results are there, and a bundle."""
    taken: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        made = self.root / f"store {len(list(self.root.iterdir()))}"
        made.mkdir()
        self.person = Person(made)

    def teardown(self) -> None:
        self.person.ends_well()
        forget_connections()

    @rule(studies=CHOSEN, seed=SEED, clone=CLONE)
    def record(self, studies: list[str], seed: int, clone: str) -> None:
        self.taken["record"] += 1
        self.person.run(studies, (seed,), clone)

    @rule(studies=CHOSEN, seed=SEED, clone=CLONE, at=st.integers(1, 250))
    def record_and_be_killed(self, studies: list[str], seed: int, clone: str, at: int) -> None:
        self.taken["kill"] += 1
        self.person.run(studies, (seed,), clone, at=at)

    @rule(studies=CHOSEN, seed=SEED, at=MOMENT, what=DISTURBANCE)
    def record_and_be_disturbed(self, studies: list[str], seed: int, at: int, what: Callable[[], Any]) -> None:
        self.taken["disturb"] += 1
        self.person.run(studies, (seed,), incident=(at, what))

    @rule(studies=CHOSEN, seed=SEED, at=MOMENT, what=AT_THE_UI, pick=PICK, word=WORD, name=NAME)
    def record_and_look_at_the_ui(
        self, studies: list[str], seed: int, at: int, what: str, pick: int, word: str, name: str
    ) -> None:
        acts: dict[str, Callable[[], None]] = {
            "tag": lambda: self.tag(pick, word, "best"),
            "add": lambda: self.add(pick),
            "delete": lambda: self.delete(pick),
            "restore": lambda: self.restore(pick),
            "delete_experiment": lambda: self.delete_experiment(pick),
            "rename_experiment": lambda: self.rename_experiment(pick, name),
        }
        self.taken["record"] += 1
        self.person.run(studies, (seed,), incident=(at, acts[what]))

    @rule(at=MOMENT, command=st.sampled_from(["run", "sync", "gc", "ui"]))
    def record_beside_another_clone(self, at: int, command: str) -> None:
        acts: dict[str, Callable[[], None]] = {
            "run": lambda: self.person.run(["baseline_study"], (0,), "another"),
            "sync": lambda: self.sync(None),
            "gc": lambda: self.gc(None),
            "ui": lambda: self.import_published(None, 0),
        }
        self.taken["another clone"] += 1
        self.person.run(["epochs_study"], (0,), incident=(at, acts[command]))

    @rule(at=WRITE)
    def sync(self, at: int | None) -> None:
        self.taken["sync"] += 1
        self.person.call("sync", at=at)

    @rule(at=WRITE)
    def gc(self, at: int | None) -> None:
        self.taken["gc"] += 1
        status, said = self.person.call("gc", at=at)
        assert status == (None if at and status is None else 0), said

    @rule(at=WRITE, version=st.integers(0, 1))
    def import_published(self, at: int | None, version: int) -> None:
        self.taken["import"] += 1
        self.person.call("ui", "--published", at=at, published=self.root / f"results {version}")

    @rule(at=WRITE)
    def import_bundle(self, at: int | None) -> None:
        self.taken["import"] += 1
        self.person.call("import", self.root / "bundle.zip", at=at)

    @rule(command=st.sampled_from(["list", "claims"]))
    def read(self, command: str) -> None:
        self.taken["read"] += 1
        status, said = self.person.call(command)
        assert status == 0, said

    # What a person does themselves, at MLflow's UI

    @rule(pick=PICK, word=WORD, value=VALUE)
    def tag(self, pick: int, word: str, value: str) -> None:
        if runs := self._runs("tag"):
            self.person.tag(runs[pick % len(runs)], word, value)

    @rule(pick=PICK)
    def untag(self, pick: int) -> None:
        """Deletes the words that are no tags of our records."""
        for run_id in (runs := self._runs("untag"))[pick % (len(runs) or 1) :][:1]:
            for word in set(dump(self.person.folder).runs[run_id].tags) & {"published", "imported", "loss", "model"}:
                self.person.untag(run_id, word)

    @rule(pick=PICK)
    def add(self, pick: int) -> None:
        if runs := self._runs("add"):
            run_id, client = runs[pick % len(runs)], self.person.client
            client.log_text(run_id, "of mine", "notes/mine.txt")
            client.log_metric(run_id, "my_score", 0.5, step=7)
            self.person.tag(run_id, "mlflow.note.content", "look at epoch 2")

    @rule(pick=PICK)
    def delete(self, pick: int) -> None:
        if runs := self._runs("delete"):
            self.person.client.delete_run(runs[pick % len(runs)])

    @rule(pick=PICK)
    def restore(self, pick: int) -> None:
        if runs := self._runs("restore", active=False):
            self.person.client.restore_run(runs[pick % len(runs)])

    @rule(pick=PICK)
    def purge(self, pick: int) -> None:
        if runs := self._runs("purge", active=False):
            self.person.purge(runs[pick % len(runs)])

    @rule(pick=PICK, name=NAME)
    def rename_experiment(self, pick: int, name: str) -> None:
        if ours := self._experiments("rename experiment", stage="active"):
            with suppress(MlflowException):  # the name is taken
                self.person.client.rename_experiment(ours[pick % len(ours)], name)

    @rule(pick=PICK)
    def delete_experiment(self, pick: int) -> None:
        if ours := self._experiments("delete experiment", stage="active"):
            self.person.client.delete_experiment(ours[pick % len(ours)])

    @rule(pick=PICK)
    def restore_experiment(self, pick: int) -> None:
        if ours := self._experiments("restore experiment", stage="deleted"):
            self.person.client.restore_experiment(ours[pick % len(ours)])

    @rule(pick=PICK, finished=st.booleans(), marked=st.booleans())
    def work_of_others(self, pick: int, finished: bool, marked: bool) -> None:
        ours = self._experiments("work of others", stage="active")
        tags = {"study": "baseline_study", "arm": "dense", "seed": "0", "published": "a" * 32}
        tags |= {"record": "x", "heartbeat": "2020-01-01T00:00:00Z"} if marked else {}
        if pick % 2 and ours:
            self.person.work_of_others(ours[pick % len(ours)], finished, tags)
        else:
            tags |= {"trajectory_sha256": "0" * 64} if marked else {}
            self.person.work_of_others(self.person.experiment_of_others(), finished, tags)

    # and in folders.

    @rule(name=NOTED)
    def keep_notes(self, name: str) -> None:
        self.taken["keep notes"] += 1
        self.person.note(name)

    @rule(pick=PICK, name=WITHIN)
    def keep_notes_within(self, pick: int, name: str) -> None:
        if there := self.person.trajectories():
            self.taken["keep notes"] += 1
            self.person.note(f"trajectories/{there[pick % len(there)].name}/{name}")

    @rule(copied=st.booleans())
    def move(self, copied: bool) -> None:
        self.taken["copy" if copied else "move"] += 1
        self.person.copy() if copied else self.person.move()

    @rule(pick=PICK)
    def remove_trajectory(self, pick: int) -> None:
        if there := self.person.trajectories():
            self.taken["remove trajectory"] += 1
            self.person.remove_trajectory(there[pick % len(there)])

    @rule()
    def remove_database(self) -> None:
        self.taken["remove database"] += 1
        self.person.remove_database()

    def _runs(self, step: str, active: bool = True) -> list[str]:
        """The runs in the order in which they were made; a step that finds some is taken."""
        found = [key for key, run in dump(self.person.folder).runs.items() if run.active == active]
        self.taken[step] += bool(found)
        return found

    def _experiments(self, step: str, stage: str) -> list[str]:
        """Likewise our studies' experiments."""
        found = self.person.experiments(stage)
        self.taken[step] += bool(found)
        return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("person")
    for version in range(2):
        found = published(records(*range(2 - version), studies=STUDIES), STUDIES)
        for name, content in found.items():
            path = root / f"results {version}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    (root / "bundle.zip").write_bytes(packed(Selection(STUDIES[0], records(5, studies=STUDIES[:1]), [])))
    return root


def take(root: Path, walks: int, steps: int) -> Counter[str]:
    """Take so many walks of so many steps, which follow from FAULT_SEED; how many of each kind were taken."""
    machine = type("Walk", (Steps,), {"root": root, "taken": Counter()})
    seeded = hypothesis.seed(int(os.environ["FAULT_SEED"]))(machine)
    how = settings(
        max_examples=walks,
        stateful_step_count=steps,
        phases=(Phase.generate,),  # a failing walk is told as it was: to shorten it takes many minutes
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    run_state_machine_as_test(seeded, settings=how)
    return Counter(machine.taken)  # type: ignore[attr-defined]


@pytest.mark.fault("steps")
def test_nothing_is_lost_and_all_is_recorded_once_whatever_a_person_does(root: Path) -> None:
    assert take(root, walks=4, steps=20).total() >= 60


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.fault("steps", note="1,000 steps")
def test_nothing_is_lost_in_many_steps(root: Path) -> None:
    taken = take(root, walks=41, steps=30)
    print(f"{taken.total()} steps of FAULT_SEED={os.environ['FAULT_SEED']}: {dict(taken.most_common())}")
    assert taken.total() >= 1000
