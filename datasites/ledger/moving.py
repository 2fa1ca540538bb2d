"""A ledger moved from its file into a PostgreSQL database.

Every row is copied as it is, chains of hashes included, so each place verifies as the other does.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from datasites.files import sync_directory
from datasites.ledger.audit_log import AuditLog
from datasites.ledger.chain import Head, ledger_name
from datasites.ledger.copying import NUMBERED, TABLE_NAMES
from datasites.ledger.database import Database
from datasites.ledger.ledger import Ledger
from datasites.ledger.postgres import PostgresConnection, connect, has_ledger, make_tables, postgres_errors
from policies.errors import DatasiteError

MOVED = "ledger.moved.db"
"""The name of a ledger's file once the ledger is elsewhere: nothing opens it."""


def move_into_database(file: Path, database: Database) -> Head:
    """Move the ledger in `file` into an empty schema; answers where it ends. The file is renamed to `MOVED` after it.

    Nobody may have the ledger open. Interrupted at any moment, it is done again and ends the same.

    Raises:
      DatasiteError: there is no such file, or the database has another ledger.
      LedgerDamaged: the ledger does not verify.
      Unavailable: the database does not answer; the ledger is still the file.
    """
    if not file.is_file():
        raise DatasiteError(f"There is no {file}: nothing is to be moved.")
    with Ledger.open(file) as ledger:
        heads = ledger.verify(), AuditLog(ledger.store).verify()
        db = connect(database, 10.0)
        try:
            with postgres_errors():
                there = has_ledger(db)
            with ledger.store.reading() as rows:
                if not there:
                    _copy_into_database(rows, db)
                name = ledger_name(rows)
        finally:
            db.close()
    with Ledger.open(database) as copy:
        with copy.store.reading() as rows:
            is_same = ledger_name(rows) == name
        if not is_same or (copy.entries.head(), AuditLog(copy.store).head()) != heads:
            raise DatasiteError(
                "The database has another ledger, or this one with more in it. Nothing was moved: name an empty"
                f" database, or put {file.name} away if the database is what counts."
            )
        copy.verify()
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    os.rename(file, file.with_name(MOVED))
    sync_directory(file.parent)
    return heads[0]


def _copy_into_database(rows: sqlite3.Connection, db: PostgresConnection) -> None:
    """All of it in one transaction."""
    with postgres_errors(), db.raw.transaction():
        make_tables(db)
        for table in TABLE_NAMES:
            for row in rows.execute(f"SELECT * FROM {table} ORDER BY rowid"):
                names = row.keys()
                columns, marks = ", ".join(f'"{name}"' for name in names), ", ".join("?" * len(names))
                db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(row))
        for table, column in NUMBERED:
            number = f"(SELECT coalesce(max({column}), 0) + 1 FROM {table})"
            db.execute(f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), {number}, false)")
