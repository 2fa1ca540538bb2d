"""Statuses, transitions, their parties and the texts that a researcher may read."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasites.ledger.records import (
    REQUEST_TRANSITIONS,
    RUN_OWNER,
    RUN_TEXT,
    RUN_TRANSITIONS,
    STATUS_OWNER,
    STATUS_TEXT,
    Party,
    RequestStatus,
    RunStatus,
    check_run_transition,
    check_transition,
)
from policies.errors import WrongStatus
from tests.datasites.ledger.ledger_factories import each_pair, in_status, new_ledger

FINAL = {status for status, nexts in REQUEST_TRANSITIONS.items() if not nexts}


def test_every_status_has_transitions_an_owner_and_a_text() -> None:
    for table in (REQUEST_TRANSITIONS, STATUS_OWNER, STATUS_TEXT):
        assert set(table) == set(RequestStatus)
    for table in (RUN_TRANSITIONS, RUN_OWNER, RUN_TEXT):
        assert set(table) == set(RunStatus)


def test_every_request_status_can_be_reached_from_submitted() -> None:
    reached, new = {RequestStatus.SUBMITTED}, {RequestStatus.SUBMITTED}
    while new := {each for status in new for each in REQUEST_TRANSITIONS[status]} - reached:
        reached |= new
    assert reached == set(RequestStatus)


def test_denied_and_changes_requested_are_final() -> None:
    assert {RequestStatus.DENIED, RequestStatus.CHANGES_REQUESTED} <= FINAL


def test_a_run_that_touched_data_is_never_void() -> None:
    assert RunStatus.VOID not in RUN_TRANSITIONS[RunStatus.RUNNING]
    assert not RUN_TRANSITIONS[RunStatus.FAILED]


def test_only_the_owner_approves() -> None:
    ways = [nexts[RequestStatus.APPROVED] for nexts in REQUEST_TRANSITIONS.values() if RequestStatus.APPROVED in nexts]
    assert ways == [frozenset({Party.OWNER})]


@pytest.mark.parametrize("old", RunStatus)
@pytest.mark.parametrize("new", RunStatus)
def test_runs_move_only_as_their_table_says(old: RunStatus, new: RunStatus) -> None:
    if new in RUN_TRANSITIONS[old]:
        check_run_transition(old, new, run="r")
    else:
        with pytest.raises(WrongStatus, match=f"is {old} and cannot become {new}"):
            check_run_transition(old, new, run="r")


@pytest.mark.parametrize("party", Party)
@pytest.mark.parametrize(("old", "new"), each_pair())
def test_parties_make_only_their_own_moves(old: RequestStatus, new: RequestStatus, party: Party) -> None:
    if party in REQUEST_TRANSITIONS[old].get(new, ()):
        check_transition(old, new, request="r", party=party)
    else:
        with pytest.raises(WrongStatus):
            check_transition(old, new, request="r", party=party)


@pytest.mark.parametrize(("old", "new"), each_pair())
def test_the_ledger_moves_requests_only_as_the_table_says(
    tmp_path: Path, old: RequestStatus, new: RequestStatus
) -> None:
    with new_ledger(tmp_path / "ledger.db") as ledger:
        request = in_status(ledger, old)
        # Approval and completion come by methods of their own, and `checked` needs a plan.
        apart = {RequestStatus.APPROVED, RequestStatus.COMPLETED, RequestStatus.CHECKED}
        if new in REQUEST_TRANSITIONS[old] and new not in apart:
            assert ledger.transition(request, new, actor="someone").status is new
        else:
            with pytest.raises(WrongStatus):
                ledger.transition(request, new, actor="someone")
            assert ledger.get(request).status is old
        ledger.verify()
