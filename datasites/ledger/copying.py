"""A ledger copied out of a database into a file, at one moment: what a backup of the directory holds of it."""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path
from typing import Any

from datasites.ledger.tables import TABLES
from policies.errors import LedgerDamaged

TABLE_NAMES = tuple(match[1] for text in TABLES if (match := re.match(r"CREATE TABLE (\w+)", text)))
NUMBERED = tuple(
    (match[1], match[2])
    for text in TABLES
    if (match := re.match(r"CREATE TABLE (\w+) \(\s*(\w+) INTEGER PRIMARY", text))
)


def copy_into_file(db: sqlite3.Connection, path: Path) -> None:
    """Everything that the snapshot of `db`, of a database, holds: in a new file, readable by its user alone."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        file = sqlite3.connect(path, isolation_level=None)
    except sqlite3.Error as error:  # pragma: no cover - of a volume that failed since
        raise LedgerDamaged(f"{path} cannot be written.") from error
    try:
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("BEGIN IMMEDIATE")
        for statement in TABLES:
            file.execute(statement)
        for table in TABLE_NAMES:
            for row in db.execute(f"SELECT * FROM {table} ORDER BY {dict(NUMBERED).get(table, 'rowid')}"):
                values: list[Any] = [bytes(value) if isinstance(value, memoryview) else value for value in row]
                names = row.keys()
                columns = ", ".join(f'"{name}"' for name in names)
                file.execute(f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(values))})", values)
        file.execute("COMMIT")
    finally:
        file.close()
