"""Runs of approved requests, and their releases: admitted against a reservation, started, settled, failed or void.

What is reserved becomes spent when a run that was running ends, released or failed. Nothing else spends, and nothing
gives back what was spent.
"""

from __future__ import annotations

import dataclasses
import sqlite3
import uuid
from collections.abc import Callable
from typing import Any

from datasites.ledger.amounts import Amount, Charged, amount_of
from datasites.ledger.budgets import Budgets, population_of
from datasites.ledger.chain import sha256
from datasites.ledger.datasets import check_version
from datasites.ledger.entries import Entries, Entry, EntryKind
from datasites.ledger.kept import put_back
from datasites.ledger.projects import HAS_ENDED, check_project, project_of
from datasites.ledger.records import (
    CodeRequestRecord,
    ReleaseLine,
    ReleaseRecord,
    Run,
    RunLine,
    StoredRelease,
)
from datasites.ledger.requests import Requests, find_request
from datasites.ledger.store import Store
from policies.errors import InvalidRequest, WrongStatus
from policies.privacy.accountant import Charge
from policies.privacy.mechanisms import Patients
from policies.source.statuses import RequestStatus, RunStatus, check_run_transition

_RELEASE_LINE = """SELECT releases.request, releases.round, releases.at, releases.digest,
      length(releases.bytes) AS size,
      requests.function, requests.researcher, requests.dataset, requests.population, requests.by_owner
    FROM releases JOIN requests ON requests.id = releases.request"""
_RUN = tuple(field.name for field in dataclasses.fields(Run))


