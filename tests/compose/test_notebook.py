"""The study as a notebook: it runs from top to bottom against a datasite, and is kept without outputs."""

from __future__ import annotations

import ast
import json
import linecache
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compose.patients import HOSPITALS, make_patients, write_csv
from compose.tables import schema_path
from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess

NOTEBOOK = Path(__file__).parents[2] / "compose/study.ipynb"


def cells() -> list[dict[str, Any]]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def code() -> list[str]:
    return ["".join(each["source"]) for each in cells() if each["cell_type"] == "code"]


def test_no_output_is_kept_and_the_file_is_small() -> None:
    assert all(each["outputs"] == [] and each["execution_count"] is None for each in cells() if "outputs" in each)
    assert NOTEBOOK.stat().st_size < 10_000


@pytest.fixture
def published(datasite: DatasiteProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatasiteProcess]:
    """A datasite with patients of the demonstration as dataset `visits`, and the notebook's network file."""
    write_csv(make_patients(HOSPITALS[0], seed=1, patients=600), tmp_path / "visits.csv")
    schema = schema_path("general").read_text(encoding="utf-8").replace('name = "flu"', 'name = "visits"', 1)
    (tmp_path / "visits.toml").write_text(schema, encoding="utf-8")
    files = (str(tmp_path / "visits.csv"), "--schema", str(tmp_path / "visits.toml"))
    datasite.cli("publish", *files, "--patients", "600", "--budget-epsilon", "6")
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "network.toml").write_text(
        f'[[datasites]]\nname = "a"\nurl = "{datasite.url}"\nemail = "{RESEARCHER}"\npassword_file = "password"\n'
    )
    monkeypatch.setenv("NETWORK", str(tmp_path / "network.toml"))
    monkeypatch.chdir(tmp_path)
    return datasite


def test_the_notebook_runs_from_top_to_bottom(
    published: DatasiteProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [each.replace('network.dataset("flu")', 'network.dataset("visits")') for each in code()]
    book = types.ModuleType("notebook_of_this_test")
    monkeypatch.setitem(sys.modules, book.__name__, book)
    shown = []
    for number, source in enumerate(sources):
        if "wait_for_approval" in source and "submit()" in source:
            source, waiting = source.rsplit("\n", 1)
            run_cell(book, f"<cell {number}, asking>", source)
            owner = threading.Thread(target=published.approve_all)
            owner.start()
            source = waiting
        shown.append(repr(run_cell(book, f"<cell {number}>", source)))
    owner.join()
    assert "Network of 1 datasite" in shown[0]
    assert any("Result of study 'flu-notebook': 3 rounds" in each for each in shown)
    assert any("mean/temperature" in each for each in shown)
    assert capsys.readouterr().out.count(": verified") == 3 + 1 + 1  # rounds, evaluation, statistics
    assert Path("flu-notebook/result.json").exists()


def run_cell(book: types.ModuleType, name: str, source: str) -> Any:
    """Run one cell as a notebook does: its source can be looked up, and its last expression is its value."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), vars(book))
    return eval(compile(ast.Expression(last.value), name, "eval"), vars(book)) if isinstance(last, ast.Expr) else None
