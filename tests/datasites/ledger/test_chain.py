"""Rows chained by hash: each names the one before, and a changed one is found at its number."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from datasites.ledger.chain import Head, append, check_chain, hash_of, head_of, sha256
from policies.canonical import canonical
from policies.errors import LedgerDamaged


@pytest.fixture
def db(tmp_path: Path) -> sqlite3.Connection:
    """A chained table of texts, `rows`, without triggers, and a ledger's name."""
    db = sqlite3.connect(tmp_path / "chain.db")
    db.row_factory = sqlite3.Row
    db.execute("CREATE TABLE meta (name TEXT, value TEXT)")
    db.execute("INSERT INTO meta VALUES ('ledger', 'a random name')")
    db.execute("CREATE TABLE rows (seq INTEGER PRIMARY KEY, text TEXT, prev TEXT, hash TEXT)")
    return db


def test_an_empty_chain_begins_at_the_ledgers_name(db: sqlite3.Connection) -> None:
    assert head_of(db, "rows") == Head(0, sha256("rows:a random name"))


def test_each_row_holds_the_hash_of_the_row_before(db: sqlite3.Connection) -> None:
    first, second = append(db, "rows", {"text": "one"}), append(db, "rows", {"text": "two"})
    assert (first["seq"], second["seq"]) == (1, 2)
    assert second["prev"] == first["hash"]
    assert head_of(db, "rows") == Head(2, second["hash"])
    assert [row["text"] for row in check_chain(db, "rows")] == ["one", "two"]


def test_a_hash_covers_every_column_but_itself() -> None:
    row = {"seq": 1, "text": "é", "prev": "0", "hash": "x"}
    assert hash_of(row) == sha256(canonical({"seq": 1, "text": "é", "prev": "0"}))
    assert hash_of(row) == hash_of(row | {"hash": "y"})
    assert hash_of(row) != hash_of(row | {"text": "e"})


@pytest.mark.parametrize(
    ("statement", "seq"),
    [
        ("UPDATE rows SET text = 'other' WHERE seq = 2", 2),
        ("UPDATE rows SET prev = 'other' WHERE seq = 2", 2),
        ("DELETE FROM rows WHERE seq = 2", 2),
        ("UPDATE meta SET value = 'another ledger'", 1),
    ],
)
def test_a_chain_that_was_touched_is_found_at_its_first_unsound_row(
    db: sqlite3.Connection, statement: str, seq: int
) -> None:
    for text in ("one", "two", "three"):
        append(db, "rows", {"text": text})
    db.execute(statement)
    with pytest.raises(LedgerDamaged) as caught:
        list(check_chain(db, "rows"))
    assert caught.value.seq == seq  # type: ignore[attr-defined]
