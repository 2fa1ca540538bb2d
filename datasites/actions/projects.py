"""Projects that group requests of one agreement: made, changed, closed, and requests filed under them by the owner.

After a project's last day no request of it is approved and no round begins (`datasites.ledger.projects`). Shortening
one counts at once; lengthening one is in the audit log, with the day before and after.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import Any

from datasites.actions.balances import part_dict
from datasites.actions.people import researcher_emails
from datasites.actions.registry import action
from datasites.datasite import Datasite
from datasites.ledger.projects import Project
from datasites.people.roles import CONSOLE, OWNER, Actor
from policies.email_addresses import as_typed
from policies.errors import InvalidRequest
from policies.text import check_visible, visible

LONGEST_NAME, LONGEST_PARTIES = 100, 2000
LAST_DAY = date(2100, 12, 31)


@action(CONSOLE)
def projects(datasite: Datasite, actor: Actor) -> list[dict[str, Any]]:
    """Every project, the newest first, with how many requests are filed under it."""
    datasite.ledger.expire_due()
    return [_project_dict(datasite, project) for project in reversed(datasite.ledger.projects.list())]


@action(CONSOLE)
def project(datasite: Datasite, actor: Actor, *, project: str) -> dict[str, Any]:
    """One project, by name or id, with its requests and attachments."""
    datasite.ledger.expire_due()
    wanted = datasite.ledger.projects.find(project)
    requests = [datasite.ledger.requests.get(request) for request in datasite.ledger.projects.requests(wanted.id)]
    names = ("id", "function", "researcher", "dataset")
    return {
        **_project_dict(datasite, wanted),
        "requests": [
            {**{name: getattr(record, name) for name in names}, "status": record.status.value} for record in requests
        ],
        "attachments": [asdict(attachment) for attachment in datasite.ledger.attachments.of("project", wanted.id)],
    }


@action(OWNER)
def make_project(datasite: Datasite, actor: Actor, *, name: str, parties: str, ends: str) -> dict[str, Any]:
    """A new project: its name, who agreed, and the last day on which rounds begin, as 2027-06-30 in UTC."""
    name, parties = _name(name), _parties(parties)
    made = datasite.ledger.projects.make(name, parties, _day(ends, since=datasite.ledger.projects.now()[:10]))
    datasite.audit_log.record(actor.name, "make project", made.id, name=made.name, ends=made.ends)
    return _project_dict(datasite, made)


@action(OWNER)
def change_project(
    datasite: Datasite, actor: Actor, *, project: str, parties: str | None = None, ends: str | None = None
) -> dict[str, Any]:
    """Other parties, or another last day. A day that is over ends the project at once."""
    datasite.ledger.expire_due()  # what was kept for a project that has ended does not come back with it
    before = datasite.ledger.projects.find(project)
    after = datasite.ledger.projects.change(
        before.id,
        parties=before.parties if parties is None else _parties(parties),
        ends=before.ends if ends is None else _day(ends),
    )
    what = "lengthen project" if after.ends > before.ends else "change project"
    facts = {"ends": after.ends, "before": before.ends} if after.ends != before.ends else {}
    datasite.audit_log.record(actor.name, what, after.id, name=after.name, **facts)
    _follow(datasite)
    return _project_dict(datasite, after)


@action(OWNER)
def close_project(datasite: Datasite, actor: Actor, *, project: str) -> dict[str, Any]:
    """End a project now, for good; approvals under it expire, and what no run touched is given back."""
    closed = datasite.ledger.projects.close(project)
    datasite.audit_log.record(actor.name, "close project", closed.id, name=closed.name)
    _follow(datasite)
    return _project_dict(datasite, closed)


@action(OWNER)
def file_request(datasite: Datasite, actor: Actor, *, request: str, project: str) -> dict[str, Any]:
    """Put a request under a project that goes on, or under another one than it was."""
    record = datasite.submissions.find(request)
    before = datasite.ledger.projects.of(record.id)
    filed = datasite.ledger.projects.file(record.id, project)
    facts = {"before": before.name} if before is not None else {}
    datasite.audit_log.record(actor.name, "file request", record.id, project=filed.name, **facts)
    return _project_dict(datasite, filed)


@action(OWNER)
def reserve_for_project(
    datasite: Datasite,
    actor: Actor,
    *,
    project: str,
    population: str,
    epsilon: float,
    researchers: list[str] | None = None,
    with_training: bool | None = None,
) -> dict[str, Any]:
    """Keep ε of a population's budget for a project, or change what is kept to that in all.

    Args:
      researchers: e-mails of those whose requests may draw on it; None leaves them as they are.
      with_training: keep it for training, too; None leaves it as it is, which is at first that it is.

    Raises:
      InvalidRequest: somebody is no researcher here, or nobody is named at first.
      BudgetExceeded: what is left does not hold it.
    """
    ledger, wanted = datasite.ledger, datasite.ledger.projects.find(project)
    before = next((part for part in ledger.parts.list(population) if part.project == wanted.id), None)
    named = tuple(map(as_typed, researchers)) if researchers is not None else before.researchers if before else ()
    if strangers := sorted(set(named) - researcher_emails(datasite) - set(before.researchers if before else ())):
        raise InvalidRequest(
            f"{visible(strangers[0][:200])!r} is no researcher here. `datasite researchers list` shows them."
        )
    if with_training is None:
        with_training = before.kept.with_training if before else True
    part = ledger.parts.keep(wanted.id, population, epsilon, named, with_training=with_training, actor=actor.name)
    facts = {name: value for name, value in part_dict(part).items() if name not in ("project_id", "epsilon_left")}
    datasite.audit_log.record(actor.name, "reserve for project", wanted.id, **facts)
    return part_dict(part)


@action(OWNER)
def free_for_all(datasite: Datasite, actor: Actor, *, project: str, population: str) -> dict[str, Any]:
    """Free what is kept of a population's budget for a project; what it has drawn stays charged."""
    wanted = datasite.ledger.projects.find(project)
    part = datasite.ledger.parts.free(wanted.id, population, actor=actor.name)
    datasite.audit_log.record(actor.name, "free for all", wanted.id, population=population, epsilon=part.epsilon)
    return part_dict(part)


