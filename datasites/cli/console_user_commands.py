"""Commands for accounts of the console: make, list, close and open them, new passwords, signing out."""

from __future__ import annotations

from typing import Annotated

import typer

from datasites.cli import display
from datasites.cli.shell import AsJson, Directory, Email, PasswordFile, act, out, read_password, show
from policies.commands import Commands

users = Commands(help="Accounts of the console: second reviewers and auditors.", no_args_is_help=True)
WAITS = " It counts when another second reviewer has agreed to it, on the console's page of people."


def add_to(app: typer.Typer) -> None:
    """Put these commands among the others."""
    app.command()(sign_out)
    app.add_typer(users, name="console-users")


def sign_out(
    directory: Directory, email: Annotated[str, typer.Argument(help="An account; the owner by default.")] = ""
) -> None:
    """End every session that an account has in the console."""
    act(directory, "sign_out", email=email)
    out.print("Signed out everywhere.")


@users.command("add")
def users_add(
    directory: Directory,
    email: Email,
    role: Annotated[str, typer.Option(help="second_reviewer or auditor.")],
    name: Annotated[str, typer.Option(help="Full name.")] = "",
    password_file: PasswordFile = None,
) -> None:
    """Make an account of the console. A second reviewer votes on large requests; an auditor reads."""
    password = read_password(password_file, prompt=f"Password for {email}")
    done = act(directory, "add_console_user", email=email, name=name, role=role, password=password)
    out.print(f"Added {done['email']}.{WAITS if done['waits'] else ''}")


@users.command("list")
def users_list(directory: Directory, as_json: AsJson = False) -> None:
    """List accounts of the console."""
    show(act(directory, "console_users"), display.console_users, as_json)


@users.command("disable")
def users_disable(directory: Directory, email: Email) -> None:
    """Close an account of the console and end its sessions."""
    act(directory, "disable_console_user", email=email)
    out.print(f"Closed the account of {email}.")


@users.command("enable")
def users_enable(directory: Directory, email: Email) -> None:
    """Open a closed account of the console again."""
    act(directory, "enable_console_user", email=email)
    out.print(f"Opened the account of {email}.")


@users.command("password")
def users_password(directory: Directory, email: Email, password_file: PasswordFile = None) -> None:
    """Give an account of the console a new password; its sessions end."""
    password = read_password(password_file, prompt="New password")
    done = act(directory, "set_console_password", email=email, password=password)
    out.print(f"The password of {email} is changed.{WAITS if done['waits'] else ''}")
