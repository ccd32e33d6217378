"""What a record is: the names of what it holds, its texts as they are written, and what it must hold to be evidence.

What a record holds has grown. Its `record_format` says by which list it was written, and it is judged by that one.
Pure, whatever it comes from. That the rules are data follows mlcommons/logging's compliance checker.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fashion_cnn.config import FIELDS, ConfigError, RunConfig, parse
from fashion_cnn.data import FASHION_MNIST_SHA256
from fashion_cnn.environment import ARITHMETICS
from fashion_cnn.evidence.predictions import PREDICTIONS, PredictionsError, from_bytes

RECORD_FORMAT: Final = 2
"""Of what is recorded now. A record that names none is of format 1: so were all before there was a second."""
SINCE: Final[Mapping[str, int]] = {
    **dict.fromkeys(("record_format", "arithmetic", "other_load"), 2),
    **{name: setting.metadata["since"] for name, setting in FIELDS.items() if setting.metadata["since"] > 1},
}
"""The format that brought in a param, metric or tag, and its column in tables; what is not here has always been."""


def since(name: str) -> int:
    """The format that brought in a param, a metric, a tag or a column."""
    return SINCE.get(name, 1)


PARAMS: Final = (*FIELDS, "parameters")
"""What a run was made with: the fields of its config, and the network's trainable parameters. `seed` is one, too."""
SCORES: Final = ("loss", "accuracy", "test_loss", "test_accuracy")
EPOCH_METRICS: Final = (*SCORES, "epoch_seconds", "epoch_cpu_seconds", "images_per_second")
_RUN_SECONDS: Final = ("fit_seconds", "fit_cpu_seconds", "trace_seconds", "evaluate_seconds")
_OPTIONAL: Final = ("other_load",)  # not every system tells it
RUN_METRICS: Final = (*_RUN_SECONDS, "epochs_trained", "reused_epochs", "peak_memory_mib", "other_load")
BASIS: Final = {"data_sha256": "data set", "code_sha256": "code", "environment_sha256": "environment"}
_PLAN_TAGS: Final = ("study", "arm", "seed", "smoke", "reuse", "arithmetic", "record_format")
_HASH_TAGS: Final = ("config_sha256", "trajectory_sha256", *BASIS)
_RESULT_TAGS: Final = ("weights_sha256", "artifacts_sha256")
_CODE_TAGS: Final = ("git_commit", "git_dirty")
_FATE_TAGS: Final = ("heartbeat", "stop_reason", "error", "drawing_error", "published", "imported")
TAGS: Final = (*_PLAN_TAGS, "record", *_HASH_TAGS, *_RESULT_TAGS, *_CODE_TAGS, "workers", "node", *_FATE_TAGS)
TABLE_TAGS: Final = (*_PLAN_TAGS, "stop_reason", "node", "workers", *_CODE_TAGS, *_HASH_TAGS, *_RESULT_TAGS)
"""The tags that tables of records show. An allow-list: addresses, users and command lines of a store stay there."""

HASHES: Final = "hashes.json"
"""The artifact that lists the SHA-256 of all others and of the model; the tag `artifacts_sha256` is its own."""
MODEL: Final = "model.keras"
"""What `hashes.json` calls the native file of the logged model."""
PER_CLASS: Final = "per_class.json"
TRACEBACK: Final = "traceback.txt"
TEXTS: Final = ("config.json", "environment.json", "trajectory.json", PER_CLASS, "requirements.txt", HASHES)
LIGHT: Final = (*TEXTS, PREDICTIONS, "model_summary.txt", "code.diff")
"""The artifacts that are small enough to be read or packed with every run."""


