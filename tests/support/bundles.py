"""Bundles of made-up records, taken apart, changed, and packed again as whoever tampers with them would."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fashion_cnn.claims import Equivalent, Higher, Lower, NotTested, Stops
from fashion_cnn.config import CNN, DENSE
from fashion_cnn.evidence.record import Record
from fashion_cnn.evidence.selection import Selection
from fashion_cnn.evidence.tables import from_json, to_json
from fashion_cnn.review import archive
from fashion_cnn.review.bundle import to_manifest
from fashion_cnn.review.pack import make_bundle
from fashion_cnn.review.verify import VerifyResult
from fashion_cnn.study import Study
from tests.support.recorded import record

Files = dict[str, bytes]
Tampering = Callable[[Files], None]

STUDY = Study(
    "made_up_study",
    "Is it made up?",
    {
        "dense": replace(DENSE, epochs=3),
        "cnn": replace(CNN, epochs=3),
        "longer": replace(CNN, epochs=5),
        "stops": replace(CNN, callback_loss=0.19),
    },
    claims=(
        Higher("test_accuracy", "cnn", than="dense", says="It is better."),
        Lower("test_loss", "cnn", than="dense", says="It is better."),
        Equivalent("test_accuracy", "longer", to="cnn", within=0.1, says="More is the same."),
        Stops("stops", before=10, says="It stops."),
        NotTested("More data would help.", "there are no more"),
    ),
)
SMALL = Study("small_study", "Is it small?", {"cnn": replace(CNN, epochs=2)}, claims=STUDY.claims[-1:])
LOCK = b"numpy==2.4.6\n"
POST = b"""\
study,arm,epoch,epoch_seconds,loss,accuracy,test_loss,test_accuracy
made_up_study,cnn,1,14,0.61,0.81,,
made_up_study,cnn,2,14,0.31,0.82,,
made_up_study,cnn,3,14,0.21,0.83,0.26,0.85
"""
SEEDS = 6


def records(study: Study = STUDY, seeds: int = SEEDS, **settings: Any) -> list[Record]:
    return [record(study, arm, seed, **settings) for arm in study.arms for seed in range(seeds)]


def packed(*selections: Selection) -> bytes:
    return make_bundle(selections, lock=LOCK, post=POST)


def packed_small() -> bytes:
    return packed(Selection(SMALL, records(SMALL, 1), []))


def files_of(content: bytes) -> Files:
    return dict(archive.unpack(content).files)


def zipped(files: Files) -> bytes:
    return archive.pack(files, 0)


def sealed(files: Files) -> bytes:
    """As who tampers would pack them: the description's hashes and the manifest are made to fit."""
    crate = json.loads(files["ro-crate-metadata.json"])
    for one in crate["@graph"]:
        if one["@type"] == "File" and one["@id"] in files and "sha256" in one:
            content = files[one["@id"]]
            one |= {"sha256": hashlib.sha256(content).hexdigest(), "contentSize": str(len(content))}
    files["ro-crate-metadata.json"] = to_json(crate)
    files["manifest.json"] = to_manifest({name: content for name, content in files.items() if name != "manifest.json"})
    return zipped(files)


def table(files: Files, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(files[name].decode())))


def save_table(files: Files, name: str, rows: list[dict[str, str]]) -> None:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files[name] = buffer.getvalue().encode()


def first_run(files: Files) -> str:
    return table(files, "runs.csv")[0]["run_id"]


def next_number(number: str) -> str:
    """The least change that a number can have."""
    return repr(math.nextafter(float(number), math.inf))


def said(outcome: VerifyResult) -> str:
    return "\n".join(map(str, outcome.findings))


def in_runs(column: str, change: Callable[[str], str]) -> Tampering:
    def tamper(files: Files) -> None:
        rows = table(files, "runs.csv")
        before = rows[0][column]
        rows[0][column] = change(before)
        assert rows[0][column] != before
        save_table(files, "runs.csv", rows)

    return tamper


def in_json(name: str, change: Callable[[Any], None]) -> Tampering:
    def tamper(files: Files) -> None:
        value = from_json(files[name])
        change(value)
        files[name] = json.dumps(value).encode()

    return tamper
