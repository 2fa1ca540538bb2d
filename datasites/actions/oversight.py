"""More of what an owner can do, by name: runs one by one, what-if, policy, limits, accounts of the console, the log.

As in `datasites.actions.actions`, whose table these functions join.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from datasites.actions.privacy_audit import audit
from datasites.files import replace_private
from datasites.ledger.entries import NANO
from datasites.ledger.records import DatasetRecord, RequestStatus, RunStatus
from datasites.people import invitations
from datasites.review.policy import Rules
from datasites.review.review import published_from
from datasites.vault.mocks import draw_mock
from policies.errors import InvalidRequest, WrongStatus
from policies.privacy import accountant
from policies.release.plans import plan_from
from policies.schema.columns import Column, FloatArray
from policies.schema.schemas import FIRST_COLUMN, Schema

if TYPE_CHECKING:
    from datasites.datasite import Office

logger = logging.getLogger(__name__)
PAGE = 50
MOCK_ROWS_SHOWN = 8


# -- runs ------------------------------------------------------------------------------------------------------------


def runs(office: Office, actor: str, *, limit: int = PAGE, offset: int = 0) -> dict[str, Any]:
    """Whether work is stopped, requests that may run now, and runs, newest first."""
    office.ledger.expire_due()
    count, page = office.ledger.run_page(limit=limit, offset=offset)
    approved = office.ledger.list(status=RequestStatus.APPROVED)
    return {
        "stopped": office.runs.stopped.is_set(),
        "approved": [
            {
                "id": each.id,
                "function": each.function,
                "researcher": each.researcher,
                "dataset": each.dataset,
                "rounds": each.rounds,
                "attempts": each.attempts,
                "open_runs": each.open_runs,
                "expires_at": each.expires_at,
                "runs": [{"round": run.round, "status": run.status.value} for run in office.ledger.runs(each.id)],
            }
            for each in approved
        ],
        "count": count,
        "runs": [
            {
                "id": row["id"],
                "request": row["request"],
                "round": row["round"],
                "rounds": row["rounds"],
                "function": row["function"],
                "researcher": row["researcher"],
                "dataset": row["dataset"],
                "status": row["status"],
                "began": row["created_at"],
                "ended": row["changed_at"] if row["status"] not in ("reserved", "running") else None,
                "seconds": _seconds(row),
                "reason": row["reason"] or "",
                "ending": office.runs.is_ending(row["id"]),
                "progress": office.runs.progress(row["id"]),
            }
            for row in page
        ],
    }


def _seconds(row: dict[str, Any]) -> float | None:
    if row["status"] in ("reserved", "running"):
        return None
    began, ended = datetime.fromisoformat(row["created_at"]), datetime.fromisoformat(row["changed_at"])
    return (ended - began).total_seconds()


def stop_run(office: Office, actor: str, *, run: str) -> None:
    """End one run now. Its charge stays if it had begun to read; its request may still run other rounds."""
    found = office.ledger.run(run)
    if found.status not in (RunStatus.RESERVED, RunStatus.RUNNING):
        raise WrongStatus(f"Run {run[:8]} is {found.status}; there is nothing to stop.")
    office.runs.stop_one(run)
    office.audit.record(actor, "stop run", run, request=found.request, round=found.round)


# -- what-if ---------------------------------------------------------------------------------------------------------


def what_if(office: Office, actor: str, *, request: str) -> dict[str, Any]:
    """How many more requests like this one the budget of its population still holds, and ε after each of them."""
    record = office.review.find(request)
    if record.plan_json is None or record.population is None:
        raise InvalidRequest(f"Request {record.id[:8]} has no plan, so it has no cost to compare with.")
    plan = plan_from(json.loads(record.plan_json))
    balance = office.ledger.balance(record.population)
    total = accountant.charge_for(plan.mechanism, balance.order).divergence_nano * plan.rounds
    used = balance.spent_nano + balance.reserved_nano
    waiting = record.status in (RequestStatus.SUBMITTED, RequestStatus.CHECKED)
    fits = (balance.capacity_nano - used) // total
    conversion = round(balance.budget.epsilon * NANO) - balance.capacity_nano
    return {
        "request": record.id,
        "function": record.function,
        "population": record.population,
        "waiting": waiting,
        "fits": fits,
        "budget": balance.budget.epsilon,
        "now": balance.epsilon_spent + balance.epsilon_reserved,
        "after": [(used + total * many + conversion) / NANO for many in range(1, min(fits, 12) + 1)],
    }


# -- datasets --------------------------------------------------------------------------------------------------------


def dataset(office: Office, actor: str, *, version: str) -> dict[str, Any]:
    """One version of a dataset: its schema, as data and as the file, and rows of the mock that researchers see.

    A retired version's mock went with its table; then there are no rows.
    """
    record = office.ledger.dataset(version=version)
    schema = published_from(record).schema
    mock = _mock(office, record)
    return {
        "name": record.name,
        "version": record.version,
        "population": record.population,
        "patients": record.patients,
        "size_kind": record.size_kind,
        "status": record.status,
        "changed_at": record.changed_at,
        "schema": schema.as_dict(),
        "columns": [
            {
                "name": column.name,
                "kind": column.kind,
                "unit": column.unit,
                "range": ", ".join(column.labels) or f"{column.written(column.low)} to {column.written(column.high)}",
                "missing": "refused" if column.missing == "refuse" else f"read as {column.written(column.fill)}",
                "description": column.description,
                "target": column.name == schema.target,
                "feature": column.name in {name.partition("=")[0] for name in schema.feature_names},
            }
            for column in schema.columns
        ],
        "toml": schema.to_toml(),
        "mock": {
            "declared": mock is not None and not _is_drawn(schema, mock),
            "columns": [column.name for column in schema.columns],
            "rows": [
                [_mock_cell(column, value) for column, value in zip(schema.columns, row, strict=True)]
                for row in ([] if mock is None else mock[:MOCK_ROWS_SHOWN, FIRST_COLUMN:].tolist())
            ],
        },
    }


def _mock(office: Office, record: DatasetRecord) -> FloatArray | None:
    """The whole mock of a version as PySyft holds it; None where it is gone."""
    asset = json.loads(record.assets_json).get("records")
    if record.status != "published" or asset is None:
        return None
    try:
        return np.asarray(office.syft.mock(asset), dtype=np.float64)
    except Exception:  # PySyft's own; the page shows the schema all the same
        logger.warning("The mock of a dataset could not be read.", exc_info=True)
        return None


def _is_drawn(schema: Schema, mock: FloatArray) -> bool:
    """Whether a mock is the one that is drawn from the schema alone; else the owner declared a file public."""
    return bool(len(mock) >= 2 and np.array_equal(mock, draw_mock(schema, len(mock)), equal_nan=True))


def _mock_cell(column: Column, value: float) -> str:
    if not math.isfinite(value):
        return "missing"
    return f"{value:.4g}" if column.kind == "real" else column.written(value)


# -- policy ----------------------------------------------------------------------------------------------------------


def policy(office: Office, actor: str) -> dict[str, Any]:
    """The owner's policy as the file and as values; where the file cannot be read, `error` says why."""
    text = office.settings.policy_path.read_bytes().decode()  # with the ends of lines that the file has
    found: dict[str, Any] = {"text": text, "digest": _digest(text), "rules": None, "error": ""}
    try:
        found["rules"] = _plain(Rules.from_toml(text))
    except Exception as error:
        found["error"] = str(error)
    return found


