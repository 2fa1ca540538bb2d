"""`python -m lock`: resolve the lock files anew, with hashes, and write the bill of materials of each: `make lock`.

A lock file pins every package that an extra of pyproject.toml pulls in, with the hashes of its files on PyPI. A bill of
materials (CycloneDX, `lock/EXTRA.cdx.json`) names the same packages with their licences, as they themselves state them
in an environment that holds the lock and nothing else. Hashes are for `pip install --require-hashes`, and not checked
here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parent
EXTRAS = ("datasite", "researcher", "notebook", "dev")
# PyTorch's own builds for processors, which PyPI does not have.
CPU_BUILDS = {"2.13.0": "sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"}
# Packages whose metadata names no licence that the bill's tool knows; their licence files and projects do.
UNSTATED = {
    "asttokens": "Apache-2.0",
    "axe-playwright-python": "MIT",
    "bleach": "Apache-2.0",
    "dp-accounting": "Apache-2.0",
    "overrides": "Apache-2.0",
    "protobuf": "BSD-3-Clause",
    "pynacl": "Apache-2.0",
}
BILL_TOOL = "cyclonedx-bom==7.5.0"


def resolve(extra: str) -> Path:
    """Write the lock file of an extra; versions that it held stay where they still fit."""
    path = LOCK / f"{extra}.lock"
    run(
        "uv", "pip", "compile", "--quiet", "pyproject.toml", "--extra", extra, "--override", "lock/overrides.txt",
        "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate", "-o", str(path),
    )  # fmt: skip
    path.write_text(with_cpu_build(path.read_text(encoding="utf-8")), encoding="utf-8")
    return path


def with_cpu_build(lock: str) -> str:
    """A lock whose torch is PyTorch's build for processors alone. Raises `KeyError` where its hash is not known.

    PyPI's file for Linux imports only beside CUDA packages, which no lock here has; and pip would take it before the
    other one, were both admitted.
    """

    def torch(match: re.Match[str]) -> str:
        return f"torch=={match['version']}+cpu \\\n    --hash={CPU_BUILDS[match['version']]}"

    return re.sub(r"^torch==(?P<version>[0-9.]+)\S*(?: \\\n {4}--hash=\S+)+", torch, lock, flags=re.MULTILINE)


def locked(lock: str) -> dict[str, str]:
    """Version by name of each package that a lock file pins, without a build's mark."""
    return dict(re.findall(r"^([a-z0-9\-]+)(?:\[[^]]*\])?==([^\s;+]+)", lock, re.MULTILINE))


def bill(lock: Path) -> dict[str, Any]:
    """The bill of materials of a lock, from a new environment that holds it and nothing else."""
    with tempfile.TemporaryDirectory() as scratch:
        python = f"{scratch}/bin/python"
        run("uv", "venv", "--quiet", scratch)
        run(
            "uv", "pip", "install", "--quiet", "--python", python, "--no-deps", "--no-verify-hashes", "-r", str(lock),
            *(["--find-links", os.environ["PIP_FIND_LINKS"]] if os.environ.get("PIP_FIND_LINKS") else []),
        )  # fmt: skip
        run(
            "uv", "tool", "run", "--quiet", "--from", BILL_TOOL, "cyclonedx-py", "environment", "--of", "JSON",
            "--output-reproducible", "-o", f"{scratch}/bill.json", python,
        )  # fmt: skip
        return brief(json.loads(Path(scratch, "bill.json").read_text(encoding="utf-8")))


def normal(name: str) -> str:
    """A package's name as lock files spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def brief(whole: dict[str, Any]) -> dict[str, Any]:
    """A bill without texts of licences, addresses of projects and what a build of torch adds to its version."""
    components = []
    for component in whole["components"]:
        name = normal(component["name"])
        licences = [shortened(licence) for licence in component.get("licenses", ())]
        if not licences and name in UNSTATED:
            licences = [{"license": {"id": UNSTATED[name]}}]
        version = component["version"].partition("+")[0]
        components.append(
            {
                "type": component["type"],
                "bom-ref": component["bom-ref"],
                "name": name,
                "version": version,
                "purl": f"pkg:pypi/{name}@{version}",
                "licenses": licences,
            }
        )
    kept = {key: whole[key] for key in ("$schema", "bomFormat", "specVersion", "version", "dependencies")}
    return kept | {"components": components}


def shortened(licence: dict[str, Any]) -> dict[str, Any]:
    """A licence's identifier, expression or name, without its text."""
    if "expression" in licence:
        return {"expression": licence["expression"]}
    named = licence["license"]
    return {"license": {"id": named["id"]} if "id" in named else {"name": named["name"].strip().splitlines()[0][:80]}}


def run(program: str, *words: str) -> None:
    """Run a program of this environment in the project's folder."""
    subprocess.run([str(Path(sys.executable).with_name(program)), *words], check=True, cwd=LOCK.parent)


if __name__ == "__main__":
    for extra in EXTRAS:
        path = resolve(extra)
        print(f"{extra}: {len(locked(path.read_text(encoding='utf-8')))} packages", flush=True)
        text = json.dumps(bill(path), indent=1, ensure_ascii=False, sort_keys=True)
        path.with_suffix(".cdx.json").write_text(text + "\n", encoding="utf-8")
