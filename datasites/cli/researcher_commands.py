"""Commands for researchers' accounts: make, list, close and open them, and limit what one may ask for."""

from __future__ import annotations

from typing import Annotated

import typer

from datasites.cli import display, invitation_commands
from datasites.cli.shell import AsJson, Directory, Email, PasswordFile, act, out, read_password, show
from policies.commands import Commands

researchers = Commands(help="Accounts of researchers.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Put these commands among the others."""
    app.add_typer(researchers, name="researchers")
    invitation_commands.add_to(researchers)


@researchers.command("add")
def researchers_add(
    directory: Directory,
    email: Email,
    name: Annotated[str, typer.Option(help="Full name.")],
    institution: Annotated[str, typer.Option(help="University or company.")] = "",
    password_file: PasswordFile = None,
) -> None:
    """Make a researcher's account."""
    password = read_password(password_file, prompt=f"Password for {email}")
    added = act(directory, "add_researcher", email=email, name=name, institution=institution, password=password)
    out.print(f"Added {added}.")


@researchers.command("list")
def researchers_list(directory: Directory, as_json: AsJson = False) -> None:
    """List researchers, and whether their accounts are open."""
    show(act(directory, "researchers"), display.researchers, as_json)


@researchers.command("disable")
def researchers_disable(directory: Directory, email: Email) -> None:
    """Close an account at once: its clients are signed in no more, and nothing more is released to it."""
    done = act(directory, "disable_researcher", email=email)
    out.print(
        f"Closed the account of {email}: its clients are signed in no more. Rounds ended by it, and not released:"
        f" {done['ended']}."
    )


@researchers.command("enable")
def researchers_enable(directory: Directory, email: Email) -> None:
    """Open a closed account again."""
    act(directory, "enable_researcher", email=email)
    out.print(f"Opened the account of {email}.")


@researchers.command("limit")
def researchers_limit(
    directory: Directory,
    email: Email,
    population: Annotated[str, typer.Option(help="The population that the limit is for.")],
    epsilon: Annotated[float | None, typer.Option(help="Largest ε together; leave it out to lift the limit.")] = None,
) -> None:
    """Limit the ε of one researcher's releases together, or lift the limit."""
    act(directory, "limit_researcher", email=email, population=population, epsilon=epsilon)
    out.print(f"Limited {email} to ε = {epsilon}." if epsilon is not None else f"{email} has no limit of their own.")
