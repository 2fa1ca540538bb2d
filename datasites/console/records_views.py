"""Runs and the ledger: what happens, and what it cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from markupsafe import Markup
from starlette.responses import Response, StreamingResponse

from datasites.console import charts, formats
from datasites.console.page_requests import PageRequest, download
from datasites.datasite import Datasite
from datasites.ledger.amounts import NOWHERE, Amount, Charged
from datasites.operations.exports import ENTRY_COLUMNS, as_csv, every_entry
from policies.errors import InvalidRequest
from policies.numbers import counted
from policies.privacy.nano import NANO
from policies.source.statuses import RequestStatus

PAGE = 50
SHOWN_DAYS, SHOWN_SHARES, SHOWN_STUDIES = 12, 10, 100


# -- runs ------------------------------------------------------------------------------------------------------------


def runs(visit: PageRequest) -> Response:
    """What may run, what runs, what ended and why."""
    page = visit.page_number()
    shown = visit.act("runs", limit=PAGE, offset=(page - 1) * PAGE)
    for request in shown["approved"]:
        latest = {run["round"]: run["status"] for run in request["runs"]}
        request["states"] = [latest.get(number, "open") for number in range(1, request["rounds"] + 1)]
        request["done"] = sum(state == "released" for state in request["states"])
    return visit.render(
        "runs.html",
        approved=shown["approved"],
        runs=shown["runs"],
        count=shown["count"],
        page=page,
        pages=max(1, -(-shown["count"] // PAGE)),
    )


def stop(visit: PageRequest) -> Response:
    """Stop everything at once."""
    done = visit.act("stop")
    return visit.go(
        "/runs",
        f"Stopped. Rounds ended by it, and not released: {done['ended']}. Rounds that had ended by themselves:"
        f" {done['by_themselves']}. Nothing runs until you resume.",
    )


def resume(visit: PageRequest) -> Response:
    """Let work go on."""
    visit.act("resume")
    return visit.go("/runs", "Work goes on.")


def stop_run(visit: PageRequest) -> Response:
    """End one run."""
    visit.act("stop_run", run=visit.path["run"])
    return visit.go("/runs", "The round is ended. It shows as failed at its public time, which tells nothing.")


# -- ledger ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Share:
    """What one dataset's or one researcher's releases have of all that was spent, 0 to 1."""

    name: str
    share: float


@dataclass(frozen=True)
class Spending:
    """What was spent of a population's budget: as a chart and as its newest days, and by whom."""

    chart: Markup
    table: tuple[tuple[date, float], ...]
    by: dict[str, tuple[Share, ...]]


@dataclass(frozen=True)
class Study:
    """A request that a what-if can be asked of."""

    id: str
    text: str


def ledger(visit: PageRequest) -> Response:
    """Balances, spending over time, what-if, and entries by the page."""
    datasite = visit.datasite
    names = datasite.ledger.budgets.populations()
    chosen = visit.query("population")
    chosen = chosen if chosen in names else (names[0] if names else "")
    head = datasite.ledger.entries.head()
    before = visit.whole("before")
    first = head.seq + 1 if before is None else before
    entries = visit.act("entries", before=min(first, head.seq + 1), limit=PAGE, population=chosen or None)
    balances = visit.act("datasets")["populations"]
    return visit.render(
        "ledger.html",
        balances=balances,
        chosen=chosen,
        balance=next((balance for balance in balances if balance["population"] == chosen), None),
        promise=datasite.ledger.budgets.balance(chosen).promise if chosen else None,
        spending=_spending(visit, chosen) if chosen else None,
        entries=_with_spent(datasite, chosen, entries) if chosen else [],
        own={request.id for request in datasite.ledger.requests.list(by_owner=True)},
        older=entries[-1]["seq"] if len(entries) == PAGE else None,
        newest=first > head.seq,
        head=head,
        studies=_studies(visit, chosen),
        what_if=_what_if(visit),
        asked=visit.query("like"),
    )


