"""Requests as an owner reads them, and what each action comes to; who may decide is tested with the judge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datasites.people.roles import Role
from policies.errors import InvalidRequest, Unavailable, WrongStatus
from policies.source.statuses import RequestStatus
from tests.browser.desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "datasite")
    yield desk
    desk.close()


def status(desk: Desk, request: str) -> RequestStatus:
    return desk.datasite.ledger.requests.get(request).status


def test_those_that_wait_come_first_and_the_newest_of_them_on_top(desk: Desk) -> None:
    for id in ("first-1", "second-2", "third-3"):
        desk.ask(id, function=id.replace("-", "_"))
    desk.act("deny", {"request": "third-3", "reason": "No."})
    assert [row["id"] for row in desk.act("requests", {})] == ["second-2", "first-1", "third-3"]
    assert [row["id"] for row in desk.act("requests", {"status": "denied"})] == ["third-3"]
    with pytest.raises(InvalidRequest, match="status='gone' is not known"):
        desk.act("requests", {"status": "gone"})


def test_what_a_decision_needs_is_shown_in_plain_data(desk: Desk) -> None:
    desk.ask("first-1", epsilon=0.2)
    shown = desk.act("show", {"request": "first-1"}, role=Role.AUDITOR)
    assert shown["cost"]["epsilon"] == pytest.approx(0.2)
    assert shown["cost"]["spent_before"] == 0.0
    assert shown["purpose"] == "To count."
    assert [line["whose"] for line in shown["budgets"]] == ["population", "researcher"]
    assert all(check["passed"] for check in shown["checks"])
    assert not shown["decision"]["asked"]  # an auditor reads


def test_a_request_that_changed_shows_how(desk: Desk) -> None:
    desk.ask("first-1")
    desk.act("approve", {"request": "first-1"})
    desk.ask("again-2", epsilon=0.1)
    difference = desk.act("show", {"request": "again-2"})["difference"]
    assert any(line.startswith("-") and "epsilon=0.2" in line for line in difference)
    assert any(line.startswith("+") and "epsilon=0.1" in line for line in difference)


@pytest.mark.parametrize(
    ("action", "words", "comes_to"),
    [("deny", "reason", RequestStatus.DENIED), ("ask_changes", "comment", RequestStatus.CHANGES_REQUESTED)],
)
def test_the_researcher_reads_why(desk: Desk, action: str, words: str, comes_to: RequestStatus) -> None:
    desk.ask("first-1")
    desk.act(action, {"request": "first", words: "Fewer rounds, please."})
    assert status(desk, "first-1") is comes_to
    assert desk.datasite.ledger.requests.comments("first-1")[-1].text == "Fewer rounds, please."


def test_a_revoked_approval_gives_its_reservation_back(desk: Desk) -> None:
    desk.ask("first-1")
    desk.act("approve", {"request": "first-1"})
    balances = desk.datasite.ledger.budgets
    assert balances.balance(desk.schema.population).reserved_nano > 0
    desk.act("revoke", {"request": "first-1", "reason": "The study ended."})
    assert status(desk, "first-1") is RequestStatus.REVOKED
    assert balances.balance(desk.schema.population).reserved_nano == 0


def test_how_many_more_the_budget_holds_is_counted_with_what_is_reserved(desk: Desk) -> None:
    desk.ask("first-1", epsilon=0.5)
    before = desk.act("what_if", {"request": "first-1"})
    assert before["waiting"]
    assert before["after"] == sorted(before["after"])
    assert before["after"][-1] <= before["budget"]
    desk.act("approve", {"request": "first-1"})
    assert desk.act("what_if", {"request": "first-1"})["fits"] == before["fits"] - 1


def test_what_has_no_plan_has_no_cost_and_is_not_tried(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.ask("first-1")
    monkeypatch.setattr(desk.datasite.mock_runs, "start", lambda record: False)
    with pytest.raises(Unavailable, match="Too many requests wait"):
        desk.act("try_request", {"request": "first-1", "wait": False})
    refused = type(desk.datasite.ledger.requests.get("first-1"))(
        id="refused-2", function="refused", researcher="a@b.example", dataset="flu", version="v", population=None,
        source="import os",
    )  # fmt: skip
    desk.datasite.ledger.requests.submit(refused)
    with pytest.raises(InvalidRequest, match="has no plan"):
        desk.act("what_if", {"request": "refused-2"})
    with pytest.raises(WrongStatus, match="has no plan"):
        desk.act("try_request", {"request": "refused-2"})
