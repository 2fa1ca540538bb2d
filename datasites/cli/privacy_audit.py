"""`datasite audit`: its options, and what its answer says in plain words."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.console import Console

from datasites.cli.shell import AsJson, Directory, RequestId, act, err, show


def add_to(app: typer.Typer) -> None:
    """Put this command among the others."""
    app.command()(audit)


def audit(
    directory: Directory,
    request: RequestId,
    canaries: Annotated[int, typer.Option(help="Made-up patients, 100 to 20,000; more show more.")] = 4000,
    seed: Annotated[
        int | None, typer.Option(help="Of the made-up patients, to repeat an audit; the noise is new every time.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how much ε a request's training gives away at least, in one run on made-up patients. Costs nothing."""
    started = time.monotonic()
    with err.status("Auditing ...") as status:

        def tell(text: str) -> None:
            status.update(f"Auditing: {text} ... ({time.monotonic() - started:.0f} s)")

        found = act(directory, "audit", tell, request=request, canaries=canaries, seed=seed)
    show(found, render, as_json)


def render(out: Console, value: dict[str, Any]) -> None:
    """The bound beside the plan's ε, whether both agree, and what that shows."""
    out.print(
        f"{value['function']}: ε is at least {value['bound']:.2f} (at {value['confidence']:.0%} confidence,"
        f" δ = {value['delta']:g}); its plan says ε = {value['epsilon']:.2f} (tighter figure"
        f" {value['pld_epsilon']:.2f})."
    )
    out.print(
        f"{value['right']} of {value['guesses']} guesses were right, on {value['canaries']:,} made-up patients of whom"
        f" a coin left out half (seed {value['seed']})."
    )
    expected = f"{value['expected_strength']:.2f} ± {value['expected_deviation']:.2f}"
    out.print(
        f"The declared mechanism, simulated apart, would show {value['expected_bound']:.2f}; patients stood out by"
        f" {value['strength']:.2f} deviations where {expected} were expected."
    )
    if value["contradicted"]:
        out.print("[red]This contradicts the plan: the run gave away more than it states.[/red] Release nothing.")
    else:
        out.print("Nothing contradicts the plan.")
    out.print(
        "What it can show: that the true ε is not below the bound, and a gross fault, such as half of the noise, twice"
        " the clipping norm, or records sampled as if they were patients. What it cannot: a bound below the plan's ε"
        " proves nothing, and a run that gives away a little too much looks like one that does not. It ran the"
        " plan's mechanism in the confined runner on made-up patients with the worst gradients there are, in place of"
        " your patients and of the study's model, and saw each round's weights as a researcher does."
    )
