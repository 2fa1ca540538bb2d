"""The audit log: who did what, in order, chained, in the ledger's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasites.ledger.audit_log import AuditLog, os_user
from datasites.ledger.ledger import Ledger
from tests.datasites.ledger.ledger_factories import Clock, new_ledger


def test_what_was_recorded_is_read_back_in_order(tmp_path: Path) -> None:
    clock = Clock()
    with new_ledger(tmp_path / "ledger.db", clock) as ledger:
        log = AuditLog(ledger.store)
        first = log.record("owner@hospital.example", "approve", "request-1", epsilon=2.0)
        clock.turn(hours=1)
        log.record(os_user(), "password reset")
        assert log.entries()[0] == first
        assert [(each.what, each.object) for each in log.entries(newest_first=True)] == [
            ("password reset", ""),
            ("approve", "request-1"),
        ]
        assert log.entries(after=1, limit=1)[0].at == "2026-01-01T01:00:00.000000+00:00"
        assert log.verify() == log.head()
        assert log.head().seq == 2


def test_it_does_not_lengthen_the_chain_of_privacy_loss(tmp_path: Path) -> None:
    with new_ledger(tmp_path / "ledger.db") as ledger:
        head = ledger.entries.head()
        AuditLog(ledger.store).record("owner", "login")
        assert ledger.entries.head() == head


def test_details_are_of_kinds_that_json_has(tmp_path: Path) -> None:
    with new_ledger(tmp_path / "ledger.db") as ledger:
        log = AuditLog(ledger.store)
        for value in (float("nan"), object()):
            with pytest.raises((ValueError, TypeError)):
                log.record("owner", "login", x=value)
        assert log.entries() == ()


def test_the_user_of_the_host_is_named() -> None:
    assert os_user().startswith("os:")


def test_two_ledgers_never_share_a_chain(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "a.db") as a, Ledger.create(tmp_path / "b.db") as b:
        assert AuditLog(a.store).head().hash != AuditLog(b.store).head().hash
        assert a.entries.head().hash != b.entries.head().hash


def test_a_search_finds_what_any_column_holds_whatever_its_case(ledger: Ledger) -> None:
    log = AuditLog(ledger.store)
    for who, what, object in (
        ("os:root", "init", "General"),
        ("owner", "approve", "a-request"),
        ("owner", "deny", "b"),
    ):
        log.record(who, what, object, reason="It asks for 100 %")
    found = [entry.what for entry in log.entries(search="OWNER", newest_first=True)]
    assert found == ["deny", "approve"]
    assert [entry.what for entry in log.entries(search="general")] == ["init"]
    assert len(log.entries(search="100 %", after=1, before=3)) == 1
    assert log.entries(search="owner\napprove\nb") == ()
