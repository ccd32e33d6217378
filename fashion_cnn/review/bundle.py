"""What a bundle holds: its files by name, records, studies and manifest as bytes and back, and their description.

    README.txt                 for the reviewer
    manifest.json              the SHA-256 and size of every other file
    ro-crate-metadata.json     the same files and runs, described for other programs (RO-Crate)
    studies.json               each study's question, arms (configs) and claims
    post_results.csv           what the post printed
    runs.csv  epochs.csv       the records as tables, every number in full precision
    records/<run_id>/          a run's light artifacts, as they were recorded; its hashes.json has the hash of all. Of
                               published runs what is published: some have activations and feature maps, too
    claims.json                the verdicts, which anybody can compute again from the tables
    left_out.json              how many of the store's runs are not here, and why
    figures/<study>/  report.html  requirements.lock

`pack` makes a bundle, `verify` checks one. Nothing here reads or writes a file.

The description is an RO-Crate 1.1 of the Process Run Crate profile 0.5, for programs that know nothing of this one.
Each run is an action: its instrument is the software at a commit, its objects are the data set and the files that it
was made with, its results the files that it left. No people are named. Ids and dates come from the records: the same
records give the same bytes, and `verify` compares a bundle's description with the one that its records give.
(w3id.org/ro/crate/1.1, w3id.org/ro/wfrun/process/0.5)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any, Final

from fashion_cnn.claims import Between, Claim, Equivalent, Higher, Lower, NotTested, Stops
from fashion_cnn.config import RunConfig
from fashion_cnn.data import FASHION_MNIST
from fashion_cnn.download import BASE_URL
from fashion_cnn.evidence import tables
from fashion_cnn.evidence.record import LIGHT, Record
from fashion_cnn.evidence.tables import (
    TableError,
    epoch_rows,
    from_csv,
    from_json,
    iso_time,
    runs_from_csv,
    runs_to_csv,
    to_csv,
    to_json,
)
from fashion_cnn.running.plan import Run, rerun_command
from fashion_cnn.study import Study

FORMAT: Final = "fashion-cnn bundle 1"
_PUBLISHED: Final = "published results"
HELD: Final = (*LIGHT, "activations.npz", "figures/feature_maps.png")
"""The artifacts that a bundle can have of a run."""
README: Final = "README.txt"
MANIFEST: Final = "manifest.json"
CRATE: Final = "ro-crate-metadata.json"
STUDIES: Final = "studies.json"
RUNS: Final = "runs.csv"
EPOCHS: Final = "epochs.csv"
POST: Final = "post_results.csv"
CLAIMS: Final = "claims.json"
LEFT_OUT: Final = "left_out.json"
REPORT: Final = "report.html"
LOCK: Final = "requirements.lock"
REQUIRED: Final = (README, CRATE, STUDIES, RUNS, EPOCHS, POST, CLAIMS, LEFT_OUT, REPORT, LOCK)  # besides the manifest
_CLAIMS: Final = {kind.__name__: kind for kind in (Higher, Lower, Equivalent, Between, Stops, NotTested)}
_RUN_ID: Final = re.compile(r"[0-9a-f]{32}")
_TERMS: Final = "https://w3id.org/ro/terms/workflow-run/context"  # it defines sha256
_PROFILE: Final = "https://w3id.org/ro/wfrun/process/0.5"
_DATA_SET: Final = "https://github.com/zalandoresearch/fashion-mnist/"
_MIT: Final = "https://spdx.org/licenses/MIT"
_MADE_WITH: Final = ("config.json", "environment.json", "requirements.txt", "code.diff")
_FORMATS: Final = {
    ".csv": "text/csv", ".diff": "text/x-diff", ".html": "text/html", ".json": "application/json",
    ".svg": "image/svg+xml", ".png": "image/png", ".npz": "application/zip",
}  # fmt: skip
_WHAT: Final = {
    README: "what is here and how to check it",
    MANIFEST: "SHA-256 and size of every other file",
    STUDIES: "the studies: questions, arms, claims",
    RUNS: "the runs, a row each: params, metrics at the end, hashes",
    EPOCHS: "the metrics of every epoch of every run",
    POST: "what the post printed",
    CLAIMS: "the verdicts on the claims, computed from the tables",
    LEFT_OUT: "how many recorded runs are not here, and why",
    REPORT: "the report: one page, opens without a network",
    LOCK: "every package pinned, for setting up the software",
    "config.json": "the run's config and seed",
    "environment.json": "what can change the run's bits: arithmetic, libraries, threads, variables; and the machine",
    "trajectory.json": "metrics and SHA-256 of the weights after every epoch",
    "per_class.json": "test images by class and answer",
    "predictions.npz": "the class answered to each test image, and the probability of its true class",
    "activations.npz": "what each layer makes of three test images",
    "feature_maps.png": "the same, drawn",
    "requirements.txt": "the packages that were installed",
    "hashes.json": "SHA-256 of every artifact of the run and of its model",
    "model_summary.txt": "the network, layer by layer",
    "code.diff": "what differed from the commit",
    "scores.svg": "test accuracy and test loss by arm",
    "curves.svg": "loss and accuracy by epoch",
    "seconds.svg": "CPU seconds of training by arm",
}


class BundleError(ValueError):
    """A bundle that cannot be made or read: one line that says why."""


def artifact_name(run_id: str, artifact: str) -> str:
    """Where a bundle holds a run's artifact."""
    return f"records/{run_id}/{artifact}"


