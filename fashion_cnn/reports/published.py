"""The published result: complete records as a few small files in `experiments/results`, and back.

    runs.csv                   a row a run; every number in full precision, every hash
    epochs/<study>.csv         a row an epoch, likewise; one epochs.csv where all runs are of record format 1
    environment.json           what the hashes of data, code and environment are of, the packages, the machines
    claims.json                the verdicts, which anybody can compute again from the tables
    predictions/<weights>.npz  the class answered to each test image, by the first digits of weights_sha256; of runs
                               from record format 2 on
    feature_maps/<weights>.png of the first seed's runs; activations/<weights>.npz are what they were drawn from
    figures/<study>/           drawn from the tables
    manifest.json              the SHA-256 of the others, and that of the tables which the figures were drawn from

A published record has no logged model and no list of artifacts: enough to be looked at, checked, replayed and
counted, not enough to be evidence of its own. Nothing here reads or writes a file.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fashion_cnn.evidence import tables
from fashion_cnn.evidence.predictions import PREDICTIONS, PredictionsError, classes_alone
from fashion_cnn.evidence.record import (
    BASIS,
    EPOCH_METRICS,
    PUBLISHED_RULES,
    RUN_METRICS,
    Record,
    absent,
    format_of,
    missing,
    texts,
)
from fashion_cnn.evidence.tables import (
    TableError,
    frames,
    from_csv,
    from_json,
    runs_from_csv,
    runs_to_csv,
    to_csv,
    to_json,
)
from fashion_cnn.evidence.verdicts import Verdicts, verdicts_of
from fashion_cnn.study import Study

ORIGIN: Final = "experiments/results"
"""Where runs that were imported from the published results come from, as their tag says."""
RUNS: Final = "runs.csv"
EPOCHS: Final = "epochs.csv"
EPOCHS_OF: Final = "epochs/"
ENVIRONMENT: Final = "environment.json"
CLAIMS: Final = "claims.json"
MANIFEST: Final = "manifest.json"
FIGURES: Final = "figures/"
OF_TABLES: Final = ("scores", "curves", "seconds")
"""The figures of a study that show its runs and epochs alone, and not what was claimed."""
MAPS: Final = "feature_maps/"
ACTIVATIONS: Final = "activations/"
PREDICTED: Final = "predictions/"
FOLDERS: Final = (EPOCHS_OF, FIGURES, MAPS, ACTIVATIONS, PREDICTED)
OF_WEIGHTS: Final = {MAPS: ".png", ACTIVATIONS: ".npz", PREDICTED: ".npz"}
COLUMNS: Final = {name: kind for name, kind in tables.COLUMNS.items() if name != "artifacts_sha256"}
EPOCH_COLUMNS: Final = {**tables.EPOCH_COLUMNS, "weights_sha256": "text", "ended_at": "whole"}
LARGEST: Final = 2**20  # bytes of a file: more does not belong into a repository
_DIGITS: Final = 16  # of a weights_sha256
_OTHER_CONFIG: Final = "another config than the arm has now"


class ResultsError(ValueError):
    """Published results that cannot be read or made: one line that says why."""


@dataclass(frozen=True)
class Merged:
    """What came of merging a store's records into the published ones."""

    records: Sequence[Record]  # in order: by study, arm, seed and environment
    added: int
    dropped: Sequence[str]
    """Those of another code or data set, and of those published before the ones of another config: a line each."""
    lost: Mapping[tuple[str, str], int]  # how many of the dropped ones were published before, by study and reason


