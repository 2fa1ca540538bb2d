"""The notebooks of a first hour run from the first cell to the last, in real kernels, and show no error."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.examples.test_examples import EXAMPLES, ROOT, desk

__all__ = ["desk"]


def run(notebook: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What stood under each cell of a notebook, by the cell's last line; fails where a cell does."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("NETWORK", "network.toml")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    read = nbformat.read(EXAMPLES / f"{notebook}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in read.cells), "Notebooks are kept without what they showed."
    NotebookClient(read, timeout=180, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    shown = {}
    for cell in read.cells:
        if cell.cell_type == "code":
            outputs = [output.text if output.output_type == "stream" else str(output.data) for output in cell.outputs]
            text = "".join(outputs)
            assert "Traceback" not in text
            assert "Error:" not in text
            shown[cell.source.splitlines()[-1]] = text
    return shown


def test_a_researchers_first_hour(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("first_hour_researcher", desk, monkeypatch)
    assert "temperature" in shown["answers"]
    assert "1 rounds, 1 releases" in shown["result"]
    assert "AUC" in shown["result.evaluate()"]
    assert "image/png" in shown["result.plot()"]
    assert (desk / "first-hour" / "weights.safetensors").exists()


def test_an_owners_first_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("first_hour_owner", tmp_path, monkeypatch)
    assert "count" in shown["question.run()"]
    assert "The ledger verifies" in shown["!datasite ledger --verify"]
    shutil.rmtree(tmp_path / "hospital")
