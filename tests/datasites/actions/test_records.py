"""What left and the record of it, as plain data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasites.people.roles import Role
from policies.errors import InvalidRequest
from policies.privacy.accountant import charge_for
from tests.browser.desk import Desk

REQUEST, CERTIFICATE = "first-1", '{"certificate": "as it was signed"}'


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A datasite of which one statistic has left."""
    desk = Desk(tmp_path / "datasite")
    desk.ask(REQUEST)
    desk.act("approve", {"request": REQUEST})
    ledger = desk.datasite.ledger
    plan = ledger.requests.get(REQUEST).plan
    assert plan is not None
    charge = charge_for(plan.mechanism, ledger.budgets.balance(desk.schema.population).order)
    run = ledger.runs.start(ledger.runs.admit(REQUEST, 1, "w", charge).id)
    ledger.runs.settle(run.id, b"tensors", "d" * 64, CERTIFICATE)
    yield desk
    desk.close()


def test_a_release_is_listed_without_what_it_says(desk: Desk) -> None:
    (row,) = desk.act("releases", {}, role=Role.AUDITOR)
    assert (row["request"], row["round"], row["bytes"], row["digest"]) == (REQUEST, 1, 7, "d" * 64)
    page = desk.act("release_page", {"limit": 1})
    assert page["count"] == 1
    assert "tensors" not in json.dumps([row, page])


def test_a_certificate_is_given_as_it_was_signed(desk: Desk) -> None:
    assert desk.act("certificate", {"request": REQUEST, "round_number": 1}, role=Role.AUDITOR) == CERTIFICATE
    with pytest.raises(InvalidRequest, match="has no release"):
        desk.act("certificate", {"request": REQUEST, "round_number": 2})


def test_the_ledger_is_shown_newest_first_with_a_head_that_verifies(desk: Desk) -> None:
    shown = desk.act("ledger", {"entries": 3}, role=Role.AUDITOR)
    assert [entry["kind"] for entry in shown["entries"]] == ["status", "settle", "start"]  # completed
    number, head = shown["head"].split()
    verified = desk.act("verify_ledger", {})
    assert (verified["entries"], verified["head"]) == (int(number), head)
    assert shown["balances"][0]["epsilon_spent"] > 0


def test_what_was_spent_is_told_by_day_dataset_and_researcher(desk: Desk) -> None:
    (day,) = desk.act("spending", {"population": desk.schema.population})
    assert (day["dataset"], day["researcher"], day["runs"]) == ("flu", "researcher@university.example", 1)


def test_the_log_is_searched_by_who_what_and_details(desk: Desk) -> None:
    for search in ("approve", REQUEST, "OWNER@hospital"):
        assert [row["what"] for row in desk.act("search_log", {"search": search})] == ["approve"]
    assert desk.act("search_log", {"search": "nothing of the kind"}) == []
    assert desk.act("verify_log", {})["rows"] == 1
