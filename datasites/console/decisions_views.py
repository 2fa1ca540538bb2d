"""The inbox, and the page on which a request is read and decided."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from starlette.responses import RedirectResponse, Response

from datasites.actions.requests import part_of
from datasites.console import formats, source, wording
from datasites.console.page_requests import PageRequest
from datasites.ledger.amounts import NOWHERE, Balance, Charged
from datasites.ledger.records import CodeRequestRecord, parsed_plan
from datasites.ledger.requests import OPEN
from datasites.people.roles import DECIDERS
from datasites.review.decisions import SIDES
from policies.errors import DatasiteError, InvalidRequest, UnsupportedMechanism
from policies.privacy import accountant, risk
from policies.privacy.mechanisms import Gaussian
from policies.privacy.sharing import shared_of
from policies.source.statuses import RequestStatus

PAGE = 50
AFTER = "After this request"  # not shown where it does not fit: it can never come to that
GROUPS = {
    "open": (RequestStatus.CHECKED, RequestStatus.SUBMITTED, RequestStatus.APPROVED),
    "waiting": (RequestStatus.CHECKED,),
    "approved": (RequestStatus.APPROVED,),
    "closed": tuple(
        status
        for status in RequestStatus
        if status not in (RequestStatus.CHECKED, RequestStatus.SUBMITTED, RequestStatus.APPROVED)
    ),
    "all": tuple(RequestStatus),
}


def home(visit: PageRequest) -> Response:
    """The first page is the inbox."""
    return RedirectResponse("/requests", 303)


def inbox(visit: PageRequest) -> Response:
    """Requests, those that wait first, oldest of them on top; filtered and searched."""
    visit.datasite.ledger.expire_due()
    group = visit.query("show", "all")
    statuses = GROUPS.get(group, GROUPS["all"])
    wanted = {name: visit.query(name) for name in ("dataset", "kind", "q")}
    everything = visit.datasite.ledger.requests.list()
    matching = [record for record in everything if record.status in statuses and _matches(record, wanted)]
    waiting = [record for record in matching if record.status is RequestStatus.CHECKED]
    others = [record for record in reversed(matching) if record.status is not RequestStatus.CHECKED]
    ordered, page = waiting + others, visit.page_number()
    shown = ordered[(page - 1) * PAGE : page * PAGE]
    return visit.render(
        "inbox.html",
        rows=[_row(visit, record) for record in shown],
        total=len(ordered),
        everything=len(everything),
        page=page,
        pages=max(1, -(-len(ordered) // PAGE)),
        show=group if group in GROUPS else "all",
        wanted=wanted,
        datasets=sorted({record.dataset for record in everything}),
        kinds=wording.KINDS,
    )


def _matches(record: CodeRequestRecord, wanted: dict[str, str]) -> bool:
    if wanted["dataset"] and record.dataset != wanted["dataset"]:
        return False
    if wanted["kind"] and _facts(record.plan_json).kind != wanted["kind"]:
        return False
    text = "\n".join((record.id, record.function, record.researcher, record.dataset, record.purpose)).lower()
    return all(word in text for word in wanted["q"].lower().split())


@dataclass(frozen=True)
class Facts:
    """Of a plan, which never changes: kind, rounds and ε as declared."""

    kind: str | None = None
    rounds: int = 0
    epsilon: float | None = None


@lru_cache(maxsize=4096)
def _facts(plan_json: str | None) -> Facts:
    if plan_json is None:
        return Facts()
    plan = parsed_plan(plan_json)
    delta = plan.mechanism.delta if isinstance(plan.mechanism, Gaussian) else 1e-5
    return Facts(
        kind=plan.mechanism.kind,
        rounds=plan.rounds,
        epsilon=accountant.epsilon_of(plan.mechanism, delta),
    )


@dataclass(frozen=True)
class InboxRow:
    """One line of the inbox.

    Args:
      share: of what is left of the budget that it would take, where it waits; above 1 it does not fit.
      troubles: checks that fail where it waits, findings where it was denied.
      voted: whether this side has voted already.
    """

    record: CodeRequestRecord
    state: tuple[str, str]
    facts: Facts
    share: float | None = None
    troubles: int = 0
    voted: bool = False


def _row(visit: PageRequest, record: CodeRequestRecord) -> InboxRow:
    row = InboxRow(record, wording.status(record.status), _facts(record.plan_json))
    if record.status is RequestStatus.CHECKED and record.population and record.plan_json:
        balance = _balance(visit, record)
        side = SIDES.get(visit.actor.role)
        return replace(
            row,
            share=_share(record, balance),
            troubles=_failed_checks(visit, record),
            voted=any(vote.side is side for vote in visit.datasite.ledger.requests.votes(record.id)),
        )
    if record.status is RequestStatus.DENIED:
        return replace(row, troubles=len(record.findings))
    return row


@lru_cache(maxsize=4096)
def _charge(plan_json: str, order: int) -> accountant.Charge:
    return accountant.charge_for(parsed_plan(plan_json).mechanism, order)


def _asked(record: CodeRequestRecord, balance: Balance) -> Charged:
    """What all rounds of a request that has a plan would be charged."""
    assert record.plan is not None
    return balance.charged(_charge(str(record.plan_json), balance.order), record.plan.rounds)


def _balance(visit: PageRequest, record: CodeRequestRecord) -> Balance:
    """The balance of a request's population as the request has it: with what is reserved for its project."""
    part = part_of(visit.datasite, record)
    return visit.datasite.ledger.budgets.standing(str(record.population)).balance_for(part.id if part else None)


