"""Code requests as they are read and decided: every door comes through these functions.

A decision is judged in `datasites.review.decisions`; here a request is found by its id, and what is known of it becomes
plain data.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict
from typing import Any

from datasites.actions.balances import year_dict
from datasites.actions.registry import action
from datasites.datasite import Datasite
from datasites.ledger.kept import Part
from datasites.ledger.records import CodeRequestRecord, RequestLine
from datasites.people.roles import CONSOLE, DECIDERS, Actor, Role
from datasites.review.decisions import Case, may_decide
from datasites.review.pricing import BudgetLine, Cost, budget_lines, cost_of
from datasites.review.shared_noise import acceptance_of, is_accepted, said_of
from datasites.review.wording import summary
from policies.errors import InvalidRequest, Unavailable, UnsupportedMechanism, WrongStatus
from policies.privacy import accountant, risk
from policies.privacy.nano import NANO
from policies.privacy.sharing import shared_of
from policies.release.plans import Plan, Published
from policies.source.statuses import RequestStatus

EVERY_DOOR = frozenset({*CONSOLE, Role.RESEARCHER})
"""Who may ask for a decision. The judge refuses those who have no say, with the reason."""


@action(CONSOLE)
def requests(datasite: Datasite, actor: Actor, *, status: str | None = None) -> list[dict[str, Any]]:
    """Requests, those that wait for the owner first, newest first within."""
    if status is not None and status not in set(RequestStatus):
        raise InvalidRequest(f"status={status!r} is not known. Use one of {', '.join(RequestStatus)}.")
    datasite.ledger.expire_due()
    return [line_dict(line) for line in datasite.ledger.requests.lines(status=status)]


@action(CONSOLE)
def show(datasite: Datasite, actor: Actor, *, request: str) -> dict[str, Any]:
    """Everything that a decision on one request needs."""
    record = datasite.submissions.find(request)
    case = datasite.decisions.case(record, actor)
    plan = record.plan
    published = datasite.planner.published(version=record.version)
    part = part_of(datasite, record)
    accepted = is_accepted(record)
    cost = _cost_of(datasite, plan, published, part, accepted) if plan else None
    balance = datasite.ledger.budgets.balance(published.population)
    limit = case.rules.researcher_epsilon if case.rules else None
    yearly = datasite.decisions.yearly_plan(published.population)
    budgets = (
        budget_lines(
            datasite.ledger,
            plan,
            published,
            record.researcher,
            limit=limit,
            yearly=yearly,
            part=part,
            accepted=accepted,
        )
        if plan and cost
        else ()
    )
    return {
        **overview(record),
        "version": record.version,
        "purpose": record.purpose,
        "source": record.source,
        "plan": plan.as_dict() if plan else None,
        "plan_digest": record.plan_digest,
        "summary": summary(plan, published) if plan else [],
        "risk": risk.risk_sentences(risk.loss_of(plan.mechanism, balance.budget.delta), total=balance.promise)
        if plan
        else [],
        "cost": cost_dict(cost) if cost else None,
        "costs": _cost_sentence(cost) if cost else "",
        "budgets": [_budget_dict(line) for line in budgets],
        "shared_noise": _shared_noise(datasite, record, actor, part) if cost else None,
        "decision": _decision_dict(case),
        "checks": [asdict(check) for check in case.checks],
        "findings": [asdict(finding) for finding in record.findings],
        "difference": _difference(datasite, record),
        "project": _project(datasite, record),
        "attachments": [asdict(attachment) for attachment in datasite.ledger.attachments.of("request", record.id)],
        "comments": [asdict(comment) for comment in datasite.ledger.requests.comments(record.id)],
        "rounds": [
            {"round": run.round, "status": run.status.value, "owner_note": run.reason or ""}
            for run in datasite.ledger.runs.list(record.id)
        ],
        "trial": datasite.mock_runs.of(record.id),
    }


@action(DECIDERS)
def try_request(datasite: Datasite, actor: Actor, *, request: str, wait: bool = True) -> dict[str, Any] | None:
    """Run a request on mock rows, where it is or was waiting to be decided; what came of it, or that it is under way.

    Raises:
      WrongStatus: it has no plan.
      Unavailable: too many wait to be tried.
    """
    record = datasite.submissions.find(request)
    if record.plan is None:
        raise WrongStatus(f"Request {record.id[:8]} has no plan, so there is nothing to run.")
    datasite.audit_log.record(actor.name, "try on mock", record.id)
    if wait:
        return datasite.mock_runs.run(record)
    if not datasite.mock_runs.start(record):
        raise Unavailable("Too many requests wait to be run on the mock. Try again in a moment.")
    return datasite.mock_runs.of(record.id)


@action(EVERY_DOOR)
def approve(
    datasite: Datasite,
    actor: Actor,
    *,
    request: str,
    plan_digest: str | None = None,
    typed: str = "",
    acceptance: str = "",
) -> str:
    """Approve a request, or vote for it where two people must agree; what was done, in a sentence.

    Args:
      plan_digest: of the plan that was read; None from a door that shows none.
      typed: the request's name as the actor typed it; needed above the policy's `typed_confirmation_epsilon`.
      acceptance: digest of the sentence by which the actor accepts this request's shared noise, as `show` gives both;
        "" to accept none, and then what holds without trust is charged.
    """
    record = datasite.submissions.find(request)
    return datasite.decisions.approve(record, actor, plan_digest=plan_digest, typed=typed, acceptance=acceptance)


@action(EVERY_DOOR)
def deny(datasite: Datasite, actor: Actor, *, request: str, reason: str) -> None:
    """Deny with a reason."""
    datasite.decisions.deny(datasite.submissions.find(request), actor, reason)


@action(EVERY_DOOR)
def ask_changes(datasite: Datasite, actor: Actor, *, request: str, comment: str) -> None:
    """Ask for changes with a comment."""
    datasite.decisions.ask_changes(datasite.submissions.find(request), actor, comment)


@action(EVERY_DOOR)
def revoke(datasite: Datasite, actor: Actor, *, request: str, reason: str) -> None:
    """Revoke an approval; running rounds end."""
    datasite.decisions.revoke(datasite.submissions.find(request), actor, reason)


@action(CONSOLE)
def what_if(datasite: Datasite, actor: Actor, *, request: str) -> dict[str, Any]:
    """How many more requests like this one the budget of its population still holds, and ε after each of them."""
    record = datasite.submissions.find(request)
    if record.plan is None or record.population is None:
        raise InvalidRequest(f"Request {record.id[:8]} has no plan, so it has no cost to compare with.")
    part, yearly = part_of(datasite, record), datasite.decisions.yearly_plan(record.population)
    standing = datasite.ledger.budgets.standing(record.population, plan=yearly)
    balance = standing.balance_for(part.id if part else None)
    charge = accountant.charge_for(record.plan.mechanism, balance.order, accepted=is_accepted(record))
    rounds = record.plan.rounds
    total = balance.charged(charge, rounds)
    patients, account = balance.drawn_on(total)
    once_more = account.charged(charge, rounds)
    waiting = record.status in (RequestStatus.SUBMITTED, RequestStatus.CHECKED)
    fits = balance.times(total)
    return {
        "request": record.id,
        "function": record.function,
        "population": record.population,
        "waiting": waiting,
        "fits": fits,
        "project": part.project_name if part else None,
        "year": {**year_dict(standing.year), "fits": min(fits, standing.year.times(total))} if standing.year else None,
        "budget": balance.budget.epsilon,
        "patients": patients.value,
        "now": account.used_nano() / NANO,
        "after": [account.used_nano(once_more * many) / NANO for many in range(1, min(fits, 12) + 1)],
    }


# -- as plain data -----------------------------------------------------------------------------------------------------


def overview(record: CodeRequestRecord) -> dict[str, Any]:
    """One line of the inbox."""
    plan = record.plan
    mechanism = plan.declared if plan else None
    return {
        "id": record.id,
        "status": record.status.value,
        "researcher": record.researcher,
        "function": record.function,
        "dataset": record.dataset,
        "mechanism": mechanism.kind if mechanism else None,
        "epsilon": getattr(mechanism, "epsilon", None),
        "rounds": plan.rounds if plan else None,
        "submitted_at": record.submitted_at,
        "expires_at": record.expires_at,
    }


def line_dict(line: RequestLine) -> dict[str, Any]:
    """One line of the inbox, as `overview` has it, of a line of the ledger."""
    return {**vars(line), "status": line.status.value}


def cost_dict(cost: Cost) -> dict[str, Any]:
    """A cost in one flat dictionary."""
    flat = asdict(cost)
    return {**flat, **flat.pop("fit")}


def part_of(datasite: Datasite, record: CodeRequestRecord) -> Part | None:
    """The part of the budget that a request draws on, kept for its project; None of one that draws on none."""
    if record.plan is None or record.population is None or not datasite.ledger.parts.list(record.population):
        return None
    balance = datasite.ledger.budgets.balance(record.population)
    try:
        charge = accountant.charge_for(record.plan.mechanism, balance.order)
    except UnsupportedMechanism:
        return None
    return datasite.ledger.parts.of(record, balance.charged(charge, record.plan.rounds))


def _cost_of(
    datasite: Datasite, plan: Plan, published: Published, part: Part | None, accepted: bool = False
) -> Cost | None:
    """What a plan costs; None of one that an earlier version let in and that cannot be charged, so only denied."""
    yearly = datasite.decisions.yearly_plan(published.population)
    try:
        return cost_of(datasite.ledger, plan, published, yearly=yearly, part=part, accepted=accepted)
    except UnsupportedMechanism:
        return None


def _shared_noise(
    datasite: Datasite, record: CodeRequestRecord, actor: Actor, part: Part | None
) -> dict[str, Any] | None:
    """Both ε of a request's shared noise, and what it takes to accept the lesser one; None where none is shared."""
    shared = shared_of(record.plan.mechanism) if record.plan else None
    if shared is None or record.plan is None:
        return None
    acceptance = str(acceptance_of(record))
    case = datasite.decisions.case(record, actor, acceptance=acceptance)
    published = datasite.planner.published(version=record.version)
    cost = _cost_of(datasite, record.plan, published, part, True)
    assert cost is not None
    why_not = [f"{check.title}: {check.message}" for check in case.failed]
    if case.voters:
        why_not.append("Two people must agree on this request, and an acceptance is one person's word.")
    if not cost.fit.fits:
        why_not.append(f"It does not fit the budget: ε {cost.fit.short:.2f} too much.")
    return {
        **said_of(shared),
        "accepted": is_accepted(record),
        "acceptance": acceptance,
        "cap": case.rules.shared_noise_epsilon if case.rules else 0.0,
        "takes": cost.fit.spent_after - cost.fit.spent_before,
        "why_not": why_not,
    }


