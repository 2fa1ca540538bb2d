"""Fixtures that several test folders share. One made datasite directory per session; each test gets a copy of it."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("MPLBACKEND", "Agg")

from collections.abc import Iterator
from pathlib import Path

import pytest

from datasites.jobs.pool import KINDS, JobPool
from datasites.settings import job_socket
from tests.factories import DatasiteProcess, make_datasite


@pytest.fixture(scope="session")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where one warm exporter and one warm runner listen; datasites of all tests share them to start quickly."""
    directory = tmp_path_factory.mktemp("jobs")
    sockets = {kind: job_socket(directory, kind) for kind in KINDS}
    for path in sockets.values():
        path.parent.mkdir()
    pool = JobPool(sockets)
    pool.start()
    yield directory
    pool.stop()


@pytest.fixture(scope="session")
def made_datasite(tmp_path_factory: pytest.TempPathFactory, jobs: Path) -> Path:
    """A datasite directory with a published table and two researchers; copy it, do not serve it."""
    directory = tmp_path_factory.mktemp("made") / "datasite"
    make_datasite(directory, jobs=jobs)
    return directory


@pytest.fixture
def datasite(made_datasite: Path, tmp_path: Path, jobs: Path) -> Iterator[DatasiteProcess]:
    """A serving datasite of this test's own."""
    process = DatasiteProcess(made_datasite, tmp_path / "datasite", jobs=jobs).start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def shared_datasite(
    made_datasite: Path, tmp_path_factory: pytest.TempPathFactory, jobs: Path
) -> Iterator[DatasiteProcess]:
    """A serving datasite that the tests of one module share."""
    process = DatasiteProcess(made_datasite, tmp_path_factory.mktemp("served") / "datasite", jobs=jobs).start()
    yield process
    process.stop()
