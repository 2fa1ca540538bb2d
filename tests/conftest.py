"""Fixtures that several test folders share. One made datasite directory per session; each test gets a copy of it."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("MPLBACKEND", "Agg")

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories import DatasiteProcess, make_datasite


@pytest.fixture(scope="session")
def made_datasite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A datasite directory with a published table and two researchers; copy it, do not serve it."""
    directory = tmp_path_factory.mktemp("made") / "datasite"
    make_datasite(directory)
    return directory


@pytest.fixture
def datasite(made_datasite: Path, tmp_path: Path) -> Iterator[DatasiteProcess]:
    """A serving datasite of this test's own."""
    process = DatasiteProcess(made_datasite, tmp_path / "datasite").start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def shared_datasite(made_datasite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatasiteProcess]:
    """A serving datasite that the tests of one module share."""
    process = DatasiteProcess(made_datasite, tmp_path_factory.mktemp("served") / "datasite").start()
    yield process
    process.stop()
