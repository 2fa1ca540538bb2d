"""Datasets and budgets as an owner reads them, and a budget raised."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datasites.people.roles import Role
from policies.errors import InvalidRequest, PermissionRefused, RuleBroken
from tests.browser.desk import VERSION, Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "datasite")
    yield desk
    desk.close()


def test_versions_are_listed_with_their_public_sizes_and_budgets(desk: Desk) -> None:
    shown = desk.act("datasets", {}, role=Role.AUDITOR)
    (row,) = shown["datasets"]
    assert (row["name"], row["patients"], row["size_kind"], row["status"]) == ("flu", 400, "declared", "published")
    (balance,) = shown["populations"]
    assert (balance["epsilon"], balance["epsilon_spent"], balance["epsilon_reserved"]) == (6.0, 0.0, 0.0)
    assert balance["epsilon_remaining"] == 6.0


def test_a_schema_is_shown_whole_and_a_mock_that_is_gone_has_no_rows(desk: Desk) -> None:
    shown = desk.act("dataset", {"version": VERSION}, role=Role.AUDITOR)
    columns = {column["name"]: column for column in shown["columns"]}
    assert columns["temperature"]["range"] == "34 to 42"
    assert columns["influenza"]["target"]
    assert not columns["influenza"]["feature"]
    assert shown["mock"]["rows"] == []
    with pytest.raises(InvalidRequest):
        desk.act("dataset", {"version": "nothing"})


def test_a_budget_is_raised_by_the_owner_alone_and_never_lowered(desk: Desk) -> None:
    population = desk.schema.population
    with pytest.raises(PermissionRefused):
        desk.act("raise_budget", {"population": population, "epsilon": 7.0}, role=Role.SECOND_REVIEWER)
    for epsilon in (5.0, 6.0):
        with pytest.raises(RuleBroken, match="can only be raised"):
            desk.act("raise_budget", {"population": population, "epsilon": epsilon})
    assert desk.act("raise_budget", {"population": population, "epsilon": 7.0}) == {"epsilon": 7.0, "delta": 1e-5}
    (row,) = desk.datasite.audit_log.entries(search="raise budget")
    assert row.details == {"epsilon": 7.0}
    with pytest.raises(InvalidRequest):
        desk.act("raise_budget", {"population": "nobody", "epsilon": 7.0})