class Runs:
    """The runs and releases of a store."""

    def __init__(self, store: Store, entries: Entries, budgets: Budgets, requests: Requests) -> None:
        self._store, self._entries, self._budgets, self._requests = store, entries, budgets, requests

    def get(self, run: str) -> Run:
        """The run with this id. Raises `InvalidRequest` where there is none."""
        with self._store.reading() as db:
            return find_run(db, run)

    def list(self, request: str | None = None, *, status: RunStatus | str | None = None) -> tuple[Run, ...]:
        """Runs in the order they were admitted."""
        conditions = {"request": request, "status": status and RunStatus(status).value}
        used = {name: value for name, value in conditions.items() if value is not None}
        where = " AND ".join(f"{name} = :{name}" for name in used) or "1 = 1"
        with self._store.reading() as db:
            return tuple(_run(row) for row in db.execute(f"SELECT * FROM runs WHERE {where} ORDER BY rowid", used))

    def page(self, *, limit: int, offset: int = 0) -> tuple[int, tuple[RunLine, ...]]:
        """How many runs there are, and `limit` of them, newest first, each with its request's names."""
        query = """SELECT runs.*, requests.function, requests.researcher, requests.dataset, requests.rounds,
              requests.status AS request_status, requests.by_owner
            FROM runs JOIN requests ON requests.id = runs.request ORDER BY runs.rowid DESC LIMIT ? OFFSET ?"""
        with self._store.reading() as db:
            count = int(db.execute("SELECT count(*) FROM runs").fetchone()[0])
            return count, tuple(_run_line(row) for row in db.execute(query, (limit, offset)))

    def count_by_status(self) -> dict[RunStatus, int]:
        """How many runs have each status that occurs."""
        with self._store.reading() as db:
            rows = db.execute("SELECT status, count(*) FROM runs GROUP BY status")
            return {RunStatus(status): number for status, number in rows}

    def release(self, request: str, round: int) -> StoredRelease | None:
        """What was released for a round, or None."""
        with self._store.reading() as db:
            query = "SELECT bytes, digest, certificate FROM releases WHERE request = ? AND round = ?"
            row = db.execute(query, (request, round)).fetchone()
            return StoredRelease(*row) if row else None

    def releases(self, request: str | None = None) -> tuple[ReleaseRecord, ...]:
        """Every release, or those of a request, oldest first."""
        columns = "run, request, round, at, digest, certificate, length(bytes) AS size"
        where, values = ("WHERE request = ?", (request,)) if request is not None else ("", ())
        with self._store.reading() as db:
            rows = db.execute(f"SELECT {columns} FROM releases {where} ORDER BY at, rowid", values)
            return tuple(ReleaseRecord(*row) for row in rows)

    def release_page(self, *, limit: int, offset: int = 0) -> tuple[int, tuple[ReleaseLine, ...]]:
        """How many releases there are, and `limit` of them, newest first, each with its request's names."""
        query = f"{_RELEASE_LINE} ORDER BY releases.rowid DESC LIMIT ? OFFSET ?"
        with self._store.reading() as db:
            count = int(db.execute("SELECT count(*) FROM releases").fetchone()[0])
            return count, tuple(_release_line(row) for row in db.execute(query, (limit, offset)))

    def release_line(self, request: str, round: int) -> ReleaseLine | None:
        """The release of a round with its request's names, or None."""
        query = f"{_RELEASE_LINE} WHERE releases.request = ? AND releases.round = ?"
        with self._store.reading() as db:
            row = db.execute(query, (request, round)).fetchone()
            return _release_line(row) if row else None

    def admit(self, request: str, round: int, weights_digest: str, charge: Charge) -> Run:
        """A new run, `reserved` against the approval, or the live one of this round and these weights.

        A round that was released, runs or waits is answered with that run, at no cost, whatever became of the request
        since. A failed or void one may be asked again while runs are left.

        Raises:
          WrongStatus: the round is taken by other weights; the request is not approved (any more); its runs are used;
            `charge` is not within what was approved (which may be more, where an earlier version charged more for
            the same, and stays what is spent); or the dataset was retired.
        """
        once, reads = amount_of(charge), charge.reads
        with self._store.reading() as db:
            record, live = find_request(db, request), live_run(db, request, round)
            project, now = project_of(db, request), self._store.now()
        if live is not None:
            return _same_weights(live, weights_digest)
        if (record.expires_at is not None and record.expires_at <= now) or (project and project.has_ended(now)):
            self.expire_due()
        with self._store.writing() as db:
            if live := live_run(db, request, round):
                return _same_weights(live, weights_digest)
            record = find_request(db, request)
            self._check_admissible(db, record, round, weights_digest, once, reads)
            return self.admit_in(db, record, round, weights_digest)

    def start(self, run: str) -> Run:
        """`reserved` to `running`, durable: only then may private rows be read, and from here the charge stays.

        Raises `WrongStatus` where the run is not reserved: another has started it, or its request was closed.
        """
        with self._store.writing() as db:
            return self.start_in(db, find_run(db, run))

    def settle(
        self, run: str, release_bytes: bytes, release_digest: str, certificate_json: str | Callable[[Entry], str]
    ) -> Entry:
        """`running` to `released`: the charge is spent, and bytes and certificate are kept, in one transaction.

        Args:
          certificate_json: the signed text, or a function that makes it from this run's own entry (number and hash).
            It runs inside the transaction, so it must be quick; what it raises undoes the settling.

        Returns:
          The entry. With the last run of a request, the request becomes `completed`.

        Raises:
          WrongStatus: the run is not running; or its request was revoked meanwhile, and the run has now failed.
        """
        with self._store.writing() as db:
            running = find_run(db, run)
            request = find_request(db, running.request)
            check_run_transition(running.status, RunStatus.RELEASED, run=run)
            if request.status is not RequestStatus.REVOKED:
                facts = {"release_digest": release_digest, "bytes_sha256": sha256(release_bytes)}
                entry = self.end(db, request, running, RunStatus.RELEASED, **facts)
                text = certificate_json if isinstance(certificate_json, str) else certificate_json(entry)
                db.execute(
                    "INSERT INTO releases (run, request, round, at, digest, certificate, bytes) VALUES (?,?,?,?,?,?,?)",
                    (run, running.request, running.round, entry.at, release_digest, text, release_bytes),
                )
                return entry
            self.end(db, request, running, RunStatus.FAILED, reason="revoked while it ran")
        raise WrongStatus(
            f"Request {request.id} was revoked while run {run} ran. Nothing is released; the charge stays."
        )

    def fail(self, run: str, reason_for_owner: str = "") -> Run:
        """`running` to `failed`: the charge is spent. The reason stays with the owner and enters no hash."""
        with self._store.writing() as db:
            running = find_run(db, run)
            check_run_transition(running.status, RunStatus.FAILED, run=run)
            self.end(db, find_request(db, running.request), running, RunStatus.FAILED, reason=reason_for_owner)
            return find_run(db, run)

    def void(self, run: str, reason_for_owner: str = "") -> Run:
        """`reserved` to `void`: nothing was read, and the request may use the run again. The reason is the owner's."""
        with self._store.writing() as db:
            return self.void_in(db, find_run(db, run), reason_for_owner)

    def expire_due(self) -> tuple[CodeRequestRecord, ...]:
        """Expire every approved request whose time, or whose project, is over, giving back what no run touched."""
        query = f"""SELECT id FROM requests WHERE status = 'approved' AND (expires_at <= :now OR id IN
          (SELECT request FROM filed JOIN projects ON projects.id = filed.project WHERE {HAS_ENDED}))"""
        with self._store.reading() as db:
            if not db.execute(query, self._moment()).fetchone():
                return ()
        with self._store.writing() as db:
            due = [find_request(db, row["id"]) for row in db.execute(query, self._moment()).fetchall()]
            return tuple(self._expire(db, record) for record in due)

    def _expire(self, db: sqlite3.Connection, record: CodeRequestRecord) -> CodeRequestRecord:
        project = project_of(db, record.id)
        if project is not None and project.has_ended(self._store.now()):
            self._requests.comment(db, record.id, "datasite", project.why_ended)
        return self.close(db, record, RequestStatus.EXPIRED, actor="datasite")

    def _moment(self) -> dict[str, str]:
        now = self._store.now()
        return {"now": now, "today": now[:10]}

    # Within a transaction

    def _check_admissible(
        self,
        db: sqlite3.Connection,
        record: CodeRequestRecord,
        round: int,
        weights_digest: str,
        once: Amount,
        reads: Patients,
    ) -> None:
        if record.status is not RequestStatus.APPROVED:
            raise WrongStatus(f"Request {record.id} is {record.status}, not approved. Nothing more can run on it.")
        if record.expires_at is not None and record.expires_at <= self._store.now():
            raise WrongStatus(f"The approval of request {record.id} expired at {record.expires_at}. Submit it again.")
        if not 1 <= round <= record.rounds:
            raise WrongStatus(
                f"round={round} is outside [1, {record.rounds}], what request {record.id} is approved for."
            )
        if not weights_digest:
            raise InvalidRequest("A run needs the digest of its weights, which may be of no weights but not empty.")
        if record.runs_left < 1:
            raise WrongStatus(
                f"All {record.rounds} runs of request {record.id} are used or under way. Submit a new request for more."
            )
        if not Charged.to(record.patients, _once(record)).covers(Charged.to(reads, once)):
            raise WrongStatus(f"The charge of request {record.id} is not within what was approved. Submit it again.")
        check_version(db, record)
        check_project(db, record.id, self._store.now())

    def admit_in(self, db: sqlite3.Connection, record: CodeRequestRecord, round: int, weights_digest: str) -> Run:
        """A new run of an approved request, `reserved`, with its entry."""
        self._entries.check_open(db)
        now = self._store.now()
        run = Run(uuid.uuid4().hex, record.id, round, weights_digest, RunStatus.RESERVED, now, now)
        db.execute(
            "INSERT INTO runs (id, request, round, weights_digest, status, created_at, changed_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (run.id, record.id, round, weights_digest, run.status.value, now, now),
        )
        facts: dict[str, Any] = {"round": round, "weights_digest": weights_digest}
        self._entries.append(
            db, EntryKind.ADMIT, "datasite", population=record.population, request=record.id, run=run.id, **facts
        )
        self._requests.update(db, record, open_runs=record.open_runs + 1)
        return run

    def start_in(self, db: sqlite3.Connection, run: Run) -> Run:
        """`reserved` to `running`, with its entry."""
        check_run_transition(run.status, RunStatus.RUNNING, run=run.id)
        self._entries.check_open(db)
        request = find_request(db, run.request)
        self._entries.append(
            db, EntryKind.START, "datasite", population=request.population, request=request.id, run=run.id
        )
        return self._set_run(db, run, RunStatus.RUNNING)

    def void_in(self, db: sqlite3.Connection, run: Run, reason: str | None = None) -> Run:
        """`reserved` to `void`, with its entry; the request may use the run again."""
        check_run_transition(run.status, RunStatus.VOID, run=run.id)
        request = find_request(db, run.request)
        self._entries.append(
            db, EntryKind.VOID, "datasite", population=request.population, request=request.id, run=run.id
        )
        self._requests.update(db, request, open_runs=request.open_runs - 1)
        return self._set_run(db, run, RunStatus.VOID, reason)

    def end(
        self,
        db: sqlite3.Connection,
        request: CodeRequestRecord,
        run: Run,
        status: RunStatus,
        *,
        reason: str | None = None,
        **facts: str,
    ) -> Entry:
        """Spend a running run's charge, and complete its request where it was the last."""
        once, population = _once(request), population_of(request)
        charged = Charged.to(request.patients, once)
        self._budgets.add(db, population, request.researcher, spent=charged, reserved=charged * -1)
        entry = self._entries.append(
            db,
            EntryKind.SETTLE if status is RunStatus.RELEASED else EntryKind.FAIL,
            "datasite",
            population=population,
            request=request.id,
            run=run.id,
            amount=once,
            patients=request.patients.value,
            **facts,
        )
        self._set_run(db, run, status, reason)
        request = self._requests.update(db, request, open_runs=request.open_runs - 1, attempts=request.attempts + 1)
        if request.status is RequestStatus.APPROVED and request.attempts == request.rounds:
            self._requests.move(db, request, RequestStatus.COMPLETED, actor="datasite")
        return entry

    def close(
        self, db: sqlite3.Connection, record: CodeRequestRecord, status: RequestStatus, *, actor: str
    ) -> CodeRequestRecord:
        """Give back what no run touched: all but the runs that ended or are running."""
        query = "SELECT id FROM runs WHERE request = ? AND status = 'reserved'"
        for row in db.execute(query, (record.id,)).fetchall():
            self.void_in(db, find_run(db, row["id"]))
        record = find_request(db, record.id)
        back = _once(record) * record.runs_left
        population, charged = population_of(record), Charged.to(record.patients, back)
        self._budgets.add(db, population, record.researcher, reserved=charged * -1)
        put_back(db, record.id, charged)
        self._entries.append(
            db,
            EntryKind.RETURN,
            actor,
            population=population,
            request=record.id,
            amount=back,
            patients=record.patients.value,
            before=record.status.value,
            status=status.value,
        )
        return self._requests.update(db, record, status=status)

    def _set_run(self, db: sqlite3.Connection, run: Run, status: RunStatus, reason: str | None = None) -> Run:
        changed = dataclasses.replace(run, status=status, changed_at=self._store.now(), reason=reason)
        db.execute(
            "UPDATE runs SET status = ?, changed_at = ?, reason = ? WHERE id = ?",
            (status.value, changed.changed_at, reason, run.id),
        )
        return changed


