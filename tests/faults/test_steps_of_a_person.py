"""Whatever a person does to a store between two commands, nothing of theirs is lost and all is recorded once.

Steps are taken at random. The soak looks for new ones, by FAULT_SEED; otherwise they are the same each time, so that a
failure is the change's. It tells the steps that led to it, as `WALK` takes them to repeat them alone.
"""

from __future__ import annotations

import os
import random
from ast import literal_eval
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from mlflow.exceptions import MlflowException

from fashion_cnn.evidence.selection import Selection
from fashion_cnn.store.description import NOTE
from fashion_cnn.store.views import VIEW
from tests.support.bundles import packed
from tests.support.dump import dump
from tests.support.person import QUESTIONS, Person
from tests.support.playing import STUDIES, ctrl_c, failure, forget_connections, out_of_memory
from tests.support.published import published, records

Method = TypeVar("Method", bound=Callable[..., Any])
STEPS: Final[dict[str, tuple[int, Mapping[str, Sequence[Any]]]]] = {}
"""How often each step is taken, and what it may be given."""

PICK = (0, 0, 0, 1, 1, 2, 3, 5, 8)  # one of a list, the newest is 0: what was just made or deleted is of most interest
SEED = (0, 0, 0, 1)
WORD = ("published", "imported", "study", "arm", "seed", "loss", "test_accuracy", "model", "status")
VALUE = ("in the paper", "baseline_study", "a" * 32, "0.99")
NAME = ("networks", "Filters", *QUESTIONS)
CHOSEN = (["baseline_study"], ["epochs_study"], list(QUESTIONS))
CLONE = ("ours", "ours", "another")
WRITE = (None, *range(1, 150))  # at which a command is killed
MOMENT = range(1, 21)  # of a worker's events
DISTURBANCES = {"Ctrl-C": ctrl_c, "a failure": failure, "memory runs out": out_of_memory}
PAGE = (NOTE, *(VIEW + key for key in ("by-arm-here", "by-arm-published", "feature-maps-here", "mine")))
NOTED = ("notes.txt", "trajectories/notes.txt", "trajectories/mine/notes.txt", "artifacts/notes.txt")
WITHIN = ("notes.txt", ".notes", "cuts/notes.txt", "sheets/notes.txt", "runs/notes.txt")


def step(weight: int = 1, **choices: Sequence[Any]) -> Callable[[Method], Method]:
    """Marks a method as a step of a person's, which says whether there was anything to do."""

    def note(method: Method) -> Method:
        STEPS[method.__name__] = weight, choices
        return method

    return note


