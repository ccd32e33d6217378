"""What training cannot produce in many records together: a list of rules, and the seeds that are not there. Pure.

Each record may be one that training leaves, and two of them not: weights that two seeds ended with, a state with two
accuracies. What breaks a rule counts in no table, whichever of the two is the false one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from fashion_cnn.config import RunConfig
from fashion_cnn.evidence.plausibility import finite
from fashion_cnn.evidence.predictions import PREDICTIONS, PredictionsError, classes_alone, from_bytes
from fashion_cnn.evidence.record import BASIS, SCORES, Contradiction, Record

CHANCE: Final = 0.15
"""Networks that learned nothing answer one class, with the same scores whatever their seed: at most this accuracy."""
SLOWEST: Final = 1e-6
"""The least learning rate that is sure to change float32 weights in an epoch."""


@dataclass(frozen=True)
class State:
    """What a record says of one state of its trajectory."""

    record: Record
    config: RunConfig
    epoch: int
    weights: str
    scores: tuple[float, ...]
    answers: str = ""
    """SHA-256 of the classes that the network answered to the test images; only the last state's may be recorded."""

    def tag(self, name: str) -> str:
        """A value of the record's row."""
        return str(self.record.row.get(name))

    @property
    def named(self) -> bool:
        """Whether the record names its trajectory."""
        return isinstance(self.record.row.get("trajectory_sha256"), str)


@dataclass(frozen=True)
class Together:
    """What two states are like that have something in common."""

    field: str
    common: Callable[[State], tuple[Any, ...] | None]
    """What is compared with what: states that give the same here; None is left out."""
    shown: Callable[[State], str]
    """What stands in a record."""
    differs: Callable[[State, State], str]
    """What the second of two that have it in common has, and training cannot produce beside the first; else ""."""


def compared(record: Record) -> Record:
    """A record with no more artifacts than the rules here look at, as small as may be: a store may hold thousands."""
    kept = {name: record.artifacts[name] for name in ("trajectory.json",) if name in record.artifacts}
    with suppress(KeyError, PredictionsError):
        kept[PREDICTIONS] = classes_alone(record.artifacts[PREDICTIONS])
    return Record(record.row, (), kept, whole=False)


def implausible_together(records: Iterable[Record]) -> dict[str, list[Contradiction]]:
    """What no training leaves in several records, by the id of each run concerned; each pair once per rule.

    Records without epochs in `trajectory.json` are compared by the state that their row tells. Nothing is compared of
    a state whose scores are no finite numbers: such a training is no evidence, whatever its weights.
    """
    first: dict[tuple[str, tuple[Any, ...]], State] = {}
    breaches: dict[tuple[str, str, str], Contradiction] = {}
    for state in (state for record in records for state in states_of(record)):
        for rule in TOGETHER:
            if (common := rule.common(state)) is None:
                continue
            other = first.setdefault((rule.field, common), state)
            if other is state or not rule.differs(state, other):
                continue
            for one, against in ((state, other), (other, state)):
                run_id = against.tag("run_id")
                told = f"run {run_id} {rule.differs(one, against)}"
                breach = Contradiction(rule.field, one.epoch, rule.shown(one), told)
                breaches.setdefault((one.tag("run_id"), rule.field, run_id), breach)
    by_run: dict[str, list[Contradiction]] = {}
    for (run_id, _, _), breach in breaches.items():
        by_run.setdefault(run_id, []).append(breach)
    return by_run


def states_of(record: Record) -> list[State]:
    """The states that a record tells of; those of `trajectory.json`, else the last one, of the row."""
    config = record.config()
    if config is None:
        return []
    last = {"epoch": record.row.get("epochs_trained"), **{name: record.row.get(name) for name in SCORES}}
    told = record.states() or [{**last, "weights_sha256": record.row.get("weights_sha256")}]
    states = []
    for state in told:
        numbers = [finite(state.get(name)) for name in ("epoch", *SCORES)]
        weights, known = state.get("weights_sha256"), [number for number in numbers if number is not None]
        if isinstance(weights, str) and len(known) == len(numbers):
            answers = _answers(record) if state is told[-1] else ""
            states.append(State(record, config, int(known[0]), weights, tuple(known[1:]), answers))
    return states


