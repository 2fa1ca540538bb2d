"""`researcher devices`: what a report of people's devices can be, and the demonstration."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from policies.commands import Commands
from policies.numbers import written
from policies.text import visible

app = Commands(help="Ask people's own devices for a mean and a variance.", no_args_is_help=True)

Epsilon = Annotated[float, typer.Option(help="That each device pays for its answer.")]


@app.command()
def expect(
    devices: Annotated[int, typer.Argument(help="How many would answer.")],
    low: Annotated[float, typer.Option(help="The lowest value that occurs, public.")],
    high: Annotated[float, typer.Option(help="The highest value that occurs, public.")],
    epsilon: Epsilon = 1.0,
    column: Annotated[str, typer.Option(help="What the number is called.")] = "value",
) -> None:
    """Say how good a mean over people's devices can be, before anybody is asked."""
    from researcher.devices.report import DeviceReport

    typer.echo(visible(str(DeviceReport([column], {column: (low, high)}, epsilon).check(devices)), keep="\n"))


@app.command()
def demo(
    devices: Annotated[int, typer.Option(help="In the team, Alice's and Bob's among them; 2 to 20,000.")] = 1000,
    epsilon: Epsilon = 1.0,
    shared_noise: Annotated[
        bool,
        typer.Option("--shared-noise", help="Devices add parts of one noise, in one sum that nobody opens one by one."),
    ] = False,
    output: Annotated[Path, typer.Option(help="Write the page here.")] = Path("report.html"),
) -> None:
    """Ask a made-up team for its heart rates: two devices as processes, others simulated; a page shows it."""
    from researcher.devices.demo import demonstrate, report_of

    report = report_of(devices, epsilon=epsilon, shared_noise=shared_noise)
    typer.echo(f"Before anybody is asked:\n{report.check(devices)}\n")
    with tempfile.TemporaryDirectory(prefix="devices-") as directory:
        told = demonstrate(report, devices, Path(directory))
    typer.echo(str(told.result))
    typer.echo(
        f"Made up, so known here: mean {written(told.mean, digits=4)}, variance {written(told.variance, digits=4)}."
        f" Took {told.seconds:.1f} s.\n{told.result.report(output)}"
    )
