"""What every `datasite` command shares: its options, how it reaches the datasite, how it prints."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from policies.errors import DatasiteError

out = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
err = Console(stderr=True, highlight=False, soft_wrap=True)

Directory = Annotated[
    Path, typer.Option("--dir", envvar="DATASITE_DIR", help="The datasite's directory.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="Read the password from this file instead of asking.")
]
RequestId = Annotated[
    str, typer.Argument(help="The request's id, as `datasite requests` shows it.", show_default=False)
]


def act(directory: Path, action: str, **arguments: Any) -> Any:
    """Run one action, on the serving datasite or on the directory itself."""
    from datasites.control import ask, user_name
    from datasites.settings import Settings, locked

    settings = Settings.load(directory)
    try:
        return ask(settings.control_socket, action, arguments)
    except ConnectionError:
        pass
    with locked(directory):
        from datasites.office import Office

        with Office.open(settings) as office:
            return office.act(action, user_name(os.getuid()), arguments)


def read_password(path: Path | None, *, prompt: str) -> str:
    """A password of at least 12 characters, from a file or typed twice."""
    password = (
        path.read_text(encoding="utf-8").strip()
        if path
        else typer.prompt(prompt, hide_input=True, confirmation_prompt=True)
    )
    size = len(password.encode())
    if len(password) < 12 or size > 72:  # bcrypt reads no further
        raise DatasiteError(f"The password has {size} bytes. Choose one of 12 characters to 72 bytes.")
    return str(password)


def show(value: Any, render: Any, as_json: bool) -> None:
    """Print plain data as JSON or through its table."""
    if as_json:
        print(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        render(out, value)
