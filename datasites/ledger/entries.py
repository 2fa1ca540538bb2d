"""Entries of the ledger: their kinds and fields, and the part that reads and appends them.

Every entry is appended in the transaction that changes what it speaks of, so neither is there without the other.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from datasites.ledger.amounts import COLUMNS, Amount, Charged
from datasites.ledger.chain import Head, append, head_of
from datasites.ledger.store import EVERY, Store
from policies.canonical import canonical
from policies.errors import WrongStatus
from policies.privacy.mechanisms import Patients


class EntryKind(StrEnum):
    """What an entry records. `RESERVE`, `RETURN`, `SETTLE`, `FAIL` and `LOST` carry an amount; the others move none.

    `RESTORE` says that this ledger was put back from a copy and closes it; `ACCEPT` opens it again; `LOST` charges what
    was spent since the copy was made, as far as anybody knows, and never less. `SPLIT` gives those of a population's
    patients who train and those who are held out accounts of their own from then on. `PART` keeps a part of a
    population's budget for a project, changes it, or frees it; it moves nothing by itself.
    """

    POPULATION = "population"
    BUDGET = "budget"
    LIMIT = "limit"
    SPLIT = "split"
    PART = "part"
    PUBLICATION = "publication"
    RETIREMENT = "retirement"
    SUBMIT = "submit"
    STATUS = "status"
    RESERVE = "reserve"
    RETURN = "return"
    ADMIT = "admit"
    START = "start"
    SETTLE = "settle"
    FAIL = "fail"
    VOID = "void"
    RESTORE = "restore"
    LOST = "lost"
    ACCEPT = "accept"


@dataclass(frozen=True)
class Entry:
    """One row of the chain. `details` holds public facts; `hash` covers every other field, `prev` included."""

    seq: int
    at: str
    kind: EntryKind
    actor: str
    population: str | None
    request: str | None
    run: str | None
    amount: Amount
    details: dict[str, Any]
    prev: str
    hash: str

    @property
    def charged(self) -> Charged:
        """Its amount in the accounts that it belongs to: both, where the entry names no group of patients."""
        return Charged.to(Patients(self.details.get("patients", Patients.ALL)), self.amount)


def entry_from(row: dict[str, Any]) -> Entry:
    """The entry of a row of the table."""
    return Entry(
        seq=row["seq"],
        at=row["at"],
        kind=EntryKind(row["kind"]),
        actor=row["actor"],
        population=row["population"],
        request=row["request"],
        run=row["run"],
        amount=Amount(*(row[name] for name in COLUMNS)),
        details=json.loads(row["details"]),
        prev=row["prev"],
        hash=row["hash"],
    )


class Entries:
    """The entries of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def list(
        self,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int | None = None,
        request: str | None = None,
        population: str | None = None,
        newest_first: bool = False,
    ) -> tuple[Entry, ...]:
        """Entries numbered above `after` and below `before`, at most `limit`, of a request or population if given."""
        conditions = {"request": request, "population": population}
        used = {name: value for name, value in conditions.items() if value is not None}
        bounds = ["seq > :after"] if before is None else ["seq > :after", "seq < :before"]
        where = " AND ".join([*bounds, *(f"{name} = :{name}" for name in used)])
        order = "DESC" if newest_first else "ASC"
        query = f"SELECT * FROM entries WHERE {where} ORDER BY seq {order} LIMIT :limit"
        values = {**used, "after": after, "limit": EVERY if limit is None else limit}
        values |= {} if before is None else {"before": before}
        with self._store.reading() as db:
            return tuple(entry_from(dict(row)) for row in db.execute(query, values))

    def head(self) -> Head:
        """The last entry's number and hash: whoever keeps it can later tell that the chain goes through it."""
        with self._store.reading() as db:
            return head_of(db, "entries")

    # Within a transaction

    def append(
        self,
        db: sqlite3.Connection,
        kind: EntryKind,
        actor: str,
        *,
        population: str | None = None,
        request: str | None = None,
        run: str | None = None,
        amount: Amount | None = None,
        **details: Any,
    ) -> Entry:
        """Append one entry in the transaction that `db` is in; a witness must know all before it."""
        if self._store.follower is not None:
            self._store.follower.check()
        row = {
            "at": self._store.now(),
            "kind": kind.value,
            "actor": actor,
            "population": population,
            "request": request,
            "run": run,
            **dict(zip(COLUMNS, (amount or Amount()).as_row(), strict=True)),
            "details": canonical(details).decode(),
        }
        return entry_from(append(db, "entries", row))

    @staticmethod
    def check_open(db: sqlite3.Connection) -> None:
        """Raise `WrongStatus` where the ledger was put back from a copy and nobody has accepted it yet."""
        if restored_at(db):
            raise WrongStatus(
                "This datasite was restored from a copy and admits nothing yet: its owner has to run"
                " `datasite accept-restored` first. What was released can be fetched."
            )


def restored_at(db: sqlite3.Connection) -> int:
    """The entry that says that the ledger was put back from a copy, where it is still closed; else 0."""
    query = "SELECT seq, kind FROM entries WHERE kind IN ('restore', 'accept') ORDER BY seq DESC LIMIT 1"
    row = db.execute(query).fetchone()
    return row["seq"] if row is not None and row["kind"] == EntryKind.RESTORE else 0