def texts(
    *,
    config: Mapping[str, Any],
    settings: Mapping[str, Any],
    seed: int,
    hashes: Mapping[str, Any],
    fingerprint: Mapping[str, Any] | None,
    machine: Mapping[str, Any] | None,
    checkout: Mapping[str, Any],
    images: Sequence[int] | None,
    files: Mapping[str, Mapping[str, str]],
    measured: Mapping[str, float],
    epochs: Sequence[Mapping[str, Any]],
    packages: Sequence[str],
) -> dict[str, bytes]:
    """`config.json`, `environment.json`, `trajectory.json` and `requirements.txt`: how a run was made, what it gave.

    `config` is canonical; `settings` are those of it that decide the trajectory. `hashes` has `trajectory_sha256` and
    the three of `BASIS`, `fingerprint` is what `environment_sha256` is of, `machine` is as `environment.machine` gives
    it, None where unknown. `checkout` has `commit`, `dirty` (bool) and `remote` of the repository, None where unknown.
    `images` are a smoke run's for training and testing, None for all.
    `files` has the SHA-256 of each file that a hash is of, under `data_files` and `code_files`. `measured` are the
    metrics of the run as a whole. `epochs`, in order, have `epoch`, the epoch metrics, `weights_sha256` and `ended_at`
    (ms since 1970). `packages` are lines of a requirements file.
    """
    where = {name: checkout[name] for name in ("commit", "dirty", "remote")}
    identity = {"fingerprint": fingerprint, "sha256": hashes["environment_sha256"]}
    environment = {**identity, "machine": machine, "checkout": where}
    trajectory = {
        "trajectory_sha256": hashes["trajectory_sha256"],
        "settings": settings,
        "seed": seed,
        **{name: hashes[name] for name in BASIS},
        "images": images,
        **{name: files[name] for name in ("data_files", "code_files")},
        "run": measured,
        "epochs": list(epochs),
    }
    return {
        "config.json": _json_text({**config, "seed": seed}),
        "environment.json": _json_text(environment),
        "trajectory.json": _json_text(trajectory),
        "requirements.txt": ("\n".join(packages) + "\n").encode(),
    }


def network_texts(
    table: Mapping[str, Sequence[Any]], summary: str, code_diff: str = "", traceback: str = ""
) -> dict[str, bytes]:
    """The texts that only a record with its own network has; `code.diff` and `traceback.txt` where there is one.

    `table` is the confusion matrix per class: `class`, `images`, `answered <class>`, columns of equal length.
    """
    rows = [list(row) for row in zip(*table.values(), strict=True)]
    artifacts = {
        PER_CLASS: _json_text({"columns": list(table), "data": rows}),  # as MLflow's own log_table writes it
        "model_summary.txt": summary.encode(),
    }
    optional = {"code.diff": code_diff, TRACEBACK: traceback}
    return artifacts | {name: text.encode(errors="surrogateescape") for name, text in optional.items() if text}


def hashes_text(artifacts: Mapping[str, bytes]) -> bytes:
    """`hashes.json`: the SHA-256 of artifacts by name in order, that of `model.keras` last."""
    names = sorted(artifacts, key=lambda name: (name == MODEL, name))
    return _json_text({name: hashlib.sha256(artifacts[name]).hexdigest() for name in names})


