"""The ledger's file: who may read it, how it is written, and what a lock or a full disk does."""

from __future__ import annotations

import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from datasites.ledger.ledger import Ledger
from datasites.ledger.store import Store
from policies.errors import (
    LedgerDamaged,
    Unavailable,
    WrongStatus,
)
from policies.source.statuses import RequestStatus, RunStatus
from tests.datasites.ledger.ledger_factories import (
    approve,
    approved,
    checked,
    new_ledger,
    released,
    running,
    submitted,
)


def test_the_file_is_its_users_alone(ledger_file: Ledger) -> None:
    for suffix in ("", "-wal", "-shm"):
        mode = ledger_file.store.path.with_name(ledger_file.store.path.name + suffix).stat().st_mode
        assert stat.S_IMODE(mode) == 0o600, suffix


def test_it_writes_ahead_with_full_sync(ledger_file: Ledger) -> None:
    with ledger_file.store.reading() as db:
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert db.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_a_ledger_is_never_made_over_another(ledger_file: Ledger) -> None:
    with pytest.raises(WrongStatus, match="never started anew"):
        Ledger.create(ledger_file.store.path)
    assert ledger_file.budgets.populations() == ("city",)


def test_opening_what_is_not_there_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="datasite init"):
        Ledger.open(tmp_path / "ledger.db")
    assert not list(tmp_path.iterdir())


def test_a_lock_held_elsewhere_is_unavailable_with_nothing_half_done(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path / "ledger.db", busy_seconds=0.05)
    request = checked(ledger)
    other = sqlite3.connect(ledger.store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"):
        approve(ledger, request)
    assert ledger.requests.get(request).status is RequestStatus.CHECKED  # reading goes on
    other.execute("ROLLBACK")
    other.close()
    approve(ledger, request)


def test_a_full_disk_is_unavailable_with_nothing_half_done(ledger_file: Ledger) -> None:
    run = running(ledger_file, approved(ledger_file))
    head = ledger_file.entries.head()
    with ledger_file.store.reading() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
    ledger_file.store._connection().execute(
        f"PRAGMA max_page_count = {pages}"
    )  # as a disk with no room for one page more
    with pytest.raises(Unavailable, match="disk is full"):
        ledger_file.runs.settle(run.id, bytes(1_000_000), "d", "{}")
    assert (ledger_file.entries.head(), ledger_file.runs.get(run.id).status) == (head, RunStatus.RUNNING)
    assert ledger_file.budgets.balance("city").spent_nano == 0
    ledger_file.store._connection().execute(f"PRAGMA max_page_count = {pages + 1000}")
    ledger_file.runs.settle(run.id, bytes(1_000_000), "d", "{}")
    ledger_file.verify()


def test_a_backup_is_a_whole_ledger(ledger: Ledger, tmp_path: Path) -> None:
    released(ledger, approved(ledger))
    ledger.backup(tmp_path / "copy.db")
    with Ledger.open(tmp_path / "copy.db") as copy:
        assert copy.verify() == ledger.verify()
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600


def _count_entries(store: Store, within: threading.Event, goes_on: threading.Event) -> int:
    """How many there are, counted in a transaction that stays open until `goes_on`."""
    with store.reading() as db:
        within.set()
        assert goes_on.wait(30)
        return len(db.execute("SELECT * FROM entries").fetchall())


def test_closing_waits_for_another_threads_transaction(ledger_file: Ledger) -> None:
    store = ledger_file.store
    within, goes_on = threading.Event(), threading.Event()
    with ThreadPoolExecutor(2) as threads:
        reads = threads.submit(_count_entries, store, within, goes_on)
        assert within.wait(30)
        closes = threads.submit(store.close)
        with pytest.raises(TimeoutError):
            closes.result(timeout=0.3)
        goes_on.set()
        assert reads.result(30) > 0
        closes.result(30)
    assert store.open_connections == 0
    assert ledger_file.budgets.populations() == ("city",)  # it opens anew


def test_closing_leaves_alone_what_stays_in_use(tmp_path: Path) -> None:
    store = new_ledger(tmp_path / "ledger.db", busy_seconds=0.05).store
    within, goes_on = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as thread:
        reads = thread.submit(_count_entries, store, within, goes_on)
        assert within.wait(30)
        store.close()
        assert store.open_connections == 1
        goes_on.set()
        assert reads.result(30) > 0


@pytest.mark.parametrize("version", ["1", "2", "7", "0.2"])
def test_a_ledger_of_another_version_is_refused_in_words(ledger_file: Ledger, version: str) -> None:
    path = ledger_file.store.path
    ledger_file.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", (version,))
    db.close()
    with pytest.raises(LedgerDamaged, match=f"schema version '{version}'; this software reads '6'.*that wrote it"):
        Ledger.open(path)


def test_what_follows_the_store_is_told_after_each_transaction(ledger: Ledger) -> None:
    told: list[int] = []

    class Follower:
        def check(self) -> None:
            told.append(0)

        def follow(self, db: sqlite3.Connection) -> None:
            told.append(int(db.execute("SELECT max(seq) FROM entries").fetchone()[0]))

    ledger.store.follower = Follower()
    submitted(ledger)
    assert told == [0, ledger.entries.head().seq]
