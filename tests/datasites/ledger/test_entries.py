"""Entries: read by number, request and population, and appended in the transaction that they speak of."""

from __future__ import annotations

import pytest

from datasites.ledger.amounts import Amount
from datasites.ledger.entries import EntryKind
from datasites.ledger.ledger import Ledger
from policies.errors import Unavailable, WrongStatus
from tests.datasites.ledger.ledger_factories import approved, released, submitted


def test_entries_are_listed_by_number_request_and_population(ledger: Ledger) -> None:
    request = submitted(ledger)
    entries = ledger.entries.list()
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert ledger.entries.list(newest_first=True) == entries[::-1]
    assert ledger.entries.list(after=1, before=3) == entries[1:2]
    assert ledger.entries.list(limit=1) == entries[:1]
    assert {entry.request for entry in ledger.entries.list(request=request)} == {request}
    assert ledger.entries.list(population="county") == ()


def test_the_head_is_the_last_entry(ledger: Ledger) -> None:
    last = ledger.entries.list(newest_first=True)[0]
    assert ledger.entries.head() == (last.seq, last.hash)


def test_only_kinds_that_move_a_budget_carry_an_amount(ledger: Ledger) -> None:
    released(ledger, approved(ledger))
    moving = {EntryKind.RESERVE, EntryKind.RETURN, EntryKind.SETTLE, EntryKind.FAIL, EntryKind.LOST}
    for entry in ledger.entries.list():
        assert (entry.amount != Amount()) == (entry.kind in moving), entry


def test_an_entry_of_a_transaction_that_fails_is_not_there(ledger: Ledger) -> None:
    def appended_and_failed() -> None:
        with ledger.store.writing() as db:
            ledger.entries.append(db, EntryKind.STATUS, "owner", request="r")
            raise RuntimeError

    head = ledger.entries.head()
    with pytest.raises(RuntimeError):
        appended_and_failed()
    assert ledger.entries.head() == head


def test_nothing_is_appended_while_a_follower_lacks_what_was_before(ledger: Ledger) -> None:
    class Behind:
        def check(self) -> None:
            raise Unavailable("The witness is gone.")

        def follow(self, db: object) -> None:
            pass

    head = ledger.entries.head()
    ledger.store.follower = Behind()
    with pytest.raises(Unavailable):
        submitted(ledger)
    assert (ledger.entries.head(), ledger.requests.list()) == (head, ())


def test_a_restored_ledger_is_closed_until_it_is_accepted(ledger: Ledger) -> None:
    with ledger.store.reading() as db:
        ledger.entries.check_open(db)
    ledger.recovery.mark_restored(actor="os:root")
    with ledger.store.reading() as db, pytest.raises(WrongStatus, match="accept-restored"):
        ledger.entries.check_open(db)
