"""How the tests themselves are run: what is quick stays quick, and workers can share the rest."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.quick import ROOMS, is_quick, starting_nothing
from tests.scheduling import LONGEST, SHARING, longest_first, piece_of

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("program", [["-m", "datasites", "serve"], ["-m", "datasites.jobs.parent"], ["-c", "1"]])
def test_a_quick_test_that_starts_a_program_fails(program: list[str]) -> None:
    with starting_nothing(), pytest.raises(AssertionError, match="A quick test starts"):
        subprocess.Popen([sys.executable, *program])
    with starting_nothing(), pytest.raises(AssertionError, match="A quick test starts"):
        subprocess.run("/usr/bin/chromium --headless", shell=True, check=False)


def test_what_is_quick_depends_on_room_fixtures_and_marks() -> None:
    def made(nodeid: str, *fixtures: str, mark: str = "") -> pytest.Item:
        marker = {mark: True}.get
        return SimpleNamespace(nodeid=nodeid, fixturenames=fixtures, get_closest_marker=marker)  # type: ignore[return-value]

    assert is_quick(made("tests/policies/test_any.py::test_it", "tmp_path"))
    assert not is_quick(made("tests/e2e/test_any.py::test_it"))
    assert not is_quick(made("tests/test_any.py::test_it"))
    assert not is_quick(made("tests/datasites/test_any.py::test_it", "made_datasite", "jobs"))
    assert not is_quick(made("tests/browser/test_any.py::test_it", "owner", "chromium"))
    for mark in ("slow", "process", "nightly", "containers"):
        assert not is_quick(made("tests/policies/test_any.py::test_it", mark=mark))


def test_the_quick_rooms_and_the_longest_pieces_are_where_they_are_looked_for() -> None:
    for name in (*LONGEST, *SHARING, *(f"tests/{room}" for room in ROOMS)):
        assert (ROOT / name).exists(), name
    makefile = (ROOT / "Makefile").read_text()
    assert " ".join(f"tests/{room}" for room in ROOMS) in makefile


def test_a_module_is_one_piece_of_work_and_the_longest_comes_first() -> None:
    assert piece_of("tests/e2e/test_owner.py::test_it[a::b]") == "tests/e2e/test_owner.py"
    assert piece_of("tests/attacks/guard/test_calls.py::test_it") == "tests/attacks/guard/"
    short, long = SimpleNamespace(nodeid="tests/a.py::a"), SimpleNamespace(nodeid=f"{next(iter(LONGEST))}::b")
    items = [short, long, short]
    longest_first(items)  # type: ignore[arg-type]
    assert items == [long, short, short]


@pytest.mark.process
def test_a_run_ends_after_a_worker_crashed(tmp_path: Path) -> None:
    """One failure in words, and every other test done."""
    (tmp_path / "conftest.py").write_text(
        "from tests.scheduling import ByPiece\n\ndef pytest_xdist_make_scheduler(config, log):\n"
        "    return ByPiece(config, log)\n"
    )
    for number in range(10, 50):
        (tmp_path / f"test_{number}.py").write_text("def test_it():\n    pass\n")
    (tmp_path / "test_30.py").write_text(
        "import os, pathlib\n\ndef test_it(tmp_path):\n    crashed = pathlib.Path(__file__).with_name('crashed')\n"
        "    if not crashed.exists():\n        crashed.touch()\n        os._exit(3)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, f"--rootdir={tmp_path}", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 40 passed" in done.stdout
    assert "test_30.py" in done.stdout.rsplit("FAILED", 1)[1]


def test_no_name_of_a_test_holds_a_place_of_this_machine(request: pytest.FixtureRequest) -> None:
    """Workers must collect the same names; a report is read elsewhere."""
    for item in request.session.items:
        assert str(ROOT) not in item.nodeid
        assert f"{tempfile.gettempdir()}/" not in item.nodeid