def _cost_sentence(cost: Cost) -> str:
    return risk.alone_and_together(cost.alone, cost.fit.spent_after - cost.fit.spent_before)


def _budget_dict(line: BudgetLine) -> dict[str, Any]:
    flat = asdict(line)
    return {**flat, **flat.pop("fit")}


def _decision_dict(case: Case) -> dict[str, Any]:
    """Who must agree, what the actor has to do, and the votes: before the decision the actor's own alone."""
    waits = case.record.status is RequestStatus.CHECKED
    return {
        "voters": [side.value for side in case.voters] if waits else [],
        "typed": case.needs_typing,
        "asked": may_decide(case),
        "voted": any(vote.side is case.side for vote in case.votes),
        "votes": [asdict(vote) for vote in case.votes if not waits or vote.side is case.side],
    }


def _project(datasite: Datasite, record: CodeRequestRecord) -> dict[str, Any] | None:
    project = datasite.ledger.projects.of(record.id)
    return None if project is None else asdict(project)


def _difference(datasite: Datasite, record: CodeRequestRecord) -> list[str]:
    """How the source differs from the one of this name that was approved before."""
    before = datasite.ledger.requests.last_approved(record.researcher, record.function, besides=record.id)
    if before is None:
        return []
    lines = difflib.unified_diff(
        before.source.splitlines(), record.source.splitlines(), before.id[:8], record.id[:8], lineterm=""
    )
    return list(lines) or ["(none)"]
