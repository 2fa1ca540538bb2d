"""Importing the package is quick, PySyft is imported in one place, and no file needs itself through others."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import policies
import researcher

SLOW = ("syft", "torch", "flwr", "pandas", "numpy", "matplotlib", "dp_accounting")
PROGRAM = f"""
import time
started = time.process_time()
import policies
import researcher
seconds = time.process_time() - started
import sys
print(seconds, [name for name in {SLOW!r} if name in sys.modules], dir(researcher))
"""


@pytest.mark.process
def test_import_takes_under_half_a_second_and_loads_nothing_slow():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    seconds, rest = done.stdout.split(" ", 1)
    assert rest.startswith("[] "), f"loaded at import: {rest}"
    assert float(seconds) < 0.5
    assert "'Study'" in rest


NOT_OURS = ("syft", "datasites", "opacus", "fcntl", "resource", "pwd", "grp", "uvloop")
WRONG = re.compile(rf"(?:import|from) (?:{'|'.join(NOT_OURS)})\b")  # grpc is not grp


def test_nothing_imports_pysyft_the_other_side_or_what_one_platform_alone_has() -> None:
    roots = [Path(researcher.__file__).parent, Path(policies.__file__).parent]
    for path in (path for root in roots for path in root.rglob("*.py")):
        lines = [line.strip() for line in path.read_text().splitlines()]
        assert not [line for line in lines if WRONG.match(line)], path


def test_every_public_name_is_found_and_no_other():
    for name in researcher.__all__:
        assert getattr(researcher, name) is not None
    with pytest.raises(AttributeError):
        researcher.nothing  # noqa: B018


def test_no_circle_of_files_remains_late_imports_included():
    files = {f"researcher.{path.stem}": path for path in Path(researcher.__file__).parent.glob("*.py")}
    del files["researcher.__init__"], files["researcher.__main__"]  # which name everything
    needs = {name: _imported(path) & files.keys() for name, path in files.items()}
    order = list(TopologicalSorter(needs).static_order())  # raises CycleError, which names the circle
    assert order.index("researcher.members") < order.index("researcher.statistics") < order.index("researcher.network")
    assert needs["researcher.results"]


def _imported(path: Path) -> set[str]:
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    modules = {str(node.module) for node in nodes}
    return modules | {f"{node.module}.{alias.name}" for node in nodes for alias in node.names}


CONNECTS = """
import sys
{before}
import researcher.client
print(sorted({{name.split(".")[0] for name in sys.modules}}))
"""
SERVERS = {
    "syft",
    "torch",
    "IPython",
    "ipywidgets",
    "azure",
    "boto3",
    "botocore",
    "docker",
    "itables",
    "kr8s",
    "zmq",
    "nacl",
    "capnp",
}


@pytest.mark.process
def test_connecting_imports_neither_pysyft_nor_torch_nor_a_notebook() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CONNECTS.format(before="")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not SERVERS & set(ast.literal_eval(done.stdout.splitlines()[-1]))


ELSEWHERE = """
import importlib, pkgutil, sys
for name in ("syft", "datasites", "opacus", "fcntl", "resource", "pwd", "grp", "uvloop", "numba", "llvmlite", "pydp"):
    sys.modules[name] = None  # importing it fails, as where there is none
import policies, researcher
for package in (policies, researcher):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith(("__main__", "tf_privacy_driver")):  # that one runs in an environment of its own
            importlib.import_module(module.name)
"""


@pytest.mark.process
def test_every_module_imports_on_a_machine_without_pysyft_and_without_what_linux_alone_has() -> None:
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
