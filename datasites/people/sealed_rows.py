"""Rows of the console's accounts, sessions and invitations, in the ledger's PostgreSQL database.

Each row has a seal, a keyed hash of all that stands in it under a key that stays in the directory. Whoever can write
the database can so make nobody a reviewer and sign nobody in: a row that the datasite did not write is refused wherever
it is read. A row that it once wrote can be put back, or taken away.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from datasites.ledger.database import Database
from datasites.ledger.postgres import PostgresSessions, postgres_definition, postgres_errors
from datasites.people.rows import TABLES, ConsoleRows, Execute, Row
from policies.errors import DatasiteError


class SealedRows(ConsoleRows, PostgresSessions):
    """In PostgreSQL, over one connection, sealed. Raises `Unavailable` where the server does not answer."""

    _lock_rows = " FOR UPDATE"

    def __init__(self, database: Database, key: bytes) -> None:
        PostgresSessions.__init__(self, database, per_thread=False)
        self._key = key
        with self._transaction() as execute:
            there = "SELECT to_regclass(quote_ident(current_schema()) || '.invitations') IS NOT NULL AS there"
            if not execute(there, ())[0]["there"]:
                execute("SELECT pg_advisory_xact_lock(720821163018)", ())  # two that make them do it in turn
                for statement in TABLES:
                    sealed = re.sub(r"\)\s+STRICT$", ", seal TEXT NOT NULL) STRICT", statement)
                    for made in postgres_definition(sealed):
                        execute(made, ())

    def close(self) -> None:
        PostgresSessions.close(self)

    @contextmanager
    def _transaction(self, *, snapshot: bool = False) -> Iterator[Execute]:
        with self._lock:
            level = "REPEATABLE READ READ ONLY" if snapshot else "READ COMMITTED"
            db = self._begun(f"BEGIN ISOLATION LEVEL {level}")

            def execute(query: str, values: tuple[Any, ...]) -> list[Row]:
                cursor = db.execute(query, values)
                return [dict(zip(row.keys(), row, strict=True)) for row in cursor] if cursor.has_rows else []

            with postgres_errors():
                try:
                    yield execute
                    number = db.raw.execute("SELECT pg_current_xact_id_if_assigned()::text").fetchone()
                    self._commit(db, number[0] if number is not None else None)
                except BaseException:
                    self._undo(db)
                    raise

    def _stored(self, table: str, row: Mapping[str, Any]) -> Row:
        return {**row, "seal": self._seal(table, row)}

    def _read(self, table: str, row: Row) -> Row:
        seal = row.pop("seal")
        if not hmac.compare_digest(seal.encode(), self._seal(table, row).encode()):
            raise DatasiteError(
                f"A row of {table} in the ledger's database was not written by this datasite. It is of no use until the"
                " database's team puts back what was there, or deletes the row."
            )
        return row

    def _seal(self, table: str, row: Mapping[str, Any]) -> str:
        text = json.dumps([table, sorted(row.items())])
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
