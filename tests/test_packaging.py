"""What is installed is what the lock says, and what `pip check` says is exactly what we know of."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# syft 0.9.5 pins old versions of its web and numeric stack, and four packages that it never imports: see
# docs/decisions/0009-dependencies.md.
EXPECTED = {
    "syft 0.9.5 requires syft-core, which is not installed.",
    "syft 0.9.5 requires syft-event, which is not installed.",
    "syft 0.9.5 requires syft-rpc, which is not installed.",
    "syft 0.9.5 requires syftbox, which is not installed.",
    "syft 0.9.5 has requirement nh3==0.2.17, but you have nh3 0.3.8.",
    'syft 0.9.5 has requirement numpy<=1.24.4,>=1.23.5; python_version < "3.12", but you have numpy 1.26.4.',
    "syft 0.9.5 has requirement requests==2.32.3, but you have requests 2.34.2.",
    "syft 0.9.5 has requirement sqlalchemy==2.0.32, but you have sqlalchemy 2.0.58.",
    "syft 0.9.5 has requirement tomli==2.0.1, but you have tomli 2.5.0.",
}


def installed() -> dict[str, str]:
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "freeze", "--all"], capture_output=True, text=True, check=True
    )
    found = re.findall(r"^([A-Za-z0-9_.\-]+)==([^\s+]+)", listed.stdout, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


@pytest.mark.parametrize("extra", ["datasite", "researcher", "notebook", "dev"])
def test_lock_pins_every_package_exactly_once(extra: str) -> None:
    lines = [line.partition(" --hash=")[0] for line in (ROOT / "lock" / f"{extra}.lock").read_text().splitlines()]
    assert all(re.fullmatch(r"[a-z0-9\-]+(\[[a-z,]+\])?==[0-9][^\s]*( ; .*)?", line) for line in lines), lines
    names = [re.split(r"[\[=]", line)[0] for line in lines]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("extra", ["datasite", "researcher", "notebook", "dev"])
def test_every_package_is_pinned_by_the_hashes_of_its_files(extra: str) -> None:
    for line in (ROOT / "lock" / f"{extra}.lock").read_text().splitlines():
        assert re.search(r"(?: --hash=sha256:[0-9a-f]{64})+$", line), line[:60]
    for file in ("Makefile", "compose/Dockerfile"):
        for command in re.findall(r"pip install .*-r .*", (ROOT / file).read_text()):
            assert "--require-hashes" in command, f"{file}: {command}"


@pytest.mark.parametrize("side", ["datasite", "researcher", "notebook", "dev"])
def test_the_bill_of_materials_names_what_the_lock_pins_and_each_has_its_licence(side: str) -> None:
    locked = re.findall(
        r"^([a-z0-9\-]+)(?:\[.*?\])?==(\S+)", (ROOT / "lock" / f"{side}.lock").read_text(), re.MULTILINE
    )
    bill = json.loads((ROOT / "lock" / f"{side}.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert sorted((part["name"], part["version"]) for part in bill["components"]) == sorted(locked)
    assert all(part["licenses"] for part in bill["components"])
    rows = re.findall(
        r"^\| ([a-z0-9\-]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", (ROOT / "lock/licences.md").read_text(), re.MULTILINE
    )
    listed = {
        (name, version)
        for name, versions, _, sides in rows
        if side in sides.split(", ")
        for version in versions.split(", ")
    }
    assert set(locked) <= listed


def test_what_runs_here_is_what_the_lock_pins() -> None:
    text = (ROOT / "lock" / "dev.lock").read_text()
    locked = dict(re.findall(r"^([a-z0-9\-]+)(?:\[.*?\])?==([^\s;]+)", text, re.MULTILINE))
    found = installed()
    assert {name: found.get(name) for name in locked} == locked


def test_a_hospital_installs_neither_flower_nor_ray_nor_a_notebook() -> None:
    lock = (ROOT / "lock" / "datasite.lock").read_text()
    for name in ("flwr", "ray", "jupyterlab", "notebook", "pytest", "matplotlib-inline-widget"):
        assert not re.search(rf"^{name}==", lock, re.MULTILINE), name


def test_direct_dependencies_are_named_in_the_readme() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    table = (ROOT / "README.md").read_text()
    for extra in project["optional-dependencies"].values():
        for requirement in extra:
            name = re.split(r"[\[=<>~! ]", requirement)[0]
            assert f"`{name}`" in table or name == "private-datasites", name


def test_pip_check_names_exactly_what_is_known() -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert set(done.stdout.strip().splitlines()) == EXPECTED


@pytest.mark.parametrize("extra", ["datasite", "researcher", "notebook", "dev"])
def test_torch_is_locked_as_the_wheel_for_processors_and_no_other(extra: str) -> None:
    """With PyPI's hashes beside it pip takes PyPI's file, which does not import without CUDA's packages."""
    text = (ROOT / "lock" / f"{extra}.lock").read_text()
    (torch,) = re.findall(r"^torch==.*$", text, re.MULTILINE)
    assert len(re.findall("--hash=sha256:", torch)) == 1
