"""Which records count: complete, at one with themselves, and one for each study, arm and seed.

Pure: a record comes from a store or a bundle, and neither is asked for anything here. That what a run must hold is
stated as data follows mlcommons/logging's compliance checker.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from fashion_cnn.config import (
    FIELDS,
    IMAGE_SIZE,
    KERNEL_SIZE,
    MAX_SEED,
    ConfigError,
    RunConfig,
    feature_map_sizes,
    hash_of,
    parse,
    trajectory_sha256,
)
from fashion_cnn.data import CLASS_NAMES, FASHION_MNIST_SHA256
from fashion_cnn.environment import files_sha256

if TYPE_CHECKING:
    import pandas as pd

    from fashion_cnn.study import Study

EPOCH_METRICS: Final = (
    *("loss", "accuracy", "test_loss", "test_accuracy"),
    *("epoch_seconds", "epoch_cpu_seconds", "images_per_second"),
)
RUN_METRICS: Final = (
    *("fit_seconds", "fit_cpu_seconds", "trace_seconds", "evaluate_seconds"),
    *("epochs_trained", "reused_epochs", "peak_memory_mib"),
)
BASIS: Final = {"data_sha256": "data set", "code_sha256": "code", "environment_sha256": "environment"}
HASHES: Final = "hashes.json"
"""The artifact that lists the SHA-256 of all others and of the model; the tag `artifacts_sha256` is its own."""
MODEL: Final = "model.keras"
"""What `hashes.json` calls the native file of the logged model."""
TEXTS: Final = ("config.json", "environment.json", "trajectory.json", "per_class.json", "requirements.txt", HASHES)
LIGHT: Final = (*TEXTS, "model_summary.txt", "code.diff")
"""The artifacts that are small enough to be read or packed with every run."""
CELL: Final = ["study", "arm", "seed"]
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Record:
    """What a store or a bundle holds of one run."""

    row: Mapping[str, Any]
    """As `tracking.Store.runs` gives it: `run_id`, `status`, `start_time`, `end_time`, params, metrics, tags."""
    epochs: Sequence[Mapping[str, float]]
    """A mapping an epoch, in order: `epoch` and the epoch metrics, as `tracking.Store.epochs` gives them."""
    artifacts: Mapping[str, bytes] = field(repr=False)
    """By path, such as `config.json` or `figures/learning_curves.png`; images of the grid are no part of it."""
    whole: bool = True
    """Whether all artifacts and the model were read; without, only what was read is compared with its hash."""

    def json(self, name: str) -> Any:
        """An artifact as JSON, or None where it is missing or something else."""
        try:
            return json.loads(self.artifacts[name])
        except (KeyError, ValueError, RecursionError):
            return None

    def states(self) -> list[Mapping[str, Any]]:
        """What `trajectory.json` holds of each epoch, in order; empty where it holds none."""
        trajectory = self.json("trajectory.json")
        epochs = trajectory.get("epochs") if isinstance(trajectory, dict) else None
        return [one for one in epochs if isinstance(one, dict)] if isinstance(epochs, list) else []

    def config(self) -> RunConfig | None:
        """The config that its params say, or None where they say none."""
        try:
            return RunConfig.from_mapping({name: parse(name, str(self.row[name])) for name in FIELDS})
        except (ConfigError, KeyError):
            return None


# -- completeness --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """What a record must hold to be evidence."""

    field: str
    """`row.<column>`, `epochs.<metric>` of the store, `states.<quantity>` of trajectory.json, or `artifacts.<path>`."""
    count: Literal["one", "one an epoch"]
    """How many of it there must be."""
    holds: Callable[[Any, Record], bool]
    """Whether one of it is as it must be."""
    wanted: str
    """That, in words."""


def _given(value: Any, _: Record) -> bool:
    return isinstance(value, str) and value != "" and value != "unknown"


def _sha256(value: Any, _: Record) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _finite(value: Any, _: Record) -> bool:
    # MLflow's stores keep an infinity as the largest float.
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) < 1.7e308


def _is(*allowed: str) -> Callable[[Any, Record], bool]:
    return lambda value, _: value in allowed


def _json_object(value: Any, _: Record) -> bool:
    try:
        return isinstance(json.loads(value), dict)
    except (ValueError, RecursionError):
        return False


def _counts(value: Any, _: Record) -> bool:
    return _whole(value) is not None


def _clean_or_shown(value: Any, record: Record) -> bool:
    return value == "false" or (value == "true" and bool(record.artifacts.get("code.diff")))


RULES: Final = (
    Rule("row.status", "one", _is("FINISHED"), "FINISHED"),
    Rule("row.stop_reason", "one", _is("epochs", "callback"), "epochs or callback"),
    Rule("row.smoke", "one", _is("false"), "false: a smoke run is no evidence"),
    *(Rule(f"row.{name}", "one", _given, "the param as text") for name in FIELDS),
    *(Rule(f"row.{name}", "one", _counts, "a whole number") for name in ("seed", "parameters")),
    *(Rule(f"row.{name}", "one", _given, "the tag as text") for name in ("study", "arm", "reuse", "node", "workers")),
    *(
        Rule(f"row.{name}", "one", _sha256, "a SHA-256 in hex")
        for name in (
            *("config_sha256", "trajectory_sha256", "code_sha256"),
            *("environment_sha256", "weights_sha256", "artifacts_sha256"),
        )
    ),
    Rule("row.data_sha256", "one", _is(FASHION_MNIST_SHA256), "that of Fashion-MNIST"),
    Rule("row.git_commit", "one", _given, "a commit"),
    Rule("row.git_dirty", "one", _clean_or_shown, "false, or true with the artifact code.diff"),
    *(Rule(f"row.{name}", "one", _finite, "a finite number") for name in RUN_METRICS),
    *(Rule(f"epochs.{name}", "one an epoch", _finite, "a finite number") for name in EPOCH_METRICS),
    Rule("states.weights_sha256", "one an epoch", _sha256, "a SHA-256 in hex in trajectory.json"),
    *(
        Rule(f"artifacts.{name}", "one", _json_object, "a JSON object")
        for name in TEXTS
        if name.endswith(".json")
    ),
    Rule("artifacts.requirements.txt", "one", lambda value, _: b"==" in value, "a list of packages"),
)  # fmt: skip


PUBLISHED_RULES: Final = tuple(
    rule
    for rule in RULES
    if rule.field not in ("row.artifacts_sha256", "artifacts.per_class.json", f"artifacts.{HASHES}")
)
"""Of a record that was imported from published tables: what these cannot hold is not asked for."""


def rules_of(row: Mapping[str, Any]) -> Sequence[Rule]:
    """What a run's record must hold, whether it was recorded in its store or imported into it."""
    return PUBLISHED_RULES if is_published(row) else RULES


