"""Commands for what people write on a request and attach to it."""

from __future__ import annotations

from typing import Annotated

import typer

from datasites.cli.shell import Directory, RequestId, act, out


def add_to(app: typer.Typer) -> None:
    """Put these commands among the others."""
    app.command()(comment)


def comment(
    directory: Directory,
    request: RequestId,
    text: Annotated[str, typer.Argument(help="What the researcher should read.", show_default=False)],
) -> None:
    """Write on a request that waits or is approved; its researcher reads it."""
    act(directory, "comment", request=request, text=text)
    out.print(f"Written on {request}.")
