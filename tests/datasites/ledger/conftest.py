"""A ledger with its clock, and one that is copied and put back."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasites.ledger.ledger import Ledger
from tests.datasites.ledger.copied_ledger import House
from tests.datasites.ledger.ledger_factories import (
    Clock,
    new_ledger,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Ledger:
    return new_ledger(tmp_path / "ledger.db", clock)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)
