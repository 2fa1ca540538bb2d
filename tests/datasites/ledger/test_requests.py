"""Code requests: submitting, listing, denying; and votes, where two people have to agree."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from datasites.ledger.ledger import Ledger
from policies.errors import (
    LedgerDamaged,
    WrongStatus,
)
from policies.source.findings import Finding
from policies.source.statuses import RequestStatus, Side
from tests.datasites.ledger.ledger_factories import (
    LAPLACE,
    PLAN,
    approve,
    approved,
    checked,
    in_status,
    new_ledger,
    submitted,
)

IMPORT = Finding("import", 1, 1, "import os", "It reaches the host.", "Leave it out.")
BOTH = (Side.OWNER, Side.SECOND_REVIEWER)


def test_the_same_submission_again_is_answered_with_the_first(ledger: Ledger) -> None:
    request = submitted(ledger)
    head = ledger.entries.head()
    assert ledger.requests.submit(ledger.requests.get(request)).id == request
    assert ledger.entries.head() == head
    with pytest.raises(WrongStatus, match="other contents"):
        submitted(ledger, "eve@uni.example", id=request)


def test_a_request_that_failed_inspection_is_denied_with_its_findings(ledger: Ledger) -> None:
    request = submitted(ledger, population=None, version="")
    denied = ledger.transition(request, "denied", actor="datasite", findings=(IMPORT,), comment="No.")
    assert (denied.status, denied.findings) == (RequestStatus.DENIED, (IMPORT,))
    assert [each.text for each in ledger.requests.comments(request)] == ["No."]


def test_requests_are_listed_by_status_and_researcher(ledger: Ledger) -> None:
    mine, theirs = approved(ledger), submitted(ledger, "sam@uni.example")
    ledger.charge_now("city", LAPLACE, dataset="flu", version="v2", actor="owner", what="patient count")
    assert [each.id for each in ledger.requests.list()] == [mine, theirs]
    assert [each.id for each in ledger.requests.list(status="approved")] == [mine]
    assert [each.id for each in ledger.requests.list(researcher="sam@uni.example")] == [theirs]
    assert len(ledger.requests.list(by_owner=True)) == 1


# Votes


def vote(ledger: Ledger, request: str, side: Side, actor: str, plan: str = PLAN.digest) -> None:
    ledger.requests.vote(request, side=side, actor=actor, plan_digest=plan)


def test_approval_waits_for_both_votes_and_its_entry_names_them(tmp_path: Path) -> None:
    with new_ledger(tmp_path / "ledger.db") as ledger:
        request = checked(ledger)
        vote(ledger, request, Side.SECOND_REVIEWER, "rev@hospital.example")
        with pytest.raises(WrongStatus, match="vote of the owner"):
            approve(ledger, request, voters=BOTH)
        assert ledger.requests.get(request).status is RequestStatus.CHECKED
        assert ledger.budgets.balance("city").reserved_nano == 0
        vote(ledger, request, Side.OWNER, "owner")
        approve(ledger, request, voters=BOTH)
        entry = ledger.entries.list(request=request)[-1]
        assert [each["actor"] for each in entry.details["votes"]] == ["rev@hospital.example", "owner"]
        ledger.verify()


def test_one_person_cannot_be_both_sides(tmp_path: Path) -> None:
    with new_ledger(tmp_path / "ledger.db") as ledger:
        request = checked(ledger)
        vote(ledger, request, Side.OWNER, "owner")
        with pytest.raises(WrongStatus, match="Another person"):
            vote(ledger, request, Side.SECOND_REVIEWER, "owner")


def test_a_side_votes_once_whoever_of_it_asks_again(tmp_path: Path) -> None:
    with new_ledger(tmp_path / "ledger.db") as ledger:
        request = checked(ledger)
        vote(ledger, request, Side.OWNER, "owner")
        vote(ledger, request, Side.OWNER, "os user")  # a stock PySyft owner, or the command line: the same side
        assert [each.actor for each in ledger.requests.votes(request)] == ["owner"]
        with pytest.raises(WrongStatus, match="second reviewer"):
            approve(ledger, request, voters=BOTH)


def test_a_vote_is_for_the_plan_that_was_read(tmp_path: Path) -> None:
    with new_ledger(tmp_path / "ledger.db") as ledger, pytest.raises(WrongStatus, match="not the one that was shown"):
        vote(ledger, checked(ledger), Side.OWNER, "owner", plan="another")


@pytest.mark.parametrize("status", [each for each in RequestStatus if each is not RequestStatus.CHECKED])
def test_only_a_waiting_request_is_voted_on(tmp_path: Path, status: RequestStatus) -> None:
    with new_ledger(tmp_path / "ledger.db") as ledger, pytest.raises(WrongStatus):
        vote(ledger, in_status(ledger, status), Side.OWNER, "owner")


def test_a_vote_shows_in_no_chain_before_the_decision(tmp_path: Path) -> None:
    with new_ledger(tmp_path / "ledger.db") as ledger:
        request = checked(ledger)
        before = ledger.entries.head()
        vote(ledger, request, Side.OWNER, "owner")
        assert ledger.entries.head() == before


def test_votes_can_neither_be_changed_nor_removed(tmp_path: Path) -> None:
    with new_ledger(tmp_path / "ledger.db") as ledger:
        vote(ledger, checked(ledger), Side.OWNER, "owner")
        for statement in ("UPDATE votes SET actor = 'x'", "DELETE FROM votes"):
            with pytest.raises(sqlite3.IntegrityError), ledger.store.writing() as db:
                db.execute(statement)


def test_a_vote_edited_in_the_file_after_approval_is_found(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with new_ledger(path) as ledger:
        request = checked(ledger)
        vote(ledger, request, Side.OWNER, "owner")
        vote(ledger, request, Side.SECOND_REVIEWER, "rev@hospital.example")
        approve(ledger, request, voters=BOTH)
    trigger = "votes_not_updated"
    with sqlite3.connect(path) as db:
        text = db.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (trigger,)).fetchone()[0]
        db.execute(f"DROP TRIGGER {trigger}")
        db.execute("UPDATE votes SET actor = 'somebody else' WHERE side = 'second_reviewer'")
        db.execute(text)
    db.close()
    with Ledger.open(path) as ledger, pytest.raises(LedgerDamaged, match="vote"):
        ledger.verify()
