"""A program that is started warm is a program of its own: what `python FILE` would be, but for its libraries."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.warm import WarmProgram, warm


def started(folder: Path, program: str, *arguments: str, **environment: str) -> WarmProgram:
    """A program that writes to `out` and `err` of a folder."""
    (folder / "program.py").write_text(program)
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        return warm().start(
            [str(folder / "program.py"), *arguments],
            stdout=out.fileno(),
            stderr=err.fileno(),
            environment={**os.environ, **environment},
        )


def told(folder: Path, program: str, *arguments: str, **environment: str) -> Any:
    """What a program prints as JSON."""
    assert started(folder, program, *arguments, **environment).wait(60) == 0, (folder / "err").read_text()
    return json.loads((folder / "out").read_text())


SELF = """
import json, os, sys
ours = [name for name in sys.modules if name.split(".")[0] in ("policies", "datasites", "researcher")]
said = [sys.argv[1:], os.environ.get("TOLD"), os.environ.get("KEPT"), os.getcwd(), __name__]
files = sorted(map(int, os.listdir("/proc/self/fd")))
print(json.dumps([*said, ours, "syft" in sys.modules, sys.stdin.read(), files[:3]]))
"""


def test_it_has_its_own_arguments_environment_and_folder_and_no_module_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEPT", "also")
    told_of = told(tmp_path, SELF, "a", "b c", TOLD="this")
    assert told_of == [["a", "b c"], "this", "also", str(tmp_path), "__main__", [], True, "", [0, 1, 2]]


DRAWS = """
import json, random, numpy, torch
print(json.dumps([random.random(), float(numpy.random.rand()), float(torch.rand(1))]))
"""


def test_no_two_draw_alike(tmp_path: Path) -> None:
    one, two = told(tmp_path, DRAWS), told(tmp_path, DRAWS)
    assert all(first != second for first, second in zip(one, two, strict=True))


@pytest.mark.parametrize(
    ("program", "code", "said"),
    [
        ("", 0, ""),
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('No.')", 1, "No.\n"),
        ("raise ValueError('odd')", 1, "ValueError: odd\n"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, ""),
        ("import atexit, sys; atexit.register(print, 'done', file=sys.stderr)", 0, "done\n"),
        ("import threading, sys; threading.Timer(0.1, print, ('late',), {'file': sys.stderr}).start()", 0, "late\n"),
    ],
)
def test_it_ends_as_python_does(tmp_path: Path, program: str, code: int, said: str) -> None:
    assert started(tmp_path, program).wait(60) == code
    assert (tmp_path / "err").read_text().endswith(said)


def test_it_is_waited_for_and_stopped_like_any_other(tmp_path: Path) -> None:
    program = started(tmp_path, "import time; time.sleep(1000)")
    assert program.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(timeout=0.01)
    program.terminate()
    assert program.wait(60) == -signal.SIGTERM == program.poll()
    program.kill()  # which does nothing any more


def test_it_ends_where_whoever_started_it_is_gone(tmp_path: Path) -> None:
    program = started(tmp_path, "import time; time.sleep(1000)")
    program._connection.close()
    deadline = time.monotonic() + 60
    while psutil.pid_exists(program.pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    program.returncode = -signal.SIGKILL  # for whoever ends all of them
