"""Hash chain over the rows of a table: each holds the hash of the row before it, and its own.

A row's hash is SHA-256 over the canonical JSON of all its other columns. The first row of a table follows a hash of the
table's name and the ledger's random name, so no chain can stand for another's. What rows mean is said elsewhere.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from policies.canonical import canonical
from policies.errors import LedgerDamaged


class Head(NamedTuple):
    """The last row's number and hash."""

    seq: int
    hash: str


def append(db: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """`row` appended to the chained `table` in the transaction of `db`, with its `seq`, `prev` and `hash`."""
    last = head_of(db, table)
    full = {**row, "seq": last.seq + 1, "prev": last.hash}
    full["hash"] = hash_of(full)
    names, marks = ", ".join(full), ", ".join("?" * len(full))
    db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(full.values()))
    return full


def head_of(db: sqlite3.Connection, table: str) -> Head:
    """The head of a chained table; of an empty one, 0 and a hash of the ledger's random name."""
    last = db.execute(f"SELECT seq, hash FROM {table} ORDER BY seq DESC LIMIT 1").fetchone()
    return Head(0, _before_the_first(db, table)) if last is None else Head(last[0], last[1])


def ledger_name(db: sqlite3.Connection) -> str:
    """The random name that the ledger was created with."""
    return str(db.execute("SELECT value FROM meta WHERE name = 'ledger'").fetchone()[0])


def hash_of(row: Mapping[str, Any]) -> str:
    """Hex SHA-256 over the canonical JSON of every column but `hash`."""
    return sha256(canonical({name: value for name, value in row.items() if name != "hash"}))


def check_chain(db: sqlite3.Connection, table: str) -> Iterator[dict[str, Any]]:
    """Every row in order, each checked against the one before. Raises `LedgerDamaged` at the first unsound one."""
    seq, prev = 0, _before_the_first(db, table)
    for stored in db.execute(f"SELECT * FROM {table} ORDER BY seq"):
        row = dict(stored)
        if row["seq"] != seq + 1:
            raise LedgerDamaged(f"After row {seq} of {table} comes row {row['seq']}: rows were removed.", seq=seq + 1)
        if row["prev"] != prev or row["hash"] != hash_of(row):
            raise LedgerDamaged(f"Row {row['seq']} of {table} is not the one that was written.", seq=row["seq"])
        seq, prev = row["seq"], row["hash"]
        yield row


def sha256(text: str | bytes) -> str:
    """Hex digest of a text's UTF-8, or of bytes."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def _before_the_first(db: sqlite3.Connection, table: str) -> str:
    return sha256(f"{table}:{ledger_name(db)}")
