"""Runs: admitted, started, settled, failed and void, and what is charged for each."""

from __future__ import annotations

import pytest

from datasites.ledger.ledger import Ledger
from datasites.ledger.records import StoredRelease
from policies.errors import (
    WrongStatus,
)
from policies.privacy.accountant import Charge
from policies.source.statuses import RequestStatus, RunStatus
from tests.datasites.ledger.ledger_factories import (
    GAUSSIAN,
    LAPLACE,
    Clock,
    approved,
    released,
    running,
)


def test_a_run_goes_from_reserved_to_released_and_is_charged_once(ledger: Ledger) -> None:
    request = approved(ledger)
    run = ledger.runs.admit(request, 1, "w", GAUSSIAN)
    assert run.status is RunStatus.RESERVED
    assert ledger.runs.start(run.id).status is RunStatus.RUNNING
    ledger.runs.settle(run.id, b"bytes", "digest", "{}")
    assert ledger.runs.release(request, 1) == StoredRelease(b"bytes", "digest", "{}")
    balance = ledger.budgets.balance("city")
    assert (balance.spent_nano, balance.reserved_nano) == (GAUSSIAN.divergence_nano, 2 * GAUSSIAN.divergence_nano)


def test_the_same_weights_are_answered_with_the_same_run_at_no_cost(ledger: Ledger) -> None:
    request = approved(ledger)
    first = released(ledger, request)
    entries = ledger.entries.head().seq
    assert ledger.runs.admit(request, 1, "w", GAUSSIAN) == first
    assert ledger.entries.head().seq == entries


@pytest.mark.parametrize("how_far", ["reserved", "running", "released"])
def test_other_weights_for_a_taken_round_are_refused(ledger: Ledger, how_far: str) -> None:
    request = approved(ledger)
    {"reserved": lambda: ledger.runs.admit(request, 1, "w", GAUSSIAN),
     "running": lambda: running(ledger, request),
     "released": lambda: released(ledger, request)}[how_far]()  # fmt: skip
    with pytest.raises(WrongStatus, match=f"is {how_far} for other weights"):
        ledger.runs.admit(request, 1, "others", GAUSSIAN)


@pytest.mark.parametrize("round", [0, -1, 4])
def test_rounds_outside_the_approval_are_refused(ledger: Ledger, round: int) -> None:
    with pytest.raises(WrongStatus, match=r"outside \[1, 3\]"):
        ledger.runs.admit(approved(ledger, rounds=3), round, "w", GAUSSIAN)


@pytest.mark.parametrize(
    "charge",
    [
        LAPLACE,
        Charge(GAUSSIAN.divergence_nano + 1, None),
        Charge(GAUSSIAN.divergence_nano - 1, 1),
        Charge(GAUSSIAN.divergence_nano, None, delta=1e-9),
    ],
    ids=repr,
)
def test_a_charge_that_is_not_within_the_approved_one_is_refused(ledger: Ledger, charge: Charge) -> None:
    with pytest.raises(WrongStatus, match="not within what was approved"):
        ledger.runs.admit(approved(ledger), 1, "w", charge)


