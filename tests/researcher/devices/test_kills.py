"""A device that is killed at any moment pays once, and never gives two answers to one question."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from researcher.devices.demo import process_of, write_reading
from researcher.devices.process import device_in
from researcher.devices.report import question_text
from tests.researcher.devices.teams import report

TEXT = question_text(report().question)
KILLED = """
import os, sqlite3, sys
from researcher.devices.process import device_in
left = int(sys.argv[2])
connect = sqlite3.connect

class Dying(sqlite3.Connection):
    def execute(self, *rest):
        global left
        left -= 1
        if left < 0:
            os._exit(77)
        return super().execute(*rest)

sqlite3.connect = lambda *a, **o: connect(*a, factory=Dying, **o)
print(device_in(sys.argv[1], budget=1).answer(sys.argv[3]), flush=True)
"""


@pytest.mark.process
def test_a_kill_before_any_statement_of_the_ledger_loses_nothing_and_pays_nothing_twice(tmp_path: Path) -> None:
    """By a process of its own for each place: it ends without a word before the n-th statement."""
    write_reading(tmp_path, 71.0)
    said, ended = None, 77
    for place in range(60):
        command = [sys.executable, "-c", KILLED, str(tmp_path), str(place), TEXT]
        done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
        ended = done.returncode
        if ended == 0:
            said = done.stdout.strip()
            break
        assert done.stdout == ""
    assert ended == 0
    assert said is not None
    assert "numbers" in json.loads(said)
    one = device_in(tmp_path)
    assert one.answer(TEXT) == said
    assert one.remaining() == 0.0  # paid once for all of it
    assert "refused" in one.answer(question_text(report(name="week 13").question))


@pytest.mark.process
def test_a_process_that_is_killed_after_it_answered_gives_the_same_answer(tmp_path: Path) -> None:
    write_reading(tmp_path, 71.0)
    with process_of(tmp_path, budget=2) as ask:
        first = ask(TEXT)
    process = subprocess.Popen(
        [sys.executable, "-m", "researcher.devices.process", str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(question_text(report(name="week 13").question) + "\n")
        process.stdin.flush()
        second = process.stdout.readline()
        process.kill()
    with process_of(tmp_path, budget=2) as ask:
        assert ask(TEXT) == first
        assert ask(question_text(report(name="week 13").question)) == second
        assert "refused" in ask(question_text(report(name="week 14").question))


LIGHT = """
import sys
from researcher.devices.process import main
from researcher.devices.device import Device
heavy = set("numpy torch syft flwr pandas typer pyarrow cryptography dp_accounting".split())
print(sorted(heavy & set(sys.modules)))
from policies.secure_sums import party
print(sorted(heavy & set(sys.modules)))
"""


@pytest.mark.process
def test_a_device_needs_pythons_own_library_alone_and_cryptography_for_shared_noise() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['cryptography']"]


@pytest.mark.process
def test_the_process_says_what_it_needs_and_what_is_accepted(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "researcher.devices.process", str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Give this device's person a budget first" in done.stderr
    (tmp_path / "question.json").write_text(TEXT)
    command = [*program, "--budget", "2", "--accept", str(tmp_path / "question.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "shares no noise" in done.stderr
