"""Commands for single runs, what-if, policy, limits, accounts of the console, and the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from datasites.cli import display, invitation_commands
from datasites.cli.privacy_audit import audit
from datasites.cli.shell import (
    AsJson,
    Commands,
    Directory,
    Email,
    PasswordFile,
    RequestId,
    act,
    err,
    out,
    read_password,
    show,
)
from datasites.operations.exports import ENTRY_COLUMNS, LOG_COLUMNS, as_csv, every_entry, every_log_row
from policies.errors import DatasiteError

users = Commands(help="Accounts of the console: second reviewers and auditors.", no_args_is_help=True)
policy = Commands(help="The owner's rules.", no_args_is_help=True)
WAITS = " It counts when another second reviewer has agreed to it, on the console's page of people."


def add_to(app: typer.Typer, researchers: typer.Typer) -> None:
    """Put these commands among the others."""
    for command in (runs, stop_run, what_if, audit, sign_out, export):
        app.command()(command)
    app.add_typer(users, name="console-users")
    app.add_typer(policy, name="policy")
    researchers.command("limit")(researchers_limit)
    invitation_commands.add_to(researchers)


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


def sign_out(
    directory: Directory, email: Annotated[str, typer.Argument(help="An account; the owner by default.")] = ""
) -> None:
    """End every session that an account has in the console."""
    act(directory, "sign_out", email=email)
    out.print("Signed out everywhere.")


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


@policy.command("show")
def policy_show(directory: Directory, as_json: AsJson = False) -> None:
    """Print the policy file."""
    policy = act(directory, "policy")
    print(json.dumps(policy, indent=2, ensure_ascii=False) if as_json else policy["text"], end="")
    if policy["loosened"]:
        err.print(f"Note: {policy['loosened']}")


@policy.command("set")
def policy_set(
    directory: Directory, file: Annotated[Path, typer.Argument(help="The new policy.toml.", show_default=False)]
) -> None:
    """Replace the policy by a file whose every rule can be read. The log records what changed."""
    if not file.is_file():
        raise DatasiteError(f"{file} is not a file.")
    digest = act(directory, "policy")["digest"]
    done = act(directory, "change_policy", text=file.read_text(encoding="utf-8"), digest=digest)
    for name, change in done["changed"].items():
        out.print(f"{name}: {change['from']} → {change['to']}", markup=False)
    out.print("The policy is replaced." if done["changed"] else "No rule has changed.")
    if done["loosened"]:
        err.print(f"Note: {done['loosened']}")


def researchers_limit(
    directory: Directory,
    email: Email,
    population: Annotated[str, typer.Option(help="The population that the limit is for.")],
    epsilon: Annotated[float | None, typer.Option(help="Largest ε together; leave it out to lift the limit.")] = None,
) -> None:
    """Limit the ε of one researcher's releases together, or lift the limit."""
    act(directory, "limit_researcher", email=email, population=population, epsilon=epsilon)
    out.print(f"Limited {email} to ε = {epsilon}." if epsilon is not None else f"{email} has no limit of their own.")
