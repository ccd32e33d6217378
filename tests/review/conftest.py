"""Bundles that several files here look at."""

from __future__ import annotations

import pytest

from fashion_cnn.evidence.inert import PAGE_HEAD
from fashion_cnn.evidence.selection import Selection
from fashion_cnn.reports import page
from tests.conftest import made_once
from tests.support.bundles import STUDY, packed, packed_small, records


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return made_once(tmp_path_factory, "bundle", lambda: packed(Selection(STUDY, records(), [("smoke run", 2)])))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return made_once(tmp_path_factory, "small", packed_small)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes the time of packing, where a test does not look at it."""
    monkeypatch.setattr(page, "render_report", lambda *_, **__: PAGE_HEAD)
    monkeypatch.setattr(page, "study_figures", lambda *_: {})
