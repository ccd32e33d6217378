"""Ask the Open Source Vulnerabilities database (osv.dev) for known holes in the locked packages.

`python .ci/audit.py` prints each one and ends with status 1; where the service cannot be reached it says so and ends
with 0. A hole that does not concern this project is named in `ACCEPTED`, with the reason.
"""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

SERVICE = "https://api.osv.dev/v1/querybatch"
LOCKS = sorted(Path(__file__).parent.parent.glob("requirements*.lock"))
TIMEOUT = 20.0  # seconds
ACCEPTED: Mapping[str, str] = {}
"""By the id of a hole: why it does not matter here."""


def locked(text: str) -> list[tuple[str, str]]:
    """The packages of a lock with their versions, in its order."""
    return re.findall(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", text, re.MULTILINE)


def known_holes(packages: list[tuple[str, str]], service: str = SERVICE) -> list[tuple[str, str, list[str]]]:
    """The packages with known holes: name, version, and the holes' ids.

    Raises:
        OSError, HTTPException: the service cannot be reached.
        ValueError: it answers with something else.
    """
    queries = [{"package": {"name": name, "ecosystem": "PyPI"}, "version": version} for name, version in packages]
    request = urllib.request.Request(
        service, json.dumps({"queries": queries}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        found: Any = json.load(answer)
    results = found.get("results") if isinstance(found, dict) else None
    if not isinstance(results, list) or len(results) != len(packages):
        raise ValueError("the service answers with something else")
    holes = [sorted(one["id"] for one in result.get("vulns", ())) for result in results]
    return [(*package, ids) for package, ids in zip(packages, holes, strict=True) if ids]


def main(service: str = SERVICE, locks: Sequence[Path] = LOCKS, accepted: Mapping[str, str] = ACCEPTED) -> int:
    """Print what is known of the locks; returns the exit status."""
    packages = [package for lock in locks for package in locked(lock.read_text(encoding="utf-8"))]
    try:
        found = known_holes(packages, service)
    except (OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError) as error:
        print(f"audit: skipped: {service} cannot be asked for known holes ({error})")
        return 0
    status = 0
    for name, version, holes in found:
        for hole in holes:
            if hole in accepted:
                print(f"audit: {name} {version}: {hole} is accepted: {accepted[hole]}")
            else:
                print(f"audit: {name} {version} has a known hole: https://osv.dev/vulnerability/{hole}")
                status = 1
    if not status:
        print(f"audit: no known hole in {len(packages)} locked packages")
    return status


if __name__ == "__main__":
    sys.exit(main())
