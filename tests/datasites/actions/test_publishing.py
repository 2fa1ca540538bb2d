"""Publishing and taking back, as far as no table is read; the rest is in `tests/e2e/test_private_rows.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datasites.actions.publishing import _two_digits
from policies.errors import InvalidRequest, WrongStatus
from policies.source.statuses import RequestStatus
from tests.browser.desk import Desk
from tests.factories import SCHEMA


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "datasite")
    yield desk
    desk.close()


def publish(desk: Desk, **changes: Any) -> None:
    facts: dict[str, Any] = {
        "table": "nothing.csv", "sql": None, "database": None, "password_file": None, "schema": SCHEMA,
        "patients": 400, "count_epsilon": None, "budget": [6.0, 1e-5], "public_mock": None,
    }  # fmt: skip
    desk.act("publish", {**facts, **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"patients": None}, "Say how the number of patients is published"),
        ({"count_epsilon": 0.1}, "Say how the number of patients is published"),
        ({"patients": 0}, "patients=0 is not a whole number from 1"),
        ({"patients": -5}, "patients=-5 is not a whole number from 1"),
    ],
)
def test_a_size_is_said_in_one_way_before_any_table_is_read(desk: Desk, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        publish(desk, **changes)


def test_a_name_stays_on_its_populations_budget(desk: Desk) -> None:
    """Else the same patients would be asked about on a fresh one."""
    schema = SCHEMA.replace('population = "patients"', 'population = "fresh"')
    with pytest.raises(WrongStatus, match="whose budget it stays on"):
        publish(desk, schema=schema)


@pytest.mark.parametrize(
    ("number", "shown"), [(1, 1), (99, 99), (100, 100), (104, 100), (105, 100), (1049, 1000), (123_456, 120_000)]
)
def test_a_declared_size_keeps_two_digits(number: int, shown: int) -> None:
    assert _two_digits(number) == shown


def test_taking_a_dataset_back_tells_pysyft_of_each_request_and_the_owner_how_many(desk: Desk) -> None:
    told: list[tuple[str, bool]] = []
    desk.datasite.project = lambda record: told.append((record.id, record.status is RequestStatus.APPROVED))  # type: ignore[method-assign]
    for id in ("approved-1", "waiting-2", "denied-3"):
        desk.ask(id)
    desk.act("approve", {"request": "approved-1"})
    desk.act("deny", {"request": "denied-3", "reason": "No."})
    assert desk.act("retire", {"name": "flu"}) == {"closed": 2}
    assert told == [("approved-1", False), ("waiting-2", False)]
    assert desk.datasite.ledger.budgets.balance(desk.schema.population).reserved_nano == 0
    (row,) = desk.datasite.audit_log.entries(search="retire")
    assert (row.object, row.details) == ("flu", {"closed": 2})
    with pytest.raises(InvalidRequest, match="is published here"):
        desk.act("retire", {"name": "flu"})