def _with_spent(datasite: Datasite, population: str, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries of a population, newest first, each that spends with the ε that was spent by then."""
    if not entries:
        return []
    budgets = datasite.ledger.budgets
    conversion = budgets.balance(population).conversion_nano
    amounts = budgets.spent_by_then(population, entries[-1]["seq"], entries[0]["seq"])
    spent = {seq: amount.epsilon_nano(conversion) / NANO for seq, amount in amounts.items()}
    return [{**entry, "spent": spent.get(entry["seq"])} for entry in entries]


def _spending(visit: PageRequest, population: str) -> Spending:
    """ε over time for the chart, and sums by dataset and by researcher, each as if it alone had been released."""
    balance = visit.datasite.ledger.budgets.balance(population)
    total = NOWHERE
    by_day: dict[date, float] = {}
    shares: dict[str, dict[str, Charged]] = {"dataset": {}, "researcher": {}}
    for row in visit.act("spending", population=population):
        amount = Charged(Amount(**row["training"]), Amount(**row["held_out"]))
        total = total + amount
        by_day[date.fromisoformat(row["day"])] = total.epsilon_nano(balance.conversion_nano) / NANO
        for by, sums in shares.items():
            name = row[by] or "lost with a copy"
            sums[name] = sums.get(name, NOWHERE) + amount
    days = tuple(by_day.items())
    today = datetime.now(UTC).date()
    spent = formats.figure(balance.epsilon_spent)
    label = f"ε spent over time, up to today: {spent} of a budget of {formats.exact(balance.budget.epsilon)}."
    return Spending(
        chart=charts.spending(days, balance.budget.epsilon, label, today=today),
        table=days[-SHOWN_DAYS:],
        by={by: _shares(sums, total) for by, sums in shares.items()},
    )


def _shares(sums: dict[str, Charged], total: Charged) -> tuple[Share, ...]:
    whole = max(1, sum(account.divergence_nano for account in total.accounts))
    parts = [
        Share(name, sum(account.divergence_nano for account in charged.accounts) / whole)
        for name, charged in sums.items()
    ]
    return tuple(sorted(parts, key=lambda part: part.share, reverse=True)[:SHOWN_SHARES])


def _studies(visit: PageRequest, population: str) -> list[Study]:
    """Requests that a what-if can be asked of: with a plan, of this population, newest first."""
    asked = [
        request
        for request in reversed(visit.datasite.ledger.requests.list())
        if request.plan_json and request.population == population and request.status is not RequestStatus.SUBMITTED
    ]
    return [
        Study(request.id, f"{request.function} ({request.researcher}, {request.id[:8]})")
        for request in asked[:SHOWN_STUDIES]
    ]


def _what_if(visit: PageRequest) -> dict[str, Any] | None:
    like = visit.query("like")
    answer: dict[str, Any] | None = visit.act("what_if", request=like) if like else None
    return answer


def verify(visit: PageRequest) -> Response:
    """Recompute chains and totals."""
    done = visit.act("verify_ledger")
    return visit.go(
        "/ledger",
        f"The ledger verifies: {counted(done['entries'], 'entry', 'entries')}, all totals agree."
        f" Head {done['head'][:16]}…",
    )


def raise_budget(visit: PageRequest) -> Response:
    """Raise a population's ε, its name typed."""
    name, epsilon = visit.form.text("population"), visit.form.number("epsilon", "New ε")
    if visit.form.text("typed") != name:
        raise InvalidRequest(f"Type the name of the population, {name[:80]}, to raise its budget.")
    if epsilon is None:
        raise InvalidRequest("Write the new ε in total.")
    done = visit.act("raise_budget", population=name, epsilon=epsilon)
    return visit.go(
        "/ledger",
        f"The budget of {name} is now ε {formats.exact(done['epsilon'])} at δ {formats.exact(done['delta'])}.",
    )


# -- exports ---------------------------------------------------------------------------------------------------------


def export_csv(visit: PageRequest) -> Response:
    """Every entry as CSV."""
    visit.datasite.audit_log.record(visit.actor.name, "export", "ledger", form="csv")
    return StreamingResponse(
        as_csv(every_entry(visit.act), ENTRY_COLUMNS), media_type="text/csv", headers=download("ledger.csv")
    )


def export_json(visit: PageRequest) -> Response:
    """Every entry as JSON, with the balances and the head that verifies it."""
    visit.datasite.audit_log.record(visit.actor.name, "export", "ledger", form="json")

    def parts() -> Iterator[str]:
        head = visit.datasite.ledger.entries.head()
        top = {
            "datasite": visit.datasite.settings.name,
            "head": {"seq": head.seq, "hash": head.hash},
            "balances": visit.act("datasets")["populations"],
        }
        yield json.dumps(top, ensure_ascii=False)[:-1] + ', "entries": [\n'
        for index, entry in enumerate(every_entry(visit.act)):
            yield (",\n" if index else "") + json.dumps(entry, ensure_ascii=False)
        yield "\n]}\n"

    return StreamingResponse(parts(), media_type="application/json", headers=download("ledger.json"))
