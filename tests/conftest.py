"""Fixtures that several test folders share. One made datasite directory per session; each test gets a copy of it."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("MPLBACKEND", "Agg")

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch  # noqa: F401 - before PySyft, which then reads and sends torch's tensors: tests have both sides in one process

from datasites.jobs.pool import KINDS, JobPool
from datasites.settings import job_socket
from tests.factories import DatasiteProcess, make_datasite
from tests.quick import is_quick, starting_nothing
from tests.scheduling import ByPiece, longest_first


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByPiece:
    """Which worker of a parallel run takes which tests."""
    return ByPiece(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the quick tests, before any are chosen by a mark."""
    for item in items:
        if is_quick(item):
            item.add_marker(pytest.mark.quick)
    if hasattr(config, "workerinput"):
        longest_first(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """A quick test that starts a program fails, so that `make quick` stays quick. Each leaves the umask as it was."""
    umask = os.umask(0o022)
    os.umask(umask)
    try:
        if item.get_closest_marker("quick") is None:
            return (yield)
        with starting_nothing():
            return (yield)
    finally:
        os.umask(umask)


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
