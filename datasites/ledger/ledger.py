"""The privacy ledger: reserve at approval, run, settle per round; what left is charged, what was charged is recorded.

A population's budget is a Rényi filter (Feldman and Zrnic 2021; Haney et al. 2023, arXiv:2309.05901) at one order,
fixed with δ when the population is created: what is spent and reserved never exceeds its capacity, ε less the
conversion of δ at that order. Admission compares running totals, so the hundred-thousandth entry is admitted as fast
as the first.

`Ledger` owns the store and puts its parts together; it has only what crosses them. A request's status, its reservation
and their entry are written in one transaction. From `runs.start` on the charge stays, whatever happens. `verify`
recomputes all of it from the entries (`verification.py`).
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from datasites.ledger.admission import Asked
from datasites.ledger.amounts import Charged, amount_of
from datasites.ledger.attachments import Attachments
from datasites.ledger.budgets import Budgets, population_of, split_of
from datasites.ledger.chain import Head, sha256
from datasites.ledger.database import Database, Place
from datasites.ledger.datasets import Datasets, check_version
from datasites.ledger.entries import Entries, EntryKind
from datasites.ledger.kept import draw, part_for
from datasites.ledger.parts import Parts
from datasites.ledger.projects import Projects, check_project
from datasites.ledger.records import CodeRequestRecord, DatasetRecord, Run, findings_text
from datasites.ledger.recovery import Recovery
from datasites.ledger.requests import Requests, find_request, votes_of
from datasites.ledger.runs import Runs, find_run
from datasites.ledger.store import Store, iso, utc_now
from datasites.ledger.verification import replay
from datasites.ledger.witness import Witness
from datasites.ledger.years import YearlyPlan
from policies.canonical import canonical
from policies.errors import InvalidRequest, WrongStatus
from policies.privacy.accountant import Charge
from policies.privacy.mechanisms import Patients
from policies.source.findings import Finding
from policies.source.statuses import Party, RequestStatus, RunStatus, Side, check_transition

TAKEN_BACK = "The data owner has taken the dataset {} back. Nothing more is released of it; ask for another one."
REPLACED = "A new version of the dataset {} was published, and this request was for the one before. Submit it again."
"""What a researcher reads of a request that was closed with its dataset."""


@dataclass(frozen=True)
class Unfinished:
    """What `recover` found unfinished: runs made void (not charged) and failed (charged), versions never published."""

    voided: tuple[Run, ...]
    failed: tuple[Run, ...]
    unstaged: tuple[DatasetRecord, ...]


class Ledger:
    """One datasite's ledger. `create` or `open` it; share it between threads; open it once per process.

    Attributes:
      store: the SQLite file or the database, and its transactions.
      entries: the chain.
      budgets: populations, what each may lose and has lost.
      datasets: versions of published tables.
      requests: code requests, comments and votes.
      projects: agreements that requests are filed under, each with an end.
      attachments: what is known of the files that belong to a request or a project.
      parts: what of the populations' budgets is kept for projects.
      runs: runs of approved requests, and releases.
      recovery: what becomes of a ledger that was put back from a copy.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.entries = Entries(store)
        self.budgets = Budgets(store, self.entries)
        self.datasets = Datasets(store, self.entries, self.budgets)
        self.requests = Requests(store, self.entries)
        self.projects = Projects(store)
        self.attachments = Attachments(store)
        self.parts = Parts(store, entries=self.entries, budgets=self.budgets)
        self.runs = Runs(store, self.entries, self.budgets, self.requests)
        self.datasets.retiring = self._close_requests
        self.recovery = Recovery(store, self.entries, self.budgets, self.runs)

    @classmethod
    def create(cls, place: Place, *, clock: Callable[[], datetime] = utc_now, busy_seconds: float = 10.0) -> Self:
        """A new ledger in a file or a database, as `Store.create`."""
        if isinstance(place, Database):
            from datasites.ledger.postgres import PostgresStore

            return cls(PostgresStore.create(place, clock=clock, busy_seconds=busy_seconds))
        return cls(Store.create(place, clock=clock, busy_seconds=busy_seconds))

    @classmethod
    def open(cls, place: Place, *, clock: Callable[[], datetime] = utc_now, busy_seconds: float = 10.0) -> Self:
        """The ledger in a file or a database, as `Store`."""
        if isinstance(place, Database):
            from datasites.ledger.postgres import PostgresStore

            return cls(PostgresStore(place, clock=clock, busy_seconds=busy_seconds))
        return cls(Store(place, clock=clock, busy_seconds=busy_seconds))

    def close(self) -> None:
        """Close every connection of this process."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def backup(self, path: str | Path) -> None:
        """A consistent copy at `path`, which must not exist, readable by its user alone."""
        self.store.backup(path)

    @property
    def witness(self) -> Witness | None:
        """Who follows every entry outside of the file; None where nobody does. `recovery.attach` gives one."""
        return self.recovery.witness

    @witness.setter
    def witness(self, witness: Witness | None) -> None:
        self.recovery.witness = witness

    # The researcher's request

    def submit(self, record: CodeRequestRecord, *, project: str = "") -> CodeRequestRecord:
        """Keep a new request as `submitted`, filed under a project in the same transaction where one is named.

        Raises what `requests.submit` and `projects.file` do; then nothing is kept.
        """
        with self.store.writing() as db:
            kept = self.requests.submit_in(db, record)
            if project:
                self.projects.file_in(db, kept.id, project)
            return kept

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
        plan: YearlyPlan | None = None,
        comment: str | None = None,
        voters: tuple[Side, ...] = (),
        acceptance: str | None = None,
    ) -> CodeRequestRecord:
        """`checked` to `approved`, with `rounds` times `charge` reserved in the same transaction.

        Args:
          plan_digest: of the plan that the owner saw; must be the record's.
          charge: of one round, at the population's order.
          expires_at: from when on no run is admitted.
          researcher_epsilon: the policy's limit for researchers who have none of their own.
          plan: the policy's yearly plan of the population; the entry names it.
          voters: the sides that must have voted for this plan; the entry names them and who they were.
          acceptance: digest of the owner's word for this request's shared noise, by which `charge` is the lesser one;
            the entry names it.

        Raises:
          BudgetExceeded: what is left of the population's budget, of this year's part of it or of the researcher's
            limit is too little; nothing changed.
          WrongStatus: the request is not `checked`, its plan is another, a side has not voted, or its dataset was
            retired.
        """
        amount_of(charge)
        if not 1 <= rounds <= 1000:
            raise InvalidRequest(f"rounds={rounds} is outside [1, 1000].")
        if iso(expires_at) <= self.store.now():
            raise InvalidRequest(
                f"An approval until {iso(expires_at)} would have expired already. Choose a later time."
            )
        self.expire_due()  # what an expired approval holds is free for this one
        with self.store.writing() as db:
            record = find_request(db, request)
            check_transition(record.status, RequestStatus.APPROVED, request=request, party=Party.OWNER)
            if record.plan_digest != plan_digest:
                raise WrongStatus(f"The plan of request {request} is not the one that was shown. Look at it again.")
            check_version(db, record)
            check_project(db, request, self.store.now())
            votes = _votes(db, record, voters)
            if comment:
                self.requests.comment(db, request, actor, comment)
            return self._reserve(
                db,
                record,
                charge,
                rounds,
                actor=actor,
                expires_at=iso(expires_at),
                limit=researcher_epsilon,
                plan=plan,
                acceptance=acceptance,
                **votes,
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
        with self.store.writing() as db:
            record = find_request(db, request)
            check_transition(record.status, status, request=request, party=party)
            if status is RequestStatus.CHECKED and record.plan_digest is None:
                raise WrongStatus(f"Request {request} has no plan yet. Give it with check.")
            if comment:
                self.requests.comment(db, request, actor, comment)
            if record.status is RequestStatus.APPROVED:
                return self.runs.close(db, record, status, actor=actor)
            changes = {} if findings is None else {"findings_json": findings_text(findings)}
            return self.requests.move(db, record, status, actor=actor, **changes)

    # The datasite's own

    def charge_now(
        self,
        population: str,
        charge: Charge,
        *,
        dataset: str,
        version: str,
        actor: str,
        what: str,
        plan: YearlyPlan | None = None,
    ) -> Run:
        """A running run of the datasite's own, without a code request: for a dataset's DP count.

        The charge is reserved and the run is durable as running when this returns. Draw the noise after it, then
        `runs.settle` or `runs.fail` as any other. It shows in `requests.list(by_owner=True)`.

        Raises `BudgetExceeded` where it does not fit.
        """
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
        with self.store.writing() as db:
            record = self.requests.insert(db, record, RequestStatus.CHECKED, actor=actor)
            record = self._reserve(db, record, charge, 1, actor=actor, expires_at=None, limit=None, plan=plan)
            run = self.runs.start_in(db, self.runs.admit_in(db, record, 1, sha256("")))
        if self.witness is not None:
            self.witness.check()  # or rows would be read for a charge that it has not seen; `recover` ends the run
        return run

    def expire_due(self) -> tuple[CodeRequestRecord, ...]:
        """Expire every approved request whose time is over, giving back what no run touched; so do ended projects."""
        if self.parts.any_ended():
            with self.store.writing() as db:
                self.parts.free_ended(db)
        return self.runs.expire_due()

    def recover(self) -> Unfinished:
        """Make a ledger true again after a crash; for the one process that serves it, before it admits anything.

        Reserved runs become void and running ones failed, their charge kept; staged dataset versions are removed;
        approvals whose time is over expire.
        """
        with self.store.writing() as db:
            rows = db.execute("SELECT id, status FROM runs WHERE status IN ('reserved', 'running')").fetchall()
            voided = tuple(
                self.runs.void_in(db, find_run(db, row["id"])) for row in rows if row["status"] == "reserved"
            )
            failed = []
            for row in rows:
                if row["status"] == "running":
                    run = find_run(db, row["id"])
                    reason = "the datasite stopped while it ran"
                    self.runs.end(db, find_request(db, run.request), run, RunStatus.FAILED, reason=reason)
                    failed.append(find_run(db, run.id))
            unstaged = self.datasets.remove_staged(db)
        self.expire_due()
        return Unfinished(voided, tuple(failed), unstaged)

    # Checking

    def verify(self, *, heads: tuple[tuple[int, str], ...] = ()) -> Head:
        """Recompute chain, totals, reservations and releases from the entries, and return the chain's head.

        Args:
          heads: (number, hash) pairs kept elsewhere, as in certificates, through which the chain must go. Without one,
            entries removed from the end together with all they changed cannot be told from ones never written.

        Raises:
          LedgerDamaged: naming the first thing that does not agree.
        """
        with self.store.reading() as db:
            return replay(db, heads)

    # Within a transaction

    def _close_requests(self, db: sqlite3.Connection, record: DatasetRecord, actor: str, *, replaced: bool) -> None:
        """Close every request on a dataset version that is retired; what no run touched returns to the budget.

        A round that is running fails where the dataset is taken back, and goes on where another version replaces it.
        """
        query = """SELECT id FROM requests WHERE version = ? AND by_owner = 0
            AND status IN ('submitted', 'checked', 'approved') ORDER BY submitted_at, rowid"""
        for row in db.execute(query, (record.version,)).fetchall():
            request = find_request(db, row["id"])
            self.requests.comment(db, request.id, actor, (REPLACED if replaced else TAKEN_BACK).format(record.name))
            if request.status is RequestStatus.APPROVED:
                closed = RequestStatus.EXPIRED if replaced else RequestStatus.REVOKED
                self.runs.close(db, request, closed, actor=actor)
            else:
                self.requests.move(db, request, RequestStatus.DENIED, actor=actor)

    def _reserve(
        self,
        db: sqlite3.Connection,
        record: CodeRequestRecord,
        charge: Charge,
        rounds: int,
        *,
        actor: str,
        expires_at: str | None,
        limit: float | None,
        plan: YearlyPlan | None,
        acceptance: str | None = None,
        **facts: Any,
    ) -> CodeRequestRecord:
        self.entries.check_open(db)
        population, once = population_of(record), amount_of(charge)
        self.budgets.split(db, population, actor="datasite")
        self.parts.free_ended(db)
        patients = Patients.ALL if split_of(db, population) is None else charge.reads
        total = Charged.to(patients, once * rounds)
        part = part_for(db, record, total, self.store.now())
        limited = () if record.by_owner else (record.researcher,)
        standing = self.budgets.standing_in(db, population, plan=plan, researchers=limited, limit=limit)
        standing.check(Asked(total, record.researcher, part.id if part else None))
        self.budgets.add(db, population, record.researcher, reserved=total)
        if part is not None:
            draw(db, part, record.id, total)
            facts["part"] = part.id
        if plan is not None:
            facts["plan"] = {"epsilon": repr(float(plan.epsilon)), "carry_over_since": plan.carry_over_since}
        accepted = {} if acceptance is None else {"acceptance": acceptance}
        self.entries.append(
            db,
            EntryKind.RESERVE,
            actor,
            population=population,
            request=record.id,
            amount=once * rounds,
            patients=patients.value,
            researcher=record.researcher,
            status=RequestStatus.APPROVED.value,
            rounds=rounds,
            once=once.as_dict(),
            plan_digest=record.plan_digest,
            plan_sha256=sha256(record.plan_json or ""),
            expires_at=expires_at,
            **accepted,
            **facts,
        )
        charge_json = canonical({**once.as_dict(), "patients": patients.value, **accepted}).decode()
        return self.requests.update(
            db, record, status=RequestStatus.APPROVED, rounds=rounds, charge_json=charge_json, expires_at=expires_at
        )


def _votes(db: sqlite3.Connection, record: CodeRequestRecord, voters: tuple[Side, ...]) -> dict[str, Any]:
    """The votes that an approval's entry names. Raises `WrongStatus` unless every side voted, each another person."""
    if not voters:
        return {}
    votes = [vote for vote in votes_of(db, record.id) if vote.side in voters and vote.plan_digest == record.plan_digest]
    missing = set(voters) - {vote.side for vote in votes}
    if missing or len({vote.actor for vote in votes}) != len(voters):
        who = " and the ".join(side.value.replace("_", " ") for side in sorted(missing)) or "other person"
        raise WrongStatus(f"Request {record.id} waits for the vote of the {who}.")
    return {"votes": [{"side": vote.side.value, "actor": vote.actor, "at": vote.at} for vote in votes]}