def is_published(row: Mapping[str, Any]) -> bool:
    """Whether a run was imported into its store from published results."""
    return _given(row.get("published"), Record(row, (), {}))


@dataclass(frozen=True)
class Lack:
    """A rule that a record does not meet."""

    field: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.field}: {self.found}; wanted: {self.wanted}"


def missing(record: Record, rules: Sequence[Rule] = RULES) -> list[Lack]:
    """What a record lacks to be evidence, in the order of the rules; nothing where it is complete."""
    lacks = []
    epochs = record.row.get("epochs_trained")
    expected = int(epochs) if isinstance(epochs, int | float) and math.isfinite(epochs) else 0
    for rule in rules:
        values = list(_values(record, rule.field))
        wanted = expected if rule.count == "one an epoch" else 1
        wrong = [value for value in values if not rule.holds(value, record)]
        if len(values) != wanted or not values:
            count = f"{rule.wanted}, {wanted} of it" if wanted != 1 else rule.wanted
            lacks.append(Lack(rule.field, f"{len(values)} of it" if values else "missing", count))
        elif wrong:
            lacks.append(Lack(rule.field, _shown(wrong[0]), rule.wanted))
    return lacks


def _values(record: Record, name: str) -> Iterator[Any]:
    kind, _, key = name.partition(".")
    if kind in ("epochs", "states"):
        lines = record.epochs if kind == "epochs" else record.states()
        yield from (one[key] for one in lines if key in one and not _absent(one[key]))
        return
    values: Mapping[str, Any] = record.row if kind == "row" else record.artifacts
    if key in values and not _absent(values[key]):
        yield values[key]


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _shown(value: Any) -> str:
    return f"{len(value)} bytes of something else" if isinstance(value, bytes) else repr(value)[:80]


