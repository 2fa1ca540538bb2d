"""Importing the package is quick, PySyft is imported in one place, and no file needs itself through others."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import researcher

SLOW = ("syft", "torch", "flwr", "pandas", "numpy", "matplotlib", "dp_accounting")
PROGRAM = f"""
import time
started = time.process_time()
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


def test_only_the_client_module_imports_syft_and_nothing_imports_the_other_side():
    for path in Path(researcher.__file__).parent.glob("*.py"):
        lines = [line.strip() for line in path.read_text().splitlines()]
        assert path.name == "client.py" or not [each for each in lines if each.startswith(("import syft", "from syft"))]
        assert not [each for each in lines if each.startswith(("import datasites", "from datasites"))]


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
from researcher.network import import_pysyft
import_pysyft()
import researcher.client
from researcher.client import MixedInputPolicy, SubmitUserCode
print(sorted({{name.split(".")[0] for name in sys.modules}}))
"""


@pytest.mark.process
@pytest.mark.parametrize("in_notebook", [False, True], ids=["script", "notebook"])
def test_connecting_imports_no_cluster_and_no_cloud_and_a_notebook_in_a_notebook_alone(in_notebook: bool) -> None:
    program = CONNECTS.format(before="import IPython" if in_notebook else "")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    modules = set(ast.literal_eval(done.stdout.splitlines()[-1]))
    assert {"syft", "torch"} <= modules
    assert not {"azure", "boto3", "botocore", "docker", "itables", "kr8s", "zmq", "matplotlib"} & modules
    assert ("IPython" in modules) is ("ipywidgets" in modules) is in_notebook
