"""What researchers are answered: their own, in fixed texts, and public facts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datasites.actions.for_researchers import ForResearchers
from policies.errors import InvalidRequest
from policies.privacy.accountant import charge_for
from policies.source.statuses import STATUS_TEXT, RequestStatus
from tests.browser.desk import Desk
from tests.factories import OTHER, RESEARCHER, statistics_source


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "datasite")
    desk.ask("request-1")
    yield desk
    desk.close()


@pytest.fixture
def researchers(desk: Desk) -> ForResearchers:
    return ForResearchers(desk.datasite)


def test_anothers_request_is_answered_as_one_that_is_not_there(researchers: ForResearchers) -> None:
    answers = set()
    for code in ("request-1", "nothing"):
        for ask in (researchers.status, researchers.withdraw, researchers.certificates):
            with pytest.raises(InvalidRequest) as refused:
                ask(OTHER, code)
            answers.add(str(refused.value))
        with pytest.raises(InvalidRequest) as refused:
            researchers.ask(OTHER, code, 1, {})
        answers.add(str(refused.value))
    assert len(answers) == 1
    assert researchers.requests_of(OTHER) == []


def test_a_status_is_read_in_fixed_words_and_the_owners_own(desk: Desk, researchers: ForResearchers) -> None:
    assert researchers.status(RESEARCHER, "request-1")["text"] == STATUS_TEXT[RequestStatus.CHECKED]
    desk.act("deny", {"request": "request-1", "reason": "Ask for less."})
    told = researchers.status(RESEARCHER, "request-1")
    assert (told["status"], told["comment"]) == ("denied", "Ask for less.")


def test_why_a_round_failed_is_the_owners_to_know(desk: Desk, researchers: ForResearchers) -> None:
    desk.act("approve", {"request": "request-1"})
    ledger = desk.datasite.ledger
    record = ledger.requests.get("request-1")
    assert record.plan is not None
    charge = charge_for(record.plan.mechanism, ledger.budgets.balance(desk.schema.population).order)
    run = ledger.runs.start(ledger.runs.admit(record.id, 1, "w", charge).id)
    ledger.runs.fail(run.id, "IndexError in row 17")
    told = researchers.status(RESEARCHER, "request-1")
    assert told["rounds"] == [{"round": 1, "status": "failed"}]
    assert "17" not in str(told["rounds"])


def test_a_dataset_that_is_taken_back_says_so_to_those_who_asked(desk: Desk, researchers: ForResearchers) -> None:
    desk.act("approve", {"request": "request-1"})
    desk.act("retire", {"name": "flu"})
    told = researchers.status(RESEARCHER, "request-1")
    assert told["status"] == "revoked"
    assert "has taken the dataset flu back" in told["comment"]


def test_a_quote_is_recorded_nowhere(desk: Desk, researchers: ForResearchers) -> None:
    rows = len(desk.datasite.audit_log.entries())
    quote = researchers.quote(RESEARCHER, statistics_source("asked"), "flu")
    assert (quote["accepted"], quote["findings"]) == (True, [])
    assert quote["cost"]["epsilon"] == pytest.approx(0.2)
    assert [row["id"] for row in researchers.requests_of(RESEARCHER)] == ["request-1"]
    assert len(desk.datasite.audit_log.entries()) == rows


def test_a_request_is_taken_back_by_its_researcher_once(desk: Desk, researchers: ForResearchers) -> None:
    desk.act("approve", {"request": "request-1"})
    assert researchers.withdraw(RESEARCHER, "request-1")["status"] == "withdrawn"
    assert desk.datasite.ledger.budgets.balance(desk.schema.population).reserved_nano == 0