# -- consistency ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contradiction:
    """Two places of one record that say different things."""

    field: str
    epoch: int | None
    """Counted from 1; None where it is no matter of one epoch."""
    recorded: str
    """What the store says."""
    other: str
    """What speaks against it, and where."""

    def __str__(self) -> str:
        at = "" if self.epoch is None else f", epoch {self.epoch}"
        return f"{self.field}{at}: {self.recorded}, but {self.other}"


def contradictions(record: Record) -> list[Contradiction]:
    """Where a record contradicts itself; what is missing altogether is a matter of `missing`."""
    parts = (_of_config, _of_environment, _of_trajectory, _of_ending, _of_hashes)
    return [found for part in parts for found in part(record)]


def _differ(name: str, recorded: Any, other: Any, where: str, epoch: int | None = None) -> Iterator[Contradiction]:
    if not _absent(recorded) and not _absent(other) and recorded != other:
        yield Contradiction(name, epoch, str(recorded), f"{where} says {other}")


def _far(name: str, recorded: Any, other: float | None, where: str) -> Iterator[Contradiction]:
    """As `_differ`, but for values that were computed in another way: these may be rounded otherwise."""
    if other is None or not math.isclose(_number(recorded), other, rel_tol=1e-9):
        yield from _differ(name, recorded, other, where)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _of_config(record: Record) -> Iterator[Contradiction]:
    row, config = record.row, record.config()
    if config is None:
        yield Contradiction("params", None, "no allowed config", "a run has one")
        return
    yield from _differ("config_sha256", row.get("config_sha256"), config.sha256(), "the hash of the params")
    stored = record.json("config.json")
    if isinstance(stored, dict):
        yield from _differ("seed", row.get("seed"), _text(stored.pop("seed", None)), "config.json")
        values = config.canonical()
        for name in sorted({*values, *stored}):
            yield from _differ(name, values.get(name, "nothing"), stored.get(name, "nothing"), "config.json")
    yield from _differ("parameters", _whole(row.get("parameters")), parameters_of(config), "the config")
    seed, identity = _whole(row.get("seed")), {name: str(row.get(name)) for name in BASIS}
    if seed is not None and seed <= MAX_SEED:
        named = trajectory_sha256(config, seed, **identity)
        where = "the hash of config, seed, data, code and environment"
        yield from _differ("trajectory_sha256", row.get("trajectory_sha256"), named, where)


def parameters_of(config: RunConfig) -> int:
    """How many trainable parameters a config's network has: weights and biases, layer by layer."""
    total, channels, side = 0, 1, IMAGE_SIZE
    for kind, size in feature_map_sizes(config):
        if kind == "convolution":
            assert config.filters is not None
            total += (KERNEL_SIZE**2 * channels + 1) * config.filters
            channels = config.filters
        side = size
    return total + (side**2 * channels + 1) * config.dense_units + (config.dense_units + 1) * len(CLASS_NAMES)


def _of_environment(record: Record) -> Iterator[Contradiction]:
    row, environment, where = record.row, record.json("environment.json"), "environment.json"
    if not isinstance(environment, dict):
        return
    with suppress(ValueError):  # what is not canonical JSON is the artifact's own matter
        told = hash_of(environment["fingerprint"]) if isinstance(environment.get("fingerprint"), dict) else None
        yield from _differ("environment_sha256", row.get("environment_sha256"), told, f"the hash of {where}")
    checkout = environment.get("checkout")
    if isinstance(checkout, dict):
        dirty = checkout.get("dirty")
        told = str(dirty).lower() if isinstance(dirty, bool) else None
        yield from _differ("git_commit", row.get("git_commit"), checkout.get("commit"), where)
        yield from _differ("git_dirty", row.get("git_dirty"), told, where)


