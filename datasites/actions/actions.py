"""What an owner can do, by name: the same functions for the command line, the control socket and the console.

Each takes the office, who acts, and plain arguments, and answers plain data. Each change is in the audit log.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasites.actions import oversight
from datasites.datasite import balance_dict
from datasites.directory import new_signing_key, population_secret
from datasites.files import replace_private, write_private
from datasites.ledger.entries import NANO, Entry
from datasites.ledger.records import DatasetRecord, RequestStatus, Side
from datasites.operations import restore
from datasites.operations.backup import write_backup
from datasites.review.review import overview
from policies.errors import (
    DataRefused,
    DatasiteError,
    InvalidRequest,
    PermissionRefused,
    RuleBroken,
    Unavailable,
    WrongStatus,
)
from policies.privacy import accountant
from policies.privacy.budget import PrivacyBudget
from policies.privacy.mechanisms import Query, Statistics, as_dict
from policies.release.plans import Plan, Published, canonical, plan_from
from policies.schema.schemas import Schema

if TYPE_CHECKING:
    from datasites.datasite import Office

MOCK_ROWS = 200
SHOWN_ENTRIES = 50


# -- datasets --------------------------------------------------------------------------------------------------------


def publish(
    office: Office,
    actor: str,
    *,
    table: str | None,
    sql: str | None,
    database: str | None,
    password_file: str | None,
    schema: str,
    patients: int | None,
    count_epsilon: float | None,
    budget: list[float],
    public_mock: str | None,
) -> dict[str, Any]:
    """Check a table against its schema and publish it, all or nothing: private tensor, mock and public size.

    Raises:
      DataRefused: the schema or rows of the table; nothing was published.
      BudgetExceeded: the DP count does not fit; nothing was published.
    """
    from datasites.vault.encoding import SqlQuery, encode, read_table, unused_columns
    from datasites.vault.mocks import draw_mock
    from datasites.vault.mocks import public_mock as read_mock

    declared = Schema.from_toml(schema)
    _check_stays(office, declared)
    _check_size(patients, count_epsilon)
    source: Path | SqlQuery = (
        Path(table) if table else SqlQuery(str(sql), str(database), Path(password_file) if password_file else None)
    )
    frame = read_table(source)
    matrix = encode(frame, declared, population_secret=population_secret(office.settings.directory))
    mock = read_mock(Path(public_mock), declared) if public_mock else draw_mock(declared, MOCK_ROWS)
    notes = [
        f"Column {name!r} of the table is not in the schema and was left out."
        for name in unused_columns(frame, declared)
    ]
    _ensure_population(office, declared.population, PrivacyBudget(*budget), actor)
    version = secrets.token_hex(8)
    record = DatasetRecord(
        name=declared.name,
        version=version,
        population=declared.population,
        schema_json=canonical(declared.as_dict()).decode(),
        patients=patients and _two_digits(patients),
        size_kind="declared" if patients else "dp-count",
    )
    record = office.ledger.stage_dataset(record)
    try:
        asset = office.syft.upload(f"{declared.name} {version}", declared.description, matrix, mock)
        if count_epsilon is not None:
            record = _with_count(office, record, declared, matrix, count_epsilon, actor)
        record = dataclasses.replace(record, assets_json=json.dumps({"records": asset}))
        office.ledger.publish_dataset(record, actor=actor)
    finally:
        office.forget_tables()  # of the version before this one, or of this one where it failed
    office.audit.record(actor, "publish", declared.name, version=version, size_kind=record.size_kind)
    return {
        "name": record.name,
        "version": version,
        "population": record.population,
        "patients": record.patients,
        "size_kind": record.size_kind,
        "budget": balance_dict(office.ledger, record.population),
        "notes": notes,
    }


def _check_stays(office: Office, schema: Schema) -> None:
    """Refuse a published name under another population, before anything is stored or charged there."""
    for each in office.ledger.datasets():
        if each.name == schema.name and each.population != schema.population:
            raise WrongStatus(
                f"{schema.name!r} is published of population {each.population!r}, whose budget it stays on, and this"
                f" schema says {schema.population!r}. Use that population, or another name."
            )


def _check_size(patients: int | None, count_epsilon: float | None) -> None:
    if (patients is None) == (count_epsilon is None):
        raise DataRefused(
            "Say how the number of patients is published: --patients N (declared, rounded to two digits) or"
            " --count-epsilon 0.1 (a differentially private count, charged)."
        )
    if patients is not None and patients < 1:
        raise DataRefused(f"patients={patients} is below 1. Give the number of patients, rounded.")


def _two_digits(number: int) -> int:
    """A number rounded to its two leading digits: a declared size is never exact."""
    step = 10 ** max(0, len(str(number)) - 2)
    return max(1, int(round(number / step) * step))


def _ensure_population(office: Office, name: str, budget: PrivacyBudget, actor: str) -> None:
    if name not in office.ledger.populations():
        office.ledger.create_population(name, budget, actor=actor)
        office.audit.record(actor, "create population", name, epsilon=budget.epsilon, delta=budget.delta)


def _with_count(
    office: Office, record: DatasetRecord, schema: Schema, matrix: Any, epsilon: float, actor: str
) -> DatasetRecord:
    """The record with its DP count: reserve, run in the runner, settle, certify, like any release."""
    from datasites.review.rounds import sealed

    mechanism = Statistics(queries=(Query("count"),), epsilon=epsilon)
    plan = Plan(
        function="published_patients",
        mechanism=mechanism,
        model=None,
        graph=None,
        source_sha256=hashlib.sha256(b"").hexdigest(),
        dataset=record.name,
        version=record.version,
        declared=mechanism,
    )
    charge = accountant.charge_for(mechanism, office.ledger.balance(record.population).order)
    run = office.ledger.charge_now(
        record.population, charge, dataset=record.name, version=record.version, actor=actor, what=plan.function
    )
    job = {"job": "statistics", "mechanism": as_dict(mechanism), "schema": schema.as_dict()}
    try:
        answer = office.pool.run("runner", job, seconds=300, memory=8 << 30, rows=sealed(matrix))
        published = Published(record.name, record.version, record.population, schema, 0, "dp-count")
        tensors = office.runs.settle(run, plan, published, actor, answer)
    except DatasiteError as error:
        office.ledger.fail_run(run.id, str(error))
        raise
    return dataclasses.replace(record, patients=max(1, round(float(tensors["count"][0]))))


def datasets(office: Office, actor: str) -> dict[str, Any]:
    """Published and retired datasets, and the budgets of their populations."""
    records = [each for each in office.ledger.datasets(status=None) if each.status != "staged"]
    names = ("name", "version", "population", "patients", "size_kind", "status")
    return {
        "datasets": [{name: getattr(each, name) for name in names} for each in records],
        "populations": [balance_dict(office.ledger, name) for name in office.ledger.populations()],
    }


def retire(office: Office, actor: str, *, name: str) -> None:
    """Take a dataset back; its population's ledger keeps every charge."""
    office.ledger.retire_dataset(office.ledger.dataset(name=name).version, actor=actor)
    office.forget_tables()
    office.audit.record(actor, "retire", name)


