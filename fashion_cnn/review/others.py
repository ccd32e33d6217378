"""The records of other seeds, by which a record is judged where its bits cannot be had again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.record import BASIS, Record, missing, rules_of
from fashion_cnn.review.replay import SMOKE_RULES, OtherSeeds, records_of
from fashion_cnn.store.tracking import Store


def in_store(store: Store) -> OtherSeeds:
    """Those of a store: complete, of the same arm, config, data, code and environment; the newest of each seed."""

    def others(record: Record) -> list[Record]:
        rows = _newest(store.runs([str(record.row["study"])]).to_dict("records"), record)
        return _sound(records_of(store, rows, whole=False), record)

    return others


def among(records: Sequence[Record]) -> OtherSeeds:
    """As `in_store`, of records that are at hand."""
    by_id = {str(record.row["run_id"]): record for record in records}

    def others(record: Record) -> list[Record]:
        rows = _newest([other.row for other in records], record)
        return _sound((by_id[str(row["run_id"])] for row in rows), record)

    return others


def _newest(rows: Iterable[Mapping[str, Any]], record: Record) -> list[Mapping[str, Any]]:
    """The newest finished run of each other seed that has all but the seed in common with a record."""
    ours = record.row
    common = ("study", "arm", "config_sha256", *BASIS)
    found: dict[str, Mapping[str, Any]] = {}
    for row in sorted(rows, key=lambda row: float(row["start_time"])):
        if all(row[name] == ours[name] for name in common) and row["status"] == "FINISHED":
            found[str(row["seed"])] = row
    return [row for seed, row in found.items() if seed != str(ours["seed"])]


def _sound(records: Iterable[Record], record: Record) -> list[Record]:
    """Those that are complete and consistent."""
    # A smoke run is no evidence, but smoke runs may be compared with each other.
    smoke = record.row.get("smoke") != "false"
    return [
        other
        for other in records
        if not missing(other, SMOKE_RULES if smoke else rules_of(other.row)) and not contradictions(other)
    ]
