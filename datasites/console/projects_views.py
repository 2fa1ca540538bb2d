"""Projects: agreements that requests are filed under, each with its parties, its last day and its attachments."""

from __future__ import annotations

from starlette.responses import Response

from datasites.console.page_requests import PageRequest


def projects(visit: PageRequest) -> Response:
    """Every project, and a form for a new one."""
    return visit.render("projects.html", projects=visit.act("projects"))


def project(visit: PageRequest) -> Response:
    """One project, with its requests and attachments."""
    return visit.render(
        "project.html",
        seen=visit.act("project", project=visit.path["id"]),
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


def file_request(visit: PageRequest) -> Response:
    """File a request under a project."""
    done = visit.act("file_request", request=visit.path["id"], project=visit.form.text("project"))
    return visit.go(f"/requests/{visit.path['id']}#h-project", f"Filed under {done['name']}.")