def _json_text(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def strict_json(content: str | bytes) -> Any:
    """The JSON value of a text; a ValueError where it is none, or where a key is there twice.

    Readers do not agree which of the two counts: Python takes the last one, a person sees the first.
    """
    return json.loads(content, object_pairs_hook=_once)


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        twice = next(name for place, (name, _) in enumerate(pairs) if name in dict(pairs[:place]))
        raise TwiceError(f"the key {twice[:80]!r} is there twice")
    return values


class TwiceError(ValueError):
    """A JSON text with a key that is there twice."""


@dataclass(frozen=True)
class Record:
    """What a store or a bundle holds of one run."""

    row: Mapping[str, Any]
    """As `Store.runs` gives it: `run_id`, `status`, `start_time`, `end_time`, params, metrics, tags."""
    epochs: Sequence[Mapping[str, float]]
    """A mapping per epoch, in order: `epoch` and the epoch metrics, as `Store.epochs` gives them."""
    artifacts: Mapping[str, bytes] = field(repr=False)
    """By path, such as `config.json` or `figures/learning_curves.png`; images of the grid are no part of it."""
    whole: bool = True
    """Whether all artifacts and the model were read; without, only what was read is compared with its hash."""

    @property
    def format(self) -> int:
        """The format that it was recorded in."""
        return format_of(self.row)

    def json(self, name: str) -> Any:
        """An artifact as JSON, or None where it is missing or something else."""
        try:
            return strict_json(self.artifacts[name])
        except (KeyError, ValueError, RecursionError):
            return None

    def states(self) -> list[Mapping[str, Any]]:
        """What `trajectory.json` holds of each epoch, in order; empty where it holds none."""
        epochs = self.trajectory().get("epochs")
        return [state for state in epochs if isinstance(state, dict)] if isinstance(epochs, list) else []

    def trajectory(self) -> Mapping[str, Any]:
        """What `trajectory.json` holds; empty where it holds nothing."""
        value = self.json("trajectory.json")
        return value if isinstance(value, dict) else {}

    def machine(self) -> Mapping[str, Any]:
        """What `environment.json` says of the machine that trained it; empty where it says nothing."""
        return self._of_environment("machine")

    def processor(self) -> str | None:
        """The processor that trained it, if it is told; format 1 has it in the fingerprint, among what decides bits."""
        told = self.machine().get("processor", self._of_environment("fingerprint").get("processor"))
        return None if told is None else str(told)

    def _of_environment(self, part: str) -> Mapping[str, Any]:
        environment = self.json("environment.json")
        found = environment.get(part) if isinstance(environment, dict) else None
        return found if isinstance(found, dict) else {}

    def config(self) -> RunConfig | None:
        """The config that its params say, or None where they say none; what its format had no param for is default."""
        names = [name for name in FIELDS if since(name) <= self.format or not absent(self.row.get(name))]
        try:
            return RunConfig.from_mapping({name: parse(name, str(self.row[name])) for name in names})
        except (ConfigError, KeyError):
            return None


@dataclass(frozen=True)
class Rule:
    """What a record must hold to be evidence."""

    field: str
    """`row.<column>`, `epochs.<metric>` of the store, `states.<quantity>` of trajectory.json, `artifacts.<path>`, or
    `machine.<part>` of environment.json."""
    holds: Callable[[Any, Record], bool]
    """Whether one of it is as it must be."""
    wanted: str
    """That, in words."""
    since: int = 1
    """The format that brought it in: no older record is asked for it."""

    @property
    def each_epoch(self) -> bool:
        """Whether there must be one of it for each epoch, not one for the run."""
        return self.field.startswith(("epochs.", "states."))


def _given(value: Any, _: Record) -> bool:
    return isinstance(value, str) and value not in ("", "unknown")


def _sha256(value: Any, _: Record) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _finite(value: Any, _: Record) -> bool:
    # MLflow's stores keep an infinity as the largest float.
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) < 1.7e308


def _json_object(value: Any, _: Record) -> bool:
    try:
        return isinstance(strict_json(value), dict)
    except (ValueError, RecursionError):
        return False


def _predictions(value: Any, _: Record) -> bool:
    try:
        return from_bytes(value).true_class_probability is not None
    except PredictionsError:
        return False


def _classes(value: Any, _: Record) -> bool:
    try:
        return bool(from_bytes(value).classes.size)
    except PredictionsError:
        return False


def _is(*allowed: str) -> Callable[[Any, Record], bool]:
    return lambda value, _: value in allowed


def _counts(value: Any, _: Record) -> bool:
    return whole_number(value) is not None


def _clean_or_shown(value: Any, record: Record) -> bool:
    return value == "false" or (value == "true" and bool(record.artifacts.get("code.diff")))


_PREDICTIONS: Final = f"artifacts.{PREDICTIONS}"
_FORMATS: Final = [str(number + 1) for number in range(RECORD_FORMAT)]
_DIGESTS: Final = [name for name in (*_HASH_TAGS, *_RESULT_TAGS) if name != "data_sha256"]
RULES: Final = (
    Rule("row.record_format", _is(*_FORMATS), f"a whole number, at most {RECORD_FORMAT}", since=2),
    Rule("row.status", _is("FINISHED"), "FINISHED"),
    Rule("row.stop_reason", _is("epochs", "callback"), "epochs or callback"),
    Rule("row.smoke", _is("false"), "false: a smoke run is no evidence"),
    *(Rule(f"row.{name}", _given, "the param as text", since(name)) for name in FIELDS),
    *(Rule(f"row.{name}", _counts, "a whole number") for name in ("seed", "parameters")),
    *(Rule(f"row.{name}", _given, "the tag as text") for name in ("study", "arm", "reuse", "node", "workers")),
    *(Rule(f"row.{name}", _sha256, "a SHA-256 in hex") for name in _DIGESTS),
    Rule("row.arithmetic", _is(*ARITHMETICS), " or ".join(ARITHMETICS), since=2),
    Rule("row.data_sha256", _is(FASHION_MNIST_SHA256), "that of Fashion-MNIST"),
    Rule("row.git_commit", _given, "a commit"),
    Rule("row.git_dirty", _clean_or_shown, "false, or true with the artifact code.diff"),
    *(Rule(f"row.{name}", _finite, "a finite number", since(name)) for name in RUN_METRICS if name not in _OPTIONAL),
    *(Rule(f"epochs.{name}", _finite, "a finite number", since(name)) for name in EPOCH_METRICS),
    Rule("states.weights_sha256", _sha256, "a SHA-256 in hex in trajectory.json"),
    *(Rule(f"artifacts.{name}", _json_object, "a JSON object") for name in TEXTS if name.endswith(".json")),
    Rule("machine.processor", _given, "the processor as text, in environment.json", since=2),
    Rule(_PREDICTIONS, _predictions, "each test image's answered class and true class' probability", since=2),
    Rule("artifacts.requirements.txt", lambda value, _: b"==" in value, "a list of packages"),
)
_UNPUBLISHED: Final = ("row.artifacts_sha256", f"artifacts.{PER_CLASS}", f"artifacts.{HASHES}", _PREDICTIONS)
PUBLISHED_RULES: Final = (
    *(rule for rule in RULES if rule.field not in _UNPUBLISHED),
    Rule(_PREDICTIONS, _classes, "each test image's answered class", since=2),
)
"""Of a record that was imported, or is of published tables: what these cannot hold is not asked for."""