def is_run_id(text: Any) -> bool:
    """Whether a text can be a run's id, and so a folder's name."""
    return isinstance(text, str) and _RUN_ID.fullmatch(text) is not None


def record_files(records: Sequence[Record]) -> dict[str, bytes]:
    """The tables and the artifacts of some records."""
    artifacts: dict[str, bytes] = {}
    for record in records:
        run_id = record.row["run_id"]
        if not is_run_id(run_id):
            raise BundleError(f"{run_id!r} is no run's id")
        here = record.artifacts
        artifacts |= {artifact_name(run_id, name): here[name] for name in HELD if name in here}
    runs = runs_to_csv([record.row for record in records])
    return {RUNS: runs, EPOCHS: to_csv(epoch_rows(records), tables.EPOCH_COLUMNS), **artifacts}


def records_in(
    runs: Iterable[Mapping[str, Any]], epochs: Iterable[Mapping[str, Any]], files: Mapping[str, bytes]
) -> list[Record]:
    """The records that the rows of a bundle's two tables and its files are of."""
    of_run: dict[str, list[Mapping[str, Any]]] = {}
    for epoch in epochs:
        of_run.setdefault(epoch["run_id"], []).append(epoch)
    records = []
    for row in runs:
        paths = {name: artifact_name(row["run_id"], name) for name in HELD}
        artifacts = {name: files[path] for name, path in paths.items() if path in files}
        records.append(Record(row, of_run.get(row["run_id"], []), artifacts, whole=False))
    return records


def contents(files: Mapping[str, bytes]) -> tuple[list[Study], list[Record]]:
    """The studies and records that a bundle's files hold; `verify` tells whether they do."""
    epochs = from_csv(files[EPOCHS], tables.EPOCH_COLUMNS)
    studies = [study_of(name, values) for name, values in from_json(files[STUDIES]).items()]
    return studies, records_in(runs_from_csv(files[RUNS]), epochs, files)


def study_values(study: Study) -> dict[str, Any]:
    """A study as JSON values."""
    claims = [{"claim": type(claim).__name__, **asdict(claim)} for claim in study.claims]
    arms = {arm: config.canonical() for arm, config in study.arms.items()}
    return {"question": study.question, "arms": arms, "claims": claims}


def study_of(name: str, values: Mapping[str, Any]) -> Study:
    """A study of JSON values; a BundleError says why they are none."""
    try:
        arms = {arm: RunConfig.from_mapping(config) for arm, config in values["arms"].items()}
        claims = tuple(_claim(**claim) for claim in values["claims"])
        study = Study(name, values["question"], arms, claims=claims)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise BundleError(f"{name} is no study: {type(error).__name__}: {error}") from None
    if study_values(study) != values:
        raise BundleError(f"{name} is not written as a study is")
    return study


def _claim(claim: str, **values: Any) -> Claim:
    return _CLAIMS[claim](**values)


