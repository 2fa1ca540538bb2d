"""What the ledger holds that a signed-in account may see of it: its own runs, news and projects, or all for the owner.

A stock PySyft client asks for these to show its jobs, notifications and projects. Lists end with the newest hundred,
and nothing is written but a researcher's own new password.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from datasites.datasite import Datasite
from datasites.ledger.projects import Project
from datasites.ledger.records import CodeRequestRecord, Run
from datasites.people.accounts import check_password
from datasites.people.invitations import LONGEST_PASSWORD
from datasites.people.roles import Actor, Role
from policies.errors import InvalidRequest
from policies.source.statuses import STATUS_TEXT, RequestStatus

MOST_SEEN = 100
NO_RUN = "You have no such run here. `client.jobs` lists yours."


@dataclass(frozen=True)
class News:
    """What was decided or written on a request since it came, by somebody else than who reads it."""

    key: str  # one for each piece of news, the same at each reading
    request: CodeRequestRecord
    at: str
    text: str


def runs_seen(datasite: Datasite, actor: Actor) -> list[Run]:
    """Runs of the researcher's own requests, or of everybody's for the owner; the newest `MOST_SEEN`, newest first."""
    if actor.role is Role.OWNER:
        _, page = datasite.ledger.runs.page(limit=MOST_SEEN)
        return [line.run for line in page if not line.by_owner]
    runs = [run for request in _own_requests(datasite, actor) for run in datasite.ledger.runs.list(request.id)]
    return sorted(runs, key=lambda run: run.created_at, reverse=True)[:MOST_SEEN]


def run_seen(datasite: Datasite, actor: Actor, run: str) -> tuple[Run, dict[str, Any]]:
    """One run that the actor may see, and what its researcher is answered about it.

    An owner is answered without the release, which is the researcher's.

    Raises:
      InvalidRequest: there is no such run, or it is another's.
    """
    try:
        found = datasite.ledger.runs.get(run)
        record = datasite.ledger.requests.get(found.request)
    except InvalidRequest:
        raise InvalidRequest(NO_RUN) from None
    if actor.role is Role.OWNER:
        if record.by_owner:
            raise InvalidRequest(NO_RUN)
        return found, {"status": "running" if found.is_open else found.status.value, "release": None}
    if not _is_own(actor, record):
        raise InvalidRequest(NO_RUN)
    newest = [each for each in datasite.ledger.runs.list(record.id) if each.round == found.round][-1]
    if newest.id != found.id:
        return found, {"status": found.status.value, "round": found.round, "release": None, "certificate": None}
    return found, datasite.rounds.look(record, found.round, found.weights_digest)


def run_of_round(datasite: Datasite, request: str, round_number: int) -> Run:
    """The newest run of a round that was asked for."""
    return [run for run in datasite.ledger.runs.list(request) if run.round == round_number][-1]


def news_seen(datasite: Datasite, actor: Actor) -> list[News]:
    """What others decided or wrote on the researcher's requests; for the owner what waits, and researchers' words."""
    news = []
    for record in _own_requests(datasite, actor):
        if "request" not in record.syft:
            continue  # refused as it came: PySyft keeps nothing of it
        waits = record.status in (RequestStatus.SUBMITTED, RequestStatus.CHECKED)
        if waits == (actor.role is Role.OWNER):
            news.append(News(f"{record.id} {record.status}", record, record.submitted_at, STATUS_TEXT[record.status]))
        for number, comment in enumerate(datasite.ledger.requests.comments(record.id)):
            if (comment.actor == record.researcher) == (actor.role is Role.OWNER):
                news.append(News(f"{record.id} comment {number}", record, comment.at, comment.text))
    return sorted(news, key=lambda piece: piece.at, reverse=True)[:MOST_SEEN]


def projects_seen(datasite: Datasite, actor: Actor) -> list[tuple[Project, list[CodeRequestRecord]]]:
    """Projects with the researcher's own requests under them, or that keep budget for them; all of them for the owner.

    Each with those of its requests that the actor may see; never another researcher's.
    """
    ledger, seen = datasite.ledger, []
    kept_for = {
        part.project
        for population in ledger.budgets.populations()
        for part in ledger.parts.list(population)
        if actor.name in part.researchers
    }
    for project in reversed(ledger.projects.list()):
        records = [ledger.requests.get(request) for request in ledger.projects.requests(project.id)[-MOST_SEEN:]]
        if actor.role is not Role.OWNER:
            records = [record for record in records if _is_own(actor, record)]
        if records or project.id in kept_for or actor.role is Role.OWNER:
            seen.append((project, [record for record in records if "request" in record.syft]))
    return seen[:MOST_SEEN]


def set_own_password(datasite: Datasite, actor: Actor, password: str) -> None:
    """A new password that a researcher chose; all of the account's clients are signed out, this one too.

    Whoever has stolen a client's key is put out by that; where it was they who chose, the hospital's own
    `datasite password EMAIL` puts them out. An owner's key changes no password: theirs opens the console.

    Raises:
      InvalidRequest: the password is too short or too long, or the account is no researcher's.
    """
    if actor.role is not Role.RESEARCHER:
        raise InvalidRequest("The owner's password is changed with `datasite password`, on the machine itself.")
    check_password(password)
    if len(password.encode("utf-8", "replace")) > LONGEST_PASSWORD or "\0" in password:
        raise InvalidRequest(f"The password is longer than {LONGEST_PASSWORD} bytes. Choose a shorter one.")
    datasite.syft.set_password(actor.name, password)
    datasite.audit_log.record(actor.name, "set own password", actor.name)


def _is_own(actor: Actor, record: CodeRequestRecord) -> bool:
    """Whether the actor asked for it."""
    return record.researcher == actor.name


def _own_requests(datasite: Datasite, actor: Actor) -> Iterator[CodeRequestRecord]:
    """The newest requests of the researcher, or of everybody for the owner."""
    researcher = None if actor.role is Role.OWNER else actor.name
    for line in datasite.ledger.requests.lines(researcher=researcher, most=MOST_SEEN):
        yield datasite.ledger.requests.get(line.id)
