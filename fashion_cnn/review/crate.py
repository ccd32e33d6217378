"""A bundle described as an RO-Crate 1.1 of the Process Run Crate profile 0.5, for programs that know nothing of it.

Each run is an action: its instrument is the software at a commit, its objects are the data set and the files that it
was made with, its results the files that it left. No people are named. `rocrate` writes it; what it draws by chance
or takes from a clock (ids, the date) is given to it, so that the same records give the same bytes.
(w3id.org/ro/crate/1.1, w3id.org/ro/wfrun/process/0.5)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from fashion_cnn.data import BASE_URL, FASHION_MNIST
from fashion_cnn.evidence.record import LIGHT, Record
from fashion_cnn.evidence.tables import moment, to_json
from fashion_cnn.review.bundle import (
    CLAIMS,
    DATA_SET,
    EPOCHS,
    LEFT_OUT,
    LOCK,
    MANIFEST,
    POST,
    PROCESS_RUN,
    README,
    REPORT,
    RUNS,
    STUDIES,
    artifact_name,
)
from fashion_cnn.running.plan import Run, rerun_command
from fashion_cnn.study import Study

_TERMS: Final = "https://w3id.org/ro/terms/workflow-run/context"  # it defines sha256
_MIT: Final = "https://spdx.org/licenses/MIT"
_MADE_WITH: Final = ("config.json", "environment.json", "requirements.txt", "code.diff")
_FORMATS: Final = {
    ".csv": "text/csv",
    ".diff": "text/x-diff",
    ".html": "text/html",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
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
    "environment.json": "what can change the run's bits: processor, libraries, threads, variables",
    "trajectory.json": "metrics and SHA-256 of the weights after every epoch",
    "per_class.json": "test images by class and answer",
    "requirements.txt": "the packages that were installed",
    "hashes.json": "SHA-256 of every artifact of the run and of its model",
    "model_summary.txt": "the network, layer by layer",
    "code.diff": "what differed from the commit",
    "scores.svg": "test accuracy and test loss by arm",
    "curves.svg": "loss and accuracy by epoch",
    "seconds.svg": "CPU seconds of training by arm",
}


def describe(files: Mapping[str, bytes], studies: Sequence[Study], records: Sequence[Record]) -> bytes:
    """The description as a file.

    Args:
        files: of the bundle, by name; all but this one and the manifest.
        studies: of the records.
        records: of the bundle.
    """
    from rocrate.model.contextentity import ContextEntity
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version="1.1")
    crate.metadata.extra_contexts.append(_TERMS)

    def add(at: str, kind: str, **properties: Any) -> Any:
        return crate.add(ContextEntity(crate, at, {"@type": kind, **properties}))

    licence = add(_MIT, "CreativeWork", name="MIT License")
    profile = add(PROCESS_RUN, "CreativeWork", name="Process Run Crate", version="0.5")
    made = {
        name: crate.add_file(dest_path=name, properties=_file(name, files.get(name)))
        for name in sorted({*files, MANIFEST})
    }
    data = _data_set(crate, add, licence)
    software = {key: add(**values) for key, values in _software(records).items()}
    configs = {(study.name, arm): (study, config) for study in studies for arm, config in study.arms.items()}
    actions = []
    for record in records:
        row = record.row
        study, config = configs[row["study"], row["arm"]]
        mine = {name: made[path] for name in LIGHT if (path := artifact_name(row["run_id"], name)) in made}
        action = add(
            f"#{row['run_id']}",
            "CreateAction",
            name=f"{study.name}: {row['arm']}, seed {row['seed']}",
            description=rerun_command(Run(study, row["arm"], int(row["seed"]), config), smoke=False),
            startTime=moment(row["start_time"]),
            endTime=moment(row["end_time"]),
            actionStatus="http://schema.org/CompletedActionStatus",
            instrument=software[_checkout(record)],
            object=[data, *(entity for name, entity in mine.items() if name in _MADE_WITH)],
            result=[entity for name, entity in mine.items() if name not in _MADE_WITH],
        )
        actions.append(action)
    root = crate.root_dataset
    names = ", ".join(study.name for study in studies)
    root["name"] = f"fashion-cnn: recorded runs of {names}"
    root["description"] = (
        f"{len(records)} runs that train small networks on Fashion-MNIST: their records, the verdicts on what was "
        f"claimed of them, figures, and what is needed to make each of them again. The models are not included; "
        f"hashes.json of a run has their SHA-256."
    )
    root["datePublished"] = moment(max(record.row["end_time"] for record in records))  # the newest run's end
    root["license"] = licence
    root["conformsTo"] = profile
    root["mentions"] = actions
    return to_json(crate.metadata.generate())


def _file(name: str, content: bytes | None) -> dict[str, Any]:
    path = PurePosixPath(name)
    found = {"name": path.name, "encodingFormat": _FORMATS.get(path.suffix, "text/plain")}
    if path.name in _WHAT:
        found["description"] = _WHAT[path.name]
    if content is not None:  # the manifest, which has the hash of this description, cannot be in it with its own
        found |= {"contentSize": str(len(content)), "sha256": hashlib.sha256(content).hexdigest()}
    return found


def _data_set(crate: Any, add: Any, licence: Any) -> Any:
    """Fashion-MNIST, which every complete record has as its data set; its files are told, not included."""
    parts = [
        add(
            f"{BASE_URL}{name}.gz",
            "CreativeWork",
            name=name,
            description="gzipped; the SHA-256 is of the unpacked file, for packagers gzip anew",
            sha256=sha256,
        )
        for name, sha256 in sorted(FASHION_MNIST.file_sha256.items())
    ]
    data = crate.add_dataset(
        DATA_SET,
        properties={
            "name": FASHION_MNIST.name,
            "description": f"{FASHION_MNIST.train:,} training and {FASHION_MNIST.test:,} test images of clothes in ten "
            "classes, 28x28 grey pixels each. Not included. Its SHA-256 is that of the lines 'sha256  name' of its "
            "unpacked files, sorted by name.",
            "url": DATA_SET,
            "citation": "Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747",
            "sha256": FASHION_MNIST.sha256,
        },
    )
    data["license"] = licence
    data["hasPart"] = parts
    return data


def remote_of(record: Record) -> str | None:
    """Where others find the repository that made a run, if it says so."""
    checkout = (record.json("environment.json") or {}).get("checkout") or {}
    return checkout.get("remote")


def _checkout(record: Record) -> tuple[str, str, str]:
    """What tells software from other software: commit, whether it was changed, hash of the code."""
    return record.row["git_commit"], record.row["git_dirty"], record.row["code_sha256"]


def _software(records: Sequence[Record]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """The software of some records."""
    found = {}
    for record in records:
        commit, dirty, code = _checkout(record)
        changed, remote = dirty == "true", remote_of(record)
        found[commit, dirty, code] = {
            "at": f"#fashion-cnn-{commit[:12]}{'-changed' if changed else ''}-{code[:12]}",
            "kind": "SoftwareApplication",
            "name": "fashion-cnn",
            "softwareVersion": commit,
            "description": f"commit {commit}{', changed (code.diff of its runs)' if changed else ''}; SHA-256 of the "
            f"modules that decide numbers: {code}",
            **({"url": remote} if remote else {}),
        }
    return found
