"""Commands of `datasites.people.invitations`: invite a researcher by a link, list invitations, withdraw one."""

from __future__ import annotations

from typing import Annotated

import typer

from datasites.cli import display
from datasites.cli.shell import AsJson, Directory, Email, act, out, show
from datasites.people.invitations import DAYS


def add_to(researchers: typer.Typer) -> None:
    """Put these commands among those of researchers."""
    researchers.command("invite")(invite)
    researchers.command("invitations")(invitations)
    researchers.command("uninvite")(uninvite)


def invite(
    directory: Directory,
    email: Email,
    name: Annotated[str, typer.Option(help="Full name.")],
    institution: Annotated[str, typer.Option(help="University or company.")] = "",
    days: Annotated[float, typer.Option(help="How long the link works, at most 30.")] = DAYS,
) -> None:
    """Print a link on which a researcher sets a password of their own. It works once."""
    done = act(directory, "invite_researcher", email=email, name=name, institution=institution, days=days)
    out.print(f"Give this link to {done['email']} over a safe channel. It is shown only now, works once, and ends")
    out.print(f"{done['ends']}:\n{done['link']}", markup=False)


def invitations(directory: Directory, as_json: AsJson = False) -> None:
    """List invitations that wait to be used."""
    show(act(directory, "invitations"), display.invitations, as_json)


def uninvite(directory: Directory, email: Email) -> None:
    """Withdraw an invitation: its link works no more."""
    act(directory, "withdraw_invitation", email=email)
    out.print(f"The link of {email} works no more.")