def raise_budget(office: Office, actor: str, *, population: str, epsilon: float) -> dict[str, float]:
    """Raise a population's ε; answers the new total, which is the promise from now on."""
    delta = office.ledger.balance(population).budget.delta
    budget = office.ledger.raise_budget(population, PrivacyBudget(epsilon, delta), actor=actor)
    office.audit.record(actor, "raise budget", population, epsilon=epsilon)
    return {"epsilon": budget.epsilon, "delta": budget.delta}


# -- people ----------------------------------------------------------------------------------------------------------


def add_researcher(office: Office, actor: str, *, email: str, name: str, institution: str, password: str) -> None:
    """Make a researcher's account."""
    if "@" not in email or len(email) > 200:
        raise InvalidRequest(f"{email!r} is not an e-mail address.")
    if office.accounts.user(email) is not None:
        raise InvalidRequest(f"{email} reviews or audits here and cannot also ask. Use another person.")
    office.syft.add_researcher(email.lower(), name, password, institution)
    office.audit.record(actor, "add researcher", email.lower())


def researchers(office: Office, actor: str) -> list[dict[str, str]]:
    """Accounts of researchers and their states."""
    return office.syft.researchers()


def disable_researcher(office: Office, actor: str, *, email: str) -> None:
    """Close an account at once."""
    office.syft.disable_researcher(email)
    office.audit.record(actor, "disable researcher", email)


def enable_researcher(office: Office, actor: str, *, email: str) -> None:
    """Open a closed account again."""
    office.syft.enable_researcher(email)
    office.audit.record(actor, "enable researcher", email)


def set_password(office: Office, actor: str, *, email: str, password: str) -> None:
    """A new password for an account, the owner's by default."""
    office.syft.set_password(email or office.settings.owner_email, password)
    office.accounts.end_all(email or office.settings.owner_email)
    office.audit.record(actor, "set password", email or office.settings.owner_email)