def change_policy(office: Office, actor: str, *, text: str, digest: str) -> dict[str, Any]:
    """Replace the policy file where its rules can be read; answers what changed, which the log records.

    Args:
      digest: of the text that was read before; another means that somebody changed it meanwhile.

    Raises:
      WrongStatus: it was changed meanwhile.
      RuleBroken: the new text cannot be used; nothing was changed.
    """
    before = policy(office, actor)
    if before["digest"] != digest:
        raise WrongStatus("The policy was changed since you opened it. Look at it again, then change it.")
    new, old = _plain(Rules.from_toml(text)), before["rules"] or {}
    replace_private(office.settings.policy_path, text)
    changed = {name: {"from": old.get(name), "to": new[name]} for name in new if old.get(name) != new[name]}
    office.audit.record(actor, "change policy", "policy.toml", changed=changed, sha256=_digest(text))
    return {"changed": changed}


def _plain(rules: Rules) -> dict[str, Any]:
    return {**dataclasses.asdict(rules), "allowed_mechanisms": list(rules.allowed_mechanisms)}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# -- people ----------------------------------------------------------------------------------------------------------


def researcher_budgets(office: Office, actor: str, *, email: str) -> list[dict[str, Any]]:
    """What one researcher's releases have cost each population, and what is left for them."""
    limit = Rules.read(office.settings.policy_path).researcher_epsilon
    rows = []
    for name in office.ledger.populations():
        balance = office.ledger.researcher_balance(name, email, limit=limit)
        rows.append(
            {
                "population": name,
                "epsilon": balance.budget.epsilon,
                "epsilon_spent": balance.epsilon_spent,
                "epsilon_reserved": balance.epsilon_reserved,
                "epsilon_remaining": balance.epsilon_remaining,
            }
        )
    return rows


