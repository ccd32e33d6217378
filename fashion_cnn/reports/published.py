"""The published result: complete records as a few small files in `experiments/results`, and back.

    runs.csv  epochs.csv       a row a run, a row an epoch; every number in full precision, every hash
    environment.json           what the hashes of data, code and environment are of, and the packages
    claims.json                the verdicts, which anybody can compute again from the tables
    feature_maps/<weights>.png of the first seed's runs, by the first digits of weights_sha256
    figures/<study>/           drawn from the tables
    manifest.json              the SHA-256 of the others, and that of the tables which the figures were drawn from

A published record has no logged model, no activations and no list of artifacts: enough to be looked at, checked,
replayed and counted, not enough to be evidence of its own. Nothing here reads or writes a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fashion_cnn.evidence import tables as bundle
from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.record import BASIS, EPOCH_METRICS, PUBLISHED_RULES, RUN_METRICS, Record, missing, texts
from fashion_cnn.evidence.selection import reasons_left_out
from fashion_cnn.evidence.tables import BundleError, frames, from_csv, from_json, to_csv, to_json
from fashion_cnn.evidence.verdicts import Verdicts, claims_values, verdicts_of
from fashion_cnn.study import Study

RUNS: Final = "runs.csv"
EPOCHS: Final = "epochs.csv"
ENVIRONMENT: Final = "environment.json"
CLAIMS: Final = "claims.json"
MANIFEST: Final = "manifest.json"
FIGURES: Final = "figures/"
MAPS: Final = "feature_maps/"
TABLES: Final = (RUNS, EPOCHS, ENVIRONMENT)
COLUMNS: Final = {name: kind for name, kind in bundle.COLUMNS.items() if name != "artifacts_sha256"}
EPOCH_COLUMNS: Final = {**bundle.EPOCH_COLUMNS, "weights_sha256": "text", "ended_at": "whole"}
LARGEST: Final = 2**20  # bytes of a file: more does not belong into a repository
_MAP_DIGITS: Final = 16  # of a weights_sha256


class ResultsError(ValueError):
    """Published results that cannot be read or made: one line that says why."""


@dataclass(frozen=True)
class Merged:
    """What came of merging a store's records into the published ones."""

    records: Sequence[Record]
    """In order: by study, arm, seed and environment."""
    added: int
    dropped: Sequence[str]
    """Those of another code or data set, and of those published before the ones of another config: a line each."""


# -- records in, files out -------------------------------------------------------------------------------------------


def merge(studies: Sequence[Study], published: Iterable[Record], found: Iterable[Record]) -> Merged:
    """The published records and those of a store, one for each study, arm, seed and environment.

    One that is published already stays. All have one code and one data set: those of the newest record.

    Args:
        studies: whose arms decide the order, and which configs are present ones.
        published: see `read`.
        found: complete records of a store.

    Raises:
        ResultsError: two records of one trajectory have other weights after the same epoch.
    """
    before, new = list(published), list(found)
    configs = {(study.name, arm): config.sha256() for study in studies for arm, config in study.arms.items()}
    newest = max([*before, *new], key=lambda one: int(one.row["start_time"]), default=None)
    kept: dict[tuple[str, ...], Record] = {}
    dropped: list[str] = []
    added = 0
    weights: dict[tuple[str, int], str] = {}
    for place, record in enumerate([*before, *new]):
        row = record.row
        if row["config_sha256"] != configs.get((row["study"], row["arm"])):
            if place < len(before):
                dropped.append(f"{row['study']}: {row['name']}: another config than the arm has now")
            continue
        assert newest is not None
        other = [what for name, what in BASIS.items() if row[name] != newest.row[name] and what != "environment"]
        if other:
            dropped.append(f"{row['study']}: {row['name']}: another {' and '.join(other)}")
            continue
        for state in record.states():
            at = (str(row["trajectory_sha256"]), int(state["epoch"]))
            if weights.setdefault(at, state["weights_sha256"]) != state["weights_sha256"]:
                raise ResultsError(
                    f"run {row['run_id']} has other weights after epoch {at[1]} than another run of its trajectory; "
                    f"fashion-cnn replay {row['run_id'][:8]} tells which of them holds"
                )
        key = (row["study"], row["arm"], row["seed"], row["environment_sha256"])
        if key not in kept:
            kept[key] = record
            added += place >= len(before)
    order = {key: place for place, key in enumerate(configs)}
    records = sorted(
        kept.values(),
        key=lambda one: (
            order[one.row["study"], one.row["arm"]],
            int(one.row["seed"]),
            str(one.row["environment_sha256"]),
        ),
    )
    return Merged(records, added, dropped)