def merge(studies: Sequence[Study], published: Iterable[Record], recorded: Iterable[Record]) -> Merged:
    """The published records and the complete ones of a store, one for each study, arm, seed and environment.

    One that is published already stays. All have one code and one data set: those of the newest record. The studies'
    arms decide the order, and which configs are present ones.

    Raises:
        ResultsError: two records of one trajectory have other weights after the same epoch.
    """
    before, new = list(published), list(recorded)
    configs = {(study.name, arm): config.sha256() for study in studies for arm, config in study.arms.items()}
    newest = max([*before, *new], key=lambda record: int(record.row["start_time"]), default=None)
    known = [(record, _reason_to_drop(record, newest, configs)) for record in before]
    found = [(record, _reason_to_drop(record, newest, configs)) for record in new]
    stay = [record for record, reason in known if not reason]
    come = [record for record, reason in found if not reason]
    whole = {_key(record) for record in come}
    # A published record of which a kill left a part gives way to the store's.
    stay = [record for record in stay if _key(record) not in whole or not missing(record, PUBLISHED_RULES)]
    _check_same_weights([*stay, *come])
    kept: dict[tuple[str, ...], Record] = {}
    for record in [*stay, *come]:
        kept.setdefault(_key(record), record)
    order: dict[tuple[str, ...], int] = {key: place for place, key in enumerate(configs)}
    dropped = [*known, *((record, reason) for record, reason in found if reason != _OTHER_CONFIG)]
    return Merged(
        records=[kept[key] for key in sorted(kept, key=lambda key: (order[key[:2]], int(key[2]), key[3]))],
        added=len(kept) - len(set(map(_key, stay))),
        dropped=[f"{record.row['study']}: {record.row['name']}: {reason}" for record, reason in dropped if reason],
        lost=Counter((str(record.row["study"]), reason) for record, reason in known if reason),
    )


def _key(record: Record) -> tuple[str, ...]:
    return tuple(str(record.row[name]) for name in ("study", "arm", "seed", "environment_sha256"))


def _reason_to_drop(record: Record, newest: Record | None, configs: Mapping[tuple[str, str], str]) -> str:
    """Why a record cannot be published beside the newest one; "" where it can."""
    row = record.row
    if row["config_sha256"] != configs.get((row["study"], row["arm"])):
        return _OTHER_CONFIG
    assert newest is not None
    other = [what for name, what in BASIS.items() if row[name] != newest.row[name] and what != "environment"]
    return f"another {' and '.join(other)}" if other else ""


def _check_same_weights(records: Sequence[Record]) -> None:
    weights: dict[tuple[str, int], str] = {}
    for record in records:
        row = record.row
        for state in record.states():
            at = (str(row["trajectory_sha256"]), int(state["epoch"]))
            if weights.setdefault(at, state["weights_sha256"]) != state["weights_sha256"]:
                raise ResultsError(
                    f"run {row['run_id']} has other weights after epoch {at[1]} than another run of its trajectory; "
                    f"fashion-cnn replay {row['run_id'][:8]} tells which of them holds"
                )


def check_nothing_lost(merged: Merged) -> None:
    """Raise a ResultsError where published records would be dropped: how many, why, and how to do it."""
    if not merged.lost:
        return
    studies, reasons = Counter[str](), Counter[str]()
    for (study, reason), count in merged.lost.items():
        studies[study] += count
        reasons[reason] += count
    listed = ", ".join(f"{study} {count}" for study, count in studies.items())
    why = ", ".join(f"{reason} ({count})" for reason, count in reasons.items())
    count = reasons.total()
    raise ResultsError(
        f"{count} published run{'s' if count > 1 else ''} would be dropped ({listed}): {why}; nothing was "
        "written; fashion-cnn results --update --replace drops them"
    )


def record_tables(records: Sequence[Record]) -> dict[str, bytes]:
    """The files that hold the records; a ResultsError where one lacks what they need, or two contradict."""
    shared: dict[str, Any] = {"data_files": {}, "code_files": {}, "remote": None, "environments": {}}
    for record in records:
        trajectory, environment = record.json("trajectory.json"), record.json("environment.json")
        if not isinstance(trajectory, dict) or not isinstance(environment, dict):
            raise ResultsError(f"run {record.row['run_id']} lacks trajectory.json or environment.json")
        for name in ("data_files", "code_files"):
            if shared[name] and shared[name] != trajectory[name]:
                raise ResultsError(f"run {record.row['run_id']} has other {name} than the runs before it")
            shared[name] = trajectory[name]
        shared["remote"] = environment.get("checkout", {}).get("remote") or shared["remote"]
        packages = record.artifacts.get("requirements.txt", b"").decode().splitlines()
        sha256 = str(record.row["environment_sha256"])
        shared["environments"].setdefault(sha256, {"fingerprint": environment["fingerprint"], "packages": packages})
    shared |= _machines(records)
    runs = runs_to_csv([record.row for record in records], COLUMNS)
    return {RUNS: runs, **_epoch_tables(records), ENVIRONMENT: to_json(shared), **_predictions(records)}


