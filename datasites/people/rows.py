"""Rows of the console's accounts, sessions and invitations, in a SQLite file; `sealed_rows.py`: in a database."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from policies.errors import DatasiteError, Unavailable

TABLES = (
    """CREATE TABLE IF NOT EXISTS users (
      email TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, password TEXT NOT NULL, state TEXT NOT NULL,
      created REAL NOT NULL) STRICT""",
    """CREATE TABLE IF NOT EXISTS sessions (
      id_sha256 TEXT PRIMARY KEY, email TEXT NOT NULL, csrf TEXT NOT NULL, started REAL NOT NULL, seen REAL NOT NULL,
      browser TEXT NOT NULL, notice TEXT NOT NULL DEFAULT '') STRICT""",
    """CREATE TABLE IF NOT EXISTS invitations (
      email TEXT PRIMARY KEY, name TEXT NOT NULL, institution TEXT NOT NULL, token_sha256 TEXT NOT NULL UNIQUE,
      made REAL NOT NULL, ends REAL NOT NULL) STRICT""",
)
KEYS = {"users": "email", "sessions": "id_sha256", "invitations": "email"}
"""The tables, each with the column that names its rows."""

Row = dict[str, Any]
Execute = Callable[[str, tuple[Any, ...]], list[Row]]


class ConsoleRows(Protocol):
    """Three tables. Each call is one transaction: all of it is stored when it answers, or, after an error, none."""

    _lock_rows: str = ""

    def close(self) -> None:
        """Let go of the file or the connection."""

    def _transaction(self, *, snapshot: bool = False) -> AbstractContextManager[Execute]: ...
    def _stored(self, table: str, row: Mapping[str, Any]) -> Row: ...
    def _read(self, table: str, row: Row) -> Row: ...

    def select(self, table: str, where: str = "true", *values: Any) -> list[Row]:
        """The rows for which `where` holds."""
        with self._transaction(snapshot=True) as execute:
            return [self._read(table, row) for row in execute(f"SELECT * FROM {table} WHERE {where}", values)]

    def insert(self, table: str, row: Row, *, otherwise: str = "") -> None:
        """Add a row. Where its key is taken: `"replace"` or `"keep"` the one there, else raise `IntegrityError`."""
        new = self._stored(table, row)
        query = f"INSERT INTO {table} ({', '.join(new)}) VALUES ({', '.join('?' * len(new))})"
        if otherwise == "replace":
            query += (
                f" ON CONFLICT ({KEYS[table]}) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in new)}"
            )
        elif otherwise == "keep":
            query += " ON CONFLICT DO NOTHING"
        with self._transaction() as execute:
            execute(query, tuple(new.values()))

    def update(self, table: str, changes: Row, where: str, *values: Any) -> None:
        """Change the rows for which `where` holds."""
        with self._transaction() as execute:
            for row in execute(f"SELECT * FROM {table} WHERE {where}{self._lock_rows}", values):
                new = self._stored(table, self._read(table, row) | changes)
                query = f"UPDATE {table} SET {', '.join(f'{name} = ?' for name in new)} WHERE {KEYS[table]} = ?"
                execute(query, (*new.values(), row[KEYS[table]]))

    def delete(self, table: str, where: str, *values: Any) -> list[Row]:
        """Take away the rows for which `where` holds; of many that take one at once, one gets it."""
        with self._transaction() as execute:
            return [self._read(table, row) for row in execute(f"DELETE FROM {table} WHERE {where} RETURNING *", values)]

    def everything(self) -> dict[str, list[Row]]:
        """All rows of each table at one moment, by their keys."""
        with self._transaction(snapshot=True) as execute:
            return {
                table: [self._read(table, row) for row in execute(f"SELECT * FROM {table} ORDER BY {key}", ())]
                for table, key in KEYS.items()
            }

    def fill(self, tables: Mapping[str, list[Row]]) -> None:
        """Add all of these rows, or none."""
        with self._transaction() as execute:
            for table, rows in tables.items():
                for new in (self._stored(table, row) for row in rows):
                    query = f"INSERT INTO {table} ({', '.join(new)}) VALUES ({', '.join('?' * len(new))})"
                    execute(query, tuple(new.values()))


class FileRows(ConsoleRows):
    """In a SQLite file (0600). Raises `Unavailable` where the disk is full, `DatasiteError` where it is damaged."""

    def __init__(self, path: Path, tables: tuple[str, ...] = TABLES) -> None:
        self._lock = threading.Lock()
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
        try:
            self._db.row_factory = sqlite3.Row
            for statement in tables:
                self._db.execute(statement)
        except sqlite3.Error as error:
            self._db.close()
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise Unavailable(
                    f"{path.name} cannot be written: the disk is full. Free space and try again; nothing in it was"
                    " lost."
                ) from None
            raise DatasiteError(
                f"{path.name}, which holds the console's accounts, cannot be used ({error}). Put it back from a backup,"
                " or move it away and make the accounts anew: requests and ledger are elsewhere."
            ) from None

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def _transaction(self, *, snapshot: bool = False) -> Iterator[Execute]:
        with self._lock:
            self._db.execute("BEGIN" if snapshot else "BEGIN IMMEDIATE")
            try:
                yield lambda query, values: [dict(row) for row in self._db.execute(query, values).fetchall()]
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _stored(self, table: str, row: Mapping[str, Any]) -> Row:
        return dict(row)

    def _read(self, table: str, row: Row) -> Row:
        return row