def to_manifest(files: Mapping[str, bytes], *, published: bool = False) -> bytes:
    """The manifest of all other files of a bundle; `published` says that its records are of published results."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    listed = {name: {"sha256": sha256, "bytes": len(files[name])} for name, sha256 in hashes.items()}
    return to_json({"format": FORMAT, **({"of": _PUBLISHED} if published else {}), "files": listed})


def is_of_published(content: bytes) -> bool:
    """Whether a manifest says that the records are of published results, which lack what these do not hold."""
    return bool(from_json(content).get("of") == _PUBLISHED)


def from_manifest(content: bytes) -> dict[str, tuple[str, int]]:
    """What a manifest lists: SHA-256 and size in bytes by name; a BundleError where it is none."""
    try:
        values = from_json(content)
        named = values["format"]
        listed = {name: (entry["sha256"], entry["bytes"]) for name, entry in values["files"].items()}
    except (TableError, AttributeError, KeyError, TypeError):
        raise BundleError(f"it is no bundle: its {MANIFEST} is not one of fashion-cnn") from None
    if named != FORMAT:
        raise BundleError(f"its format is {str(named)[:80]!r}; this version reads {FORMAT!r}")
    return listed


def describe(files: Mapping[str, bytes], studies: Sequence[Study], records: Sequence[Record]) -> dict[str, Any]:
    """The description as a JSON value, of all files of the bundle but this one and the manifest."""
    configs = {(study.name, arm): (study, config) for study in studies for arm, config in study.arms.items()}
    actions = []
    for record in records:
        study, config = configs[record.row["study"], record.row["arm"]]
        run = Run(study, record.row["arm"], int(record.row["seed"]), config)
        actions.append(_action(record, rerun_command(run, smoke=False), files))
    listed = [_file(name, files.get(name)) for name in sorted({*files, MANIFEST})]
    about = {"conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"}, "about": {"@id": "./"}}
    entities = [
        _root(studies, records, [*_references(listed), {"@id": _DATA_SET}], _references(actions)),
        {"@id": CRATE, "@type": "CreativeWork", **about},
        {"@id": _MIT, "@type": "CreativeWork", "name": "MIT License"},
        {"@id": _PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
        *listed,
        *_data_set(),
        *map(_software, records),
        *actions,
    ]
    once = {entity["@id"]: entity for entity in entities}  # runs share their software
    return {"@context": ["https://w3id.org/ro/crate/1.1/context", _TERMS], "@graph": list(once.values())}


def _references(entities: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [{"@id": entity["@id"]} for entity in entities]


def _root(
    studies: Sequence[Study], records: Sequence[Record], parts: list[dict[str, str]], actions: list[dict[str, str]]
) -> dict[str, Any]:
    names = ", ".join(study.name for study in studies)
    return {
        "@id": "./",
        "@type": "Dataset",
        "datePublished": iso_time(max(record.row["end_time"] for record in records)),  # the newest run's end
        "hasPart": parts,
        "name": f"fashion-cnn: recorded runs of {names}",
        "description": f"{len(records)} runs that train small networks on Fashion-MNIST: their records, the verdicts "
        "on what was claimed of them, figures, and what is needed to make each of them again. The models are not "
        "included; hashes.json of a run has their SHA-256.",
        "license": {"@id": _MIT},
        "conformsTo": {"@id": _PROFILE},
        "mentions": actions,
    }


def _file(name: str, content: bytes | None) -> dict[str, Any]:
    path = PurePosixPath(name)
    kind = _FORMATS.get(path.suffix, "text/plain")
    values = {"@id": name, "@type": "File", "name": path.name, "encodingFormat": kind}
    if path.name in _WHAT:
        values["description"] = _WHAT[path.name]
    if content is not None:  # the manifest, which has the hash of this description, cannot be in it with its own
        values |= {"contentSize": str(len(content)), "sha256": hashlib.sha256(content).hexdigest()}
    return values


def _data_set() -> list[dict[str, Any]]:
    """The files of Fashion-MNIST, named and not included, and the whole, the data set of every complete record."""
    files = [
        {
            "@id": f"{BASE_URL}{name}.gz",
            "@type": "CreativeWork",
            "name": name,
            "description": "gzipped; the SHA-256 is of the unpacked file, for packagers gzip anew",
            "sha256": sha256,
        }
        for name, sha256 in sorted(FASHION_MNIST.file_sha256.items())
    ]

    whole = {
        "@id": _DATA_SET,
        "@type": "Dataset",
        "name": FASHION_MNIST.name,
        "description": f"{FASHION_MNIST.train:,} training and {FASHION_MNIST.test:,} test images of clothes in ten "
        "classes, 28x28 grey pixels each. Not included. Its SHA-256 is that of the lines 'sha256  name' of its "
        "unpacked files, sorted by name.",
        "url": _DATA_SET,
        "citation": "Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747",
        "sha256": FASHION_MNIST.sha256,
        "license": {"@id": _MIT},
        "hasPart": _references(files),
    }
    return [*files, whole]


def _action(record: Record, command: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    """A run: what it was made with, and what it left."""
    row = record.row
    paths = {name: artifact_name(row["run_id"], name) for name in HELD}
    there = {name: {"@id": path} for name, path in paths.items() if path in files}
    return {
        "@id": f"#{row['run_id']}",
        "@type": "CreateAction",
        "name": f"{row['study']}: {row['arm']}, seed {row['seed']}",
        "description": command,
        "startTime": iso_time(row["start_time"]),
        "endTime": iso_time(row["end_time"]),
        "actionStatus": "http://schema.org/CompletedActionStatus",
        "instrument": {"@id": _software(record)["@id"]},
        "object": [{"@id": _DATA_SET}, *(reference for name, reference in there.items() if name in _MADE_WITH)],
        "result": [reference for name, reference in there.items() if name not in _MADE_WITH],
    }


def _software(record: Record) -> dict[str, Any]:
    """The software that made a run: known by its commit, whether that was changed, and the hash of its code."""
    commit, code, changed = record.row["git_commit"], record.row["code_sha256"], record.row["git_dirty"] == "true"
    remote = remote_of(record)
    return {
        "@id": f"#fashion-cnn-{commit[:12]}{'-changed' if changed else ''}-{code[:12]}",
        "@type": "SoftwareApplication",
        "name": "fashion-cnn",
        "softwareVersion": commit,
        "description": f"commit {commit}{', changed (code.diff of its runs)' if changed else ''}; SHA-256 of the "
        f"modules that decide numbers: {code}",
        **({"url": remote} if remote else {}),
    }


def remote_of(record: Record) -> str | None:
    """Where others find the repository that made a run, if it says so."""
    checkout = (record.json("environment.json") or {}).get("checkout") or {}
    return checkout.get("remote")
