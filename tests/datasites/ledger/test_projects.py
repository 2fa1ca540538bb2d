"""Projects end: no approval after their last day, no further round, and what no run touched goes back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasites.ledger.ledger import Ledger
from datasites.ledger.records import CodeRequestRecord
from policies.errors import InvalidRequest, WrongStatus
from policies.source.statuses import RequestStatus
from tests.datasites.ledger.ledger_factories import GAUSSIAN, Clock, approve, approved, checked, new_ledger, released

TODAY, YESTERDAY, LATER = "2026-01-01", "2025-12-31", "2026-01-20"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    with new_ledger(tmp_path / "ledger.db", clock) as made:
        yield made


def _end(ledger: Ledger, clock: Clock, how: str) -> None:
    if how == "over":
        clock.turn(days=20)
    elif how == "shortened":
        ledger.projects.change("Flu", parties="General", ends=YESTERDAY)
    else:
        ledger.projects.close("Flu")


ENDS = pytest.mark.parametrize("how", ["over", "shortened", "closed"])


def test_a_request_is_filed_under_one_project_and_can_be_moved(ledger: Ledger) -> None:
    request = checked(ledger)
    assert ledger.projects.of(request) is None
    first = ledger.projects.make("Flu", "General and University", LATER)
    second = ledger.projects.make("Sepsis", "General", LATER)
    ledger.projects.file(request, "Flu")
    assert ledger.projects.of(request) == first
    assert ledger.projects.counts(first.id) == (1, 0)
    ledger.projects.file(request, second.id)
    assert ledger.projects.requests(first.id) == ()
    assert ledger.projects.requests(second.id) == (request,)
    with pytest.raises(WrongStatus, match="already"):
        ledger.projects.make("Flu", "Others", LATER)
    with pytest.raises(InvalidRequest, match="no project 'Cold'"):
        ledger.projects.file(request, "Cold")


@ENDS
def test_nothing_of_an_ended_project_is_approved(ledger: Ledger, clock: Clock, how: str) -> None:
    request, other = checked(ledger), checked(ledger)
    ledger.projects.make("Flu", "General", TODAY)
    ledger.projects.file(request, "Flu")
    _end(ledger, clock, how)
    with pytest.raises(WrongStatus, match="The project Flu"):
        approve(ledger, request)
    assert ledger.requests.get(request).status is RequestStatus.CHECKED
    approve(ledger, other)


@ENDS
def test_the_end_of_a_project_ends_its_rounds_and_gives_back_what_no_run_touched(
    ledger: Ledger, clock: Clock, how: str
) -> None:
    request, other = approved(ledger, rounds=3), approved(ledger, rounds=3)
    ledger.projects.make("Flu", "General", TODAY)
    ledger.projects.file(request, "Flu")
    released(ledger, request)
    before = ledger.budgets.balance("city")
    _end(ledger, clock, how)
    with pytest.raises(WrongStatus, match="expired"):
        ledger.runs.admit(request, 2, "w", GAUSSIAN)
    assert ledger.requests.get(request).status is RequestStatus.EXPIRED
    assert ledger.requests.get(other).status is RequestStatus.APPROVED
    comment = ledger.requests.comments(request)[-1]
    assert comment.actor == "datasite"
    assert comment.text.startswith("The project Flu")
    after = ledger.budgets.balance("city")
    assert after.reserved_nano == before.reserved_nano - 2 * GAUSSIAN.divergence_nano
    assert after.spent_nano == before.spent_nano  # what was released stays charged
    ledger.verify()


def test_no_round_begins_even_where_nothing_has_expired_the_approval(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check stands in the transaction that admits, whatever ran before it."""
    request = approved(ledger)
    ledger.projects.make("Flu", "General", LATER)
    ledger.projects.file(request, "Flu")
    ledger.projects.close("Flu")
    monkeypatch.setattr(ledger.runs, "expire_due", lambda: ())
    with pytest.raises(WrongStatus, match="was closed by the data owner"):
        ledger.runs.admit(request, 1, "w", GAUSSIAN)


def test_the_last_day_itself_counts(ledger: Ledger) -> None:
    request = approved(ledger, rounds=1)
    ledger.projects.make("Flu", "General", TODAY)
    ledger.projects.file(request, "Flu")
    assert ledger.expire_due() == ()
    released(ledger, request)


def test_a_closed_project_stays_closed(ledger: Ledger) -> None:
    ledger.projects.make("Flu", "General", LATER)
    ledger.projects.close("Flu")
    with pytest.raises(WrongStatus, match="for good"):
        ledger.projects.change("Flu", parties="General", ends=LATER)
    with pytest.raises(WrongStatus, match="was closed"):
        ledger.projects.file(checked(ledger), "Flu")


def test_a_submission_is_filed_with_it_or_not_kept_at_all(ledger: Ledger) -> None:
    record = CodeRequestRecord("r1", "flu", "rita@uni.example", "flu", "v1", "city", "def flu(): ...")
    project = ledger.projects.make("Flu", "General", LATER)
    assert ledger.projects.of(ledger.submit(record, project="Flu").id) == project
    ledger.projects.close("Flu")
    with pytest.raises(WrongStatus):
        ledger.submit(
            CodeRequestRecord("r2", *(record.function, record.researcher, "flu", "v1", "city", "def flu(): 1")),
            project="Flu",
        )
    assert [request.id for request in ledger.requests.list()] == ["r1"]


def test_what_is_known_of_an_attachment_never_changes(ledger: Ledger) -> None:
    facts = {"size": 9, "digest": "0" * 64, "actor": "owner", "most": 1}
    kept = ledger.attachments.add("1" * 32, "request", "r", name="a.pdf", **facts)  # type: ignore[arg-type]
    assert ledger.attachments.of("request", "r") == (kept,)
    assert ledger.attachments.get("1" * 32) == kept
    with pytest.raises(WrongStatus, match="1 attachments, which is the most"):
        ledger.attachments.add("2" * 32, "request", "r", name="b.pdf", **facts)  # type: ignore[arg-type]
    for statement in ("UPDATE attachments SET digest = ''", "DELETE FROM attachments"):
        with pytest.raises(sqlite3.IntegrityError, match="only be appended"), ledger.store.writing() as db:
            db.execute(statement)
