"""Somebody with the database file edits rows: `verify` finds it, whatever the row."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from datasites.ledger.audit_log import AuditLog
from datasites.ledger.chain import hash_of, head_of
from datasites.ledger.ledger import Ledger
from policies.canonical import canonical
from policies.errors import LedgerDamaged
from tests.datasites.ledger.ledger_factories import (
    GAUSSIAN,
    LAPLACE,
    approved,
    checked,
    dataset,
    new_ledger,
    released,
    running,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with some of everything in it."""
    path = tmp_path / "ledger.db"
    with new_ledger(path) as ledger:
        first, second = approved(ledger, rounds=4), approved(ledger, LAPLACE, rounds=2)
        released(ledger, first, 1)
        ledger.runs.fail(running(ledger, first, 2).id, "a reason")
        ledger.runs.void(ledger.runs.admit(first, 3, "w", GAUSSIAN).id)
        released(ledger, second, 1, LAPLACE)
        ledger.transition(second, "revoked", actor="owner", comment="no longer")
        checked(ledger)
        ledger.budgets.set_researcher_limit("city", "rita@uni.example", 2.0, actor="owner")
        ledger.datasets.publish(dataset("v0", name="heart"), actor="owner")
        ledger.datasets.publish(dataset("v2", name="heart"), actor="owner")
        AuditLog(ledger.store).record("owner", "approve", first)
        AuditLog(ledger.store).record("owner", "revoke", second)
        ledger.verify()
    return path


def tamper(path: Path, *statements: str) -> None:
    """Run SQL on the file as somebody would who has it: triggers put aside, and made again as they were."""
    db = sqlite3.connect(path, isolation_level=None)
    triggers = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        db.execute(f"DROP TRIGGER {name}")
    changed = sum(db.execute(statement).rowcount for statement in statements)
    for _, sql in triggers:
        db.execute(sql)
    db.close()
    assert changed > 0, "the test changed nothing"


def found(path: Path) -> LedgerDamaged:
    with Ledger.open(path) as ledger, pytest.raises(LedgerDamaged) as caught:
        ledger.verify()
    return caught.value


ENTRY_COLUMNS = ("at", "kind", "actor", "population", "request", "run", "details", "prev", "hash")


@pytest.mark.parametrize("column", ENTRY_COLUMNS)
def test_a_changed_text_of_an_entry_is_found(path: Path, column: str) -> None:
    tamper(path, f"UPDATE entries SET {column} = 'x' WHERE seq = 9")
    assert found(path).seq in (9, 10)  # type: ignore[attr-defined]


@pytest.mark.parametrize("column", ["divergence_nano", "pure_nano", "mixed", "delta_atto"])
def test_a_changed_amount_of_an_entry_is_found(path: Path, column: str) -> None:
    tamper(path, f"UPDATE entries SET {column} = {column} + 1 WHERE kind = 'settle'")
    assert "not the one that was written" in str(found(path))


@pytest.mark.parametrize("seq", [1, 2, 9])
def test_a_removed_entry_is_found(path: Path, seq: int) -> None:
    tamper(path, f"DELETE FROM entries WHERE seq = {seq}")
    assert "rows were removed" in str(found(path))


def test_a_removed_entry_is_found_after_renumbering(path: Path) -> None:
    tamper(path, "DELETE FROM entries WHERE seq = 9", "UPDATE entries SET seq = -seq WHERE seq > 9",
           "UPDATE entries SET seq = -seq - 1 WHERE seq < 0")  # fmt: skip
    assert found(path).seq == 9  # type: ignore[attr-defined]


def test_entries_removed_from_the_end_are_found(path: Path) -> None:
    tamper(path, "DELETE FROM entries WHERE seq = (SELECT max(seq) FROM entries)")
    found(path)


def test_exchanged_entries_are_found(path: Path) -> None:
    tamper(path, "UPDATE entries SET seq = -1 WHERE seq = 8", "UPDATE entries SET seq = 8 WHERE seq = 9",
           "UPDATE entries SET seq = 9 WHERE seq = -1")  # fmt: skip
    assert found(path).seq == 8  # type: ignore[attr-defined]