def _share(record: CodeRequestRecord, balance: Balance) -> float:
    """Of what is left, the share that a request would take; of one that an earlier version let in, more than all."""
    try:
        return balance.share_of(_asked(record, balance))
    except UnsupportedMechanism:
        return 2.0


def _failed_checks(visit: PageRequest, record: CodeRequestRecord) -> int:
    try:
        return len(visit.datasite.decisions.case(record, visit.actor).failed)
    except DatasiteError:
        return 1


# -- one request -------------------------------------------------------------------------------------------------------


def request_page(visit: PageRequest) -> Response:
    """Everything that a decision needs, and the decision."""
    seen = visit.act("show", request=visit.path["id"])
    if seen["id"] != visit.path["id"]:
        return RedirectResponse(f"/requests/{seen['id']}", 303)
    record = visit.datasite.ledger.requests.get(seen["id"])
    balance = _balance(visit, record)
    cost = seen["cost"]
    return visit.render(
        "request.html",
        seen=seen,
        person=_person(visit, record.researcher),
        state=wording.status(record.status),
        status_name=record.status.value,
        mechanism=_facts(record.plan_json),
        lines=source.lines(record.source, seen["findings"]),
        loose=[finding for finding in seen["findings"] if not finding["line"]],
        difference=source.difference(seen["difference"]),
        risks=_risks(record, balance, fits=cost["fits"]) if cost else [],
        caveats=risk.CAVEATS,
        delta=balance.budget.delta,
        blocked=_blocked(visit, seen),
        may_decide=seen["decision"]["asked"],
        may_revoke=visit.is_owner and record.status is RequestStatus.APPROVED,
        denials=wording.DENIALS,
        runs=[{**run, "text": wording.run_status(run["status"])} for run in seen["rounds"]],
        can_comment=_decides(visit) and record.status in OPEN,
        can_try=_decides(visit),
        open_projects=[project for project in visit.act("projects") if not project["ended"]],
        largest=visit.datasite.settings.attachment_mib,
        releases={release.round for release in visit.datasite.ledger.runs.releases(record.id)},
        approved=record.charge is not None,
        record=record,
    )


def _decides(visit: PageRequest) -> bool:
    return visit.session is not None and visit.session.role in DECIDERS


@dataclass(frozen=True)
class Person:
    """Who asks, as their account says; both are empty where the account is gone."""

    name: str = ""
    institution: str = ""


def _person(visit: PageRequest, email: str) -> Person:
    for account in visit.act("researchers"):
        if account["email"].lower() == email.lower():
            return Person(account["name"], account["institution"])
    return Person()


@dataclass(frozen=True)
class Risk:
    """What could be learnt from some releases: how sure somebody becomes of a patient's presence, and of a record."""

    title: str
    loss: risk.PrivacyLoss
    note: str

    @property
    def member(self) -> str:
        return formats.belief(self.loss.membership)

    @property
    def member_share(self) -> float:
        return formats.belief_share(self.loss.membership)

    @property
    def record(self) -> str:
        return formats.belief(self.loss.record)

    @property
    def record_share(self) -> float:
        return formats.belief_share(self.loss.record)


