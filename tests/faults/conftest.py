"""What tests of faults share."""

from __future__ import annotations

import pytest

from fashion_cnn.store import recorder as recording


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "RETRY", 0.2)
