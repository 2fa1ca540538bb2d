"""The privacy ledger: reserve at approval, run, settle per round; what left is charged, what was charged is recorded.

A population's budget is a Rényi filter (Feldman and Zrnic 2021; Haney et al. 2023, arXiv:2309.05901) at one order,
fixed with δ when the population is created: what is spent and reserved never exceeds its capacity, ε less the
conversion of δ at that order. Admission compares running totals, so the hundred-thousandth entry is admitted as fast
as the first.

A request's status, its reservation and their entry are written in one transaction. From `start_run` on the charge
stays, whatever happens. `verify` recomputes all of it from the entries (`replay.py`).
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from datasites.ledger.entries import Amount, EntryKind, amount_of
from datasites.ledger.records import CodeRequestRecord, DatasetRecord, Run, findings_text
from datasites.ledger.recovery import Restores
from datasites.ledger.requests import Head, find_request, find_run, sha256, votes_of
from datasites.ledger.runs import check_version
from datasites.ledger.store import canonical, iso
from datasites.ledger.verification import replay
from policies.errors import InvalidRequest, WrongStatus
from policies.source.findings import Finding
from policies.source.statuses import Party, RequestStatus, RunStatus, Side, check_transition

if TYPE_CHECKING:
    from policies.privacy.accountant import Charge


@dataclass(frozen=True)
class Recovery:
    """What `recover` found unfinished: runs made void (not charged) and failed (charged), versions never published."""

    voided: tuple[Run, ...]
    failed: tuple[Run, ...]
    unstaged: tuple[DatasetRecord, ...]


class Ledger(Restores):
    """One datasite's ledger. `create` or `open` a file; share it between threads; open it once per process."""

    # The owner's decision

    def approve(
        self,
        request: str,
        *,
        actor: str,
        plan_digest: str,
        charge: Charge,
        rounds: int,
        expires_at: datetime,
        researcher_epsilon: float | None = None,
        comment: str | None = None,
        voters: tuple[Side, ...] = (),
    ) -> CodeRequestRecord:
        """`checked` to `approved`, with `rounds` times `charge` reserved in the same transaction.

        Args:
          plan_digest: of the plan that the owner saw; must be the record's.
          charge: of one round, at the population's order.
          expires_at: from when on no run is admitted.
          researcher_epsilon: the policy's limit for researchers who have none of their own.
          voters: the sides that must have voted for this plan; the entry names them and who they were.

        Raises:
          BudgetExceeded: what is left of the population's or the researcher's budget is too little; nothing changed.
          WrongStatus: the request is not `checked`, its plan is another, a side has not voted, or its dataset was
            retired.
        """
        once = amount_of(charge)
        if not 1 <= rounds <= 1000:
            raise InvalidRequest(f"rounds={rounds} is outside [1, 1000].")
        if iso(expires_at) <= self.now():
            raise InvalidRequest(
                f"An approval until {iso(expires_at)} would have expired already. Choose a later time."
            )
        self.expire_due()  # what an expired approval holds is free for this one
        with self.writing() as db:
            found = find_request(db, request)
            check_transition(found.status, RequestStatus.APPROVED, request=request, party=Party.OWNER)
            if found.plan_digest != plan_digest:
                raise WrongStatus(f"The plan of request {request} is not the one that was shown. Look at it again.")
            check_version(db, found)
            votes = _votes(db, found, voters)
            if comment:
                self._comment(db, request, actor, comment)
            return self._reserve(
                db, found, once, rounds, actor=actor, expires_at=iso(expires_at), limit=researcher_epsilon, **votes
            )

    def transition(
        self,
        request: str,
        to_status: RequestStatus | str,
        *,
        actor: str,
        comment: str | None = None,
        party: Party | None = None,
        findings: Iterable[Finding] | None = None,
    ) -> CodeRequestRecord:
        """Deny, ask for changes, withdraw, revoke or expire. An approved request gives back what no run touched.

        A run that is running goes on, and its charge stays; one that only was reserved becomes void. `party`, where
        given, must be one that may make this move.

        Raises:
          WrongStatus: not from the status it is in, or not by `party`; or the status has a method of its own.
        """
        status = RequestStatus(to_status)
        if status in (RequestStatus.APPROVED, RequestStatus.COMPLETED):
            raise WrongStatus(f"A request becomes {status} by approve or by its last run, not by transition.")
        with self.writing() as db:
            found = find_request(db, request)
            check_transition(found.status, status, request=request, party=party)
            if status is RequestStatus.CHECKED and found.plan_digest is None:
                raise WrongStatus(f"Request {request} has no plan yet. Give it with check.")
            if comment:
                self._comment(db, request, actor, comment)
            if found.status is RequestStatus.APPROVED:
                return self._close(db, found, status, actor=actor)
            changes = {} if findings is None else {"findings_json": findings_text(findings)}
            return self._move(db, found, status, actor=actor, **changes)

    # The datasite's own

    def charge_now(self, population: str, charge: Charge, *, dataset: str, version: str, actor: str, what: str) -> Run:
        """A running run of the datasite's own, without a code request: for a dataset's DP count.

        The charge is reserved and the run is durable as running when this returns. Draw the noise after it, then
        `settle_run` or `fail_run` as any other. It shows in `list(by_owner=True)`.

        Raises `BudgetExceeded` where it does not fit.
        """
        once = amount_of(charge)
        record = CodeRequestRecord(
            id=uuid.uuid4().hex,
            function=what,
            researcher=actor,
            dataset=dataset,
            version=version,
            population=population,
            source="",
            by_owner=True,
        )
        with self.writing() as db:
            found = self._insert_request(db, record, RequestStatus.CHECKED, actor=actor)
            found = self._reserve(db, found, once, 1, actor=actor, expires_at=None, limit=None)
            run = self._start(db, self._admit(db, found, 1, sha256("")))
        if self.witness is not None:
            self.witness.check()  # or rows would be read for a charge that it has not seen; `recover` ends the run
        return run

    def recover(self) -> Recovery:
        """Make a ledger true again after a crash; for the one process that serves it, before it admits anything.

        Reserved runs become void and running ones failed, their charge kept; staged dataset versions are removed;
        approvals whose time is over expire.
        """
        with self.writing() as db:
            rows = db.execute("SELECT id, status FROM runs WHERE status IN ('reserved', 'running')").fetchall()
            voided = tuple(self._void(db, find_run(db, row["id"])) for row in rows if row["status"] == "reserved")
            failed = []
            for row in rows:
                if row["status"] == "running":
                    run = find_run(db, row["id"])
                    reason = "the datasite stopped while it ran"
                    self._end(db, find_request(db, run.request), run, RunStatus.FAILED, reason=reason)
                    failed.append(find_run(db, run.id))
            staged = db.execute("SELECT * FROM datasets WHERE status = 'staged'").fetchall()
            db.execute("DELETE FROM datasets WHERE status = 'staged'")
        unstaged = tuple(DatasetRecord(**dict(row)) for row in staged)
        self.expire_due()
        return Recovery(voided, tuple(failed), unstaged)

    # Checking

    def verify(self, *, heads: tuple[tuple[int, str], ...] = ()) -> Head:
        """Recompute chain, totals, reservations and releases from the entries, and return the chain's head.

        Args:
          heads: (number, hash) pairs kept elsewhere, as in certificates, through which the chain must go. Without one,
            entries removed from the end together with all they changed cannot be told from ones never written.

        Raises:
          LedgerDamaged: naming the first thing that does not agree.
        """
        with self.reading() as db:
            return replay(db, heads)

    # Within a transaction

    def _reserve(
        self,
        db: sqlite3.Connection,
        found: CodeRequestRecord,
        once: Amount,
        rounds: int,
        *,
        actor: str,
        expires_at: str | None,
        limit: float | None,
        **facts: Any,
    ) -> CodeRequestRecord:
        self._check_open(db)
        total = once * rounds
        population = self._population_of(db, found)
        self._check_fits(db, found, total, limit=limit)
        self._add(db, population, found.researcher, reserved=total)
        self._enter(
            db,
            EntryKind.RESERVE,
            actor,
            population=population,
            request=found.id,
            amount=total,
            researcher=found.researcher,
            status=RequestStatus.APPROVED.value,
            rounds=rounds,
            once=once.as_dict(),
            plan_digest=found.plan_digest,
            plan_sha256=sha256(found.plan_json or ""),
            expires_at=expires_at,
            **facts,
        )
        charge_json = canonical(once.as_dict()).decode()
        return self._update_request(
            db, found, status=RequestStatus.APPROVED, rounds=rounds, charge_json=charge_json, expires_at=expires_at
        )


def _votes(db: sqlite3.Connection, found: CodeRequestRecord, voters: tuple[Side, ...]) -> dict[str, Any]:
    """The votes that an approval's entry names. Raises `WrongStatus` unless every side voted, each another person."""
    if not voters:
        return {}
    votes = [each for each in votes_of(db, found.id) if each.side in voters and each.plan_digest == found.plan_digest]
    missing = set(voters) - {each.side for each in votes}
    if missing or len({each.actor for each in votes}) != len(voters):
        who = " and the ".join(side.value.replace("_", " ") for side in sorted(missing)) or "other person"
        raise WrongStatus(f"Request {found.id} waits for the vote of the {who}.")
    return {"votes": [{"side": each.side.value, "actor": each.actor, "at": each.at} for each in votes]}