def _risks(record: CodeRequestRecord, balance: Balance, *, fits: bool) -> list[Risk]:
    """Of this request, of what was released, of both where they fit, and of all that may ever be."""
    assert record.plan is not None
    waits = record.status in (RequestStatus.SUBMITTED, RequestStatus.CHECKED)
    asked = _asked(record, balance) if waits else NOWHERE
    alone = risk.loss_of(record.plan.mechanism, balance.budget.delta)
    rows = [
        Risk("This request", alone, "taken alone"),
        *_trusting(record, balance.budget.delta),
        Risk("Released so far", balance.loss_of(balance.spent), "everything that left about these patients"),
        Risk(AFTER, balance.loss_of(balance.used + asked), "with all that is approved and this one"),
        Risk("At most, ever", balance.promise, "the budget promised to these patients"),
    ]
    return [row for row in rows if fits or row.title != AFTER]


def _trusting(record: CodeRequestRecord, delta: float) -> list[Risk]:
    """Of a request whose noise is shared, while the hospitals that it trusts keep their word."""
    assert record.plan is not None
    if shared_of(record.plan.mechanism) is None:
        return []
    assumed = risk.loss_of(record.plan.mechanism, delta, accepted=True)
    return [Risk("This request, with trust", assumed, "while its hospitals keep their word")]


def _blocked(visit: PageRequest, seen: dict[str, Any]) -> list[str]:
    """Why it cannot be approved as things are; empty where it can."""
    why = [f"{check['title']}: {check['message']}" for check in seen["checks"] if not check["passed"]]
    if seen["plan"] and not seen["cost"]:
        why.append("It cannot be charged: its ε is too small for the noise that it would get. Deny it.")
    for budget in seen["budgets"]:
        if not budget["fits"]:
            whose = wording.budget_of(budget["whose"], budget["name"])
            why.append(f"It does not fit {whose}: ε {formats.figure(budget['short'])} too much.")
    return why


def try_request(visit: PageRequest) -> Response:
    """Run the request on the mock; the page shows by itself what came of it."""
    visit.act("try_request", request=visit.path["id"], wait=False)
    return visit.go(f"/requests/{visit.path['id']}")


def approve(visit: PageRequest) -> Response:
    """Approve, or vote; with the shared noise accepted, where the form says which sentence was."""
    digest = visit.form.text("plan_digest")
    if not digest:
        raise InvalidRequest("The form does not say which plan was read. Read the request and decide again.")
    accepting = {"acceptance": accepted} if (accepted := visit.form.text("acceptance")) else {}
    done = visit.act(
        "approve", request=visit.path["id"], plan_digest=digest, typed=visit.form.text("typed"), **accepting
    )
    return visit.go(f"/requests/{visit.path['id']}", done)


def deny(visit: PageRequest) -> Response:
    """Deny with a template, words of one's own, or both."""
    templates = dict(wording.DENIALS)
    parts = [templates.get(visit.form.text("template"), ""), visit.form.text("reason")]
    reason = " ".join(part for part in parts if part)[:4000]
    if not reason:
        raise InvalidRequest("Choose a reason or write one: the researcher reads it.")
    visit.act("deny", request=visit.path["id"], reason=reason)
    return visit.go(f"/requests/{visit.path['id']}", "Denied. The researcher sees the reason.")


def ask_changes(visit: PageRequest) -> Response:
    """Ask for changes; the comment reaches the researcher's `study.status()`."""
    comment = visit.form.text("comment")[:4000]
    if not comment:
        raise InvalidRequest("Write what should change: the researcher reads it.")
    visit.act("ask_changes", request=visit.path["id"], comment=comment)
    return visit.go(f"/requests/{visit.path['id']}", "Asked for changes. The researcher sees your comment.")


def revoke(visit: PageRequest) -> Response:
    """Revoke an approval."""
    reason = visit.form.text("reason")[:4000] or "Revoked by the owner."
    visit.act("revoke", request=visit.path["id"], reason=reason)
    return visit.go(f"/requests/{visit.path['id']}", "Revoked. Nothing more runs; what no run touched is given back.")