def rules_of(row: Mapping[str, Any]) -> Sequence[Rule]:
    """What a run's record must hold, whether it was recorded in its store or imported into it."""
    return PUBLISHED_RULES if is_published(row) else RULES


def is_published(row: Mapping[str, Any]) -> bool:
    """Whether a run was imported into its store, from published results or a bundle."""
    return _given(row.get("published"), Record(row, (), {}))


@dataclass(frozen=True)
class Lack:
    """A rule that a record does not meet."""

    field: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.field}: {self.found}; wanted: {self.wanted}"


@dataclass(frozen=True)
class Contradiction:
    """Two places of one record that say different things, or one that no training leaves beside what is known."""

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


def format_of(row: Mapping[str, Any]) -> int:
    """The format that a record says it is of; that of today where it says something else than a format."""
    claimed = row.get("record_format")
    return 1 if absent(claimed) else whole_number(claimed) or RECORD_FORMAT


def too_new(row: Mapping[str, Any]) -> Lack | None:
    """Why a record cannot be judged here: newer code wrote it, by a list that this code does not know."""
    if format_of(row) <= RECORD_FORMAT:
        return None
    wanted = f"at most {RECORD_FORMAT}; newer code recorded it: update this checkout (git pull) to read it"
    return Lack("row.record_format", repr(row["record_format"]), wanted)


def missing(record: Record, rules: Sequence[Rule] = RULES) -> list[Lack]:
    """What a record lacks to be evidence, in the order of its own format's rules; nothing where it is complete."""
    if newer := too_new(record.row):
        return [newer]
    lacks = []
    epochs = record.row.get("epochs_trained")
    expected = int(epochs) if isinstance(epochs, int | float) and math.isfinite(epochs) else 0
    for rule in (rule for rule in rules if rule.since <= record.format):
        values = _values(record, rule.field)
        wanted = expected if rule.each_epoch else 1
        wrong = [value for value in values if not rule.holds(value, record)]
        if len(values) != wanted or not values:
            count = f"{rule.wanted}, {wanted} of it" if wanted != 1 else rule.wanted
            lacks.append(Lack(rule.field, f"{len(values)} of it" if values else "missing", count))
        elif wrong:
            lacks.append(Lack(rule.field, _shown(wrong[0]), rule.wanted))
    return lacks


def _values(record: Record, name: str) -> list[Any]:
    kind, _, key = name.partition(".")
    places: Mapping[str, Callable[[], Sequence[Mapping[str, Any]]]] = {
        "row": lambda: [record.row],
        "artifacts": lambda: [record.artifacts],
        "machine": lambda: [record.machine()],
        "epochs": lambda: record.epochs,
        "states": record.states,
    }
    return [place[key] for place in places[kind]() if not absent(place.get(key))]


def absent(value: Any) -> bool:
    """Whether a store holds nothing there: None, or NaN in a frame."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _shown(value: Any) -> str:
    return f"{len(value)} bytes of something else" if isinstance(value, bytes) else repr(value)[:80]


def whole_number(text: Any) -> int | None:
    """The whole number that a text spells, or None."""
    return int(text) if isinstance(text, str) and re.fullmatch(r"[0-9]{1,10}", text) else None
