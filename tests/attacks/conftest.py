"""What attacks aim at in the process that stands for the datasite, made before any exporter or runner starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.exporting import Exporting
from tests.attacks.running import Running
from tests.attacks.witnesses import Canaries, Witnesses

_WITNESSES = Witnesses()
_CANARIES = Canaries(_WITNESSES.tokens)  # here, so that an environment handed on by mistake has the secret in it


@pytest.fixture(scope="session")
def witnesses() -> Iterator[Witnesses]:
    yield _WITNESSES
    _WITNESSES.close()


@pytest.fixture(scope="session")
def exporting(witnesses: Witnesses, jobs: Path) -> Exporting:
    """Payloads against inspection, and against the exporter without it."""
    return Exporting(witnesses, _CANARIES, jobs)


@pytest.fixture(scope="session")
def running(witnesses: Witnesses, jobs: Path) -> Running:
    """Payloads against the runner."""
    return Running(witnesses, jobs)