def _epoch_tables(records: Sequence[Record]) -> dict[str, bytes]:
    """The tables of epochs: one by study, but one in all where there were none other when the records were made."""
    rows: dict[str, list[dict[str, Any]]] = {}
    together = max((format_of(record.row) for record in records), default=1) == 1
    for record in records:
        name = EPOCHS if together else f"{EPOCHS_OF}{record.row['study']}.csv"
        rows.setdefault(name, []).extend({**state, "run_id": record.row["run_id"]} for state in record.states())
    return {name: to_csv(of_table, EPOCH_COLUMNS) for name, of_table in rows.items()}


def epoch_tables(files: Iterable[str]) -> list[str]:
    """Which of some files are tables of epochs, in order."""
    return sorted(name for name in files if name == EPOCHS or name.startswith(EPOCHS_OF))


def _predictions(records: Sequence[Record]) -> dict[str, bytes]:
    """What each network answered to the test images; runs that end with the same weights share it."""
    files: dict[str, bytes] = {}
    for record in (record for record in records if PREDICTIONS in record.artifacts):
        name, run_id = file_of(PREDICTED, record.row), record.row["run_id"]
        try:
            content = classes_alone(record.artifacts[PREDICTIONS])
        except PredictionsError as error:
            raise ResultsError(f"run {run_id}: {PREDICTIONS}: {error}") from None
        if files.setdefault(name, content) != content:
            raise ResultsError(f"run {run_id} answered the test images otherwise than another run of the same weights")
    return files


def _machines(records: Sequence[Record]) -> dict[str, Any]:
    """Each machine once, with the load on it when the worker of each of its runs started; nothing for old records."""
    machines: list[dict[str, Any]] = []
    for record in records:
        if not (machine := dict(record.machine())):
            continue
        load = machine.pop("load", None)
        known = next((entry for entry in machines if entry["machine"] == machine), None)
        if known is None:
            machines.append(known := {"machine": machine, "load": {}})
        known["load"][record.row["run_id"]] = load
    return {"machines": machines} if machines else {}


def file_of(folder: str, row: Mapping[str, Any]) -> str:
    """The file in one of the folders by weights that a run has; runs that end with the same weights share it."""
    return f"{folder}{str(row['weights_sha256'])[:_DIGITS]}{OF_WEIGHTS[folder]}"


def map_name(row: Mapping[str, Any]) -> str:
    """The file of a run's feature maps."""
    return file_of(MAPS, row)


def manifest(files: Mapping[str, bytes]) -> bytes:
    """The list of the published files, with the hash of the tables that the figures were drawn from."""
    listed = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    return to_json({"drawn_from": drawn_from(files), "files": listed})


def drawn_from(files: Mapping[str, bytes]) -> str:
    """Hex SHA-256 of the tables of runs and of epochs, one after the other."""
    return hashlib.sha256(b"".join(files[name] for name in (RUNS, *epoch_tables(files)))).hexdigest()


def drawn(files: Mapping[str, bytes], study: str) -> dict[str, str]:
    """A study's figures of runs and epochs as they are published, SVG by name; none where the tables were changed."""
    try:
        holds = from_json(files[MANIFEST])["drawn_from"] == drawn_from(files)
    except (KeyError, TypeError, TableError):
        return {}
    names = {name: f"{FIGURES}{study}/{name}.svg" for name in OF_TABLES if holds}
    return {name: files[path].decode() for name, path in names.items() if path in files}


