"""The schema of 0.1.0: a ledger that it wrote opens here, verifies, and goes on."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from datasites.ledger.audit_log import AuditLog
from datasites.ledger.ledger import Ledger
from datasites.ledger.tables import SCHEMA_VERSION, TABLES
from policies.source.findings import Finding
from policies.source.statuses import RequestStatus, Side
from tests.datasites.ledger.ledger_factories import GAUSSIAN, Clock, released
from tests.policies.plan_factories import plan_of, training

WRITTEN = Path(__file__).with_name("ledger_0_1_0.sql")
"""A ledger as 0.1.0 wrote it, as SQL: a release, an approval by two votes, a withdrawn request, a row of the log."""

HEAD = (13, "66400bda1f7e31b9ed662e4d0b0bda976fe56ef5b4e57c5269750efbf30b25b5")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        db.executescript(WRITTEN.read_text(encoding="utf-8"))
    db.close()
    return tmp_path / "ledger.db"


def test_a_ledger_of_0_1_0_opens_and_verifies(path: Path) -> None:
    with Ledger.open(path, clock=Clock()) as ledger:
        assert ledger.verify(heads=(HEAD,)) == HEAD
        assert AuditLog(ledger.store).verify().seq == 1


def test_it_becomes_one_of_this_version_and_nothing_in_it_changes(path: Path) -> None:
    with sqlite3.connect(path) as db:
        entries = db.execute("SELECT * FROM entries").fetchall()
    db.close()
    for _ in range(2):  # the second opening finds nothing to do
        with Ledger.open(path, clock=Clock()) as ledger:
            request = ledger.requests.list()[0]
            assert ledger.projects.of(request.id) is None
            assert ledger.attachments.of("request", request.id) == ()
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT * FROM entries").fetchall() == entries
        assert db.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone() == (SCHEMA_VERSION,)
        written = {row[0] for row in db.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")}
    db.close()
    assert written == set(TABLES)


def test_its_requests_are_read_as_values(path: Path) -> None:
    plan = plan_of(training())
    with Ledger.open(path, clock=Clock()) as ledger:
        request = ledger.requests.list(status=RequestStatus.APPROVED)[-1]
        assert request.plan == plan
        assert request.plan_digest == plan.digest
        assert request.findings == (Finding("import", 1, 8, "os", "It reaches the host.", "Leave it out."),)
        assert request.charge is not None
        assert request.charge.divergence_nano == GAUSSIAN.divergence_nano
        assert {vote.side for vote in ledger.requests.votes(request.id)} == set(Side)


def test_its_approvals_go_on_and_the_chain_stays_sound(path: Path) -> None:
    with Ledger.open(path, clock=Clock()) as ledger:
        ledger.recover()
        request = ledger.requests.list(status=RequestStatus.APPROVED)[-1]
        released(ledger, request.id)
        assert ledger.verify(heads=(HEAD,)).seq > HEAD[0]


def test_every_table_checks_the_kinds_of_its_values() -> None:
    tables = [statement for statement in TABLES if statement.startswith("CREATE TABLE")]
    assert tables
    assert all(statement.rstrip().endswith("STRICT") for statement in tables)


def test_what_is_appended_is_guarded_by_triggers() -> None:
    guarded = {re.split(r"_not_", name)[0] for name in re.findall(r"CREATE TRIGGER (\w+)", " ".join(TABLES))}
    assert {"entries", "audit", "releases", "comments", "votes", "attachments"} <= guarded
