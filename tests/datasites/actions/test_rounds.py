"""Rounds of approved requests as the owner lists and ends them; what becomes of one is tested with `Rounds`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datasites.people.roles import Role
from policies.errors import InvalidRequest, PermissionRefused, WrongStatus
from policies.privacy.accountant import charge_for
from policies.source.statuses import RunStatus
from tests.browser.desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "datasite")
    yield desk
    desk.close()


def running(desk: Desk) -> str:
    """A run that the ledger has as running."""
    desk.ask("first-1")
    desk.act("approve", {"request": "first-1"})
    ledger = desk.datasite.ledger
    plan = ledger.requests.get("first-1").plan
    assert plan is not None
    charge = charge_for(plan.mechanism, ledger.budgets.balance(desk.schema.population).order)
    return ledger.runs.start(ledger.runs.admit("first-1", 1, "w", charge).id).id


def test_a_run_that_is_to_end_is_shown_so_and_recorded(desk: Desk) -> None:
    run = running(desk)
    desk.act("stop_run", {"run": run})
    assert desk.datasite.rounds.is_ending(run)
    (row,) = desk.datasite.audit_log.entries(search="stop run")
    assert (row.object, row.details) == (run, {"request": "first-1", "round": 1})


def test_a_run_that_has_ended_is_not_stopped(desk: Desk) -> None:
    run = running(desk)
    desk.datasite.ledger.runs.fail(run, "a reason")
    with pytest.raises(WrongStatus, match="is failed; there is nothing to stop"):
        desk.act("stop_run", {"run": run})
    with pytest.raises(InvalidRequest):
        desk.act("stop_run", {"run": "nothing"})


def test_runs_are_listed_with_their_reasons_for_the_console_alone(desk: Desk) -> None:
    run = running(desk)
    desk.datasite.ledger.runs.fail(run, "a reason for the owner")
    (row,) = desk.act("runs", {}, role=Role.AUDITOR)["runs"]
    assert (row["status"], row["function"]) == (RunStatus.FAILED.value, "flu_counts")
    assert "a reason for the owner" in str(row)
    with pytest.raises(PermissionRefused):
        desk.act("runs", {}, role=Role.RESEARCHER)


def test_a_stop_outlives_a_restart_until_work_goes_on(desk: Desk) -> None:
    mark = desk.datasite.settings.directory / "stopped"
    assert desk.act("stop", {}) == {"ended": 0, "by_themselves": 0}
    assert mark.exists()
    assert type(desk.datasite.rounds)(
        desk.datasite.settings, desk.datasite.ledger, desk.datasite.pool, lambda asset: None  # type: ignore[arg-type, return-value]
    ).stopped.is_set()  # fmt: skip
    desk.act("resume", {})
    assert not mark.exists()
    assert not desk.datasite.rounds.stopped.is_set()