class Steps:
    """A person's steps, in any order."""

    def __init__(self, root: Path) -> None:
        """A store with two runs in it, another person's open one, and notes; `root` has published results, a bundle."""
        self.root = root
        place = root / f"store {len(list(root.iterdir()))}"
        place.mkdir()
        self.person = Person(place)
        self.record(["baseline_study"], 0, "ours")
        self.work_of_others(0, finished=False, alike=True)
        for name in NOTED:
            self.person.note(name)

    @step(weight=4, studies=CHOSEN, seed=SEED, clone=CLONE)
    def record(self, studies: list[str], seed: int, clone: str) -> bool:
        self.person.run(studies, (seed,), clone)
        return True

    @step(weight=4, studies=CHOSEN, seed=SEED, clone=CLONE, at=range(1, 250))
    def record_and_be_killed(self, studies: list[str], seed: int, clone: str, at: int) -> bool:
        self.person.run(studies, (seed,), clone, at=at)
        return True

    @step(weight=2, studies=CHOSEN, seed=SEED, at=MOMENT, what=tuple(DISTURBANCES))
    def record_and_be_disturbed(self, studies: list[str], seed: int, at: int, what: str) -> bool:
        self.person.run(studies, (seed,), incident=(at, DISTURBANCES[what]))
        return True

    @step(
        weight=3,
        studies=CHOSEN,
        seed=SEED,
        at=MOMENT,
        what=("tag", "add", "delete", "restore", "delete_experiment", "rename_experiment"),
        pick=PICK,
        word=WORD,
        name=NAME,
    )
    def record_and_look_at_the_ui(self, studies: list[str], seed: int, at: int, what: str, **how: Any) -> bool:
        _, choices = STEPS[what]
        chosen = {"value": "best", **how}
        act = getattr(self, what)
        self.person.run(studies, (seed,), incident=(at, lambda: void(act, {each: chosen[each] for each in choices})))
        return True

    @step(at=MOMENT, command=("record", "sync", "gc", "import_published"))
    def record_beside_another_clone(self, at: int, command: str) -> bool:
        how: dict[str, dict[str, Any]] = {
            "record": {"studies": ["baseline_study"], "seed": 0, "clone": "another"},
            "import_published": {"at": None, "version": 0},
        }
        act = getattr(self, command)
        self.person.run(["epochs_study"], (0,), incident=(at, lambda: void(act, how.get(command, {"at": None}))))
        return True

    @step(at=WRITE)
    def sync(self, at: int | None) -> bool:
        self.person.call("sync", at=at)
        return True

    @step(at=WRITE)
    def gc(self, at: int | None) -> bool:
        status, said = self.person.call("gc", at=at)
        assert status == 0 or (at and status is None), said
        return True

    @step(at=WRITE, version=range(2))
    def import_published(self, at: int | None, version: int) -> bool:
        status, said = self.person.call("ui", "--published", at=at, published=self.root / f"results {version}")
        assert status == 0 or (at and status is None) or self.person.is_refused(said), said
        return True

    @step(at=WRITE)
    def import_bundle(self, at: int | None) -> bool:
        status, said = self.person.call("import", self.root / "bundle.zip", at=at)
        assert status == 0 or (at and status is None) or self.person.is_refused(said), said
        return True

    @step(command=("list", "claims", "list"))
    def read(self, command: str) -> bool:
        status, said = self.person.call(command)
        assert status == 0, said
        return True

    # What a person does at MLflow's UI,

    @step(weight=2, pick=PICK, word=WORD, value=VALUE)
    def tag(self, pick: int, word: str, value: str) -> bool:
        return self._with_run(pick, lambda run_id: self.person.tag(run_id, word, value))

    @step(pick=PICK, word=("published", "imported", "loss", "model"))  # no tags of our records
    def untag(self, pick: int, word: str) -> bool:
        return self._with_run(pick, lambda run_id: self.person.untag(run_id, word))

    @step(pick=PICK)
    def add(self, pick: int) -> bool:
        return self._with_run(pick, self.person.add)

    @step(weight=2, pick=PICK)
    def delete(self, pick: int) -> bool:
        return self._with_run(pick, self.person.client.delete_run)

    @step(weight=2, pick=PICK)
    def restore(self, pick: int) -> bool:
        return self._with_run(pick, self.person.client.restore_run, active=False)

    @step(pick=PICK)
    def purge(self, pick: int) -> bool:
        return self._with_run(pick, self.person.purge, active=False)

    @step(pick=PICK, name=NAME)
    def rename_experiment(self, pick: int, name: str) -> bool:
        with suppress(MlflowException):  # the name is taken
            return self._with_experiment(pick, lambda key: self.person.client.rename_experiment(key, name))
        return False

    @step(pick=PICK)
    def delete_experiment(self, pick: int) -> bool:
        return self._with_experiment(pick, self.person.client.delete_experiment)

    @step(weight=2, pick=PICK)
    def restore_experiment(self, pick: int) -> bool:
        return self._with_experiment(pick, self.person.client.restore_experiment, "deleted")

    @step(pick=PICK, tag=PAGE)
    def write_page(self, pick: int, tag: str) -> bool:
        return self._with_experiment(pick, lambda key: self.person.write_page(key, tag))

    @step(pick=PICK, tag=PAGE)
    def delete_page(self, pick: int, tag: str) -> bool:
        return self._with_experiment(pick, lambda key: self.person.delete_page(key, tag))

    @step(weight=2, pick=PICK, finished=(False, True), alike=(False, True))
    def work_of_others(self, pick: int, finished: bool, alike: bool) -> bool:
        ours = self.person.experiments("active")
        tags = {"study": "baseline_study", "arm": "dense", "seed": "0", "published": "a" * 32}
        tags |= {"record": "x", "heartbeat": "2020-01-01T00:00:00Z"} if alike else {}
        if pick % 2 and ours:
            self.person.work_of_others(ours[pick % len(ours)], finished, tags)
        else:
            # Where the study has no experiment, one with such a run would be taken for it, renamed.
            tags |= {"trajectory_sha256": "0" * 64} if alike and self.person.experiment("baseline_study") else {}
            self.person.work_of_others(self.person.experiment_of_others(), finished, tags)
        return True

    # and in folders.

    @step(weight=2, pick=PICK, name=WITHIN)
    def keep_notes(self, pick: int, name: str) -> bool:
        return self._with(pick, self.person.trajectories(), lambda path: self.person.note(f"{path}/{name}"))

    @step(copied=(False, True))
    def move(self, copied: bool) -> bool:
        self.person.copy() if copied else self.person.move()
        return True

    @step(pick=PICK)
    def remove_trajectory(self, pick: int) -> bool:
        return self._with(pick, self.person.trajectories(), self.person.remove_trajectory)

    @step(chance=range(4))
    def remove_database(self, chance: int) -> bool:
        if chance == 0:
            self.person.remove_database()
        return chance == 0

    def _with_run(self, pick: int, act: Callable[[str], Any], active: bool = True) -> bool:
        runs = dump(self.person.folder).runs.items()
        return self._with(pick, [key for key, run in runs if run.active == active], act)

    def _with_experiment(self, pick: int, act: Callable[[str], Any], stage: str = "active") -> bool:
        return self._with(pick, self.person.experiments(stage), act)

    def _with(self, pick: int, found: Sequence[Any], act: Callable[[Any], Any]) -> bool:
        if found:
            act(found[-1 - pick % len(found)])
        return bool(found)


