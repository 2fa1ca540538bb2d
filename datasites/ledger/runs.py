"""Runs of approved requests: admitted against a reservation, started, settled, failed or void.

What is reserved becomes spent when a run that was running ends, released or failed. Nothing else spends, and nothing
gives back what was spent.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from datasites.ledger.budgets import Populations
from datasites.ledger.entries import Amount, Entry, EntryKind, amount_of
from datasites.ledger.records import CodeRequestRecord, Run
from datasites.ledger.requests import find_request, find_run, live_run, sha256
from policies.errors import InvalidRequest, WrongStatus
from policies.source.statuses import RequestStatus, RunStatus, check_run_transition

if TYPE_CHECKING:
    from policies.privacy.accountant import Charge


class Runs(Populations):
    """Budgets, registers, and the runs that spend. See `Ledger` for all of it together."""

    def admit_run(self, request: str, round: int, weights_digest: str, charge: Charge) -> Run:
        """A new run, `reserved` against the approval, or the live one of this round and these weights.

        A round that was released, runs or waits is answered with that run, at no cost, whatever became of the request
        since. A failed or void one may be asked again while runs are left.

        Raises:
          WrongStatus: the round is taken by other weights; the request is not approved (any more); its runs are used;
            `charge` is not what was approved; or the dataset was retired.
        """
        once = amount_of(charge)
        with self.reading() as db:
            found, live = find_request(db, request), live_run(db, request, round)
        if live is not None:
            return _same_weights(live, weights_digest)
        if found.expires_at is not None and found.expires_at <= self.now():
            self.expire_due()
        with self.writing() as db:
            if live := live_run(db, request, round):
                return _same_weights(live, weights_digest)
            found = find_request(db, request)
            self._check_admissible(db, found, round, weights_digest, once)
            return self._admit(db, found, round, weights_digest)

    def start_run(self, run: str) -> Run:
        """`reserved` to `running`, durable: only then may private rows be read, and from here the charge stays.

        Raises `WrongStatus` where the run is not reserved: another has started it, or its request was closed.
        """
        with self.writing() as db:
            return self._start(db, find_run(db, run))

    def settle_run(
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
        with self.writing() as db:
            found = find_run(db, run)
            request = find_request(db, found.request)
            check_run_transition(found.status, RunStatus.RELEASED, run=run)
            if request.status is not RequestStatus.REVOKED:
                facts = {"release_digest": release_digest, "bytes_sha256": sha256(release_bytes)}
                entry = self._end(db, request, found, RunStatus.RELEASED, **facts)
                text = certificate_json if isinstance(certificate_json, str) else certificate_json(entry)
                db.execute(
                    "INSERT INTO releases (run, request, round, at, digest, certificate, bytes) VALUES (?,?,?,?,?,?,?)",
                    (run, found.request, found.round, entry.at, release_digest, text, release_bytes),
                )
                return entry
            self._end(db, request, found, RunStatus.FAILED, reason="revoked while it ran")
        raise WrongStatus(
            f"Request {request.id} was revoked while run {run} ran. Nothing is released; the charge stays."
        )

    def fail_run(self, run: str, reason_for_owner: str = "") -> Run:
        """`running` to `failed`: the charge is spent. The reason stays with the owner and enters no hash."""
        with self.writing() as db:
            found = find_run(db, run)
            check_run_transition(found.status, RunStatus.FAILED, run=run)
            self._end(db, find_request(db, found.request), found, RunStatus.FAILED, reason=reason_for_owner)
            return find_run(db, run)

    def void_run(self, run: str, reason_for_owner: str = "") -> Run:
        """`reserved` to `void`: nothing was read, and the request may use the run again. The reason is the owner's."""
        with self.writing() as db:
            return self._void(db, find_run(db, run), reason_for_owner)

    def expire_due(self) -> tuple[CodeRequestRecord, ...]:
        """Expire every approved request whose time is over, giving back what no run touched."""
        with self.reading() as db:
            query = "SELECT id FROM requests WHERE status = 'approved' AND expires_at <= ?"
            if not db.execute(query, (self.now(),)).fetchone():
                return ()
        with self.writing() as db:
            due = [find_request(db, row["id"]) for row in db.execute(query, (self.now(),)).fetchall()]
            return tuple(self._close(db, found, RequestStatus.EXPIRED, actor="datasite") for found in due)

    # Within a transaction

    def _check_admissible(
        self, db: sqlite3.Connection, found: CodeRequestRecord, round: int, weights_digest: str, once: Amount
    ) -> None:
        if found.status is not RequestStatus.APPROVED:
            raise WrongStatus(f"Request {found.id} is {found.status}, not approved. Nothing more can run on it.")
        if found.expires_at is not None and found.expires_at <= self.now():
            raise WrongStatus(f"The approval of request {found.id} expired at {found.expires_at}. Submit it again.")
        if not 1 <= round <= found.rounds:
            raise WrongStatus(f"round={round} is outside [1, {found.rounds}], what request {found.id} is approved for.")
        if not weights_digest:
            raise InvalidRequest("A run needs the digest of its weights, which may be of no weights but not empty.")
        if found.runs_left < 1:
            raise WrongStatus(
                f"All {found.rounds} runs of request {found.id} are used or under way. Submit a new request for more."
            )
        if once != _once(found):
            raise WrongStatus(f"The charge of request {found.id} is not the one that was approved. Submit it again.")
        check_version(db, found)

    def _admit(self, db: sqlite3.Connection, found: CodeRequestRecord, round: int, weights_digest: str) -> Run:
        self._check_open(db)
        now = self.now()
        run = Run(uuid.uuid4().hex, found.id, round, weights_digest, RunStatus.RESERVED, now, now)
        db.execute(
            "INSERT INTO runs (id, request, round, weights_digest, status, created_at, changed_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (run.id, found.id, round, weights_digest, run.status.value, now, now),
        )
        facts: dict[str, Any] = {"round": round, "weights_digest": weights_digest}
        self._enter(db, EntryKind.ADMIT, "datasite", population=found.population, request=found.id, run=run.id, **facts)
        self._update_request(db, found, open_runs=found.open_runs + 1)
        return run

    def _start(self, db: sqlite3.Connection, run: Run) -> Run:
        check_run_transition(run.status, RunStatus.RUNNING, run=run.id)
        self._check_open(db)
        request = find_request(db, run.request)
        self._enter(db, EntryKind.START, "datasite", population=request.population, request=request.id, run=run.id)
        return self._set_run(db, run, RunStatus.RUNNING)

    def _void(self, db: sqlite3.Connection, run: Run, reason: str | None = None) -> Run:
        check_run_transition(run.status, RunStatus.VOID, run=run.id)
        request = find_request(db, run.request)
        self._enter(db, EntryKind.VOID, "datasite", population=request.population, request=request.id, run=run.id)
        self._update_request(db, request, open_runs=request.open_runs - 1)
        return self._set_run(db, run, RunStatus.VOID, reason)

    def _end(
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
        once, population = _once(request), self._population_of(db, request)
        self._add(db, population, request.researcher, spent=once, reserved=Amount() - once)
        entry = self._enter(
            db,
            EntryKind.SETTLE if status is RunStatus.RELEASED else EntryKind.FAIL,
            "datasite",
            population=population,
            request=request.id,
            run=run.id,
            amount=once,
            **facts,
        )
        self._set_run(db, run, status, reason)
        request = self._update_request(db, request, open_runs=request.open_runs - 1, attempts=request.attempts + 1)
        if request.status is RequestStatus.APPROVED and request.attempts == request.rounds:
            self._move(db, request, RequestStatus.COMPLETED, actor="datasite")
        return entry

    def _close(
        self, db: sqlite3.Connection, found: CodeRequestRecord, status: RequestStatus, *, actor: str
    ) -> CodeRequestRecord:
        """Give back what no run touched: all but the runs that ended or are running."""
        query = "SELECT id FROM runs WHERE request = ? AND status = 'reserved'"
        for row in db.execute(query, (found.id,)).fetchall():
            self._void(db, find_run(db, row["id"]))
        found = find_request(db, found.id)
        back = _once(found) * found.runs_left
        population = self._population_of(db, found)
        self._add(db, population, found.researcher, reserved=Amount() - back)
        self._enter(
            db,
            EntryKind.RETURN,
            actor,
            population=population,
            request=found.id,
            amount=back,
            before=found.status.value,
            status=status.value,
        )
        return self._update_request(db, found, status=status)

    def _set_run(self, db: sqlite3.Connection, run: Run, status: RunStatus, reason: str | None = None) -> Run:
        changed = replace(run, status=status, changed_at=self.now(), reason=reason)
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


def check_version(db: sqlite3.Connection, found: CodeRequestRecord) -> None:
    """Raise `WrongStatus` where the request's dataset version is known here and not published."""
    row = db.execute("SELECT status FROM datasets WHERE version = ?", (found.version,)).fetchone()
    if row is not None and row["status"] != "published":
        raise WrongStatus(f"The version of {found.dataset!r} that request {found.id} names is {row['status']}.")
