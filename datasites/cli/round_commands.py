"""Commands for rounds: list them, end one, ask how many more a budget holds."""

from __future__ import annotations

from typing import Annotated

import typer

from datasites.cli import display
from datasites.cli.shell import AsJson, Directory, RequestId, act, out, show


def add_to(app: typer.Typer) -> None:
    """Put these commands among the others."""
    for command in (runs, stop_run, what_if):
        app.command()(command)


def runs(directory: Directory, as_json: AsJson = False) -> None:
    """List rounds, newest first, and why each failed."""
    show(act(directory, "runs"), display.runs, as_json)


def stop_run(directory: Directory, run: Annotated[str, typer.Argument(help="Its id.", show_default=False)]) -> None:
    """End one round now, by the id that `datasite runs` shows."""
    act(directory, "stop_run", run=run)
    out.print(f"Ended round {run}.")


def what_if(directory: Directory, request: RequestId, as_json: AsJson = False) -> None:
    """Show how many more requests like this one the budget still holds."""
    show(act(directory, "what_if", request=request), display.what_if, as_json)