def test_what_was_approved_stays_the_charge_where_the_same_costs_less_by_now(ledger: Ledger) -> None:
    # An approval of version 0.1, which charged statistics by their ε alone, and a round that is asked after an upgrade.
    request = approved(ledger, LAPLACE, rounds=2)
    run = ledger.runs.admit(request, 1, "w", Charge(LAPLACE.divergence_nano // 3, LAPLACE.pure_epsilon_nano))
    ledger.runs.start(run.id)
    ledger.runs.settle(run.id, b"", "digest", "{}")
    assert ledger.budgets.balance("city").spent_nano == LAPLACE.divergence_nano
    ledger.verify()


def test_a_failed_run_keeps_its_charge_and_uses_one_of_the_runs(ledger: Ledger) -> None:
    request = approved(ledger, rounds=2)
    ledger.runs.fail(running(ledger, request).id, "out of memory at step 3")
    assert ledger.budgets.balance("city").spent_nano == GAUSSIAN.divergence_nano
    released(ledger, request, weights="others")  # the round may be asked again, with any weights
    assert ledger.requests.get(request).status is RequestStatus.COMPLETED
    with pytest.raises(WrongStatus, match="is completed"):
        ledger.runs.admit(request, 2, "w", GAUSSIAN)
    assert ledger.budgets.balance("city").reserved_nano == 0


def test_the_reason_of_a_failure_is_in_no_entry(ledger: Ledger) -> None:
    run = ledger.runs.fail(running(ledger, approved(ledger)).id, "row 17 of the table")
    assert run.reason == "row 17 of the table"
    assert not any("row 17" in repr(entry) for entry in ledger.entries.list())


def test_a_void_run_costs_nothing_and_can_be_asked_again(ledger: Ledger) -> None:
    request = approved(ledger, rounds=1)
    ledger.runs.void(ledger.runs.admit(request, 1, "w", GAUSSIAN).id)
    assert ledger.budgets.balance("city").spent_nano == 0
    released(ledger, request)
    assert [run.status for run in ledger.runs.list(request)] == [RunStatus.VOID, RunStatus.RELEASED]


def test_a_running_run_is_not_void(ledger: Ledger) -> None:
    run = running(ledger, approved(ledger))
    with pytest.raises(WrongStatus, match="running and cannot become void"):
        ledger.runs.void(run.id)


def test_a_run_is_started_once_and_settled_once(ledger: Ledger) -> None:
    run = running(ledger, approved(ledger))
    with pytest.raises(WrongStatus):
        ledger.runs.start(run.id)
    ledger.runs.settle(run.id, b"", "d", "{}")
    for again in (lambda: ledger.runs.settle(run.id, b"", "d", "{}"), lambda: ledger.runs.fail(run.id)):
        with pytest.raises(WrongStatus):
            again()
    assert ledger.budgets.balance("city").spent_nano == GAUSSIAN.divergence_nano


def test_a_run_is_not_settled_before_it_started(ledger: Ledger) -> None:
    run = ledger.runs.admit(approved(ledger), 1, "w", GAUSSIAN)
    with pytest.raises(WrongStatus):
        ledger.runs.settle(run.id, b"", "d", "{}")


def test_open_runs_count_against_the_approval(ledger: Ledger) -> None:
    request = approved(ledger, rounds=2)
    ledger.runs.admit(request, 1, "w", GAUSSIAN)
    ledger.runs.fail(running(ledger, request, 2).id)
    with pytest.raises(WrongStatus, match="All 2 runs"):
        ledger.runs.admit(request, 2, "w", GAUSSIAN)


def test_a_certificate_can_name_its_own_entry(ledger: Ledger) -> None:
    request = approved(ledger)
    entry = ledger.runs.settle(running(ledger, request).id, b"x", "d", lambda entry: f"{entry.seq} {entry.hash}")
    release = ledger.runs.release(request, 1)
    assert release is not None
    assert release.certificate == f"{entry.seq} {entry.hash}"
    ledger.verify(heads=((entry.seq, entry.hash),))


def test_a_certificate_that_cannot_be_made_leaves_the_run_running(ledger: Ledger) -> None:
    run = running(ledger, approved(ledger))

    def fail(_: object) -> str:
        raise RuntimeError("no key")

    with pytest.raises(RuntimeError, match="no key"):
        ledger.runs.settle(run.id, b"x", "d", fail)
    assert ledger.runs.get(run.id).status is RunStatus.RUNNING
    assert ledger.budgets.balance("city").spent_nano == 0
    ledger.verify()


@pytest.mark.parametrize("status", [RequestStatus.WITHDRAWN, RequestStatus.EXPIRED])
def test_what_ran_when_its_request_was_closed_is_released(ledger: Ledger, status: RequestStatus) -> None:
    request = approved(ledger)
    run = running(ledger, request)
    ledger.transition(request, status, actor="someone")
    ledger.runs.settle(run.id, b"x", "d", "{}")
    assert ledger.runs.release(request, 1) is not None
    assert ledger.runs.admit(request, 1, "w", GAUSSIAN).status is RunStatus.RELEASED


def test_nothing_is_released_after_a_revocation_and_the_charge_stays(ledger: Ledger) -> None:
    request = approved(ledger)
    run = running(ledger, request)
    ledger.transition(request, RequestStatus.REVOKED, actor="owner")
    with pytest.raises(WrongStatus, match="Nothing is released; the charge stays"):
        ledger.runs.settle(run.id, b"x", "d", "{}")
    assert ledger.runs.release(request, 1) is None
    assert ledger.runs.get(run.id).status is RunStatus.FAILED
    assert ledger.budgets.balance("city").spent_nano == GAUSSIAN.divergence_nano
    ledger.verify()


def test_the_reason_of_a_void_run_is_kept_for_the_owner(ledger: Ledger) -> None:
    run = ledger.runs.admit(approved(ledger), 1, "w", GAUSSIAN)
    assert ledger.runs.void(run.id, "The runner is not running.").reason == "The runner is not running."
    assert ledger.runs.get(run.id).reason == "The runner is not running."
    ledger.verify()


def test_an_expired_approval_admits_nothing_and_gives_back(ledger: Ledger, clock: Clock) -> None:
    request = approved(ledger)
    clock.turn(days=30)
    with pytest.raises(WrongStatus, match="expired"):
        ledger.runs.admit(request, 1, "w", GAUSSIAN)
    assert ledger.requests.get(request).status is RequestStatus.EXPIRED
    assert ledger.budgets.balance("city").reserved_nano == 0
