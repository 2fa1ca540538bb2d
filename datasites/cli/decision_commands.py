"""Commands that decide on requests: approve and deny, one or several; ask for changes; revoke."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from datasites.cli import display
from datasites.cli.shell import AsJson, Directory, RequestId, Yes, act, err, out, show
from policies.errors import DatasiteError
from policies.numbers import counted
from policies.source.statuses import RequestStatus

RequestIds = Annotated[
    list[str],
    typer.Argument(
        metavar="REQUEST...",
        help="The ids of one request or more, as `datasite requests` shows them; each is decided by itself.",
        show_default=False,
    ),
]
NOT_DECIDED = "Nothing was done."


def add_to(app: typer.Typer) -> None:
    """Put these commands among the others."""
    for command in (inbox, approve, deny, ask_changes, revoke):
        app.command()(command)


def inbox(
    directory: Directory,
    population: Annotated[str | None, typer.Option(help="Of this population alone.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Show which waiting requests fit into the budget together, oldest first, and what each would leave."""
    show(act(directory, "waiting", population=population), display.waiting, as_json)


def approve(
    directory: Directory,
    requests: RequestIds,
    yes: Yes = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what approving them in this order would leave, and do nothing.")
    ] = False,
    accept: Annotated[
        str,
        typer.Option(
            help="Accept the shared noise of one request, so that the lesser ε is charged: the digits that `datasite"
            " show` prints below the sentence which is accepted. They are of that request and of no other.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Approve requests: the whole cost of each is reserved. Refused where a check failed or no budget holds it."""
    if dry_run:
        display.fit(out, act(directory, "try_approvals", requests=requests))
        return
    if accept and len(set(requests)) > 1:
        raise typer.BadParameter("An acceptance is of one request. Approve that one by itself.", param_hint="--accept")
    whose = "{}: " if len(set(requests)) > 1 else ""

    def approved(request: str) -> str | None:
        said = _approve(directory, request, yes, accept)
        return said and whose.format(request) + said

    _in_turn(requests, approved)


def deny(
    directory: Directory,
    requests: RequestIds,
    reason: Annotated[str, typer.Option(help="Why; the researcher reads it.")],
) -> None:
    """Deny requests, with a reason that reaches the researcher."""

    def denied(request: str) -> str:
        act(directory, "deny", request=request, reason=reason)
        return f"Denied {request}."

    _in_turn(requests, denied)


def ask_changes(
    directory: Directory,
    request: RequestId,
    comment: Annotated[str, typer.Option(help="What to change; the researcher reads it.")],
) -> None:
    """Ask a researcher to change a request and submit it again."""
    act(directory, "ask_changes", request=request, comment=comment)
    out.print(f"Asked for changes to {request}.")


def revoke(
    directory: Directory,
    request: RequestId,
    reason: Annotated[str, typer.Option(help="Why; the researcher reads it.")] = "Revoked by the owner.",
) -> None:
    """Revoke an approval: running rounds end, what no run touched returns to the budget."""
    act(directory, "revoke", request=request, reason=reason)
    out.print(f"Revoked {request}.")


def _approve(directory: Path, request: str, yes: bool, accept: str = "") -> str | None:
    """What was done, in a sentence; None where the owner, having read it, does not confirm."""
    seen = act(directory, "show", request=request)
    yes = yes or seen["status"] != RequestStatus.CHECKED.value  # else it is refused below, and there is nothing to ask
    if not yes:
        display.request(out, seen)
        shared = seen["shared_noise"]
        epsilon = shared["epsilon"] if shared and accept else seen["cost"]["epsilon"]
        if not typer.confirm(f"Approve {request} at ε = {epsilon:.2f}?"):
            return None
    typed = seen["function"]
    if not yes and seen["decision"]["typed"]:
        typed = typer.prompt(f"Its ε is large. Type its name, {seen['function']}, to approve it")
    accepting = {"acceptance": accept} if accept else {}
    return str(act(directory, "approve", request=request, plan_digest=seen["plan_digest"], typed=typed, **accepting))


def _in_turn(requests: list[str], decide: Callable[[str], str | None]) -> None:
    """Decide one request after the other and print what became of each; what fails keeps none of the others up.

    Raises `typer.Exit` with code 1 where one of several was not decided, and what the only one raises.
    """
    wanted = list(dict.fromkeys(requests))
    if len(wanted) == 1:
        said = decide(wanted[0])
        if said is None:
            raise typer.Abort
        out.print(said)
        return
    decided = [request for request in wanted if _decided(request, decide)]
    if len(decided) < len(wanted):
        err.print(f"{len(decided)} of {counted(len(wanted), 'request')} decided.")
        raise typer.Exit(1)


def _decided(request: str, decide: Callable[[str], str | None]) -> bool:
    try:
        said = decide(request)
    except DatasiteError as error:
        err.print(Text("Error:", style="red"), f"{request}: {error}")
        return False
    except typer.Abort:
        err.print(f"Interrupted at {request}. What was decided before stays as it is printed above.")
        raise typer.Exit(1) from None
    if said is None:
        err.print(f"{request}: {NOT_DECIDED}")
        return False
    out.print(said)
    return True
