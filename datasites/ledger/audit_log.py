"""Audit log of a datasite, who did what: append-only and hash-chained, in the ledger's file.

It holds public facts only: no private value, no secret, no diagnostics of a run. The ledger's own entries are about
privacy loss; this log is about people, and covers what moves no budget too (logins, passwords, accounts, settings).
"""

from __future__ import annotations

import getpass
import json
import os
from dataclasses import dataclass
from typing import Any

from datasites.ledger.chain import Head, append, check_chain, head_of
from datasites.ledger.store import EVERY, Store
from policies.canonical import canonical


@dataclass(frozen=True)
class AuditEntry:
    """One row of the log: when (UTC), `who` did `what` to which `object`, with public details."""

    seq: int
    at: str
    who: str
    what: str
    object: str
    details: dict[str, Any]
    prev: str
    hash: str


class AuditLog:
    """The audit log in a store, which is the ledger's."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def record(self, who: str, what: str, object: str = "", **details: object) -> AuditEntry:
        """Append one row, durable on return. Raises `Unavailable` where it cannot be written.

        Args:
          who: an account's e-mail, or `os_user()` for somebody at the host.
          what: one or two words, as `approve` or `password reset`.
          object: what it was done to, as a request's id.
          details: public facts, of kinds that JSON has.
        """
        store = self._store
        row = {
            "at": store.now(),
            "who": who,
            "what": what,
            "object": object,
            "details": canonical(details).decode(),
        }
        with store.writing() as db:
            return _entry(append(db, "audit", row))

    def entries(
        self,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        search: str = "",
    ) -> tuple[AuditEntry, ...]:
        """Rows numbered above `after` and below `before`, at most `limit`, of which any column holds `search`."""
        order = "DESC" if newest_first else "ASC"
        values: list[Any] = [after]
        where = "seq > ?"
        if before is not None:
            where, values = f"{where} AND seq < ?", [*values, before]
        if search:
            where += " AND instr(lower(who || char(10) || what || char(10) || object || char(10) || details), ?) > 0"
            values.append(search.lower())
        query = f"SELECT * FROM audit WHERE {where} ORDER BY seq {order} LIMIT ?"
        with self._store.reading() as db:
            return tuple(_entry(dict(row)) for row in db.execute(query, (*values, EVERY if limit is None else limit)))

    def head(self) -> Head:
        """The last row's number and hash."""
        with self._store.reading() as db:
            return head_of(db, "audit")

    def verify(self) -> Head:
        """Recompute the chain and return its head. Raises `LedgerDamaged` at the first row that is not sound."""
        with self._store.reading() as db:
            for _ in check_chain(db, "audit"):
                pass
            return head_of(db, "audit")


def os_user() -> str:
    """The operating system's user of this process, as `os:name`."""
    try:
        return f"os:{getpass.getuser()}"
    except (KeyError, OSError):  # a user id without a name, as in containers
        return f"os:{os.getuid()}"


def _entry(row: dict[str, Any]) -> AuditEntry:
    return AuditEntry(**row | {"details": json.loads(row["details"])})
