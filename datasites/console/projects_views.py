"""Projects: agreements that requests are filed under, each with its parties, its last day and its attachments."""

from __future__ import annotations

from starlette.responses import Response

from datasites.console import formats
from datasites.console.page_requests import PageRequest
from policies.errors import InvalidRequest


def projects(visit: PageRequest) -> Response:
    """Every project, and a form for a new one."""
    return visit.render("projects.html", projects=visit.act("projects"))


def project(visit: PageRequest) -> Response:
    """One project, with its requests and attachments."""
    seen = visit.act("project", project=visit.path["id"])
    named = {email for part in seen["parts"] for email in part["researchers"]}
    return visit.render(
        "project.html",
        seen=seen,
        populations=visit.datasite.ledger.budgets.populations(),
        named=named,
        researchers=sorted({account["email"] for account in visit.act("researchers")} | named),
        largest=visit.datasite.settings.attachment_mib,
    )


def make(visit: PageRequest) -> Response:
    """A new project."""
    made = visit.act("make_project", **{name: visit.form.text(name) for name in ("name", "parties", "ends")})
    return visit.go(f"/projects/{made['id']}", f"Made {made['name']}. Tell the researchers its name.")


def change(visit: PageRequest) -> Response:
    """Other parties or another last day."""
    given = {name: visit.form.text(name) for name in ("parties", "ends")}
    done = visit.act("change_project", project=visit.path["id"], **given)
    return visit.go(f"/projects/{done['id']}", f"{done['name']} {'has ended' if done['ended'] else 'is changed'}.")


def close(visit: PageRequest) -> Response:
    """End a project now."""
    done = visit.act("close_project", project=visit.path["id"])
    return visit.go(f"/projects/{done['id']}", f"Closed {done['name']}. What no run touched is given back.")


def reserve(visit: PageRequest) -> Response:
    """Keep a part of a population's budget for a project."""
    epsilon = visit.form.number("epsilon", "ε")
    if epsilon is None:
        raise InvalidRequest("Say how much ε is reserved in all.")
    population = visit.form.text("population")
    done = visit.act(
        "reserve_for_project",
        project=visit.path["id"],
        population=population,
        epsilon=epsilon,
        researchers=visit.form.all("researchers"),
        with_training=bool(visit.form.text("with_training")),
    )
    return visit.go(f"/projects/{done['project_id']}#reserved", f"Reserved ε {formats.exact(epsilon)} of {population}.")


def free(visit: PageRequest) -> Response:
    """Free what is reserved for a project."""
    done = visit.act("free_for_all", project=visit.path["id"], population=visit.form.text("population"))
    left = formats.figure(done["epsilon_left"])
    return visit.go(f"/projects/{done['project_id']}#reserved", f"Freed ε {left} of {done['population']}.")


def file_request(visit: PageRequest) -> Response:
    """File a request under a project."""
    done = visit.act("file_request", request=visit.path["id"], project=visit.form.text("project"))
    return visit.go(f"/requests/{visit.path['id']}#h-project", f"Filed under {done['name']}.")
