"""What left and the record of it: releases, certificates, the ledger and the audit log."""

from __future__ import annotations

import dataclasses
from typing import Any

from datasites.actions.balances import balance_dict
from datasites.actions.registry import action
from datasites.datasite import Datasite
from datasites.ledger.entries import Entry
from datasites.people.roles import CONSOLE, Actor
from policies.errors import InvalidRequest
from policies.privacy.nano import NANO

PAGE = 50
SHOWN_ENTRIES = 50


@action(CONSOLE)
def releases(datasite: Datasite, actor: Actor) -> list[dict[str, Any]]:
    """What left, newest first."""
    rows = []
    for release in reversed(datasite.ledger.runs.releases()):
        record = datasite.ledger.requests.get(release.request)
        rows.append(
            {
                "request": record.id,
                "round": release.round,
                "function": record.function,
                "researcher": record.researcher,
                "dataset": record.dataset,
                "released_at": release.at,
                "bytes": release.size,
                "digest": release.digest,
            }
        )
    return rows


@action(CONSOLE)
def release_page(datasite: Datasite, actor: Actor, *, limit: int = PAGE, offset: int = 0) -> dict[str, Any]:
    """What left, newest first, a page of it."""
    count, rows = datasite.ledger.runs.release_page(limit=limit, offset=offset)
    return {"count": count, "releases": [dataclasses.asdict(line) for line in rows]}


@action(CONSOLE)
def certificate(datasite: Datasite, actor: Actor, *, request: str, round_number: int) -> str:
    """The certificate of one release."""
    stored = datasite.ledger.runs.release(datasite.submissions.find(request).id, round_number)
    if stored is None:
        raise InvalidRequest(
            f"Round {round_number} of request {request} has no release. `datasite releases` lists them."
        )
    return stored.certificate


@action(CONSOLE)
def ledger(datasite: Datasite, actor: Actor, *, entries: int = SHOWN_ENTRIES) -> dict[str, Any]:
    """Balances and the newest entries."""
    newest = datasite.ledger.entries.list(limit=entries, newest_first=True)
    head = datasite.ledger.entries.head()
    return {
        "balances": [balance_dict(datasite.ledger, name) for name in datasite.ledger.budgets.populations()],
        "entries": [entry_as_dict(entry) for entry in newest],
        "head": f"{head.seq} {head.hash}",
    }


def entry_as_dict(entry: Entry) -> dict[str, Any]:
    """An entry as plain data, its amount as divergence."""
    return {
        "seq": entry.seq,
        "at": entry.at,
        "kind": entry.kind.value,
        "actor": entry.actor,
        "population": entry.population,
        "request": entry.request,
        "run": entry.run,
        "divergence": entry.amount.divergence_nano / NANO,
        "details": entry.details,
        "hash": entry.hash,
    }


@action(CONSOLE)
def entries(
    datasite: Datasite,
    actor: Actor,
    *,
    before: int | None = None,
    after: int = 0,
    limit: int = PAGE,
    population: str | None = None,
    newest_first: bool = True,
) -> list[dict[str, Any]]:
    """Entries of the ledger, a page of them."""
    found = datasite.ledger.entries.list(
        before=before, after=after, limit=limit, population=population, newest_first=newest_first
    )
    return [entry_as_dict(entry) for entry in found]


@action(CONSOLE)
def spending(datasite: Datasite, actor: Actor, *, population: str, after: int = 0) -> list[dict[str, Any]]:
    """What was spent of a population's budget, by day, dataset and researcher."""
    return [
        {"day": day.day, "dataset": day.dataset, "researcher": day.researcher, **day.amount.as_dict(), "runs": day.runs}
        for day in datasite.ledger.budgets.spending(population, after=after)
    ]


@action(CONSOLE)
def verify_ledger(datasite: Datasite, actor: Actor) -> dict[str, Any]:
    """Recompute the chains of ledger and audit log and all totals."""
    head = datasite.ledger.verify()
    datasite.audit_log.verify()
    return {"entries": head.seq, "head": head.hash}


@action(CONSOLE)
def search_log(
    datasite: Datasite,
    actor: Actor,
    *,
    search: str = "",
    before: int | None = None,
    after: int = 0,
    limit: int = PAGE,
    newest_first: bool = True,
) -> list[dict[str, Any]]:
    """Rows of the audit log that hold `search`, a page of them."""
    found = datasite.audit_log.entries(
        before=before, after=after, limit=limit, newest_first=newest_first, search=search
    )
    return [dataclasses.asdict(row) for row in found]


@action(CONSOLE)
def verify_log(datasite: Datasite, actor: Actor) -> dict[str, Any]:
    """Recompute the audit log's chain."""
    head = datasite.audit_log.verify()
    return {"rows": head.seq, "head": head.hash}
