"""Resolve the lock files anew, with hashes, and write what follows from them: bills of materials and licences.

`make lock` runs it. `lock/SIDE.lock` pins every package that a side installs, a package a line, with the SHA-256 of
each of its files; `pip install --require-hashes` takes no other. `lock/SIDE.cdx.json` is the same as a bill of
materials (CycloneDX 1.6), and `lock/licences.md` lists what each package says of its licence.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
# Wheels of torch for processors alone, as PyTorch gives them: not on PyPI, under another local version.
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


def licences_of(every: Sequence[Package]) -> dict[str, str]:
    """What each package's own metadata say of its licence; those that are not installed here are, for a moment."""
    told = _metadata([])
    missing = [package for package in every if package.name not in told]
    if missing:
        with tempfile.TemporaryDirectory() as directory:
            wanted = [f"{package.name}=={package.version}" for package in missing]
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", directory, *wanted]
            subprocess.run(command, check=True)
            told |= _metadata([directory])
    return {package.name: told[package.name] for package in every}


def _metadata(path: list[str]) -> dict[str, str]:
    """Licences by the normalised name of what is installed: an expression, classifiers, or a text's first line."""
    found = importlib.metadata.distributions(path=path) if path else importlib.metadata.distributions()
    return {re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower(): _licence(one.metadata) for one in found}


def _licence(metadata: Any) -> str:
    classifiers = metadata.get_all("Classifier") or []
    named = [name.rpartition(" :: ")[2] for name in classifiers if name.startswith("License :: ")]
    first = (metadata["License"] or "").strip().split("\n")[0].strip()
    return str(metadata["License-Expression"] or " or ".join(named) or first[:80] or "not said; see its source")


def bill(side: str, licences: dict[str, str]) -> str:
    """A bill of materials of one side, in CycloneDX's JSON, the same for the same lock file."""
    project = tomllib.loads((LOCK.parent / "pyproject.toml").read_text())["project"]
    bom = Bom()
    name = f"{project['name']}[{side}]"
    bom.metadata.component = Component(
        name=name, version=project["version"], type=ComponentType.APPLICATION, bom_ref=name
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
        "What each package says in its metadata, written by `make lock`. Its files have the text.",
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
    licences = licences_of(list(every.values()))
    for side in SIDES:
        (LOCK / f"{side}.cdx.json").write_text(bill(side, licences))
    (LOCK / "licences.md").write_text(licences_page(licences, sides))


if __name__ == "__main__":
    main()
