"""The same attack on two servers: a stock PySyft, where it is expected to succeed, and ours, which must refuse it."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.guard.attacker import Site
from tests.factories import DatasiteProcess, free_port


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An unguarded PySyft server, in a process of its own."""
    directory, port = tmp_path_factory.mktemp("stock"), free_port()
    program = Path(__file__).with_name("stock_server.py")
    with (directory / "out.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, str(program), str(directory), str(port)], stdout=log, stderr=log)
    site = Site("stock", f"http://127.0.0.1:{port}", directory)
    deadline = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(f"{site.url}/healthz", timeout=1):
                break
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((directory / "out.log").read_text()) from None
            time.sleep(0.1)
    yield site
    process.kill()
    process.wait()


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
