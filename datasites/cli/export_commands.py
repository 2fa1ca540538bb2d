"""The command that prints the whole ledger or audit log as CSV."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from datasites.cli.shell import Directory, act
from datasites.operations.exports import ENTRY_COLUMNS, LOG_COLUMNS, as_csv, every_entry, every_log_row
from policies.errors import DatasiteError


def add_to(app: typer.Typer) -> None:
    """Put this command among the others."""
    app.command()(export)


def export(
    directory: Directory, what: Annotated[str, typer.Argument(help="ledger or log.", show_default=False)]
) -> None:
    """Print the whole ledger or audit log as CSV, for a data protection officer."""
    if what not in ("ledger", "log"):
        raise DatasiteError(f"{what!r} cannot be exported. Write ledger or log.")

    def ask(action: str, **arguments: Any) -> Any:
        return act(directory, action, **arguments)

    rows, columns = (every_entry(ask), ENTRY_COLUMNS) if what == "ledger" else (every_log_row(ask), LOG_COLUMNS)
    for line in as_csv(rows, columns):
        print(line, end="")
