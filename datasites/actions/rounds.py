"""Rounds that run under approvals: listed, stopped one by one or all at once, and resumed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from datasites.actions.registry import action
from datasites.datasite import Datasite
from datasites.ledger.records import Run
from datasites.people.roles import CONSOLE, OWNER, Actor
from policies.errors import WrongStatus
from policies.source.statuses import RequestStatus

PAGE = 50


@action(CONSOLE)
def runs(datasite: Datasite, actor: Actor, *, limit: int = PAGE, offset: int = 0) -> dict[str, Any]:
    """Whether work is stopped, requests that may run now, and runs, newest first."""
    datasite.ledger.expire_due()
    count, page = datasite.ledger.runs.page(limit=limit, offset=offset)
    approved = datasite.ledger.requests.list(status=RequestStatus.APPROVED)
    return {
        "stopped": datasite.rounds.stopped.is_set(),
        "approved": [
            {
                "id": record.id,
                "function": record.function,
                "researcher": record.researcher,
                "dataset": record.dataset,
                "rounds": record.rounds,
                "attempts": record.attempts,
                "open_runs": record.open_runs,
                "expires_at": record.expires_at,
                "runs": [
                    {"round": run.round, "status": run.status.value} for run in datasite.ledger.runs.list(record.id)
                ],
            }
            for record in approved
        ],
        "count": count,
        "runs": [
            {
                "id": line.run.id,
                "request": line.run.request,
                "round": line.run.round,
                "rounds": line.rounds,
                "function": line.function,
                "researcher": line.researcher,
                "dataset": line.dataset,
                "status": line.run.status.value,
                "began": line.run.created_at,
                "ended": None if line.run.is_open else line.run.changed_at,
                "seconds": _seconds(line.run),
                "reason": line.run.reason or "",
                "ending": datasite.rounds.is_ending(line.run.id),
                "progress": datasite.rounds.progress(line.run.id),
            }
            for line in page
        ],
    }


def _seconds(run: Run) -> float | None:
    if run.is_open:
        return None
    return (datetime.fromisoformat(run.changed_at) - datetime.fromisoformat(run.created_at)).total_seconds()


@action(OWNER)
def stop_run(datasite: Datasite, actor: Actor, *, run: str) -> None:
    """End one run now. Its charge stays if it had begun to read; its request may still run other rounds."""
    record = datasite.ledger.runs.get(run)
    if not record.is_open:
        raise WrongStatus(f"Run {run[:8]} is {record.status}; there is nothing to stop.")
    datasite.rounds.stop_one(run)
    datasite.audit_log.record(actor.name, "stop run", run, request=record.request, round=record.round)


@action(OWNER)
def stop(datasite: Datasite, actor: Actor) -> dict[str, int]:
    """Stop everything at once; how many rounds that ended, and how many had ended by themselves."""
    stopped = datasite.rounds.stop()
    datasite.audit_log.record(actor.name, "stop", ended=stopped.ended, by_themselves=stopped.by_themselves)
    return {"ended": stopped.ended, "by_themselves": stopped.by_themselves}


@action(OWNER)
def resume(datasite: Datasite, actor: Actor) -> None:
    """Let work go on after a stop."""
    datasite.rounds.resume()
    datasite.audit_log.record(actor.name, "resume")
