"""What left and the record of it: releases, certificates, the ledger and the audit log."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from datasites.actions.balances import balances
from datasites.actions.registry import action
from datasites.datasite import Datasite
from datasites.ledger.entries import Entry
from datasites.ledger.records import ReleaseLine, StoredRelease
from datasites.people.roles import CONSOLE, Actor
from datasites.review.released import noise_sentences, released_parts
from policies.errors import InvalidRequest
from policies.privacy.mechanisms import mechanism_from
from policies.privacy.nano import NANO
from policies.release.tensors import from_bytes

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
def release(datasite: Datasite, actor: Actor, *, request: str, round_number: int) -> dict[str, Any]:
    """One release with what left in it: names, shapes and values, their noise, and its certificate's statements."""
    stored, line = _stored(datasite, request, round_number)
    said = json.loads(stored.certificate)
    mechanism = mechanism_from(said["mechanism"])
    schema = datasite.planner.published(version=said["version"]).schema
    return {
        **dataclasses.asdict(line),
        "certificate": said,
        "noise": noise_sentences(mechanism),
        "parts": [
            dataclasses.asdict(part)
            | {"numbers": [dataclasses.asdict(one) | {"shown": one.shown} for one in part.numbers]}
            for part in released_parts(from_bytes(stored.bytes), mechanism, schema, patients=said["size"]["patients"])
        ],
    }


@action(CONSOLE)
def certificate(datasite: Datasite, actor: Actor, *, request: str, round_number: int) -> str:
    """The certificate of one release."""
    return _stored(datasite, request, round_number)[0].certificate


def _stored(datasite: Datasite, request: str, round_number: int) -> tuple[StoredRelease, ReleaseLine]:
    runs = datasite.ledger.runs
    found = request if runs.release_line(request, round_number) else datasite.submissions.find(request).id
    stored, line = runs.release(found, round_number), runs.release_line(found, round_number)
    if stored is None or line is None:
        raise InvalidRequest(
            f"Round {round_number} of request {request} has no release. `datasite releases` lists them."
        )
    return stored, line


@action(CONSOLE)
def ledger(datasite: Datasite, actor: Actor, *, entries: int = SHOWN_ENTRIES) -> dict[str, Any]:
    """Balances and the newest entries."""
    newest = datasite.ledger.entries.list(limit=entries, newest_first=True)
    head = datasite.ledger.entries.head()
    return {
        "balances": balances(datasite),
        "entries": _with_epsilon(datasite, newest),
        "head": f"{head.seq} {head.hash}",
    }


def _with_epsilon(datasite: Datasite, found: Sequence[Entry]) -> list[dict[str, Any]]:
    """Entries as plain data, each with the ε that its amount alone comes to at its population's δ.

    Those that spend have as `epsilon_added` what they added to the ε of all before them, and as `epsilon_spent` what
    that came to.
    """
    budgets = datasite.ledger.budgets
    conversions = {name: budgets.balance(name).conversion_nano for name in budgets.populations()}
    spent: dict[int, tuple[float, float]] = {}
    numbers = [entry.seq for entry in found]
    for name in {entry.population for entry in found if entry.population in conversions}:
        before = budgets.spent_before(str(name), min(numbers)).epsilon_nano(conversions[str(name)])
        for seq, charged in budgets.spent_by_then(str(name), min(numbers), max(numbers)).items():
            then = charged.epsilon_nano(conversions[str(name)])
            spent[seq] = (then - before) / NANO, then / NANO
            before = then
    return [
        entry_as_dict(entry, conversions)
        | dict(zip(("epsilon_added", "epsilon_spent"), spent.get(entry.seq, (None, None)), strict=True))
        for entry in found
    ]


def entry_as_dict(entry: Entry, conversions: Mapping[str, int]) -> dict[str, Any]:
    """An entry as plain data, its amount as divergence and as ε; `conversions` is that of each population, in nano."""
    moves = any(entry.amount.as_row()) and entry.population in conversions
    return {
        "seq": entry.seq,
        "at": entry.at,
        "kind": entry.kind.value,
        "actor": entry.actor,
        "population": entry.population,
        "request": entry.request,
        "run": entry.run,
        "divergence": entry.amount.divergence_nano / NANO,
        "epsilon": entry.amount.epsilon_nano(conversions[str(entry.population)]) / NANO if moves else None,
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
    return _with_epsilon(datasite, found)


@action(CONSOLE)
def spending(datasite: Datasite, actor: Actor, *, population: str, after: int = 0) -> list[dict[str, Any]]:
    """What was spent of a population's budget, by day, dataset and researcher."""
    return [
        {
            "day": day.day,
            "dataset": day.dataset,
            "researcher": day.researcher,
            "training": day.charged.training.as_dict(),
            "held_out": day.charged.held_out.as_dict(),
            "runs": day.runs,
        }
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
