"""Is this machine set up, and does it give the published bits? Each check is one line."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from fashion_cnn import known_answers
from fashion_cnn.checkout import REPOSITORY
from fashion_cnn.data import DataError
from fashion_cnn.download import load_dataset
from fashion_cnn.environment import EnvironmentFault, choose, machine, version

PYTHONS = ((3, 11), (3, 13))  # the first and the last that TensorFlow 2.21 has wheels for
ROOM = 2 * 2**30  # bytes: what a seed of all studies takes, and as much again
MEMORY = 2048  # MiB for two workers


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    holds: bool
    text: str
    """What was found; where it does not hold, what to do."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def checks(address: str, folder: Path, data_dir: str | None = None) -> Iterator[Check]:
    """Look at everything that recording and replaying need; nothing is written, nothing downloaded.

    Args:
        address: of the store, for people.
        folder: where trajectories are kept; need not be there yet.
        data_dir: of the data set; by default where it is found.
    """
    version = sys.version_info[:2]
    told = ".".join(map(str, sys.version_info[:3]))
    allowed = f"{PYTHONS[0][0]}.{PYTHONS[0][1]} to {PYTHONS[1][0]}.{PYTHONS[1][1]}"
    yield Check("Python", PYTHONS[0] <= version <= PYTHONS[1], f"{told}; allowed: {allowed}")
    yield _packages(REPOSITORY / "requirements.lock")
    yield _data(data_dir)
    yield _room(address, folder)
    memory = machine()["memory_mib"]
    yield Check("memory", memory is None or memory >= MEMORY, f"{memory} MiB; {MEMORY} MiB are enough for two workers")
    yield _bits()


def _packages(lock: Path) -> Check:
    """The installed packages against the lock."""
    others, count = [], 0
    if not lock.exists():
        return Check("packages", False, f"{lock.name} is not here: this is no clone of the repository")
    for line in lock.read_text(encoding="utf-8").splitlines():
        if not line[:1].isalnum():
            continue
        try:
            requirement = Requirement(line.rstrip("\\ "))
        except InvalidRequirement:
            continue
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        count += 1
        here = version(requirement.name) or "missing"
        if here == "missing" or not requirement.specifier.contains(here, prereleases=True):
            others.append(f"{requirement.name} is {here}, not {str(requirement.specifier).removeprefix('==')}")
    if others:
        return Check("packages", False, f"{'; '.join(others[:5])}; make setup installs what is locked")
    return Check("packages", True, f"all {count} as locked")


def _data(data_dir: str | None) -> Check:
    try:
        data = load_dataset(data_dir, download=False)
    except DataError as error:
        return Check("data set", False, str(error))
    return Check("data set", not data.made_up, f"{data.name}, SHA-256 {data.sha256}")


def _room(address: str, folder: Path) -> Check:
    there = folder
    while not os.path.exists(there) and there != there.parent:
        there = there.parent
    free = shutil.disk_usage(there).free
    return Check("store", free >= ROOM, f"{address}; {free / 2**30:.1f} GiB free, {ROOM / 2**30:.0f} GiB are enough")


def _bits() -> Check:
    choice = choose(None)
    if choice.arithmetic == "native":
        return Check("bits", False, f"{choice.reason}: this machine trains as native, and published runs do not replay")
    try:
        others = known_answers.differing(quick=False)
    except EnvironmentFault as error:
        return Check("bits", False, str(error))
    if others:
        return Check("bits", False, f"this machine does not give the published bits: {', '.join(others)}")
    return Check("bits", True, f"this machine gives the published bits: {len(known_answers.PROBLEMS)} known answers")
