"""Verify the ledger by replaying its entries: chain, totals, reservations, statuses, releases.

Every entry is applied to an empty state by the rules that the ledger writes by, and refused where it breaks one; the
state in the end must be what the tables hold. Nothing here writes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from datasites.ledger.amounts import COLUMNS, NOTHING, NOWHERE, Amount, Charged, Kept
from datasites.ledger.chain import Head, check_chain, head_of, sha256
from datasites.ledger.entries import Entry, EntryKind, entry_from
from datasites.ledger.tables import TABLES
from datasites.ledger.years import YearlyPlan, year_from, year_of
from policies.errors import LedgerDamaged
from policies.privacy.mechanisms import Patients
from policies.privacy.nano import nano_down
from policies.source.statuses import REQUEST_TRANSITIONS, RUN_TRANSITIONS, RequestStatus, RunStatus

# Columns of a request that the entries speak of in the same words.
_COMPARED = (
    "population",
    "researcher",
    "status",
    "plan_digest",
    "expires_at",
    "rounds",
    "attempts",
    "open_runs",
)


@dataclass
class _Request:
    population: str | None
    researcher: str
    source_sha256: str
    status: RequestStatus
    plan_digest: str | None = None
    plan_sha256: str | None = None
    expires_at: str | None = None
    once: Amount = NOTHING
    patients: str = "all"
    acceptance: str | None = None
    rounds: int = 0
    attempts: int = 0
    open_runs: int = 0


@dataclass
class _Run:
    request: str
    round: int
    weights_digest: str
    status: RunStatus = RunStatus.RESERVED


@dataclass
class _Part:
    """What is kept of a population's budget for a project."""

    project: str
    population: str
    epsilon: str = ""
    with_training: bool = True
    researchers: list[str] = field(default_factory=list)
    drawn: Charged = NOWHERE
    ended_at: str | None = None

    @property
    def left(self) -> Charged:
        if self.ended_at is not None:
            return NOWHERE
        return Kept(nano_down(float(self.epsilon)), self.with_training, self.drawn).left()


@dataclass
class _State:
    """What the entries so far come to."""

    populations: dict[str, dict[str, Any]] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    spent: dict[tuple[str, str], Charged] = field(default_factory=dict)
    reserved: dict[tuple[str, str], Charged] = field(default_factory=dict)
    parts: dict[int, _Part] = field(default_factory=dict)
    drawn: dict[str, int] = field(default_factory=dict)
    year: int = 0  # of the newest entry
    made_in: dict[str, int] = field(default_factory=dict)  # the year in which a population was made
    opened: dict[tuple[str, int], Charged] = field(default_factory=dict)  # what it had spent when a year opened
    limits: dict[tuple[str, str], str | None] = field(default_factory=dict)
    datasets: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    requests: dict[str, _Request] = field(default_factory=dict)
    runs: dict[str, _Run] = field(default_factory=dict)
    releases: dict[str, tuple[str, str]] = field(default_factory=dict)
    votes: dict[tuple[str, str], tuple[str, str, str]] = field(default_factory=dict)
    closed: bool = False  # put back from a copy, and not accepted yet


def replay(db: sqlite3.Connection, heads: Iterable[tuple[int, str]] = ()) -> Head:
    """Check everything in the snapshot that `db` reads. Raises `LedgerDamaged`, naming the first disagreement."""
    _check_tables(db)
    handed_out, seen, state = dict(heads), set(), _State()
    for row in check_chain(db, "entries"):
        if handed_out.get(row["seq"], row["hash"]) != row["hash"]:
            raise LedgerDamaged(f"Entry {row['seq']} is not the one whose hash was handed out.", seq=row["seq"])
        seen.add(row["seq"])
        _apply(state, entry_from(row))
    if missing := set(handed_out) - seen - {0}:
        raise LedgerDamaged(f"Entry {min(missing)} was handed out and is gone: the ledger was cut or put back.")
    _compare(db, state)
    for _ in check_chain(db, "audit"):
        pass
    return head_of(db, "entries")