def limit_researcher(office: Office, actor: str, *, email: str, population: str, epsilon: float | None) -> None:
    """Limit the ε of one researcher's releases together in a population; None lifts the limit."""
    if email not in {each["email"] for each in office.syft.researchers()}:
        raise InvalidRequest(f"{email[:200]!r} is no researcher here. `datasite researchers list` shows them.")
    office.ledger.set_researcher_limit(population, email, epsilon, actor=actor)
    office.audit.record(actor, "limit researcher", email, population=population, epsilon=epsilon)


def console_users(office: Office, actor: str) -> list[dict[str, Any]]:
    """Accounts of the console: second reviewers and auditors."""
    names = ("email", "name", "role", "state")
    return [{name: each[name] for name in names} for each in office.accounts.users()]


def add_console_user(office: Office, actor: str, *, email: str, name: str, role: str, password: str) -> None:
    """A new second reviewer or auditor; never somebody who asks for releases as a researcher."""
    if email.strip().lower() in {each["email"].lower() for each in office.syft.researchers()}:
        raise InvalidRequest(f"{email} is a researcher here and cannot also review. Use another person.")
    office.accounts.add(email, name, role, password)
    office.audit.record(actor, "add console user", email.strip().lower(), role=role)


def disable_console_user(office: Office, actor: str, *, email: str) -> None:
    """Close an account of the console and end its sessions."""
    office.accounts.set_state(email, active=False)
    office.audit.record(actor, "disable console user", email.lower())


def enable_console_user(office: Office, actor: str, *, email: str) -> None:
    """Open a closed account of the console again."""
    office.accounts.set_state(email, active=True)
    office.audit.record(actor, "enable console user", email.lower())


def set_console_password(office: Office, actor: str, *, email: str, password: str) -> None:
    """A new password for an account of the console; its sessions end."""
    office.accounts.set_password(email, password)
    office.audit.record(actor, "set password", email.lower())


def sign_out(office: Office, actor: str, *, email: str) -> None:
    """End every session of an account of the console, or of the owner."""
    office.accounts.end_all(email or office.settings.owner_email)
    office.audit.record(actor, "sign out everywhere", email or office.settings.owner_email)


# -- the records -----------------------------------------------------------------------------------------------------


def entries(
    office: Office,
    actor: str,
    *,
    before: int | None = None,
    after: int = 0,
    limit: int = PAGE,
    population: str | None = None,
    newest_first: bool = True,
) -> list[dict[str, Any]]:
    """Entries of the ledger, a page of them."""
    from datasites.actions.actions import entry_as_dict

    found = office.ledger.entries(
        before=before, after=after, limit=limit, population=population, newest_first=newest_first
    )
    return [entry_as_dict(each) for each in found]


def spending(office: Office, actor: str, *, population: str, after: int = 0) -> list[dict[str, Any]]:
    """What was spent of a population's budget, by day, dataset and researcher."""
    return list(office.ledger.spending(population, after=after))


def search_log(
    office: Office,
    actor: str,
    *,
    search: str = "",
    before: int | None = None,
    after: int = 0,
    limit: int = PAGE,
    newest_first: bool = True,
) -> list[dict[str, Any]]:
    """Rows of the audit log that hold `search`, a page of them."""
    found = office.audit.entries(before=before, after=after, limit=limit, newest_first=newest_first, search=search)
    return [dataclasses.asdict(each) for each in found]


def verify_log(office: Office, actor: str) -> dict[str, Any]:
    """Recompute the audit log's chain."""
    head = office.audit.verify()
    return {"rows": head.seq, "head": head.hash}


def release_page(office: Office, actor: str, *, limit: int = PAGE, offset: int = 0) -> dict[str, Any]:
    """What left, newest first, a page of it."""
    count, rows = office.ledger.release_page(limit=limit, offset=offset)
    return {"count": count, "releases": list(rows)}


ACTIONS: dict[str, Callable[..., Any]] = {
    action.__name__: action
    for action in (
        runs,
        stop_run,
        what_if,
        dataset,
        policy,
        change_policy,
        researcher_budgets,
        limit_researcher,
        console_users,
        add_console_user,
        disable_console_user,
        enable_console_user,
        set_console_password,
        sign_out,
        entries,
        spending,
        search_log,
        verify_log,
        release_page,
        audit,
    )
} | invitations.ACTIONS
