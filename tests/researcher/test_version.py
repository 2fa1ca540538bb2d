"""The package says its version and that it is typed, as what uses it expects of a library."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

import researcher

ROOT = Path(__file__).resolve().parents[2]


def test_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert researcher.__version__ == importlib.metadata.version("private-datasites") == project["version"]


def test_the_library_is_marked_as_typed_where_it_is_built_and_installed() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert "py.typed" in data["researcher"]
    assert Path(researcher.__file__).with_name("py.typed").is_file()
