"""Fixtures of the console's tests."""

from __future__ import annotations

import pytest

from datasites.console import accounts


@pytest.fixture(autouse=True, scope="session")
def cheap_passwords() -> None:
    """In this process passwords are hashed as cheaply as can be; a datasite's own process hashes them in full."""
    accounts.SCRYPT.update(n=16, p=1)
