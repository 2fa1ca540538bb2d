"""Tables of the command line at every width: no value is broken, cut or left out."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from datasites.cli import display, shell

REQUEST: dict[str, Any] = {
    "id": "259d9550aa", "status": "completed", "researcher": "researcher@university.example",
    "function": "flu_2026_general_alone_evaluation", "dataset": "flu", "mechanism": "evaluation", "epsilon": 0.5,
    "rounds": 1, "submitted_at": "2026-11-23T15:18:01+00:00",
}  # fmt: skip
VALUES = ("259d9550", "completed", REQUEST["researcher"], REQUEST["function"], "evaluation", "0.500", "15:18:01")


@pytest.mark.parametrize("width", [40, 80, 100, 120, 160, 200])
def test_a_terminal_shows_every_value_whole(width: int) -> None:
    out = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, highlight=False)
    display.requests(out, [REQUEST, REQUEST])
    shown = out.file.getvalue()  # type: ignore[attr-defined]
    for value in VALUES:
        assert shown.count(value) >= 2, value
    assert max(map(len, shown.splitlines())) <= width


def test_a_pipe_gets_the_whole_table_a_row_a_line() -> None:
    out = Console(file=io.StringIO(), width=80, highlight=False, soft_wrap=True)
    display.requests(out, [REQUEST])
    lines = [line for line in out.file.getvalue().splitlines() if "259d9550" in line]  # type: ignore[attr-defined]
    assert len(lines) == 1
    assert all(value in lines[0] for value in VALUES)


HOSTILE = "Fine.\x1b[2J\x1b]0;owned\x07\u202e ε = 0.010 ✓ Inspection [/nonsense] [link=file:///]"
SHOWN = "Fine.<U+001B>[2J<U+001B>]0;owned<U+0007><U+202E> ε = 0.010 ✓ Inspection [/nonsense] [link=file:///]"


def _acting(text: str) -> list[str]:
    """What a terminal would obey in `text`, but for the colours that are ours."""
    return re.findall(r"\x1b\[2J|\x1b\]|[\u0007\u202e]", text)


def _screen() -> shell.Screen:
    return shell.Screen(file=io.StringIO(), width=400, force_terminal=True, highlight=False)


def test_a_request_shows_what_a_researcher_wrote_as_text_and_in_its_own_line() -> None:
    out = _screen()
    words = f"{HOSTILE}\nChecks\n  ✓ Inspection: passed"
    display.request(
        out,
        {
            **REQUEST, "purpose": words, "summary": [HOSTILE], "risk": [], "cost": None, "plan": None, "trial": None,
            "shared_noise": None,
            "checks": [{"passed": False, "title": "a", "message": HOSTILE}], "source": f"def f():\n    # {HOSTILE}",
            "findings": [{"line": 1, "text": HOSTILE, "why": HOSTILE}], "difference": [HOSTILE],
            "comments": [{"at": "2026-11-23T15:18:01", "actor": HOSTILE, "text": words}],
            "rounds": [{"round": 1, "status": "failed", "owner_note": HOSTILE}],
        },
    )  # fmt: skip
    shown = out.file.getvalue()  # type: ignore[attr-defined]
    assert _acting(shown) == []
    assert f"purpose   {SHOWN}<U+000A>Checks<U+000A>" in shown
    assert shown.count(SHOWN) >= 8


@pytest.mark.parametrize("width", [60, 400])
def test_names_in_tables_are_text_at_every_width(width: int) -> None:
    out = shell.Screen(file=io.StringIO(), width=width, force_terminal=True, color_system=None, highlight=False)
    account = {"email": "r@university.example", "name": HOSTILE, "institution": HOSTILE, "state": "active"}
    display.researchers(out, [account])
    shown = out.file.getvalue()  # type: ignore[attr-defined]
    assert _acting(shown) == []
    assert "".join(shown.split()).count("".join(SHOWN.split())) == 2 or width == 60


def test_a_message_is_text_as_well(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = _screen()
    out.print(f"Added {HOSTILE}.")
    out.print(Text(HOSTILE, style="bold"))
    assert _acting(out.file.getvalue()) == []  # type: ignore[attr-defined]
    shell.show([{"name": HOSTILE, "city": "Zürich"}], None, True)
    printed = capsys.readouterr().out
    assert _acting(printed) == []
    assert json.loads(printed) == [{"name": HOSTILE, "city": "Zürich"}]
    assert "Zürich" in printed
