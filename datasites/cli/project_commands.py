"""Commands for projects: agreements that requests are filed under, each with a last day and what is reserved for it."""

from __future__ import annotations

from typing import Annotated

import typer

from datasites.cli import display
from datasites.cli.shell import AsJson, Directory, RequestId, Yes, act, out, show
from policies.commands import Commands
from policies.numbers import written

Name = Annotated[str, typer.Argument(help="The project's name, to the letter.", show_default=False)]
Population = Annotated[str, typer.Option(help="Whose budget, as `datasite datasets` shows it.", show_default=False)]
LastDay = Annotated[str, typer.Option(help="The last day on which rounds begin, as 2027-06-30, in UTC.")]


def add_to(app: typer.Typer) -> None:
    """Put these commands under `datasite projects`."""
    projects = Commands(help="Agreements that requests are filed under, each with an end.", no_args_is_help=True)
    app.add_typer(projects, name="projects")
    projects.command("list")(list_projects)
    projects.command("make")(make)
    projects.command("change")(change)
    projects.command("close")(close)
    projects.command("file")(file)
    projects.command("reserve")(reserve)
    projects.command("free")(free)


def list_projects(directory: Directory, as_json: AsJson = False) -> None:
    """List projects, the newest first."""
    show(act(directory, "projects"), display.projects, as_json)


def make(
    directory: Directory,
    name: Name,
    parties: Annotated[str, typer.Option(help="Who agreed.")],
    ends: LastDay,
) -> None:
    """Make a project. After its last day nothing of it is approved and no round begins."""
    done = act(directory, "make_project", name=name, parties=parties, ends=ends)
    out.print(f"Made {done['name']}, until {done['ends']}. Researchers name it in study.submit(project=...).")


def change(
    directory: Directory,
    name: Name,
    parties: Annotated[str | None, typer.Option(help="Who agreed.")] = None,
    ends: Annotated[str | None, typer.Option(help="Another last day; one that is over ends it at once.")] = None,
) -> None:
    """Change a project's parties or its last day; a later day is in the audit log."""
    done = act(directory, "change_project", project=name, parties=parties, ends=ends)
    out.print(f"{done['name']} {'has ended' if done['ended'] else 'goes on until ' + done['ends']}.")


def close(directory: Directory, name: Name, yes: Yes = False) -> None:
    """End a project now, for good: approvals under it expire, and what no run touched is given back."""
    if not yes:
        typer.confirm(f"Close {name} for good?", abort=True)
    out.print(f"Closed {act(directory, 'close_project', project=name)['name']}.")


def file(directory: Directory, request: RequestId, name: Name) -> None:
    """File a request under a project."""
    done = act(directory, "file_request", request=request, project=name)
    out.print(f"Filed {request} under {done['name']}, until {done['ends']}.")


def reserve(
    directory: Directory,
    name: Name,
    population: Population,
    epsilon: Annotated[float, typer.Option(help="ε that is reserved in all, with what the project has drawn of it.")],
    researcher: Annotated[
        list[str] | None,
        typer.Option(help="Who may draw on it, by e-mail; once for each. Without it, who may now.", show_default=False),
    ] = None,
    training: Annotated[
        bool | None, typer.Option("--training/--no-training", help="Whether models may be trained out of it.")
    ] = None,
) -> None:
    """Reserve a part of a population's budget for a project: no other request is approved out of it.

    The project's requests draw on it first. It ends with the project, or with `datasite projects free`.
    """
    done = act(
        directory,
        "reserve_for_project",
        project=name,
        population=population,
        epsilon=epsilon,
        researchers=researcher,
        with_training=training,
    )
    who = ", ".join(done["researchers"])
    out.print(
        f"Reserved ε = {written(done['epsilon'])} of {population} for {done['project']}, of which"
        f" {done['epsilon_left']:.3f} is left. {who} may draw on it"
        f"{'' if done['with_training'] else ', for statistics and evaluations'}."
    )


def free(directory: Directory, name: Name, population: Population) -> None:
    """Free what is reserved of a population's budget for a project; what it has drawn stays charged."""
    done = act(directory, "free_for_all", project=name, population=population)
    out.print(f"Freed ε = {done['epsilon_left']:.3f} of {population}, which {done['project']} had not drawn.")