def _follow(datasite: Datasite) -> None:
    """Expire what a project's end closes; PySyft's statuses follow."""
    for record in datasite.ledger.expire_due():
        datasite.project(datasite.ledger.requests.get(record.id))


def _project_dict(datasite: Datasite, project: Project) -> dict[str, Any]:
    filed, approved = datasite.ledger.projects.counts(project.id)
    return {
        **asdict(project),
        "ended": project.has_ended(datasite.ledger.projects.now()),
        "filed": filed,
        "approved": approved,
        "parts": [
            part_dict(part)
            for population in datasite.ledger.budgets.populations()
            for part in datasite.ledger.parts.list(population)
            if part.project == project.id
        ],
    }


def _name(name: str) -> str:
    name = " ".join(name.split())
    if not 1 <= len(name) <= LONGEST_NAME:
        raise InvalidRequest(f"A project's name has 1 to {LONGEST_NAME} characters, and this one {len(name)}.")
    check_visible(name, "The name")
    return name


def _parties(parties: str) -> str:
    parties = parties.strip().replace("\r\n", "\n")
    if not 1 <= len(parties) <= LONGEST_PARTIES:
        raise InvalidRequest(
            f"The parties have 1 to {LONGEST_PARTIES:,} characters, and these {len(parties):,}. Name who agreed."
        )
    check_visible(parties, "The list of parties")
    return parties


def _day(text: str, *, since: str = "") -> str:
    """A day as 2027-06-30. Raises `InvalidRequest` where it is none, or before `since`."""
    try:
        day = date.fromisoformat(text.strip())
    except ValueError:
        raise InvalidRequest(f"ends={text[:40]!r} is no day. Write it as 2027-06-30.") from None
    if not since <= day.isoformat() <= LAST_DAY.isoformat():
        raise InvalidRequest(f"ends={day} is over, or after {LAST_DAY}. Give the last day on which rounds may begin.")
    return day.isoformat()
