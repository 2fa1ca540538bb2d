"""Resolve the lock files anew, with hashes, and write what follows from them: bills of materials and licences.

`make lock` runs it. `lock/SIDE.lock` pins every package that a side installs, a package a line, with the SHA-256 of
each of its files on PyPI; `pip install --require-hashes` takes no other. `lock/SIDE.cdx.json` is the same as a bill of
materials (CycloneDX 1.6), and `lock/licences.md` lists what each package says of its licence on PyPI.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

LOCK = Path(__file__).parent
SIDES = ("datasite", "researcher", "notebook", "dev")
PINNED = re.compile(
    r"(?P<name>[a-z0-9-]+)(?:\[[a-z,]+\])?==(?P<version>\S+)(?: ; [^-]+?)?(?P<hashes>(?: --hash=sha256:[0-9a-f]{64})+)"
)
# Wheels of torch for processors alone, as pytorch.org gives them: not on PyPI, under another local version.
TORCH_CPU = {"2.13.0": ("6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",)}


@dataclass(frozen=True)
class Package:
    """One line of a lock file. `hashes` are SHA-256 in hex, of files of which pip takes the one that fits."""

    name: str
    version: str
    hashes: tuple[str, ...]


def packages(side: str) -> list[Package]:
    """What a side's lock file pins."""
    pinned = []
    for line in (LOCK / f"{side}.lock").read_text().splitlines():
        match = PINNED.fullmatch(line)
        if match is None:
            raise ValueError(f"lock/{side}.lock: {line[:60]!r} is no package with a version and hashes. Run make lock.")
        hashes = tuple(re.findall("sha256:([0-9a-f]{64})", match["hashes"]))
        pinned.append(Package(match["name"], match["version"], hashes))
    return pinned


def resolve(side: str) -> None:
    """Write a side's lock file; versions that it has stay where they can."""
    path = LOCK / f"{side}.lock"
    # uv takes the CPU build of torch where it is offered one, and spares the lock CUDA's packages.
    offered = os.environ.get("PIP_FIND_LINKS", "")
    if offered:
        path.write_text(re.sub(r"^torch==([\d.]+) .*$", r"torch==\1+cpu", path.read_text(), flags=re.MULTILINE))
    _compile("pyproject.toml", "--extra", side, "--override", "lock/overrides.txt", "-o", str(path), offered=offered)
    lines = path.read_text().replace(" \\\n    --hash", " --hash").splitlines()
    path.write_text("\n".join(_torch(line) if line.startswith("torch==") else line for line in lines) + "\n")


def _torch(line: str) -> str:
    """torch by its public version, with the hash of the wheel for processors and no other.

    Were PyPI's hashes beside it, pip would take PyPI's file, whose index states them; for Linux that one does not
    import without CUDA's packages, which no lock has.
    """
    version = re.split(r"[=+ ]+", line)[1]
    return " ".join([f"torch=={version}", *(f"--hash=sha256:{known}" for known in TORCH_CPU[version])])


def _compile(*arguments: str, given: str = "", offered: str = "") -> str:
    more = ["--find-links", offered] if offered else []
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--generate-hashes", "--python-version", "3.11"]
    command += ["--no-header", "--no-annotate", *more, *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, cwd=LOCK.parent)
    if done.returncode:
        sys.exit(f"uv could not resolve {' '.join(arguments)}:\n{done.stderr}")
    return done.stdout


def licence(package: Package) -> str:
    """What PyPI says of a package's licence: its expression, or its classifiers, or the first line of its text."""
    answer = requests.get(f"https://pypi.org/pypi/{package.name}/json", timeout=60)
    answer.raise_for_status()
    told: dict[str, Any] = answer.json()["info"]
    classifiers = [name.rpartition(" :: ")[2] for name in told["classifiers"] if name.startswith("License :: ")]
    first = (told["license"] or "").strip().split("\n")[0].strip()
    return str(told["license_expression"] or " or ".join(classifiers) or first[:80] or "not said; see its source")


def bill(side: str, licences: dict[str, str]) -> str:
    """A bill of materials of one side, in CycloneDX's JSON, the same for the same lock file."""
    project = tomllib.loads((LOCK.parent / "pyproject.toml").read_text())["project"]
    bom = Bom()
    bom.metadata.component = Component(
        name=f"{project['name']}[{side}]", version=project["version"], type=ComponentType.APPLICATION
    )
    for package in packages(side):
        bom.components.add(
            Component(
                name=package.name,
                version=package.version,
                type=ComponentType.LIBRARY,
                purl=PackageURL("pypi", name=package.name, version=package.version),
                bom_ref=f"{package.name}=={package.version}",
                licenses=[DisjunctiveLicense(name=licences[package.name])],
            )
        )
    bom.register_dependency(bom.metadata.component, bom.components)
    text = JsonV1Dot6(bom).output_as_string(indent=1)
    # A serial number and a time would make each writing another: what it says depends on the lock file alone.
    return re.sub(r'\n "serialNumber": "[^"]*",|\n  "timestamp": "[^"]*",?', "", text).replace("},\n }", "}\n }") + "\n"


def licences_page(licences: dict[str, str], sides: Mapping[str, Sequence[Package]]) -> str:
    """Markdown, a row for each package of any side."""
    lines = [
        "# Licences of what is installed",
        "",
        "What each package says on PyPI, written by `make lock`. Its files have the text.",
        "",
        "| package | version | licence | side |",
        "| --- | --- | --- | --- |",
    ]
    for name in sorted(licences):
        where = [side for side in sides if any(package.name == name for package in sides[side])]
        versions = sorted({package.version for side in where for package in sides[side] if package.name == name})
        lines.append(f"| {name} | {', '.join(versions)} | {licences[name].replace('|', '/')} | {', '.join(where)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Resolve every side, then write bills of materials and licences."""
    for side in SIDES:
        print(f"Resolving {side}", file=sys.stderr, flush=True)
        resolve(side)
    sides = {side: packages(side) for side in SIDES}
    every = {package.name: package for pinned in sides.values() for package in pinned}
    with ThreadPoolExecutor(8) as threads:
        licences = dict(zip(every, threads.map(licence, every.values()), strict=True))
    for side in SIDES:
        (LOCK / f"{side}.cdx.json").write_text(bill(side, licences))
    (LOCK / "licences.md").write_text(licences_page(licences, sides))


if __name__ == "__main__":
    main()
