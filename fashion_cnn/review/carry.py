"""A bundle's runs brought into a store, where they can be compared and replayed. They never count as recorded there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fashion_cnn.evidence.record import EPOCH_METRICS, TAGS, Record
from fashion_cnn.reports.publish import import_records
from fashion_cnn.review import archive, bundle
from fashion_cnn.review.bundle import BundleError
from fashion_cnn.review.verify import VerifyResult, read_file, to_sha256, verify
from fashion_cnn.store.tracking import Store
from fashion_cnn.study import Study

LONGEST: Final = 5_000  # characters of a text: what MLflow takes, of a param or tag


@dataclass(frozen=True)
class Carried:
    """What came of an import."""

    verified: VerifyResult
    imported: int
    there: int
    """How many of the runs the store had already."""


class Unsound(BundleError):
    """A bundle that does not hold: one line that says what was found first."""


def import_bundle(
    path: Path,
    open_store: Callable[[], Store],
    here: Sequence[Study],
    expected: str | None = None,
    step: Callable[[int], Any] = lambda count: None,
) -> Carried:
    """Import a bundle's runs into a store, which is opened once the bundle was found to hold.

    Runs that the store recorded itself or that were imported before are there already. Arguments as those of
    `verify_file` and `import_records`.

    Raises:
        Unsound: the bundle does not hold; nothing was written.
        BundleError: it cannot be read, is no safe bundle, or has a run that no store takes; likewise.
        StoreError: the store does not take them; the same command goes on.
    """
    wanted, content = None if expected is None else to_sha256(expected), read_file(path)
    try:
        result = verify(content, expected=wanted)
        if not result.holds:
            first = "".join(letter if letter.isprintable() else "\ufffd" for letter in str(result.findings[0])[:300])
            more = f" and {len(result.findings) - 1} more" if len(result.findings) > 1 else ""
            raise Unsound(f"it does not hold: {first}{more}; nothing was imported; fashion-cnn verify tells all")
        studies, records = bundle.contents(archive.unpack(content).files)
        for record in records:
            _check(record)
    except (archive.ArchiveError, BundleError) as error:
        raise type(error)(f"{path}: {error}") from None
    ours = {study.name: study.question for study in here}
    questions = {study.name: ours.get(study.name, study.question) for study in studies}
    imported = import_records(open_store(), records, questions, f"a bundle of SHA-256 {result.sha256}", step)
    return Carried(result, imported, len(records) - imported)


def _check(record: Record) -> None:
    """Raise a BundleError where a store would refuse a record in the middle."""
    run_id, row = record.row["run_id"], record.row
    long = [name for name in (*TAGS, "name") if len(str(row.get(name) or "")) > LONGEST]
    if long or not row.get("name"):
        raise BundleError(f"run {run_id} has a {long[0] if long else 'name'} that no store takes; nothing was imported")
    numbers = [state.get(name) for state in record.states() for name in (*EPOCH_METRICS, "ended_at", "epoch")]
    if not all(isinstance(number, int | float) and abs(number) < 1e300 for number in numbers):
        raise BundleError(f"run {run_id} has an epoch without all of its numbers; nothing was imported")