def _of_trajectory(record: Record) -> Iterator[Contradiction]:
    row, trajectory, where = record.row, record.json("trajectory.json"), "trajectory.json"
    if not isinstance(trajectory, dict):
        return
    for name in ("trajectory_sha256", *BASIS):
        yield from _differ(name, row.get(name), trajectory.get(name), where)
    yield from _differ("seed", row.get("seed"), _text(trajectory.get("seed")), where)
    config, settings = record.config(), trajectory.get("settings")
    if config is not None and isinstance(settings, dict):
        for name, value in config.training_settings().items():
            yield from _differ(name, value, settings.get(name, "nothing"), where)
    yield from _of_parts(trajectory)
    measured = trajectory.get("run")
    if isinstance(measured, dict):
        for name in RUN_METRICS:
            yield from _differ(name, row.get(name), measured.get(name), where)
    states = record.states()
    yield from _differ("epochs_trained", row.get("epochs_trained"), float(len(states)), f"{where}, by its epochs,")
    if len(record.epochs) > len(states):
        yield Contradiction("epochs", None, str(len(record.epochs)), f"{where} has {len(states)}")
    for place, (ours, theirs) in enumerate(zip(record.epochs, states, strict=False), start=1):
        for name in ("epoch", *EPOCH_METRICS):
            yield from _differ(name, ours.get(name), theirs.get(name), where, place)
    if states:
        yield from _differ("weights_sha256", row.get("weights_sha256"), states[-1].get("weights_sha256"), where)


def _of_parts(trajectory: Mapping[str, Any]) -> Iterator[Contradiction]:
    """The hashes of data and code against those of their files."""
    for name, files in (("data_sha256", "data_files"), ("code_sha256", "code_files")):
        parts, images = trajectory.get(files), trajectory.get("images")
        if not isinstance(parts, dict) or not parts:
            continue
        whole = files_sha256(parts)
        if name == "data_sha256" and isinstance(images, list) and len(images) == 2:
            whole = first_images_sha256(whole, *images)
        yield from _differ(name, trajectory.get(name), whole, f"the hash of its {files}")


def first_images_sha256(data_sha256: str, train: Any, test: Any) -> str:
    """The hash of a data set's first images, as `data.Dataset.first` takes it."""
    return hashlib.sha256(f"{data_sha256} first {train} {test}\n".encode()).hexdigest()


def _of_ending(record: Record) -> Iterator[Contradiction]:
    row, epochs, config = record.row, record.epochs, record.config()
    if not epochs or row.get("status") != "FINISHED":
        return
    for name in EPOCH_METRICS:
        yield from _differ(name, row.get(name), epochs[-1].get(name), "the last epoch")
    for name, part in (("fit_seconds", "epoch_seconds"), ("fit_cpu_seconds", "epoch_cpu_seconds")):
        total = sum(_number(one.get(part)) for one in epochs)
        yield from _far(name, row.get(name), total, "the sum over the epochs")
    losses = [_number(one.get("loss")) for one in epochs]
    if config is not None:
        cut = config.cut(losses)
        found = "none of these epochs" if cut is None else f"epoch {cut.epoch} by {cut.reason}"
        told = f"epoch {len(epochs)} by {row.get('stop_reason')}"
        yield from _differ("the stop", told, found, "the stopping rule")
    table = record.json("per_class.json")
    if isinstance(table, dict):
        yield from _far("test_accuracy", row.get("test_accuracy"), _right(table), "per_class.json")


def _right(table: Mapping[str, Any]) -> float | None:
    """The share of images that the confusion matrix in a `per_class.json` has on its diagonal."""
    try:
        places = {name: place for place, name in enumerate(table["columns"])}
        rows = table["data"]
        right = sum(row[places[f"answered {row[places['class']]}"]] for row in rows)
        return float(right / sum(row[places["images"]] for row in rows))
    except (KeyError, TypeError, IndexError, ArithmeticError):
        return None


