"""What every `datasite` command shares: its options, how it reaches the datasite, how it prints."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from datasites.progress import Tell, told_to
from policies.errors import DatasiteError, Unavailable
from policies.text import password_in, visible


class Screen(Console):
    """A terminal that shows text as text: no markup in it acts, and hidden characters stand there by name."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's, but a string is never markup."""
        super().print(*map(_as_text, objects), **options)


def _as_text(value: Any) -> Any:
    if isinstance(value, str):
        return Text(visible(value, keep="\n"))
    if isinstance(value, Text) and visible(value.plain, keep="\n") != value.plain:
        return Text(visible(value.plain, keep="\n"), style=value.style)
    return value


out = Screen(highlight=False, soft_wrap=not sys.stdout.isatty())
err = Screen(stderr=True, highlight=False, soft_wrap=True)

Directory = Annotated[
    Path, typer.Option("--dir", envvar="DATASITE_DIR", help="The datasite's directory.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="Read the password from this file instead of asking.")
]
Email = Annotated[str, typer.Argument(help="The account's e-mail address.", show_default=False)]
RequestId = Annotated[
    str, typer.Argument(help="The request's id, as `datasite requests` shows it.", show_default=False)
]


def act(directory: Path, action: str, tell: Tell = lambda text: None, /, **arguments: Any) -> Any:
    """Run one action, on the serving datasite or on the directory itself; waits while a datasite starts.

    Args:
      tell: hears what a long action says of its progress.
    """
    from datasites.directory import DirectoryInUse, locked
    from datasites.operations.control_socket import ask, user_name
    from datasites.settings import Settings

    settings = Settings.load(directory)
    started, told = time.monotonic(), False
    while True:
        with contextlib.suppress(ConnectionError):
            return ask(settings.control_socket, action, arguments, tell=tell)
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locked(directory))
            except DirectoryInUse:
                if time.monotonic() - started > settings.start_seconds:
                    raise Unavailable(
                        f"{directory} was in use by another process for start_seconds={settings.start_seconds:g}, and"
                        " none serves there yet. Let it finish, or raise start_seconds in settings.toml."
                    ) from None
            else:
                from datasites.serve import act_as_owner, open_datasite

                with open_datasite(settings) as datasite, told_to(tell):
                    return act_as_owner(datasite, action, user_name(os.getuid()), arguments)
        if not told:
            err.print(f"Waiting for {directory}: `datasite serve` is starting there, or another command works on it.")
            told = True
        time.sleep(0.3)


def read_text(path: Path, option: str) -> str:
    """The text of a file that an option names."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DatasiteError(f"{option} {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise DatasiteError(f"{option} {path} is not text in UTF-8. Save it as that.") from None


def read_settings(words: list[str]) -> dict[str, str]:
    """Settings by name from `NAME=VALUE`."""
    wrong = [each for each in words if "=" not in each]
    if wrong:
        raise DatasiteError(f"{wrong[0]!r} is no setting: write NAME=VALUE.")
    return {name.strip(): value.strip() for name, _, value in (each.partition("=") for each in words)}


def read_password(path: Path | None, *, prompt: str) -> str:
    """A password of at least 12 characters, from a file or typed twice."""
    password = (
        password_in(read_text(path, "--password-file"), f"--password-file {path}")
        if path
        else typer.prompt(prompt, hide_input=True, confirmation_prompt=True)
    )
    if len(password) < 12 or len(password.encode()) > 72:  # bcrypt reads no further
        raise DatasiteError(f"The password has {len(password)} characters. Choose one of 12 to 72.")
    return str(password)


def show(value: Any, render: Any, as_json: bool) -> None:
    """Print plain data as JSON or through its table."""
    if as_json:
        print(_json(value))
    else:
        render(out, value)


def _json(value: Any) -> str:
    """JSON with hidden characters escaped; letters of any language stay as they are."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(
        character if visible(character, keep="\n") == character else json.dumps(character)[1:-1] for character in text
    )
