"""One console in this process for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datasites.people import accounts
from tests.browser.desk import Desk


@pytest.fixture(autouse=True, scope="session")
def cheap_passwords() -> None:
    """Passwords are hashed as cheaply as can be, as in the browser's tests, which run in this process too."""
    accounts.SCRYPT.update(n=16, p=1)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A console of this test's own."""
    made = Desk(tmp_path / "datasite")
    yield made
    made.close()
