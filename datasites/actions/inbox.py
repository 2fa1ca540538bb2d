"""Which waiting requests fit together, in each population's budget, and what each of them would leave."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from datasites.actions.balances import balance_dict
from datasites.actions.registry import action
from datasites.datasite import Datasite
from datasites.ledger.admission import Asked, Standing
from datasites.ledger.kept import Part, may_draw
from datasites.ledger.records import WaitingRequest
from datasites.people.roles import CONSOLE, Actor
from datasites.review.fitting import Candidate, Line, in_order, most_together
from policies.errors import DatasiteError, InvalidRequest, UnsupportedMechanism
from policies.privacy import accountant
from policies.privacy.mechanisms import mechanism_from
from policies.source.statuses import RequestStatus

MOST_WAITING = 500
"""Of one population, the oldest that are looked at; of more, a page says how many it leaves out."""
LOOKING_SECONDS = 1.0
"""What charges are worked out for at once: those of a training take some 15 ms, and are known from then on."""
NOT_CHARGED = "It cannot be charged: its ε is too small for the noise that it would get. Deny it."


@action(CONSOLE)
def waiting(datasite: Datasite, actor: Actor, *, population: str | None = None) -> list[dict[str, Any]]:
    """For each population with waiting requests, or one: each in the order of age with what approving it would leave.

    Of those `by_age` fit if the oldest are approved first, and `most_together` are as many as fit in all;
    `is_largest` says whether no set of more of them does. What else holds a request up, as a check, is on its page.
    """
    datasite.ledger.expire_due()
    names = datasite.ledger.budgets.populations() if population is None else (population,)
    found = (_fit(datasite, name, _oldest(datasite, name)) for name in names)
    return [fit for fit in found if fit["requests"]]


@action(CONSOLE)
def try_approvals(datasite: Datasite, actor: Actor, *, requests: list[str]) -> list[dict[str, Any]]:
    """What approving these requests, in this order, would leave of each population; nothing is approved.

    Raises `InvalidRequest` where one of them does not wait for a decision.
    """
    datasite.ledger.expire_due()
    records = [datasite.submissions.find(request) for request in dict.fromkeys(requests)]
    for record in records:
        if record.status is not RequestStatus.CHECKED or record.population is None:
            raise InvalidRequest(f"Request {record.id[:8]} is {record.status} and does not wait for a decision.")
    chosen: dict[str, list[WaitingRequest]] = {}
    for record in records:
        chosen.setdefault(str(record.population), []).append(datasite.ledger.requests.waiting_one(record.id))
    return [_fit(datasite, population, tuple(asked)) for population, asked in chosen.items()]


def _oldest(datasite: Datasite, population: str) -> list[WaitingRequest]:
    """The oldest waiting requests of a population whose charges are known by the time that a page may take."""
    order, until = datasite.ledger.budgets.balance(population).order, time.monotonic() + LOOKING_SECONDS
    looked_at: list[WaitingRequest] = []
    for request in datasite.ledger.requests.waiting(population, most=MOST_WAITING):
        if looked_at and time.monotonic() > until:
            break
        with suppress(UnsupportedMechanism):
            _charge(request.mechanism_json, order)
        looked_at.append(request)
    return looked_at


def _fit(datasite: Datasite, population: str, asked: Sequence[WaitingRequest]) -> dict[str, Any]:
    """What approving these requests of a population in this order would leave, as plain data."""
    ledger, plan = datasite.ledger, datasite.decisions.yearly_plan(population)
    people = {request.researcher for request in asked}
    standing = ledger.budgets.standing(population, plan=plan, researchers=people, limit=_limit(datasite))
    parts = ledger.parts.list(population)
    candidates = {request.id: _candidate(standing, parts, request) for request in asked}
    chargeable = [candidate for candidate in candidates.values() if candidate is not None]
    lines = {line.id: line for line in in_order(standing, chargeable)}
    most = most_together(standing, chargeable)
    return {
        "population": population,
        "balance": balance_dict(ledger, population, plan),
        "requests": [_line_dict(request, candidates[request.id], lines.get(request.id), parts) for request in asked],
        "by_age": [name for name, line in lines.items() if line.fits],
        "most_together": list(most.ids),
        "is_largest": most.is_largest,
        "waiting": ledger.requests.count_waiting_of(population),
    }


def _candidate(standing: Standing, parts: Sequence[Part], request: WaitingRequest) -> Candidate | None:
    """A waiting request with its charge; None of one that an earlier version let in and that cannot be charged."""
    try:
        charge, rounds = _charge(request.mechanism_json, standing.balance.order)
    except UnsupportedMechanism:
        return None
    total = standing.balance.charged(charge, rounds)
    part = next(
        (part for part in parts if part.project == request.project and may_draw(part, request.researcher, total)), None
    )
    return Candidate(request.id, Asked(total, request.researcher, part.id if part else None))


@lru_cache(maxsize=4096)
def _charge(mechanism_json: str, order: int) -> tuple[accountant.Charge, int]:
    mechanism = mechanism_from(json.loads(mechanism_json))
    return accountant.charge_for(mechanism, order), mechanism.rounds


def _limit(datasite: Datasite) -> float | None:
    """The policy's ε of one researcher; none where the policy cannot be read, and nothing is approved."""
    try:
        return datasite.decisions.read_rules().researcher_epsilon
    except DatasiteError:
        return None


def _line_dict(
    request: WaitingRequest, candidate: Candidate | None, line: Line | None, parts: Sequence[Part]
) -> dict[str, Any]:
    names = {part.id: part.project_name for part in parts}
    facts = {
        "id": request.id,
        "function": request.function,
        "researcher": request.researcher,
        "dataset": request.dataset,
        "submitted_at": request.submitted_at,
        "draws_on": names[candidate.asked.part] if candidate and candidate.asked.part else None,
    }
    if line is None:
        nothing = {"fits": False, "alone": False, "why": NOT_CHARGED}
        return {**facts, **nothing, "added": None, "left": None, "left_this_year": None}
    return {**facts, **{name: value for name, value in dataclasses.asdict(line).items() if name != "id"}}
