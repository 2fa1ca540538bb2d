"""One console in this process for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.desk import Desk


@pytest.fixture
def desk(tmp_path: pytest.TempPathFactory) -> Iterator[Desk]:
    """A console of this test's own."""
    made = Desk(tmp_path / "datasite")  # type: ignore[operator]
    yield made
    made.close()
