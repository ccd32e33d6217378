"""What a tracking server is asked for while runs are recorded: kinds of requests, how many, and how long they take."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any
from unittest import mock

from experiments.benchmark.task import Figures

_ID = re.compile(r"m?-?[0-9a-f]{32}")
_ARTIFACT = re.compile(r"(/mlflow-artifacts/artifacts)/.*")


@contextmanager
def requests_of(runs: int) -> Iterator[Figures]:
    """Within it, what is asked of servers is counted; after it the figures have it, by a run of so many.

    By kind of request, the one that takes most first: `count`, and `seconds`, until the answer is there; several are
    on their way side by side, so that the sum is more than a run takes.
    """
    import requests

    figures: Figures = {}
    seconds: dict[str, list[float]] = {}
    send, lock = requests.Session.send, Lock()

    def timed(session: requests.Session, request: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return send(session, request, **options)
        finally:
            with lock:
                seconds.setdefault(kind(request.method, request.path_url), []).append(time.perf_counter() - start)

    with mock.patch.object(requests.Session, "send", timed):
        yield figures
    for name, values in sorted(seconds.items(), key=lambda item: -sum(item[1])):
        figures[name] = {"count": len(values) / runs, "seconds": sum(values) / runs}


def kind(method: str, path: str) -> str:
    """What requests that differ in ids and files alone have in common."""
    place = _ARTIFACT.sub(r"\1/FILE", _ID.sub("ID", path.partition("?")[0]))
    return f"{method} {place}"
