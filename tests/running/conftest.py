"""What the room's test files share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import Lab
from tests.support.made_up import write_made_up


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_made_up(tmp_path_factory.mktemp("data"), train=330, test=64)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Lab:
    """A machine of its own."""
    return Lab(tmp_path_factory.mktemp("lab"), data)