def _check_tables(db: sqlite3.Connection) -> None:
    if not isinstance(db, sqlite3.Connection):
        from datasites.ledger.postgres import check_tables

        check_tables(db)
        return
    for row in db.execute("PRAGMA quick_check"):
        if row[0] != "ok":
            raise LedgerDamaged("The ledger's file is damaged. Stop the datasite and restore a backup.")
    if {row[0] for row in db.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")} != set(TABLES):
        raise LedgerDamaged("A table or a trigger of the ledger is not the one that was made.")


def _apply(state: _State, entry: Entry) -> None:
    if state.closed and entry.kind in (EntryKind.RESERVE, EntryKind.ADMIT, EntryKind.START):
        _broken(entry, "was made while the ledger was closed")
    _open_years(state, year_of(entry.at))
    try:
        _RULES[entry.kind](state, entry)
    except (KeyError, TypeError, ValueError):
        _broken(entry, "speaks of what is not there")


def _open_years(state: _State, year: int) -> None:
    """Keep what each population had spent when a year opened; years without an entry opened with the next one's."""
    for opens in range(max(state.year + 1, min(state.made_in.values(), default=year)), year + 1):
        state.opened |= {(name, opens): state.spent[name, ""] for name in state.populations}
    state.year = max(state.year, year)


def _broken(entry: Entry, why: str) -> NoReturn:
    raise LedgerDamaged(f"Entry {entry.seq} ({entry.kind}) {why}.", seq=entry.seq)


def _population(state: _State, entry: Entry) -> None:
    name = entry.population or ""
    if name in state.populations:
        _broken(entry, "creates a population a second time")
    state.populations[name] = dict(entry.details)
    state.made_in[name] = year_of(entry.at)
    state.opened[name, state.year] = NOWHERE
    state.spent[name, ""] = state.reserved[name, ""] = NOWHERE


def _budget(state: _State, entry: Entry) -> None:
    facts = state.populations[entry.population or ""]
    if entry.details["capacity_nano"] <= facts["capacity_nano"]:
        _broken(entry, "does not raise the budget")
    facts.update(entry.details)


def _limit(state: _State, entry: Entry) -> None:
    key = entry.population or "", entry.details["researcher"]
    state.limits[key] = entry.details["epsilon"]
    state.spent.setdefault(key, NOWHERE)
    state.reserved.setdefault(key, NOWHERE)


def _split(state: _State, entry: Entry) -> None:
    if entry.population in state.splits or entry.population not in state.populations:
        _broken(entry, "splits a population that is split or is not there")
    state.splits[entry.population or ""] = entry.details["holdout"]


def _publication(state: _State, entry: Entry) -> None:
    state.datasets[entry.details["version"]] = "published", {**entry.details, "population": entry.population}


def _retirement(state: _State, entry: Entry) -> None:
    status, facts = state.datasets[entry.details["version"]]
    if status != "published":
        _broken(entry, "retires what is not published")
    state.datasets[entry.details["version"]] = "retired", facts


def _submit(state: _State, entry: Entry) -> None:
    request, facts = entry.request or "", entry.details
    if request in state.requests:
        _broken(entry, "submits a request a second time")
    state.requests[request] = _Request(
        entry.population,
        facts["researcher"],
        facts["source_sha256"],
        RequestStatus(facts["status"]),
        facts["plan_digest"],
    )


def _status(state: _State, entry: Entry) -> None:
    request, status = state.requests[entry.request or ""], RequestStatus(entry.details["status"])
    if status not in REQUEST_TRANSITIONS[request.status] or entry.details["before"] != request.status:
        _broken(entry, f"makes a request that is {request.status} {status}")
    if status is RequestStatus.COMPLETED and request.attempts != request.rounds:
        _broken(entry, "completes a request that has runs left")
    request.status = status
    request.plan_digest = entry.details.get("plan_digest", request.plan_digest)


def _reserve(state: _State, entry: Entry) -> None:
    request, facts = state.requests[entry.request or ""], entry.details
    once = Amount(**facts["once"])
    if RequestStatus.APPROVED not in REQUEST_TRANSITIONS[request.status] or entry.population != request.population:
        _broken(entry, f"reserves for a request that is {request.status}")
    if once * facts["rounds"] != entry.amount:
        _broken(entry, "does not reserve its rounds times its charge")
    request.status, request.once, request.rounds = RequestStatus.APPROVED, once, facts["rounds"]
    request.plan_digest, request.plan_sha256 = facts["plan_digest"], facts["plan_sha256"]
    request.expires_at, request.acceptance = facts["expires_at"], facts.get("acceptance")
    for vote in facts.get("votes", ()):
        state.votes[entry.request or "", vote["side"]] = vote["actor"], facts["plan_digest"], vote["at"]
    name = entry.population or ""
    request.patients = _patients(entry)
    if request.patients != Patients.ALL and name not in state.splits:
        _broken(entry, "charges one group of patients of a population that is not split")
    _add(state, entry, request, reserved=entry.charged)
    if "part" in facts:
        _draw(state, entry, request, facts["part"])
    used, limits = state.spent[name, ""] + state.reserved[name, ""], state.populations[name]
    if _is_exceeded(state, name) or any(
        account.delta_atto > limits["delta_capacity_atto"] for account in used.accounts
    ):
        _broken(entry, "reserves more than the budget of its population, or what is kept of it for a project")
    if "plan" in facts:
        _check_year(state, entry, YearlyPlan(float(facts["plan"]["epsilon"]), facts["plan"]["carry_over_since"]))


def _is_exceeded(state: _State, name: str) -> bool:
    """Whether what is spent, reserved and kept for projects is more than the budget of a population."""
    facts = state.populations[name]
    kept = sum((part.left for part in state.parts.values() if part.population == name), NOWHERE)
    taken = state.spent[name, ""] + state.reserved[name, ""] + kept
    most: int = facts["capacity_nano"] + facts["conversion_nano"]
    return taken.epsilon_nano(facts["conversion_nano"]) > most


def _draw(state: _State, entry: Entry, request: _Request, number: int) -> None:
    part = state.parts[number]
    if part.ended_at is not None or part.population != entry.population or request.researcher not in part.researchers:
        _broken(entry, "draws on what is kept for others")
    if entry.amount.mixed and not part.with_training:
        _broken(entry, "trains out of what is kept for releases with a pure ε")
    part.drawn = part.drawn + entry.charged
    state.drawn[entry.request or ""] = number


def _check_year(state: _State, entry: Entry, plan: YearlyPlan) -> None:
    name = entry.population or ""
    used = state.spent[name, ""] + state.reserved[name, ""]
    conversion = state.populations[name]["conversion_nano"]
    year = year_from(plan, state.year, state.made_in[name], lambda opens: state.opened[name, opens], used, conversion)
    accounts = zip(year.parts_nano, year.added_nano(), entry.charged.accounts, strict=True)
    if any(added > part for part, added, charged in accounts if any(charged.as_row())):
        _broken(entry, f"reserves more than the part of {state.year} in the yearly plan of its population")


def _part(state: _State, entry: Entry) -> None:
    facts, name = entry.details, entry.population or ""
    known = "part" in facts
    part = state.parts[facts["part"]] if known else _Part(facts["project"], name)
    state.parts[facts.get("part", entry.seq)] = part
    if part.ended_at is not None or (part.project, part.population) != (facts["project"], name):
        _broken(entry, "changes a part that is freed or another project's")
    if facts["epsilon"] is None:
        part.ended_at = entry.at
        return
    before = part.left if known else NOWHERE
    part.epsilon, part.with_training, part.researchers = facts["epsilon"], facts["with_training"], facts["researchers"]
    if _is_exceeded(state, name) and not before.covers(part.left):
        _broken(entry, "keeps more for a project than is left of the budget of its population")


def _return(state: _State, entry: Entry) -> None:
    request, status = state.requests[entry.request or ""], RequestStatus(entry.details["status"])
    if request.status is not RequestStatus.APPROVED or status not in REQUEST_TRANSITIONS[request.status]:
        _broken(entry, f"closes a request that is {request.status}")
    if request.once * (request.rounds - request.attempts - request.open_runs) != entry.amount:
        _broken(entry, "does not give back exactly what no run touched")
    request.status = status
    _check_patients(entry, request)
    _add(state, entry, request, reserved=entry.charged * -1)
    if entry.request in state.drawn:
        part = state.parts[state.drawn[entry.request]]
        part.drawn = part.drawn - entry.charged


def _admit(state: _State, entry: Entry) -> None:
    request = state.requests[entry.request or ""]
    if request.status is not RequestStatus.APPROVED or request.attempts + request.open_runs >= request.rounds:
        _broken(entry, "admits a run that was not approved")
    if (entry.run or "") in state.runs:
        _broken(entry, "admits a run a second time")
    request.open_runs += 1
    state.runs[entry.run or ""] = _Run(entry.request or "", entry.details["round"], entry.details["weights_digest"])


def _move_run(state: _State, entry: Entry, status: RunStatus) -> _Request:
    run = state.runs[entry.run or ""]
    if status not in RUN_TRANSITIONS[run.status] or run.request != entry.request:
        _broken(entry, f"makes a run that is {run.status} {status}")
    run.status = status
    return state.requests[run.request]


def _start(state: _State, entry: Entry) -> None:
    _move_run(state, entry, RunStatus.RUNNING)


def _void(state: _State, entry: Entry) -> None:
    _move_run(state, entry, RunStatus.VOID).open_runs -= 1


def _spend(state: _State, entry: Entry, status: RunStatus) -> None:
    request = _move_run(state, entry, status)
    if entry.amount != request.once:
        _broken(entry, "does not spend the charge that was approved")
    request.open_runs, request.attempts = request.open_runs - 1, request.attempts + 1
    _check_patients(entry, request)
    _add(state, entry, request, spent=entry.charged, reserved=entry.charged * -1)


def _settle(state: _State, entry: Entry) -> None:
    _spend(state, entry, RunStatus.RELEASED)
    state.releases[entry.run or ""] = entry.details["release_digest"], entry.details["bytes_sha256"]


def _fail(state: _State, entry: Entry) -> None:
    _spend(state, entry, RunStatus.FAILED)


def _restore(state: _State, entry: Entry) -> None:
    state.closed = True


def _accept(state: _State, entry: Entry) -> None:
    state.closed = False


def _lost(state: _State, entry: Entry) -> None:
    if min(entry.amount.as_row()) < 0 or not any(entry.amount.as_row()):
        _broken(entry, "charges nothing")
    key = entry.population or "", ""
    state.spent[key] = state.spent[key] + entry.charged


_RULES: dict[EntryKind, Callable[[_State, Entry], None]] = {
    EntryKind.POPULATION: _population,
    EntryKind.BUDGET: _budget,
    EntryKind.LIMIT: _limit,
    EntryKind.SPLIT: _split,
    EntryKind.PART: _part,
    EntryKind.PUBLICATION: _publication,
    EntryKind.RETIREMENT: _retirement,
    EntryKind.SUBMIT: _submit,
    EntryKind.STATUS: _status,
    EntryKind.RESERVE: _reserve,
    EntryKind.RETURN: _return,
    EntryKind.ADMIT: _admit,
    EntryKind.START: _start,
    EntryKind.SETTLE: _settle,
    EntryKind.FAIL: _fail,
    EntryKind.VOID: _void,
    EntryKind.RESTORE: _restore,
    EntryKind.LOST: _lost,
    EntryKind.ACCEPT: _accept,
}


def _add(
    state: _State, entry: Entry, request: _Request, *, spent: Charged = NOWHERE, reserved: Charged = NOWHERE
) -> None:
    for key in ((entry.population or "", ""), (entry.population or "", request.researcher)):
        state.spent[key] = state.spent.get(key, NOWHERE) + spent
        state.reserved[key] = state.reserved.get(key, NOWHERE) + reserved
        if min(part for account in state.reserved[key].accounts for part in account.as_row()) < 0:
            _broken(entry, "takes more from a reservation than it holds")


def _compare(db: sqlite3.Connection, state: _State) -> None:
    """Raise `LedgerDamaged` where a table does not hold what the entries come to."""
    _same("population", _populations_in(db), state.populations)
    _same(
        "split", {row["population"]: repr(row["holdout"]) for row in db.execute("SELECT * FROM splits")}, state.splits
    )
    _same("total", _totals_in(db), _totals_of(state))
    _same("part", _parts_in(db), {number: vars(part) for number, part in state.parts.items()})
    _same("draw", {row["request"]: row["part"] for row in db.execute("SELECT * FROM drawn")}, state.drawn)
    _same("dataset", _datasets_in(db), state.datasets)
    _same("request", _requests_in(db), {id: vars(request) for id, request in state.requests.items()})
    _same("run", _runs_in(db), {id: vars(run) for id, run in state.runs.items()})
    _same("vote", {key: vote for key, vote in _votes_in(db).items() if key in state.votes}, state.votes)
    _same(
        "release", _releases_in(db), {run: (digests, state.runs[run].round) for run, digests in state.releases.items()}
    )


def _patients(entry: Entry) -> str:
    return str(entry.details.get("patients", Patients.ALL.value))


def _check_patients(entry: Entry, request: _Request) -> None:
    if _patients(entry) != request.patients:
        _broken(entry, "moves the charge of other patients than were approved")


def _same(table: str, stored: dict[Any, Any], replayed: dict[Any, Any]) -> None:
    for key in sorted(stored.keys() | replayed.keys(), key=str):
        if stored.get(key) != replayed.get(key):
            name = "/".join(filter(None, key)) if isinstance(key, tuple) else key
            raise LedgerDamaged(f"The {table} {name} in its table is not what the entries come to.", table=table)


def _populations_in(db: sqlite3.Connection) -> dict[str, Any]:
    rows = (dict(row) for row in db.execute("SELECT * FROM populations"))
    return {row.pop("name"): row | {"epsilon": repr(row["epsilon"]), "delta": repr(row["delta"])} for row in rows}


def _totals_in(db: sqlite3.Connection) -> dict[tuple[str, str], Any]:
    stored: dict[tuple[str, str], Any] = {}
    held_out = {(row["population"], row["researcher"]): row for row in db.execute("SELECT * FROM held_out_totals")}
    for row in db.execute("SELECT * FROM totals"):
        key = row["population"], row["researcher"]
        rows = row, held_out.pop(key, None)
        limit = row["limit_epsilon"]
        stored[key] = *(_charged(rows, kind) for kind in ("spent", "reserved")), None if limit is None else repr(limit)
    return stored | dict.fromkeys(held_out)


def _charged(rows: tuple[Any, ...], kind: str) -> Charged | None:
    if None in rows:
        return None
    return Charged(*(Amount(*(row[f"{kind}_{name}"] for name in COLUMNS)) for row in rows))


def _totals_of(state: _State) -> dict[tuple[str, str], Any]:
    return {key: (state.spent[key], state.reserved[key], state.limits.get(key)) for key in state.spent}


def _parts_in(db: sqlite3.Connection) -> dict[int, Any]:
    return {
        row["id"]: {
            "project": row["project"],
            "population": row["population"],
            "epsilon": repr(row["epsilon"]),
            "with_training": bool(row["with_training"]),
            "researchers": json.loads(row["researchers"]),
            "drawn": Charged(
                *(Amount(*(row[f"{account}_{name}"] for name in COLUMNS)) for account in ("training", "held_out"))
            ),
            "ended_at": row["ended_at"],
        }
        for row in db.execute("SELECT * FROM parts")
    }


def _datasets_in(db: sqlite3.Connection) -> dict[str, Any]:
    stored = {}
    for row in db.execute("SELECT * FROM datasets WHERE status != 'staged'"):
        facts = {name: row[name] for name in ("name", "version", "patients", "size_kind", "population")}
        stored[row["version"]] = row["status"], facts | {"schema_sha256": sha256(row["schema_json"])}
    return stored


def _requests_in(db: sqlite3.Connection) -> dict[str, Any]:
    stored = {}
    for row in db.execute("SELECT * FROM requests"):
        facts = {name: row[name] for name in _COMPARED}
        approved, charge = row["charge_json"] is not None, json.loads(row["charge_json"] or "{}")
        stored[row["id"]] = facts | {
            "source_sha256": sha256(row["source"]),
            "plan_sha256": sha256(row["plan_json"] or "") if approved else None,
            "once": Amount(**{name: charge[name] for name in COLUMNS if name in charge}),
            "patients": charge.get("patients", Patients.ALL.value),
            "acceptance": charge.get("acceptance"),
        }
    return stored


def _runs_in(db: sqlite3.Connection) -> dict[str, Any]:
    columns = ("request", "round", "weights_digest", "status")
    return {row["id"]: {name: row[name] for name in columns} for row in db.execute("SELECT * FROM runs")}


def _votes_in(db: sqlite3.Connection) -> dict[tuple[str, str], Any]:
    query = "SELECT request, side, actor, plan_digest, at FROM votes"
    return {(row["request"], row["side"]): (row["actor"], row["plan_digest"], row["at"]) for row in db.execute(query)}


def _releases_in(db: sqlite3.Connection) -> dict[str, Any]:
    query = "SELECT run, round, digest, bytes FROM releases"
    return {row["run"]: ((row["digest"], sha256(row["bytes"])), row["round"]) for row in db.execute(query)}