def test_an_inserted_entry_is_found(path: Path) -> None:
    tamper(path, "INSERT INTO entries SELECT seq + 1, at, 'void', actor, population, request, run, 0, 0, 0, 0, details,"
                 " hash, hash FROM entries ORDER BY seq DESC LIMIT 1")  # fmt: skip
    assert "not the one that was written" in str(found(path))


def forge(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Change entries and compute every hash of the chain anew, as a careful forger would."""
    db = sqlite3.connect(path, isolation_level=None)
    db.row_factory = sqlite3.Row
    rows = [dict(row) for row in db.execute("SELECT * FROM entries ORDER BY seq")]
    db.execute("DROP TRIGGER entries_not_deleted")
    db.execute("DELETE FROM entries")
    for row in rows:
        change(row)
        row["prev"] = head_of(db, "entries")[1]
        row["hash"] = hash_of(row)
        db.execute(f"INSERT INTO entries VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
    db.execute("CREATE TRIGGER entries_not_deleted BEFORE DELETE ON entries"
               "\n          BEGIN SELECT RAISE(ABORT, 'entries can only be appended to'); END")  # fmt: skip
    db.close()


def test_a_forged_chain_that_breaks_a_rule_is_found(path: Path) -> None:
    def halve(row: dict[str, object]) -> None:
        if row["kind"] == "settle":
            row["divergence_nano"] = int(str(row["divergence_nano"])) // 2

    forge(path, halve)
    assert "does not spend the charge that was approved" in str(found(path))


def test_a_forged_chain_that_reserves_above_the_budget_is_found(path: Path) -> None:
    def lower(row: dict[str, object]) -> None:
        if row["kind"] == "population":
            row["details"] = canonical(json.loads(str(row["details"])) | {"capacity_nano": 1000}).decode()

    forge(path, lower)
    assert "reserves more than the budget" in str(found(path))


def test_a_forged_chain_that_is_sound_is_found_by_a_head_that_was_handed_out(path: Path) -> None:
    with Ledger.open(path) as ledger:
        head = ledger.entries.head()
        early = ledger.entries.list(limit=5)[-1]

    def rename(row: dict[str, object]) -> None:
        row["actor"] = "somebody else"

    forge(path, rename)
    with Ledger.open(path) as ledger:
        ledger.verify()  # every rule holds, as in any ledger that somebody could have written
        for seq, digest in ((head.seq, head.hash), (early.seq, early.hash)):
            with pytest.raises(LedgerDamaged, match="handed out"):
                ledger.verify(heads=((seq, digest),))


def test_an_older_copy_put_back_is_found_by_a_later_head(path: Path, tmp_path: Path) -> None:
    with Ledger.open(path) as ledger:
        ledger.backup(tmp_path / "old.db")
        ledger.budgets.create_population("county", ledger.budgets.balance("city").budget, 16)
        head = ledger.entries.head()
    with Ledger.open(tmp_path / "old.db") as old, pytest.raises(LedgerDamaged, match="cut or put back"):
        old.verify(heads=(head,))


@pytest.mark.parametrize(
    ("what", "statement"),
    [
        ("population", "UPDATE populations SET capacity_nano = capacity_nano + 1"),
        ("population", "UPDATE populations SET epsilon = 60"),
        ("population", "UPDATE populations SET conversion_nano = 0"),
        ("population", 'UPDATE populations SET "order" = 2'),
        ("total", "UPDATE totals SET spent_divergence_nano = 0"),
        ("total", "UPDATE totals SET reserved_divergence_nano = 0"),
        ("total", "UPDATE totals SET spent_pure_nano = 1"),
        ("total", "UPDATE totals SET limit_epsilon = 50 WHERE researcher != ''"),
        ("total", "DELETE FROM totals WHERE researcher != ''"),
        ("request", "UPDATE requests SET source = 'def evil(): ...' WHERE status = 'approved'"),
        ("request", "UPDATE requests SET plan_json = '{}' WHERE status = 'approved'"),
        ("request", "UPDATE requests SET status = 'approved' WHERE status = 'revoked'"),
        ("request", "UPDATE requests SET rounds = 9 WHERE status = 'approved'"),
        ("request", "UPDATE requests SET attempts = 0"),
        ("request", "UPDATE requests SET expires_at = '2099' WHERE status = 'approved'"),
        ("request", "UPDATE requests SET researcher = 'eve@uni.example'"),
        ("request", """UPDATE requests SET charge_json = '{"divergence_nano":1}' WHERE status = 'approved'"""),
        ("run", "UPDATE runs SET status = 'void' WHERE status = 'failed'"),
        ("run", "UPDATE runs SET weights_digest = 'v' WHERE status = 'released'"),
        ("release", "UPDATE releases SET bytes = x'00' WHERE round = 1"),
        ("release", "UPDATE releases SET digest = 'x' WHERE round = 1"),
        ("release", "DELETE FROM releases"),
        ("dataset", "UPDATE datasets SET patients = 5000"),
        ("dataset", "UPDATE datasets SET status = 'published', name = 'flu-old' WHERE status = 'retired'"),
        ("dataset", "UPDATE datasets SET schema_json = '[]'"),
    ],
)
def test_a_table_that_is_not_what_the_entries_come_to_is_found(path: Path, what: str, statement: str) -> None:
    tamper(path, statement)
    assert found(path).table == what  # type: ignore[attr-defined]


def test_a_release_without_its_settle_entry_is_found(path: Path) -> None:
    tamper(path, "INSERT INTO releases SELECT id, request, round, changed_at, 'd', '{}', x'00' FROM runs"
                 " WHERE status = 'failed'")  # fmt: skip
    assert found(path).table == "release"  # type: ignore[attr-defined]


@pytest.mark.parametrize("trigger", ["entries_not_updated", "spent_never_decreases"])
def test_a_trigger_put_aside_is_found(path: Path, trigger: str) -> None:
    db = sqlite3.connect(path)
    db.execute(f"DROP TRIGGER {trigger}")
    db.close()
    assert "trigger" in str(found(path))


@pytest.mark.parametrize("table", ["entries", "audit", "releases", "comments"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET rowid = rowid"])
def test_the_file_itself_refuses_to_change_what_is_appended(path: Path, table: str, statement: str) -> None:
    db = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="can only be appended to"):
        db.execute(statement.format(table))
    db.close()


def test_the_file_itself_refuses_to_lower_what_was_spent(path: Path) -> None:
    db = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="spent never decreases"):
        db.execute("UPDATE totals SET spent_divergence_nano = spent_divergence_nano - 1 WHERE researcher = ''")
    db.close()


def test_a_file_with_broken_pages_is_damaged_and_not_read(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:8192] = bytes(4096)
    path.write_bytes(data)
    with pytest.raises(LedgerDamaged):
        Ledger.open(path).verify()


def test_a_file_that_is_no_ledger_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database" * 100)
    (tmp_path / "empty").touch()
    for name in ("text", "empty"):
        with pytest.raises(LedgerDamaged):
            Ledger.open(tmp_path / name)


# The audit log


@pytest.mark.parametrize("column", ["at", "who", "what", "object", "details", "prev", "hash"])
def test_a_changed_row_of_the_audit_log_is_found(path: Path, column: str) -> None:
    tamper(path, f"UPDATE audit SET {column} = 'x' WHERE seq = 1")
    with Ledger.open(path) as ledger:
        for check in (AuditLog(ledger.store).verify, ledger.verify):
            with pytest.raises(LedgerDamaged, match="audit"):
                check()


def test_a_removed_row_of_the_audit_log_is_found(path: Path) -> None:
    tamper(path, "DELETE FROM audit WHERE seq = 1")
    assert "audit" in str(found(path))
