"""What is installed is what the lock says, and what `pip check` says is exactly what we know of."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from docs.generator import dependencies
from lock.__main__ import CPU_BUILDS, EXTRAS, locked

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


@pytest.mark.parametrize("extra", EXTRAS)
def test_lock_pins_every_package_exactly_once_by_hashes(extra: str) -> None:
    text = (ROOT / "lock" / f"{extra}.lock").read_text()
    packages = re.split(r"\n(?=\S)", text.rstrip())
    pinned = re.compile(r"[a-z0-9\-]+(\[[a-z,]+\])?==[0-9]\S*( ; [^\\]*)?( \\\n {4}--hash=sha256:[0-9a-f]{64})+")
    assert [package for package in packages if not pinned.fullmatch(package)] == []
    names = [re.split(r"[\[=]", package)[0] for package in packages]
    assert len(names) == len(set(names)) == len(locked(text))


@pytest.mark.parametrize("extra", EXTRAS)
def test_torch_is_the_build_for_processors_and_no_other(extra: str) -> None:
    """With PyPI's hashes beside it pip takes PyPI's file, which does not import without CUDA's packages."""
    text = (ROOT / "lock" / f"{extra}.lock").read_text()
    (torch,) = re.findall(r"^torch==.*(?:\n .*)*", text, re.MULTILINE)
    version = locked(text)["torch"]
    assert torch == f"torch=={version}+cpu \\\n    --hash={CPU_BUILDS[version]}"


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_bill_of_materials_names_exactly_the_locked_packages_each_with_a_licence(extra: str) -> None:
    bill = json.loads((ROOT / "lock" / f"{extra}.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    packages = bill["components"]
    assert {package["name"]: package["version"] for package in packages} == locked(
        (ROOT / "lock" / f"{extra}.lock").read_text()
    )
    assert [package["name"] for package in packages if not dependencies.licence(package)] == []


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_locked_package_has_a_line_with_its_licence_in_the_document(extra: str) -> None:
    lines = re.findall(r"^\| `(.+?)` \| (\S+) \| (.+?) \| (.+?) \|$", (ROOT / "docs/dependencies.md").read_text(), re.M)
    listed = {name: version for name, version, licence, extras in lines if licence and extra in extras.split(", ")}
    assert listed == locked((ROOT / "lock" / f"{extra}.lock").read_text())


def test_whatever_installs_a_lock_requires_its_hashes() -> None:
    installs = [
        line
        for file in ("Makefile", "compose/Dockerfile")
        for line in (ROOT / file).read_text().splitlines()
        if re.search(r"pip install .*\.lock", line)
    ]
    assert len(installs) == 4
    assert [line for line in installs if "--require-hashes" not in line] == []


def test_images_come_from_outside_by_argument_alone_so_that_a_digest_can_be_given() -> None:
    stages, outside = set(), set()
    for image, stage in re.findall(r"^FROM (\S+) AS (\S+)", (ROOT / "compose/Dockerfile").read_text(), re.MULTILINE):
        outside |= {image} - stages
        stages.add(stage)
    assert outside == {"${WHEELS}", "${BASE}"}
    assert "${BASE:-debian:bookworm-slim}" in (ROOT / "compose/compose.yaml").read_text()


def test_what_both_images_share_keeps_every_hash() -> None:
    """The Dockerfile takes the lines that two locks have in common; they must be whole packages."""
    datasite, notebook = ((ROOT / "lock" / f"{extra}.lock").read_text() for extra in ("datasite", "notebook"))
    lines = set(datasite.splitlines())
    common = "".join(f"{line}\n" for line in notebook.splitlines() if line in lines)
    assert set(locked(common).items()) == set(locked(datasite).items()) & set(locked(notebook).items())
    packages = re.split(r"\n(?=\S)", common.rstrip())
    assert [package for package in packages if f"{package}\n" not in datasite] == []


def test_locks_and_bills_name_no_index_and_no_folder() -> None:
    for path in sorted((ROOT / "lock").glob("*.lock")) + sorted((ROOT / "lock").glob("*.cdx.json")):
        text = path.read_text().replace("http://cyclonedx.org/schema/", "")
        assert not re.search(r"https?://|file:|/(opt|tmp|root|home|work)/", text), path.name


def test_what_runs_here_is_what_the_lock_pins() -> None:
    pinned = locked((ROOT / "lock" / "dev.lock").read_text())
    found = installed()
    assert {name: found.get(name) for name in pinned} == pinned


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
