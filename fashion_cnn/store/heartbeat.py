"""Signs of life: a run beats while its process lives; one that stopped beating is lost."""

from __future__ import annotations

import calendar
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fashion_cnn.store.connection import Connection
from fashion_cnn.store.entries import LOST
from fashion_cnn.store.read import row_of, search

LOST_AFTER = 120.0  # seconds without a heartbeat
TIME = "%Y-%m-%dT%H:%M:%SZ"


def heartbeat() -> dict[str, str]:
    """The tag that says a run is alive now."""
    return {"heartbeat": time.strftime(TIME, time.gmtime())}


def beat(connection: Connection, run_ids: Sequence[str]) -> None:
    """Tell that these runs are alive."""
    with connection.errors():
        for run_id in run_ids:
            for name, value in heartbeat().items():
                connection.client.set_tag(run_id, name, value)


def close_lost(connection: Connection, here: Collection[str]) -> list[str]:
    """Mark runs whose heartbeat stopped as killed; see `Store.close_lost`."""
    closed = []
    with connection.errors():
        for run in list(search(connection, None, "tags.study != '' and attributes.status = 'RUNNING'")):
            row = row_of(run)
            if row.get("record") in here or not is_lost(row, time.time()):
                continue
            connection.log(row["run_id"], tags={"stop_reason": "lost", "error": LOST})
            ended = max(round(1000 * _last_sign(row)), row["start_time"])
            connection.client.set_terminated(row["run_id"], "KILLED", end_time=ended)
            closed.append(f"{row['study']}: {row['name']}")
    return closed


def is_lost(row: Mapping[str, Any], now: float) -> bool:
    """Whether a run is said to be running but has given no sign of life for two minutes.

    Args:
        row: of `Store.runs`.
        now: seconds since 1970.
    """
    return bool(row["status"] == "RUNNING" and now - _last_sign(row) > LOST_AFTER)


def _last_sign(row: Mapping[str, Any]) -> float:
    """When a run last gave a sign of life, in seconds since 1970."""
    try:
        return float(calendar.timegm(time.strptime(str(row.get("heartbeat")), TIME)))
    except ValueError:
        return float(row["start_time"]) / 1000
