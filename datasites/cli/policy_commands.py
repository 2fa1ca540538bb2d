"""Commands for the policy file: print it, replace it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from datasites.cli.shell import AsJson, Directory, act, err, out, read_text
from policies.commands import Commands

policy = Commands(help="The owner's rules.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Put these commands among the others."""
    app.add_typer(policy, name="policy")


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
    text = read_text(file, "The policy")
    digest = act(directory, "policy")["digest"]
    done = act(directory, "change_policy", text=text, digest=digest)
    for name, change in done["changed"].items():
        out.print(f"{name}: {change['from']} → {change['to']}", markup=False)
    out.print("The policy is replaced." if done["changed"] else "No rule has changed.")
    if done["loosened"]:
        err.print(f"Note: {done['loosened']}")
