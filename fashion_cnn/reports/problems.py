"""What does not hold of the published files; `results --check` tells it beside what differs in the documents. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.inert import active_parts
from fashion_cnn.evidence.record import BASIS, PUBLISHED_RULES, Record, missing
from fashion_cnn.evidence.selection import reasons_left_out
from fashion_cnn.evidence.tables import TableError, frames, from_json, value_differences
from fashion_cnn.evidence.together import implausible_together, seeds_left_out
from fashion_cnn.evidence.verdicts import Verdicts, claims_values
from fashion_cnn.reports import published as results
from fashion_cnn.reports.published import (
    CLAIMS,
    ENVIRONMENT,
    EPOCHS,
    EPOCHS_OF,
    FIGURES,
    FOLDERS,
    MANIFEST,
    OF_WEIGHTS,
    RUNS,
    ResultsError,
)
from fashion_cnn.study import Study


@dataclass(frozen=True)
class Checked:
    """What was read of the published files, and what does not hold of it."""

    records: Sequence[Record]
    verdicts: Verdicts
    problems: Sequence[str]
    """A line each."""


def check(files: Mapping[str, bytes], studies: Sequence[Study], post: bytes) -> Checked:
    """Check the published files; `post` are the post's printed numbers, CSV.

    Files that `manifest.json` does not list are left alone, but for those in its folders.

    Raises:
        ResultsError: they cannot be read at all: files are missing, or are none.
    """
    tables_of_epochs = results.epoch_tables(files) or [EPOCHS]
    if lacking := [name for name in (RUNS, *tables_of_epochs, ENVIRONMENT, CLAIMS, MANIFEST) if name not in files]:
        raise ResultsError(f"{', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} missing")
    try:
        records, listed, stated = (
            results.published_records(files),
            from_json(files[MANIFEST]),
            from_json(files[CLAIMS]),
        )
    except TableError as error:
        raise ResultsError(str(error)) from None
    verdicts = results.verdicts_over(studies, records, post)
    problems = [
        *_of_files(files, listed),
        *_of_records(records),
        *_of_no_run(files, records),
        *_of_choice(records, studies),
        *_of_claims(stated, claims_values(verdicts)),
    ]
    return Checked(records, verdicts, problems)


def _of_no_run(files: Mapping[str, bytes], records: Sequence[Record]) -> Iterator[str]:
    known = {results.file_of(folder, record.row) for record in records for folder in OF_WEIGHTS}
    known |= {f"{EPOCHS_OF}{record.row['study']}.csv" for record in records}
    for name in files:
        if name.startswith((EPOCHS_OF, *OF_WEIGHTS)) and name not in known:
            yield f"{name} is of no published run"


def _of_claims(stated: Any, computed: Any) -> Iterator[str]:
    for place, theirs, ours in value_differences(stated, computed):
        yield f"{CLAIMS}: {place} is {theirs!r:.120}, but computed again it is {ours!r:.120}"


def _of_records(records: Sequence[Record]) -> Iterator[str]:
    """Whether each record is complete and consistent, and all have one data set and code."""
    for record in records:
        for fault in (*missing(record, PUBLISHED_RULES), *contradictions(record)):
            yield f"run {record.row['run_id']}: {fault}"
    for run_id, breaches in implausible_together(records).items():
        yield from (f"run {run_id}: {breach}" for breach in breaches)
    for name, what in BASIS.items():
        if what != "environment" and len(hashes := {str(record.row[name]) for record in records}) > 1:
            yield f"{RUNS}: the runs have {len(hashes)} hashes of the {what}; there must be one"


def _of_choice(records: Sequence[Record], studies: Sequence[Study]) -> Iterator[str]:
    """Whether each run belongs to a study and counts in it, and of those that count no seed is left out."""
    table, _ = frames(records)
    counted = set[str]()
    names = [study.name for study in studies]
    for row in table[~table["study"].isin(names)].to_dict("records"):
        yield f"run {row['run_id']}: there is no study {row['study']}"
    for study in studies:
        of_study = table[table["study"] == study.name]
        reasons = dict(zip(of_study["run_id"], reasons_left_out(of_study, study), strict=True))
        counted |= {run_id for run_id, reason in reasons.items() if not reason}
        for run_id, reason in reasons.items():
            # Another processor's runs are published beside the others and counted as left out.
            if reason and reason != f"another {BASIS['environment_sha256']}":
                yield f"run {run_id} of {study.name} does not count: {reason}"
    # Another environment's run fills no gap: whoever relabels the worst seed of an arm leaves one.
    for name, lacks in seeds_left_out(record for record in records if record.row["run_id"] in counted).items():
        yield f"{RUNS}: {name} lacks runs beside those it has ({'; '.join(lacks[:5])}); fashion-cnn run makes them"


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
        if name.startswith(FOLDERS) and name not in hashes:
            yield f"{name} is not in {MANIFEST}"
        if name.startswith((FIGURES, *OF_WEIGHTS)):
            yield from (f"{name}: {part}" for part in active_parts(name, files[name]))
    if listed.get("drawn_from") != results.drawn_from(files):
        yield f"the figures were drawn from other tables than {RUNS} and those of the epochs"