def _answers(record: Record) -> str:
    try:
        return hashlib.sha256(from_bytes(record.artifacts[PREDICTIONS]).classes.tobytes()).hexdigest()
    except (KeyError, PredictionsError):
        return ""


def unlike(one: State, other: State) -> list[str]:
    """The settings that make two states other ones; the same weights cannot come of both.

    Not among them: the stopping rule, which changes no state; the order of the images in epoch 1, which is the same in
    a frozen and a fresh order; and the threads, part of the environment, where other kernels may compute the same.
    """
    if one.config == other.config:  # nearly always
        return []
    ours, theirs = one.config.training_settings(), other.config.training_settings()
    alike = {"threads", *(["order"] if one.epoch == other.epoch == 1 else [])}
    return [name for name in {**ours, **theirs} if name not in alike and ours.get(name) != theirs.get(name)]


def _of_same_weights(one: State, other: State) -> str:
    if one.tag("seed") != other.tag("seed"):
        return f"has the same with seed {other.tag('seed')}"
    if names := unlike(one, other):
        return f"has the same with another {' and another '.join(names)}"
    if one.epoch != other.epoch and one.config.learning_rate >= SLOWEST:
        return f"has the same after epoch {other.epoch}"
    return ""


def _of_same_scores(one: State, other: State) -> str:
    names = ["seed"] if one.tag("seed") != other.tag("seed") else unlike(one, other)
    return f"has the same to the last digit with another {' and another '.join(names)}" if names else ""


def _of_other_scores(one: State, other: State) -> str:
    names = [name for name, ours, theirs in zip(SCORES, one.scores, other.scores, strict=True) if ours != theirs]
    return f"has another {' and another '.join(names)} for the same" if names else ""


def _of_other_answers(one: State, other: State) -> str:
    if one.answers == other.answers or _of_same_weights(one, other):  # which says what is wrong
        return ""
    return "answered the test images otherwise with the same"


def _of_trajectory(one: State, other: State) -> str:
    return "has other weights for the same" if one.weights != other.weights else _of_other_scores(one, other)


TOGETHER: Final = (
    Together("weights_sha256", lambda state: (state.weights,), lambda state: state.weights, _of_same_weights),
    Together(
        "weights_sha256 and environment",
        lambda state: (state.weights, state.epoch, state.tag("seed"), *map(state.tag, BASIS)),
        lambda state: state.weights,
        _of_other_scores,
    ),
    Together(
        "predictions.npz",
        lambda state: (state.weights, *map(state.tag, BASIS)) if state.answers else None,
        lambda state: state.weights,
        _of_other_answers,
    ),
    Together(
        "trajectory_sha256",
        lambda state: (state.epoch, state.tag("trajectory_sha256")) if state.named else None,
        lambda state: state.tag("trajectory_sha256"),
        _of_trajectory,
    ),
    Together(
        "scores",
        lambda state: state.scores if state.scores[-1] > CHANCE else None,
        lambda state: f"test loss {state.scores[2]!r}, test accuracy {state.scores[3]!r}",
        _of_same_scores,
    ),
)


def seeds_left_out(records: Iterable[Record]) -> dict[str, list[str]]:
    """The arms and seeds that a study's records lack, by study: a seed that another arm has, or one in between.

    Whoever leaves out the worst seed of an arm leaves such a gap. An arm without any run is no gap: it was not run.
    """
    seeds: dict[str, dict[str, set[int]]] = {}
    for record in records:
        study, arm, seed = (str(record.row.get(name)) for name in ("study", "arm", "seed"))
        if seed.isdecimal() and len(seed) <= 10:
            seeds.setdefault(study, {}).setdefault(arm, set()).add(int(seed))
    lacking: dict[str, list[str]] = {}
    for study, arms in seeds.items():
        there = set().union(*arms.values())
        few = 1_000_000 // len(arms)  # a hostile table may name any seed, of many arms
        wanted = range(min(there), min(max(there), min(there) + few) + 1)
        lacks = [f"{arm}, seed {seed}" for arm, own in arms.items() for seed in wanted if seed not in own]
        if lacks:
            lacking[study] = lacks
    return lacking