def tables(records: Sequence[Record]) -> dict[str, bytes]:
    """The files that hold the records themselves.

    Raises:
        ResultsError: a record lacks what they need, or records of one hash tell other things of what it is of.
    """
    told: dict[str, Any] = {"data_files": {}, "code_files": {}, "remote": None, "environments": {}}
    rows = []
    for record in records:
        trajectory, environment = record.json("trajectory.json"), record.json("environment.json")
        if not isinstance(trajectory, dict) or not isinstance(environment, dict):
            raise ResultsError(f"run {record.row['run_id']} lacks trajectory.json or environment.json")
        for name in ("data_files", "code_files"):
            if told[name] and told[name] != trajectory[name]:
                raise ResultsError(f"run {record.row['run_id']} has other {name} than the runs before it")
            told[name] = trajectory[name]
        told["remote"] = environment.get("checkout", {}).get("remote") or told["remote"]
        packages = record.artifacts.get("requirements.txt", b"").decode().splitlines()
        sha256 = str(record.row["environment_sha256"])
        told["environments"].setdefault(sha256, {"fingerprint": environment["fingerprint"], "packages": packages})
        rows += [{**state, "run_id": record.row["run_id"]} for state in record.states()]
    return {
        RUNS: to_csv((record.row for record in records), COLUMNS),
        EPOCHS: to_csv(rows, EPOCH_COLUMNS),
        ENVIRONMENT: to_json(told),
    }


def map_name(row: Mapping[str, Any]) -> str:
    """The file of a run's feature maps; runs that end with the same weights share it."""
    return f"{MAPS}{str(row['weights_sha256'])[:_MAP_DIGITS]}.png"


def manifest(files: Mapping[str, bytes]) -> bytes:
    """The list of the published files, figures last, with the tables that these were drawn from."""
    listed = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    return to_json({"drawn_from": _drawn_from(files), "files": listed})


def _drawn_from(files: Mapping[str, bytes]) -> str:
    """Hex SHA-256 of the two tables, one after the other."""
    return hashlib.sha256(files[RUNS] + files[EPOCHS]).hexdigest()


# -- files in, records out ---------------------------------------------------------------------------------------------


def read(files: Mapping[str, bytes]) -> list[Record]:
    """The published records, in the order of `runs.csv`; none where there is no `runs.csv`.

    Their artifacts are those which the tables tell: `config.json`, `environment.json`, `trajectory.json`,
    `requirements.txt`.

    Raises:
        ResultsError: the files are no published records; says which and why.
    """
    if RUNS not in files:
        return []
    try:
        place = RUNS
        runs = from_csv(files[RUNS], COLUMNS)
        place = EPOCHS
        epochs = from_csv(files[EPOCHS], EPOCH_COLUMNS)
        place = ENVIRONMENT
        told = from_json(files[ENVIRONMENT])
        known = {name: told[name] for name in ("data_files", "code_files", "remote", "environments")}
    except KeyError as error:
        raise ResultsError(f"{place}: {error} is missing") from None
    except (BundleError, TypeError) as error:
        raise ResultsError(f"{place}: {error}") from None
    of_run: dict[str, list[dict[str, Any]]] = {str(row["run_id"]): [] for row in runs}
    if len(of_run) != len(runs):
        raise ResultsError(f"{RUNS}: a run_id is there twice")
    for epoch in epochs:
        if epoch["run_id"] not in of_run:
            raise ResultsError(f"{EPOCHS}: run {epoch['run_id']} is not in {RUNS}")
        of_run[epoch.pop("run_id")].append(epoch)
    return [_record(row, of_run[row["run_id"]], known) for row in runs]