def _once(request: CodeRequestRecord) -> Amount:
    """The approved amount of one round."""
    return request.charge or Amount()


def _same_weights(live: Run, weights_digest: str) -> Run:
    if live.weights_digest != weights_digest:
        raise WrongStatus(
            f"Round {live.round} of request {live.request} is {live.status} for other weights."
            " Send the same weights to fetch it, or ask for the next round."
        )
    return live


def find_run(db: sqlite3.Connection, run: str) -> Run:
    """The run with this id. Raises `InvalidRequest`."""
    row = db.execute("SELECT * FROM runs WHERE id = ?", (run,)).fetchone()
    if row is None:
        raise InvalidRequest(f"There is no run {run} here.")
    return _run(row)


def live_run(db: sqlite3.Connection, request: str, round: int) -> Run | None:
    """The run of a round that is reserved, running or released, or None."""
    query = "SELECT * FROM runs WHERE request = ? AND round = ? AND status IN ('reserved', 'running', 'released')"
    row = db.execute(query, (request, round)).fetchone()
    return _run(row) if row else None


def _run(row: sqlite3.Row) -> Run:
    values = dict(row)
    return Run(**values | {"status": RunStatus(values["status"])})


def _release_line(row: sqlite3.Row) -> ReleaseLine:
    return ReleaseLine(**dict(row) | {"by_owner": bool(row["by_owner"])})


def _run_line(row: sqlite3.Row) -> RunLine:
    return RunLine(
        run=Run(**{name: row[name] for name in _RUN} | {"status": RunStatus(row["status"])}),
        function=row["function"],
        researcher=row["researcher"],
        dataset=row["dataset"],
        rounds=row["rounds"],
        request_status=RequestStatus(row["request_status"]),
        by_owner=bool(row["by_owner"]),
    )