def published_records(files: Mapping[str, bytes]) -> list[Record]:
    """The published records, in the order of `runs.csv`; none where there is no `runs.csv`.

    Their artifacts are those which the files tell: `config.json`, `environment.json`, `trajectory.json`,
    `requirements.txt`, and `predictions.npz` of newer ones. A ResultsError says which file is none, and why.
    """
    if RUNS not in files:
        return []
    runs, name, epochs = run_rows(files[RUNS]), EPOCHS, list[dict[str, Any]]()
    try:
        for name in epoch_tables(files):
            epochs += from_csv(files[name], EPOCH_COLUMNS)
        name = ENVIRONMENT
        environment = from_json(files[ENVIRONMENT])
        shared = {key: environment[key] for key in ("data_files", "code_files", "remote", "environments")}
        shared["machines"] = {
            run_id: {**entry["machine"], "load": load}
            for entry in environment.get("machines", ())
            for run_id, load in entry["load"].items()
        }
    except KeyError as error:
        raise ResultsError(f"{name}: {error} is missing") from None
    except (AttributeError, TableError, TypeError) as error:
        raise ResultsError(f"{name}: {error}") from None
    of_run: dict[str, list[dict[str, Any]]] = {str(row["run_id"]): [] for row in runs}
    for epoch in epochs:
        if (run_id := epoch.pop("run_id")) not in of_run:
            raise ResultsError(f"run {run_id}, which has epochs, is not in {RUNS}")
        of_run[run_id].append(epoch)
    return [_record(row, of_run[row["run_id"]], shared, files.get(file_of(PREDICTED, row))) for row in runs]


def run_rows(content: bytes) -> list[dict[str, Any]]:
    """The rows of `runs.csv`; a ResultsError where it is none."""
    try:
        rows = runs_from_csv(content, COLUMNS)
        if len({row["run_id"] for row in rows}) != len(rows):
            raise TableError("a run_id is there twice")
    except TableError as error:
        raise ResultsError(f"{RUNS}: {error}") from None
    return rows


def _record(
    row: Mapping[str, Any], states: Sequence[Mapping[str, Any]], told: Mapping[str, Any], predictions: bytes | None
) -> Record:
    environment = told["environments"].get(row["environment_sha256"])
    record = Record(row, [{name: state[name] for name in ("epoch", *EPOCH_METRICS)} for state in states], {})
    config = record.config()
    if config is None or not str(row["seed"]).isdecimal():
        raise ResultsError(f"{RUNS}: run {row['run_id']} has no config or seed that is allowed")
    if not isinstance(environment, dict):
        raise ResultsError(f"{ENVIRONMENT}: there is no environment {row['environment_sha256']} of run {row['run_id']}")
    artifacts = texts(
        config=config.canonical(),
        settings=config.training_settings(),
        seed=int(row["seed"]),
        hashes=row,
        fingerprint=environment.get("fingerprint"),
        machine=told["machines"].get(row["run_id"]),
        checkout={"commit": row["git_commit"], "dirty": row["git_dirty"] == "true", "remote": told["remote"]},
        images=None,
        files=told,
        measured={name: row[name] for name in RUN_METRICS if not absent(row.get(name))},
        epochs=states,
        packages=environment.get("packages", ()),
    )
    answered = {} if predictions is None else {PREDICTIONS: predictions}
    return Record(record.row, record.epochs, artifacts | answered, whole=False)


def with_records(studies: Sequence[Study], records: Sequence[Record]) -> list[Study]:
    """Those of some studies that have records among these."""
    there = {record.row["study"] for record in records}
    return [study for study in studies if study.name in there]


def unpublished(studies: Sequence[Study], published: Collection[str]) -> str:
    """Which of the studies are not among the names of the published ones, as a sentence; nothing where all are."""
    names = ", ".join(study.name for study in studies if study.name not in published)
    return f"Not published yet: {names}." if names else ""


def verdicts_over(studies: Sequence[Study], records: Sequence[Record], post: bytes) -> Verdicts:
    """What published records say of the claims of the studies that have some, and of the post's numbers (CSV)."""
    return verdicts_of(with_records(studies, records), *frames(records), post)
