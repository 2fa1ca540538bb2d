"""Tables of the command line at every width: no value is broken, cut or left out."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from datasites.cli import display

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