def _record(row: Mapping[str, Any], states: Sequence[Mapping[str, Any]], told: Mapping[str, Any]) -> Record:
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
        checkout={"commit": row["git_commit"], "dirty": row["git_dirty"] == "true", "remote": told["remote"]},
        images=None,
        files=told,
        measured={name: row[name] for name in RUN_METRICS},
        epochs=states,
        packages=environment.get("packages", ()),
    )
    return Record(record.row, record.epochs, artifacts, whole=False)


def verdicts_over(studies: Sequence[Study], records: Sequence[Record], post: bytes) -> Verdicts:
    """What published records say of the studies' claims, and of the post's numbers (CSV)."""
    runs, epochs = frames((one.row for one in records), bundle.epoch_rows(records))
    return verdicts_of(studies, runs, epochs, post)


# -- the check ---------------------------------------------------------------------------------------------------------


def problems(files: Mapping[str, bytes], studies: Sequence[Study], post: bytes) -> Iterator[str]:
    """What does not hold of the published files, a line each: nothing where all does.

    Args:
        files: by name, relative to their folder; others than `manifest.json` lists are left alone.
        studies: as they are now.
        post: the post's printed numbers, CSV.
    """
    if lacking := [name for name in (*TABLES, CLAIMS, MANIFEST) if name not in files]:
        yield f"{', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} missing"
        return
    try:
        records = read(files)
        listed = from_json(files[MANIFEST])
        said = from_json(files[CLAIMS])
    except (BundleError, ResultsError) as error:
        yield str(error)
        return
    yield from _of_files(files, listed)
    for record in records:
        for lack in missing(record, PUBLISHED_RULES):
            yield f"run {record.row['run_id']}: {lack}"
        for against in contradictions(record):
            yield f"run {record.row['run_id']}: {against}"
    for name, what in BASIS.items():
        if what != "environment" and len(hashes := {str(one.row[name]) for one in records}) > 1:
            yield f"{RUNS}: the runs have {len(hashes)} hashes of the {what}; there must be one"
    table, _ = frames((one.row for one in records), ())
    names = [study.name for study in studies]
    for row in table[~table["study"].isin(names)].to_dict("records"):
        yield f"run {row['run_id']}: there is no study {row['study']}"
    for study in studies:
        mine = table[table["study"] == study.name]
        for run_id, reason in zip(mine["run_id"], reasons_left_out(mine, study), strict=True):
            # Another processor's runs are published beside the others and counted as left out.
            if reason and reason != f"another {BASIS['environment_sha256']}":
                yield f"run {run_id} of {study.name} does not count: {reason}"
    computed = claims_values(verdicts_over(studies, records, post))
    for place, theirs, ours in bundle.value_differences(said, computed):
        yield f"{CLAIMS}: {place} is {theirs!r:.120}, but computed again it is {ours!r:.120}"


def _of_files(files: Mapping[str, bytes], listed: Any) -> Iterator[str]:
    hashes = listed.get("files") if isinstance(listed, dict) else None
    if not isinstance(hashes, dict):
        yield f"{MANIFEST} lists no files"
        return
    for name, digest in hashes.items():
        if name not in files:
            yield f"{name} is missing"
        elif hashlib.sha256(files[name]).hexdigest() != digest:
            yield f"{name} was changed after it was published"
    for name in files:
        if name.startswith((FIGURES, MAPS)) and name not in hashes:
            yield f"{name} is not in {MANIFEST}"
    if listed.get("drawn_from") != _drawn_from(files):
        yield f"the figures were drawn from other tables than {RUNS} and {EPOCHS}"