# -- requests --------------------------------------------------------------------------------------------------------


def requests(office: Office, actor: str, *, status: str | None = None) -> list[dict[str, Any]]:
    """Requests, those that wait for the owner first, newest first within."""
    if status is not None and status not in set(RequestStatus):
        raise InvalidRequest(f"status={status!r} is not known. Use one of {', '.join(RequestStatus)}.")
    office.ledger.expire_due()
    found = list(reversed(office.ledger.list(status=status)))
    found.sort(key=lambda each: each.status is not RequestStatus.CHECKED)
    return [overview(each, plan_from(json.loads(each.plan_json)) if each.plan_json else None) for each in found]


class SecondReviewer(str):
    """Who acts as second reviewer: made by the console, of a session. Every other name is on the owner's side."""


class Auditor(str):
    """Who reads in the console, and votes on no side."""


def side_of(actor: str) -> Side | None:
    """Whose vote `actor` casts, None for auditors. What comes by the control socket is a plain string: the owner's."""
    if isinstance(actor, Auditor):
        return None
    return Side.SECOND_REVIEWER if isinstance(actor, SecondReviewer) else Side.OWNER


def show(office: Office, actor: str, *, request: str) -> dict[str, Any]:
    """Everything that a decision on one request needs."""
    record = office.review.find(request)
    return {**office.review.show(record, side_of(actor)), "trial": office.trials.of(record.id)}


def try_request(office: Office, actor: str, *, request: str, wait: bool = True) -> dict[str, Any] | None:
    """Run a request on mock rows, where it is or was waiting to be decided; what came of it, or that it is under way.

    Raises:
      WrongStatus: it has no plan.
      Unavailable: too many wait to be tried.
    """
    if side_of(actor) is None:
        raise PermissionRefused("An auditor reads and runs nothing.")
    record = office.review.find(request)
    if record.plan_json is None:
        raise WrongStatus(f"Request {record.id[:8]} has no plan, so there is nothing to run.")
    office.audit.record(str(actor), "try on mock", record.id)
    if wait:
        return office.trials.run(record)
    if not office.trials.start(record):
        raise Unavailable("Too many requests wait to be run on the mock. Try again in a moment.")
    return office.trials.of(record.id)


def approve(office: Office, actor: str, *, request: str, plan_digest: str, typed: str = "") -> str:
    """Approve the plan that was read, or vote for it where two people must agree; what was done, in a sentence.

    Args:
      typed: the request's name as the owner typed it; needed above the policy's `typed_confirmation_epsilon`.

    Raises:
      RuleBroken: `typed` is needed and is not the name.
    """
    record = office.review.find(request)
    if record.plan_json and record.status is RequestStatus.CHECKED and typed.strip() != record.function:
        plan, published = plan_from(json.loads(record.plan_json)), office.review.published(version=record.version)
        if office.review.needs_typing(plan, published):
            raise RuleBroken(f"Type the name of the request, {record.function}, to approve it: its ε is large.")
    side = side_of(actor)
    if side is None:
        raise PermissionRefused("An auditor reads and does not decide.")
    return office.approve_code(record.id, str(actor), plan_digest, side)


def deny(office: Office, actor: str, *, request: str, reason: str) -> None:
    """Deny with a reason."""
    office.decide(_may_decide(office, actor, request), RequestStatus.DENIED, str(actor), reason)


def ask_changes(office: Office, actor: str, *, request: str, comment: str) -> None:
    """Ask for changes with a comment."""
    office.decide(_may_decide(office, actor, request), RequestStatus.CHANGES_REQUESTED, str(actor), comment)


def _may_decide(office: Office, actor: str, request: str) -> str:
    """The request's id. Raises `WrongStatus` where a second reviewer has no say: no second vote is needed."""
    record = office.review.find(request)
    if side_of(actor) is not Side.OWNER:
        plan = plan_from(json.loads(record.plan_json)) if record.plan_json else None
        if plan is None or not office.review.voters(plan, office.review.published(version=record.version)):
            raise WrongStatus(f"The owner alone decides on request {record.id[:8]}: it needs no second reviewer.")
    return record.id


def revoke(office: Office, actor: str, *, request: str, reason: str) -> None:
    """Revoke an approval; running rounds end."""
    office.decide(office.review.find(request).id, RequestStatus.REVOKED, actor, reason)


