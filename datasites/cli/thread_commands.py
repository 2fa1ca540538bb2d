"""Commands for what people write on a request, and for the files that are attached to it or to its project."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Annotated

import typer

from datasites.cli.shell import Directory, RequestId, act, out
from policies.errors import DatasiteError


def add_to(app: typer.Typer) -> None:
    """Put these commands among the others."""
    for command in (comment, attach, attachment):
        app.command()(command)


def comment(
    directory: Directory,
    request: RequestId,
    text: Annotated[str, typer.Argument(help="What the researcher should read.", show_default=False)],
) -> None:
    """Write on a request that waits or is approved; its researcher reads it."""
    act(directory, "comment", request=request, text=text)
    out.print(f"Written on {request}.")


def attach(
    directory: Directory,
    file: Annotated[Path, typer.Argument(help="A PDF file.", show_default=False)],
    request: Annotated[str, typer.Option(help="The id of the request that it belongs to.")] = "",
    project: Annotated[str, typer.Option(help="Or the name of the project that it belongs to.")] = "",
) -> None:
    """Attach a PDF file, such as an ethics approval, to a request or a project."""
    done = act(directory, "attach", file=str(file.resolve()), name=file.name, request=request, project=project)
    out.print(f"Attached {done['name']} as {done['id']}, SHA-256 {done['digest']}.")


def attachment(
    directory: Directory,
    id: Annotated[str, typer.Argument(help="The attachment's id, as `datasite show --json` has it.")],
    target: Annotated[Path, typer.Argument(help="A new file to save it to.", show_default=False)],
) -> None:
    """Save an attachment to a new file. It is somebody else's: open it with care."""
    content = base64.b64decode(act(directory, "attachment", id=id)["content"])
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DatasiteError(f"{target} cannot be made: {error.strerror}. Name a new file.") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    out.print(f"Saved {len(content):,} bytes to {target}.")