def _of_hashes(record: Record) -> Iterator[Contradiction]:
    if HASHES not in record.artifacts:
        return
    found = {name: hashlib.sha256(content).hexdigest() for name, content in record.artifacts.items()}
    yield from _differ("artifacts_sha256", record.row.get("artifacts_sha256"), found.pop(HASHES), HASHES)
    listed = record.json(HASHES)
    if not isinstance(listed, dict):
        return
    for name, digest in listed.items():
        if name in found:
            yield from _differ(name, digest, found[name], "the artifact's own SHA-256")
        elif record.whole:
            yield Contradiction(name, None, str(digest), "the artifact is not there")
    for name in sorted({*found} - {*listed}) if record.whole else ():
        yield Contradiction(name, None, "not in hashes.json", "the artifact is there")


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _whole(text: Any) -> int | None:
    return int(text) if isinstance(text, str) and re.fullmatch(r"[0-9]{1,10}", text) else None


# -- which of several ----------------------------------------------------------------------------------------------


def select(
    runs: pd.DataFrame, study: Study | None = None, incomplete: Collection[str] = ()
) -> tuple[pd.DataFrame, list[tuple[str, int]]]:
    """One record per study, arm and seed: the newest under one code, one environment and one data set.

    Of the combinations of data, code and environment that one is taken which has the most arms and seeds; of equals
    the one with the newest run. Whether a run reused another's epochs makes no difference: it has the same bits.

    Args:
        runs: a row a run, as `tracking.Store.runs` gives them.
        study: of these runs; where given, runs of arms that it has no more, or has with another config, are left out.
        incomplete: the ids of runs whose record is not complete, or contradicts itself.

    Returns:
        The chosen rows by study, arm and seed, and how many were left out for which reason. Each run that was left
        out is counted once, under the first reason that holds.
    """
    reasons = reasons_left_out(runs, study, incomplete)
    chosen = runs[reasons == ""].sort_values(
        CELL, key=lambda column: column.astype(int) if column.name == "seed" else column
    )
    return chosen, list(reasons[reasons != ""].value_counts(sort=False).items())


def reasons_left_out(
    runs: pd.DataFrame, study: Study | None = None, incomplete: Collection[str] = ()
) -> pd.Series:  # fmt: skip
    """Why each run is left out by `select`; "" for those that are in. Arguments as there."""
    import pandas as pd

    reasons = pd.Series("", index=runs.index, dtype=object)

    def leave_out(which: pd.Series, reason: str) -> None:
        reasons[which & (reasons == "")] = reason

    leave_out(runs["smoke"] == "true", "smoke run")
    if "published" in runs:  # a column of a store's
        leave_out(runs["published"].notna(), "published, recorded elsewhere")
    leave_out(runs["status"] != "FINISHED", "not finished")
    if study is not None:
        configs = {arm: config.sha256() for arm, config in study.arms.items()}
        leave_out(~runs["arm"].isin(configs), "not an arm of the study any more")
        leave_out(runs["config_sha256"] != runs["arm"].map(configs), "another config than the arm has now")
    numbers = runs[["test_accuracy", "test_loss"]].astype(float).abs() < 1.7e308
    leave_out(~numbers.all(axis=1), "a score that is not a number")
    leave_out(runs["run_id"].isin(list(incomplete)), "an incomplete record")
    basis = runs[list(BASIS)].fillna("")
    left = runs.assign(**basis)[reasons == ""].sort_values(["start_time", "run_id"])
    if left.empty:
        return reasons
    newest = left.drop_duplicates([*CELL, *BASIS], keep="last")
    weighed = newest.groupby(list(BASIS))["start_time"].agg(["size", "max"]).sort_values(["size", "max"])
    for name, wanted in zip(BASIS, weighed.index[-1], strict=True):
        leave_out(basis[name] != wanted, f"another {BASIS[name]}")
    leave_out(~runs.index.isin(newest.index), "an older duplicate")
    return reasons