def stop(office: Office, actor: str) -> dict[str, int]:
    """Stop everything at once."""
    office.audit.record(actor, "stop")
    return {"ended": office.runs.stop()}


def resume(office: Office, actor: str) -> None:
    """Let work go on after a stop."""
    office.runs.resume()
    office.audit.record(actor, "resume")


# -- what left, and the record of it -----------------------------------------------------------------------------------


def releases(office: Office, actor: str) -> list[dict[str, Any]]:
    """What left, newest first."""
    rows = []
    for each in reversed(office.ledger.releases()):
        record = office.ledger.get(each["request"])
        rows.append(
            {
                "request": record.id,
                "round": each["round"],
                "function": record.function,
                "researcher": record.researcher,
                "dataset": record.dataset,
                "released_at": each["at"],
                "bytes": each["size"],
                "digest": each["digest"],
            }
        )
    return rows


def certificate(office: Office, actor: str, *, request: str, round_number: int) -> str:
    """The certificate of one release."""
    stored = office.ledger.release(office.review.find(request).id, round_number)
    if stored is None:
        raise InvalidRequest(
            f"Round {round_number} of request {request} has no release. `datasite releases` lists them."
        )
    return stored.certificate


def ledger(office: Office, actor: str, *, entries: int = SHOWN_ENTRIES) -> dict[str, Any]:
    """Balances and the newest entries."""
    newest = office.ledger.entries(limit=entries, newest_first=True)
    head = office.ledger.head()
    return {
        "balances": [balance_dict(office.ledger, name) for name in office.ledger.populations()],
        "entries": [entry_as_dict(each) for each in newest],
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


def verify_ledger(office: Office, actor: str) -> dict[str, Any]:
    """Recompute the chains of ledger and audit log and all totals."""
    head = office.ledger.verify()
    office.audit.verify()
    return {"entries": head.seq, "head": head.hash}


def audit_log(office: Office, actor: str, *, entries: int = 200) -> list[dict[str, Any]]:
    """Who did what, newest first."""
    names = ("seq", "at", "who", "what", "object", "details")
    found = office.audit.entries(limit=entries, newest_first=True)
    return [{name: getattr(each, name) for name in names} for each in found]


# -- the host --------------------------------------------------------------------------------------------------------


def rotate_key(office: Office, actor: str) -> dict[str, str]:
    """Sign certificates with a new key; the old one is kept beside it, marked with the time."""
    old = office.public_key()
    path = office.settings.directory / "certificate.pem"
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    write_private(path.with_name(f"certificate.{stamp}.pem"), path.read_text(encoding="utf-8"))
    replace_private(path, new_signing_key())
    office.audit.record(actor, "rotate key", office.public_key(), before=old)
    return {"public_key": office.public_key(), "old_public_key": old}


def backup(office: Office, actor: str, *, file: str) -> dict[str, Any]:
    """Copy everything into a new file."""
    with office.holding_tables:
        done = write_backup(office.settings, office.ledger, Path(file))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    replace_private(office.settings.directory / "last_backup", f"{now}\n")
    office.audit.record(actor, "backup", done["file"], entries=done["entries"])
    return done


def accept_restored(
    office: Office, actor: str, *, certificate: str | None, older: bool, spent: dict[str, float]
) -> dict[str, Any]:
    """Let a restored datasite admit work again."""
    done = restore.accept_restored(
        office.settings, office.ledger, actor, certificate=certificate, older=older, spent=spent, serving=True
    )
    office.audit.record(actor, "accept restored", done["how"], charged=done["charged"], ended=done["ended"])
    return done


def health(office: Office, actor: str) -> dict[str, str]:
    """That it serves, and whether it was restored and waits for `accept_restored`."""
    return {"status": "restored, admits nothing yet" if office.ledger.is_restored else "ok"}


def isolation(office: Office, actor: str) -> dict[str, bool]:
    """Which protections hold for a job on this host."""
    return office.pool.protections()


ACTIONS: dict[str, Callable[..., Any]] = {
    action.__name__: action
    for action in (
        publish,
        datasets,
        retire,
        raise_budget,
        add_researcher,
        researchers,
        disable_researcher,
        enable_researcher,
        set_password,
        requests,
        show,
        try_request,
        approve,
        deny,
        ask_changes,
        revoke,
        stop,
        resume,
        releases,
        certificate,
        ledger,
        verify_ledger,
        audit_log,
        rotate_key,
        backup,
        accept_restored,
        health,
        isolation,
    )
} | oversight.ACTIONS
