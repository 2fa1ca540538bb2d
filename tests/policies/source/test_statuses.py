"""Statuses, transitions, their parties and the texts that a researcher may read."""

from __future__ import annotations

import itertools

import pytest

from policies.errors import WrongStatus
from policies.source.statuses import (
    REQUEST_TRANSITIONS,
    RUN_TRANSITIONS,
    STATUS_TEXT,
    Party,
    RequestStatus,
    RunStatus,
    check_run_transition,
    check_transition,
)

FINAL = {status for status, nexts in REQUEST_TRANSITIONS.items() if not nexts}


def test_every_status_has_transitions_and_a_text() -> None:
    assert set(REQUEST_TRANSITIONS) == set(STATUS_TEXT) == set(RequestStatus)
    assert set(RUN_TRANSITIONS) == set(RunStatus)


def test_every_move_has_somebody_who_may_make_it() -> None:
    assert all(parties for nexts in REQUEST_TRANSITIONS.values() for parties in nexts.values())


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
@pytest.mark.parametrize(("old", "new"), itertools.product(RequestStatus, RequestStatus))
def test_parties_make_only_their_own_moves(old: RequestStatus, new: RequestStatus, party: Party) -> None:
    if party in REQUEST_TRANSITIONS[old].get(new, ()):
        check_transition(old, new, request="r", party=party)
    else:
        with pytest.raises(WrongStatus):
            check_transition(old, new, request="r", party=party)
