"""Accounts in a file and in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datasites.people.places import ConsolePlace, SealedDatabase
from tests.postgres import Cluster, running_cluster

KEY = bytes(range(32))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def sealed(postgresql: Cluster) -> SealedDatabase:
    """An empty schema."""
    return SealedDatabase(postgresql.place(), KEY)


@pytest.fixture(params=["file", pytest.param("postgresql", marks=pytest.mark.process)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> ConsolePlace:
    """Where accounts can be made: in both kinds of place, one test after the other."""
    if request.param == "file":
        return tmp_path / "console.db"
    made: SealedDatabase = request.getfixturevalue("sealed")
    return made
