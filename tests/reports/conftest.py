"""What the tests of published results share."""

from __future__ import annotations

import pytest

from tests.support.published import published, records


@pytest.fixture(scope="session")
def files() -> dict[str, bytes]:
    return published(records())