def void(act: Callable[..., Any], how: Mapping[str, Any]) -> None:
    act(**how)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_in(tmp_path_factory.mktemp("person"))


def published_in(root: Path) -> Path:
    """Put two versions of published results into a folder, of which one has no second seed, and a bundle."""
    for version in range(2):
        found = published(records(*range(2 - version), studies=STUDIES), STUDIES)
        for name, content in found.items():
            path = root / f"results {version}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    (root / "bundle.zip").write_bytes(packed(Selection(STUDIES[0], records(5, studies=STUDIES[:1]), [])))
    return root


def drawn(seed: str) -> Any:
    """Steps without end."""
    chance = random.Random(seed)
    while True:
        (name,) = chance.choices(list(STEPS), [weight for weight, _ in STEPS.values()])
        yield name, {argument: chance.choice(choices) for argument, choices in STEPS[name][1].items()}


def walk(root: Path, steps: Any, count: int) -> Counter[str]:
    """Take so many steps at a new store, and end well; gives how many of each kind were taken."""
    walker, taken = Steps(root), list[Any]()
    try:
        for name, how in steps:
            taken.append((name, how))
            if not getattr(walker, name)(**how):
                taken.pop()
            if len(taken) == count:
                break
        walker.person.ends_well()
    except Exception as error:
        error.add_note(f"FAULT_SEED={os.environ['FAULT_SEED']}, these steps:\nWALK={taken!r}")
        raise
    finally:
        forget_connections()
    return Counter(name for name, _ in taken)


@pytest.mark.fault("steps")
def test_nothing_is_lost_and_all_is_recorded_once_whatever_a_person_does(root: Path) -> None:
    if given := os.environ.get("WALK"):
        walk(root, literal_eval(given), 10**6)
        return
    for seed in "14":  # which find more of what was broken on purpose than others do
        walk(root, drawn(seed), 30)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.fault("steps", note="1,000 steps")
def test_nothing_is_lost_in_many_steps(root: Path) -> None:
    taken = Counter[str]()
    for number in range(40):
        taken += walk(root, drawn(f"{os.environ['FAULT_SEED']} {number}"), 25)
    print(f"{taken.total()} steps of FAULT_SEED={os.environ['FAULT_SEED']}: {dict(taken.most_common())}")
    assert taken.total() >= 1000
