"""Runs, releases and the ledger: what happens, what left, and what it cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from typing import Any

from starlette.responses import Response, StreamingResponse

from datasites.console import charts, wording
from datasites.console.page_requests import PageRequest
from datasites.ledger.amounts import Amount
from datasites.operations.exports import ENTRY_COLUMNS, as_csv, every_entry
from policies.errors import InvalidRequest
from policies.privacy.nano import NANO
from policies.source.statuses import RequestStatus

PAGE = 50


# -- runs ------------------------------------------------------------------------------------------------------------


def runs(visit: PageRequest) -> Response:
    """What may run, what runs, what ended and why."""
    page = visit.page_number()
    found = visit.act("runs", limit=PAGE, offset=(page - 1) * PAGE)
    for each in found["approved"]:
        latest = {run["round"]: run["status"] for run in each["runs"]}
        each["states"] = [latest.get(number, "open") for number in range(1, each["rounds"] + 1)]
        each["done"] = sum(state == "released" for state in each["states"])
    return visit.render(
        "runs.html",
        approved=found["approved"],
        runs=found["runs"],
        count=found["count"],
        page=page,
        pages=max(1, -(-found["count"] // PAGE)),
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


# -- releases --------------------------------------------------------------------------------------------------------


def releases(visit: PageRequest) -> Response:
    """What left, to whom, and its certificate."""
    page = visit.page_number()
    found = visit.act("release_page", limit=PAGE, offset=(page - 1) * PAGE)
    rows = [{**each, **_certified(visit, each)} for each in found["releases"]]
    return visit.render(
        "releases.html", rows=rows, count=found["count"], page=page, pages=max(1, -(-found["count"] // PAGE))
    )


def _certified(visit: PageRequest, row: dict[str, Any]) -> dict[str, Any]:
    """What a release's certificate says of its cost and its content."""
    stored = visit.datasite.ledger.runs.release(row["request"], row["round"])
    if stored is None or not stored.certificate:
        return {"certificate": False, "spent": None, "tensors": []}
    said = json.loads(stored.certificate)
    tensors = [f"{name} {shape}" for name, _, shape in said["release"]["tensors"]]
    return {"certificate": True, "spent": said["budget"]["spent"], "tensors": tensors}


def certificate(visit: PageRequest) -> Response:
    """Download the certificate of one release."""
    text = visit.act("certificate", request=visit.path["id"], round_number=visit.path["round"])
    name = f"certificate-{visit.path['id'][:8]}-round-{visit.path['round']}.json"
    return Response(text, media_type="application/json", headers=download(name))


# -- ledger ----------------------------------------------------------------------------------------------------------


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
        balance=next((each for each in balances if each["population"] == chosen), None),
        spending=_spending(visit, chosen) if chosen else None,
        entries=[{**each, "epsilon": _entry_text(each)} for each in entries],
        own={each.id for each in datasite.ledger.requests.list(by_owner=True)},
        older=entries[-1]["seq"] if len(entries) == PAGE else None,
        newest=first > head.seq,
        head=head,
        studies=_studies(visit, chosen),
        what_if=_what_if(visit),
        asked=visit.query("like"),
    )


def _entry_text(entry: dict[str, Any]) -> str:
    return f"{entry['divergence']:.4f}" if entry["divergence"] else ""


def _spending(visit: PageRequest, population: str) -> dict[str, Any]:
    """ε over time for the chart, and sums by dataset and by researcher, each as if it alone had been released."""
    balance = visit.datasite.ledger.budgets.balance(population)
    conversion = round(balance.budget.epsilon * NANO) - balance.capacity_nano
    total, points = Amount(), []
    shares: dict[str, dict[str, Amount]] = {"dataset": {}, "researcher": {}}
    for row in visit.act("spending", population=population):
        amount = Amount(row["divergence_nano"], row["pure_nano"], row["mixed"], row["delta_atto"])
        total = total + amount
        points.append((date.fromisoformat(row["day"]), total.epsilon_nano(conversion) / NANO))
        for by in ("dataset", "researcher"):
            name = row[by] or "lost with a copy"
            shares[by][name] = shares[by].get(name, Amount()) + amount
    label = f"ε spent over time: {wording.figure(balance.epsilon_spent)} of a budget of {balance.budget.epsilon:g}."
    by_day = list({day: (day, spent) for day, spent in points}.values())
    return {
        "chart": charts.spending(by_day, balance.budget.epsilon, label),
        "table": by_day[-12:],
        "by": {by: _shares(found, total) for by, found in shares.items()},
    }


def _shares(found: dict[str, Amount], total: Amount) -> list[dict[str, Any]]:
    whole = max(1, total.divergence_nano)
    rows: list[dict[str, Any]] = [
        {"name": name, "share": amount.divergence_nano / whole} for name, amount in found.items()
    ]
    return sorted(rows, key=lambda each: each["share"], reverse=True)[:10]


def _studies(visit: PageRequest, population: str) -> list[dict[str, str]]:
    """Requests that a what-if can be asked of: with a plan, of this population, newest first."""
    found = [
        each
        for each in reversed(visit.datasite.ledger.requests.list())
        if each.plan_json and each.population == population and each.status is not RequestStatus.SUBMITTED
    ]
    return [{"id": each.id, "text": f"{each.function} ({each.researcher}, {each.id[:8]})"} for each in found[:100]]


def _what_if(visit: PageRequest) -> dict[str, Any] | None:
    like = visit.query("like")
    found: dict[str, Any] | None = visit.act("what_if", request=like) if like else None
    return found


def verify(visit: PageRequest) -> Response:
    """Recompute chains and totals."""
    done = visit.act("verify_ledger")
    return visit.go(
        "/ledger", f"The ledger verifies: {done['entries']:,} entries, all totals agree. Head {done['head'][:16]}…"
    )


def raise_budget(visit: PageRequest) -> Response:
    """Raise a population's ε, its name typed."""
    name, epsilon = visit.form.text("population"), visit.form.number("epsilon", "New ε")
    if visit.form.text("typed") != name:
        raise InvalidRequest(f"Type the name of the population, {name[:80]}, to raise its budget.")
    if epsilon is None:
        raise InvalidRequest("Write the new ε in total.")
    done = visit.act("raise_budget", population=name, epsilon=epsilon)
    return visit.go("/ledger", f"The budget of {name} is now ε {done['epsilon']:g} at δ {done['delta']:g}.")


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


def download(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}
