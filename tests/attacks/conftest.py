"""What attacks aim at in the process that stands for the datasite, made before any exporter or runner starts.

And two servers: a stock PySyft, where an attack is expected to succeed, and ours, which must refuse it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.exporting import Exporting
from tests.attacks.guard.attacker import Site
from tests.attacks.running import Running
from tests.attacks.stock import StockServer
from tests.attacks.witnesses import Canaries, Witnesses
from tests.factories import DatasiteProcess

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


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An unguarded PySyft server, in a process of its own."""
    server = StockServer(tmp_path_factory.mktemp("stock"))
    yield server.start()
    server.stop()


@pytest.fixture(scope="session")
def datasite_process(
    made_datasite: Path, tmp_path_factory: pytest.TempPathFactory, jobs: Path
) -> Iterator[DatasiteProcess]:
    """Our datasite, for all attacks of a session."""
    process = DatasiteProcess(made_datasite, tmp_path_factory.mktemp("guarded") / "datasite", jobs=jobs).start()
    yield process
    process.stop()


@pytest.fixture(scope="session")
def ours(datasite_process: DatasiteProcess) -> Site:
    return Site("ours", datasite_process.url, datasite_process.directory)


@pytest.fixture(params=["stock", "ours"])
def site(request: pytest.FixtureRequest) -> Site:
    """Each of both servers."""
    found: Site = request.getfixturevalue(request.param)
    return found
