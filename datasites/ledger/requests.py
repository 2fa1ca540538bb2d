"""Code requests of the ledger, with the comments and votes on them.

Reading, and the writes that move no budget; each change of status writes its entry in the same transaction. What
reserves, spends or gives back is in `ledger.py` and `runs.py`.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterable
from typing import Any

from datasites.ledger.budgets import check_population
from datasites.ledger.chain import sha256
from datasites.ledger.entries import Entries, EntryKind
from datasites.ledger.records import CodeRequestRecord, Comment, RequestLine, Vote, WaitingRequest, findings_text
from datasites.ledger.store import EVERY, Store
from policies.canonical import canonical
from policies.errors import InvalidRequest, WrongStatus
from policies.release.plans import Plan
from policies.source.findings import Finding
from policies.source.statuses import Party, RequestStatus, Side, check_transition

OPEN = (RequestStatus.CHECKED, RequestStatus.APPROVED)
"""Requests that people still talk about: they wait for a decision, or have rounds to run."""

_LINE = """id, status, researcher, function, dataset, json_extract(plan_json, '$.declared.kind'),
  CAST(json_extract(plan_json, '$.declared.epsilon') AS REAL),
  CAST(json_extract(plan_json, '$.mechanism.rounds') AS INTEGER), submitted_at, expires_at"""
_WAITING = """SELECT id, researcher, function, dataset, submitted_at, json_extract(plan_json, '$.mechanism'), project
  FROM requests LEFT JOIN filed ON filed.request = requests.id"""
_PLACEHOLDERS = ", ".join("?" * len(dataclasses.fields(CodeRequestRecord)))


class Requests:
    """The code requests of a store."""

    def __init__(self, store: Store, entries: Entries) -> None:
        self._store, self._entries = store, entries

    def submit(self, record: CodeRequestRecord) -> CodeRequestRecord:
        """Keep a new request as `submitted`; the same record again is answered with the one that is kept.

        Raises:
          WrongStatus: the id is taken by another record.
          InvalidRequest: its population does not exist.
        """
        with self._store.writing() as db:
            return self.submit_in(db, record)

    def get(self, request: str) -> CodeRequestRecord:
        """The request with this id. Raises `InvalidRequest` where there is none."""
        with self._store.reading() as db:
            return find_request(db, request)

    def list(
        self,
        *,
        status: RequestStatus | str | None = None,
        researcher: str | None = None,
        by_owner: bool | None = False,
    ) -> tuple[CodeRequestRecord, ...]:
        """Requests in the order they came; `by_owner=None` lists the datasite's own charges too."""
        conditions = {"status": status and RequestStatus(status).value, "researcher": researcher, "by_owner": by_owner}
        used = {name: value for name, value in conditions.items() if value is not None}
        where = " AND ".join(f"{name} = :{name}" for name in used) or "1 = 1"
        with self._store.reading() as db:
            rows = db.execute(f"SELECT * FROM requests WHERE {where} ORDER BY submitted_at, rowid", used)
            return tuple(_request(row) for row in rows)

    def lines(
        self, *, status: RequestStatus | str | None = None, researcher: str | None = None, most: int | None = None
    ) -> tuple[RequestLine, ...]:
        """Requests of researchers as lists show them, those that wait for a decision first, newest first within.

        No plan is parsed here: the database reads three facts of each that is shown, and of no other.

        Args:
          most: of them, the first.
        """
        conditions = {"status": status and RequestStatus(status).value, "researcher": researcher, "by_owner": False}
        used: dict[str, Any] = {name: value for name, value in conditions.items() if value is not None}
        where = " AND ".join(f"{name} = :{name}" for name in used)
        order = "status <> :waits, submitted_at DESC, rowid DESC"
        chosen = f"SELECT rowid FROM requests WHERE {where} ORDER BY {order} LIMIT :most"
        query = f"SELECT {_LINE} FROM requests WHERE rowid IN ({chosen}) ORDER BY {order}"
        values = {**used, "waits": RequestStatus.CHECKED.value, "most": EVERY if most is None else most}
        with self._store.reading() as db:
            return tuple(RequestLine(row[0], RequestStatus(row[1]), *row[2:]) for row in db.execute(query, values))

    def waiting(self, population: str, *, most: int) -> tuple[WaitingRequest, ...]:
        """The oldest `most` requests of a population that wait for a decision, oldest first; no plan is parsed."""
        query = f"""{_WAITING} WHERE status = ? AND population = ? AND by_owner = 0
          ORDER BY submitted_at, requests.rowid LIMIT ?"""
        with self._store.reading() as db:
            rows = db.execute(query, (RequestStatus.CHECKED.value, population, most))
            return tuple(WaitingRequest(*row) for row in rows)

    def waiting_one(self, request: str) -> WaitingRequest:
        """One request that has a plan, as `waiting` has it. Raises `InvalidRequest`."""
        with self._store.reading() as db:
            row = db.execute(f"{_WAITING} WHERE id = ? AND plan_json IS NOT NULL", (request,)).fetchone()
        if row is None:
            raise InvalidRequest(f"There is no request {request} with a plan here.")
        return WaitingRequest(*row)

    def count_waiting_of(self, population: str) -> int:
        """How many requests of a population wait for a decision."""
        query = "SELECT count(*) FROM requests WHERE status = ? AND population = ? AND by_owner = 0"
        with self._store.reading() as db:
            return int(db.execute(query, (RequestStatus.CHECKED.value, population)).fetchone()[0])

    def ids_from(self, prefix: str) -> tuple[str, ...]:
        """The ids that begin with `prefix`, at most ten of them."""
        with self._store.reading() as db:
            query = """SELECT id FROM requests WHERE id >= ? AND id < ? AND substr(id, 1, ?) = ? AND by_owner = 0
              ORDER BY id LIMIT 10"""
            values = (prefix, prefix + "\U0010ffff", len(prefix), prefix)
            return tuple(row[0] for row in db.execute(query, values))

    def same_source(self, researcher: str, version: str, source: str) -> CodeRequestRecord | None:
        """The request of a researcher for this source on this version that PySyft knows, if there is one."""
        query = "SELECT * FROM requests WHERE researcher = ? AND version = ? AND source = ? AND syft_json <> '{}'"
        with self._store.reading() as db:
            row = db.execute(f"{query} AND by_owner = 0 LIMIT 1", (researcher, version, source)).fetchone()
            return None if row is None else _request(row)

    def last_approved(self, researcher: str, function: str, *, besides: str) -> CodeRequestRecord | None:
        """The newest other request of this name that was approved for a researcher, if there is one."""
        query = """SELECT * FROM requests WHERE researcher = ? AND function = ? AND id <> ? AND by_owner = 0
          AND charge_json IS NOT NULL ORDER BY submitted_at DESC, rowid DESC LIMIT 1"""
        with self._store.reading() as db:
            row = db.execute(query, (researcher, function, besides)).fetchone()
            return None if row is None else _request(row)

    def count(self, status: RequestStatus | str) -> int:
        """How many requests of researchers have this status."""
        query = "SELECT count(*) FROM requests WHERE status = ? AND by_owner = 0"
        with self._store.reading() as db:
            return int(db.execute(query, (RequestStatus(status).value,)).fetchone()[0])

    def count_waiting(self, researcher: str) -> int:
        """How many requests of a researcher wait for a decision."""
        query = "SELECT count(*) FROM requests WHERE status IN (?, ?) AND researcher = ?"
        values = (RequestStatus.SUBMITTED.value, RequestStatus.CHECKED.value, researcher)
        with self._store.reading() as db:
            return int(db.execute(query, values).fetchone()[0])

    def count_by_status(self) -> dict[RequestStatus, int]:
        """How many requests of researchers have each status that occurs."""
        query = "SELECT status, count(*) FROM requests WHERE by_owner = 0 GROUP BY status"
        with self._store.reading() as db:
            return {RequestStatus(status): number for status, number in db.execute(query)}

    def check(
        self, request: str, plan: Plan, *, findings: Iterable[Finding] = (), actor: str = "datasite"
    ) -> CodeRequestRecord:
        """`submitted` to `checked`, with the plan that inspection and export made."""
        with self._store.writing() as db:
            record = find_request(db, request)
            check_transition(record.status, RequestStatus.CHECKED, request=request, party=Party.DATASITE)
            if record.population is None:
                raise WrongStatus(f"Request {request} names no dataset that is here; deny it.")
            return self.move(
                db,
                record,
                RequestStatus.CHECKED,
                actor=actor,
                plan_json=canonical(plan.as_dict()).decode(),
                plan_digest=plan.digest,
                findings_json=findings_text(findings),
            )

    # Comments

    def comments(self, request: str) -> tuple[Comment, ...]:
        """What was written on a request, oldest first."""
        with self._store.reading() as db:
            query = "SELECT request, at, actor, text FROM comments WHERE request = ? ORDER BY seq"
            return tuple(Comment(*row) for row in db.execute(query, (request,)))

    def write_comment(self, request: str, *, actor: str, text: str, most: int) -> Comment:
        """Keep what somebody writes on a request that waits or is approved.

        Args:
          most: of `actor`'s comments on this request.

        Raises:
          WrongStatus: it is closed, or `actor` has written as much as one may.
        """
        with self._store.writing() as db:
            record = find_request(db, request)
            if record.status not in OPEN:
                raise WrongStatus(f"Request {request[:8]} is {record.status}, and nothing more is written on it.")
            query = "SELECT count(*) FROM comments WHERE request = ? AND actor = ?"
            if db.execute(query, (request, actor)).fetchone()[0] >= most:
                raise WrongStatus(
                    f"You have written {most} comments on request {request[:8]}, which is the most of one person. Write"
                    " to the other side by e-mail."
                )
            return self.comment(db, request, actor, text)

    # Votes

    def vote(self, request: str, *, side: Side, actor: str, plan_digest: str) -> Vote:
        """Keep one side's approval of a plan. A side votes once; voting again is answered with the vote that is kept.

        Whoever shows votes shows a side its own alone until the request is decided: neither sees the other's first.

        Raises:
          WrongStatus: the request is not `checked`, its plan is another, or the same person voted for the other side.
        """
        with self._store.writing() as db:
            record = find_request(db, request)
            check_transition(record.status, RequestStatus.APPROVED, request=request, party=Party.OWNER)
            if record.plan_digest != plan_digest:
                raise WrongStatus(f"The plan of request {request} is not the one that was shown. Look at it again.")
            kept = votes_of(db, request)
            for earlier in kept:
                if earlier.side is side:
                    return earlier
                if earlier.actor == actor:
                    raise WrongStatus(f"{actor} has voted on request {request}. Another person must vote.")
            vote = Vote(request, side, actor, plan_digest, self._store.now())
            db.execute(
                "INSERT INTO votes (request, side, actor, plan_digest, at) VALUES (?, ?, ?, ?, ?)",
                (vote.request, vote.side.value, vote.actor, vote.plan_digest, vote.at),
            )
            return vote

    def votes(self, request: str) -> tuple[Vote, ...]:
        """Every vote on a request, oldest first; sealed ones too, so not for showing before it is decided."""
        with self._store.reading() as db:
            return votes_of(db, request)

    # Within a transaction

    def submit_in(self, db: sqlite3.Connection, record: CodeRequestRecord) -> CodeRequestRecord:
        """As `submit`."""
        kept = db.execute("SELECT * FROM requests WHERE id = ?", (record.id,)).fetchone()
        if kept is not None:
            before = _request(kept)
            same = ("function", "researcher", "dataset", "version", "population", "source")
            if all(getattr(before, name) == getattr(record, name) for name in same):
                return before
            raise WrongStatus(f"Request {record.id} exists with other contents. Submit a new one.")
        return self.insert(db, record, RequestStatus.SUBMITTED, actor=record.researcher)

    def insert(
        self, db: sqlite3.Connection, record: CodeRequestRecord, status: RequestStatus, *, actor: str
    ) -> CodeRequestRecord:
        """Keep a new request in `status`, with its entry."""
        if not record.id or not record.researcher:
            raise InvalidRequest("A request needs an id and the e-mail of its researcher.")
        if record.population is not None:
            check_population(db, record.population)
        now = self._store.now()
        new = dataclasses.replace(
            record, status=status, submitted_at=now, changed_at=now, rounds=0, attempts=0, open_runs=0,
            charge_json=None, expires_at=None,
        )  # fmt: skip
        values = dataclasses.asdict(new) | {"status": status.value, "by_owner": int(new.by_owner)}
        db.execute(f"INSERT INTO requests ({', '.join(values)}) VALUES ({_PLACEHOLDERS})", tuple(values.values()))
        self._entries.append(
            db,
            EntryKind.SUBMIT,
            actor,
            population=new.population,
            request=new.id,
            researcher=new.researcher,
            function=new.function,
            version=new.version,
            source_sha256=sha256(new.source),
            plan_digest=new.plan_digest,
            status=status.value,
        )
        return new

    def move(
        self, db: sqlite3.Connection, record: CodeRequestRecord, status: RequestStatus, *, actor: str, **changes: Any
    ) -> CodeRequestRecord:
        """Write a status that moves no budget, with its entry."""
        plan = {"plan_digest": changes["plan_digest"]} if "plan_digest" in changes else {}
        self._entries.append(
            db,
            EntryKind.STATUS,
            actor,
            population=record.population,
            request=record.id,
            before=record.status.value,
            status=status.value,
            **plan,
        )
        return self.update(db, record, status=status, **changes)

    def update(self, db: sqlite3.Connection, record: CodeRequestRecord, **changes: Any) -> CodeRequestRecord:
        """Write columns of a request; whoever changes its status appends the entry in the same transaction."""
        changes["changed_at"] = self._store.now()
        names = ", ".join(f"{name} = ?" for name in changes)
        values = [value.value if isinstance(value, RequestStatus) else value for value in changes.values()]
        db.execute(f"UPDATE requests SET {names} WHERE id = ?", (*values, record.id))
        return dataclasses.replace(record, **changes)

    def comment(self, db: sqlite3.Connection, request: str, actor: str, text: str) -> Comment:
        """Keep what `actor` wrote on a request."""
        comment = Comment(request, self._store.now(), actor, text)
        db.execute("INSERT INTO comments (request, at, actor, text) VALUES (?, ?, ?, ?)", dataclasses.astuple(comment))
        return comment


def find_request(db: sqlite3.Connection, request: str) -> CodeRequestRecord:
    """The request with this id. Raises `InvalidRequest`."""
    row = db.execute("SELECT * FROM requests WHERE id = ?", (request,)).fetchone()
    if row is None:
        raise InvalidRequest(f"There is no request {request} here.")
    return _request(row)


def votes_of(db: sqlite3.Connection, request: str) -> tuple[Vote, ...]:
    """Votes on a request, oldest first."""
    query = "SELECT request, side, actor, plan_digest, at FROM votes WHERE request = ? ORDER BY seq"
    return tuple(Vote(row[0], Side(row[1]), *row[2:]) for row in db.execute(query, (request,)))


def _request(row: sqlite3.Row) -> CodeRequestRecord:
    values = dict(row)
    return CodeRequestRecord(
        **values | {"status": RequestStatus(values["status"]), "by_owner": bool(values["by_owner"])}
    )
