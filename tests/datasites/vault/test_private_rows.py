"""Who holds private rows in the serving process: sealed, closed in time, and telling nothing."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

from datasites.vault import private_rows
from datasites.vault.private_rows import MOST_UNUSED, PrivateRows, PublishedRows
from policies.errors import IsolationMissing, Unavailable
from tests.open_tables import tables_open

TABLE = np.arange(12.0).reshape(4, 3)


def content(rows: PrivateRows) -> np.ndarray:
    data = os.pread(rows.descriptor, 1 << 20, 0)
    return np.frombuffer(data, dtype="<f8").reshape(rows.shape)


# -- one table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table",
    [TABLE, TABLE[::2], TABLE.T, np.asfortranarray(TABLE), TABLE.astype(">f8"), TABLE.astype(np.float32), TABLE[:0]],
    ids=["plain", "strided", "transposed", "by columns", "big-endian", "float32", "empty"],
)
def test_rows_are_the_tables_whatever_its_layout(table: np.ndarray) -> None:
    with PrivateRows(table) as rows:
        assert rows.shape == table.shape
        assert np.array_equal(content(rows), table)


def test_a_table_closes_at_the_end_of_its_with_also_after_an_error() -> None:
    before = tables_open()
    with pytest.raises(ZeroDivisionError), PrivateRows(TABLE) as rows:  # noqa: PT012 - the count is part of it
        assert tables_open() == before + 1
        raise ZeroDivisionError
    assert tables_open() == before
    rows.close()
    with pytest.raises(Unavailable, match="closed already"):
        _ = rows.descriptor  # the number may be another file's by now


def test_a_table_that_nobody_closed_goes_with_its_last_reference() -> None:
    before = tables_open()
    rows = PrivateRows(TABLE)
    assert tables_open() == before + 1
    del rows
    assert tables_open() == before


def test_a_table_that_could_not_be_written_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError("No space left on device")

    before = tables_open()
    monkeypatch.setattr(private_rows, "_write", full)
    with pytest.raises(OSError, match="No space"):
        PrivateRows(TABLE)
    assert tables_open() == before


def test_a_table_is_written_without_a_second_copy() -> None:
    table = np.zeros((100_000, 10))  # 8 MB
    tracemalloc.start()
    try:
        with PrivateRows(table):
            _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 100_000


def test_a_table_is_written_in_several_pieces_where_it_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_rows, "_WRITTEN_AT_ONCE", 7)
    with PrivateRows(TABLE) as rows:
        assert np.array_equal(content(rows), TABLE)


def test_the_array_is_not_kept() -> None:
    table = TABLE.copy()
    kept = weakref.ref(table)
    with PrivateRows(table):
        del table
        assert kept() is None


def test_a_table_tells_nothing_and_cannot_be_copied() -> None:
    with PrivateRows(TABLE) as rows:
        assert repr(rows) == str(rows) == "PrivateRows(…)"
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(IsolationMissing, match="cannot be copied"):
                attempt(rows)


def test_rows_cannot_be_changed_by_who_holds_them() -> None:
    with PrivateRows(np.ones((2, 2))) as rows:
        for attempt in (lambda: os.write(rows.descriptor, b"x"), lambda: os.ftruncate(rows.descriptor, 1)):
            with pytest.raises(PermissionError):
                attempt()


# -- tables of published versions -------------------------------------------------------------------------------------


class Shelf:
    """Published versions, and how often each was read."""

    def __init__(self, *published: str) -> None:
        self.published = set(published)
        self.read: list[str] = []
        self.tables = PublishedRows(self._read, self.published.__contains__)

    def _read(self, version: str) -> np.ndarray:
        self.read.append(version)
        if version == "broken":
            raise Unavailable("The table cannot be read.")
        return TABLE


def test_a_published_table_is_read_once_and_stays_between_runs() -> None:
    shelf, before = Shelf("one"), tables_open()
    for _ in range(3):
        with shelf.tables.lend("one") as rows:
            assert np.array_equal(content(rows), TABLE)
    assert shelf.read == ["one"]
    assert tables_open() == before + 1
    shelf.tables.close()
    assert tables_open() == before


@pytest.mark.parametrize("in_use", [False, True])
def test_a_table_that_is_published_no_more_closes_when_no_run_uses_it(in_use: bool) -> None:
    shelf, before = Shelf("one"), tables_open()
    with shelf.tables.lend("one") as rows:
        if in_use:
            shelf.published.clear()
            shelf.tables.close_unwanted()
            assert np.array_equal(content(rows), TABLE)  # a run that began may end
    shelf.published.clear()
    shelf.tables.close_unwanted()
    assert tables_open() == before


def test_a_table_that_was_taken_back_before_its_run_began_closes_with_the_run() -> None:
    shelf, before = Shelf(), tables_open()
    with shelf.tables.lend("gone"):
        assert tables_open() == before + 1
    assert tables_open() == before


def test_a_table_closes_with_its_last_run_however_the_runs_end() -> None:
    shelf, before = Shelf("one"), tables_open()
    with shelf.tables.lend("one"):
        shelf.published.clear()
        with pytest.raises(Unavailable), shelf.tables.lend("one"):
            raise Unavailable("The job was stopped by the owner.")
        assert tables_open() == before + 1
    assert tables_open() == before


def test_a_table_that_cannot_be_read_leaves_nothing_and_is_read_again() -> None:
    shelf, before = Shelf("broken"), tables_open()
    for _ in range(2):
        with pytest.raises(Unavailable), shelf.tables.lend("broken"):
            pass
    assert shelf.read == ["broken", "broken"]
    assert tables_open() == before


def test_few_tables_stay_open_however_many_are_published() -> None:
    versions = [f"version{number}" for number in range(MOST_UNUSED + 3)]
    shelf, before = Shelf(*versions), tables_open()
    for version in versions:
        with shelf.tables.lend(version):
            pass
    assert tables_open() == before + MOST_UNUSED
    with shelf.tables.lend(versions[-1]):
        pass
    assert shelf.read == versions  # the last ones stayed
    shelf.tables.close()
    assert tables_open() == before


def test_what_is_in_use_when_all_is_closed_closes_afterwards() -> None:
    shelf, before = Shelf("one"), tables_open()
    with shelf.tables.lend("one") as rows:
        shelf.tables.close()
        assert np.array_equal(content(rows), TABLE)
    assert tables_open() == before


def test_a_ledger_that_cannot_be_asked_keeps_no_table() -> None:
    def closed(_: str) -> bool:
        raise OSError("The ledger is closed.")

    before = tables_open()
    with PublishedRows(lambda _: TABLE, closed).lend("one"):
        pass
    assert tables_open() == before


def test_runs_at_once_read_one_table_once() -> None:
    shelf, before = Shelf("one"), tables_open()
    together = threading.Barrier(8)

    def run() -> None:
        together.wait(10)
        for _ in range(200):
            with shelf.tables.lend("one") as rows:
                assert rows.descriptor >= 0

    runs = [threading.Thread(target=run) for _ in range(8)]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    assert shelf.read == ["one"]
    assert tables_open() == before + 1
    shelf.tables.close()
    gc.collect()
    assert tables_open() == before


def test_the_keeper_tells_nothing() -> None:
    assert repr(PublishedRows(lambda _: TABLE, lambda _: True)) == "PublishedRows(…)"
