"""A ledger with its clock, in a file and in PostgreSQL, and one that is copied and put back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datasites.ledger.database import Place
from datasites.ledger.ledger import Ledger
from tests.datasites.ledger.copied_ledger import House
from tests.datasites.ledger.ledger_factories import (
    Clock,
    new_ledger,
)
from tests.postgres import Cluster, running_cluster


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(params=["file", pytest.param("postgresql", marks=pytest.mark.process)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where a new ledger can be made: in both kinds of place, one test after the other."""
    if request.param == "file":
        return tmp_path / "ledger.db"
    cluster: Cluster = request.getfixturevalue("postgresql")
    return cluster.emptied_place()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(place: Place, clock: Clock) -> Iterator[Ledger]:
    with new_ledger(place, clock) as made:
        yield made


@pytest.fixture
def ledger_file(tmp_path: Path, clock: Clock) -> Ledger:
    """A ledger in a file, for what is true of files alone."""
    return new_ledger(tmp_path / "ledger.db", clock)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)
