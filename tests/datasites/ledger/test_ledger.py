"""What crosses the parts of the ledger: approving, closing, the datasite's own charges, recovering."""

from __future__ import annotations

from datetime import timedelta

import pytest

from datasites.ledger.amounts import amount_of
from datasites.ledger.entries import EntryKind
from datasites.ledger.ledger import Ledger
from policies.errors import (
    BudgetExceeded,
    InvalidRequest,
    WrongStatus,
)
from policies.privacy.accountant import Charge
from policies.privacy.budget import PrivacyBudget
from policies.source.statuses import RequestStatus, RunStatus
from tests.datasites.ledger.ledger_factories import (
    GAUSSIAN,
    LAPLACE,
    NATS,
    START,
    Clock,
    approve,
    approved,
    checked,
    dataset,
    nano_left,
    released,
    running,
    submitted,
)


def test_approval_reserves_all_rounds_in_the_same_entry(ledger: Ledger) -> None:
    request = approved(ledger, rounds=5)
    entry = ledger.entries.list(request=request)[-1]
    assert (entry.kind, entry.amount) == (EntryKind.RESERVE, amount_of(GAUSSIAN) * 5)
    assert ledger.budgets.balance("city").reserved_nano == 5 * GAUSSIAN.divergence_nano
    assert ledger.requests.get(request).status is RequestStatus.APPROVED


def test_approval_is_of_the_plan_that_was_shown(ledger: Ledger) -> None:
    request = checked(ledger)
    with pytest.raises(WrongStatus, match="not the one that was shown"):
        ledger.approve(
            request,
            actor="owner",
            plan_digest="other",
            charge=GAUSSIAN,
            rounds=1,
            expires_at=START + timedelta(days=1),
        )
    assert ledger.budgets.balance("city").reserved_nano == 0


def test_a_request_without_a_plan_is_not_approved(ledger: Ledger) -> None:
    with pytest.raises(WrongStatus, match="cannot become approved"):
        approve(ledger, submitted(ledger))


def test_a_request_is_approved_once(ledger: Ledger) -> None:
    request = approved(ledger)
    with pytest.raises(WrongStatus):
        approve(ledger, request)
    assert ledger.budgets.balance("city").reserved_nano == 3 * GAUSSIAN.divergence_nano


@pytest.mark.parametrize("status", [RequestStatus.WITHDRAWN, RequestStatus.REVOKED, RequestStatus.EXPIRED])
def test_closing_gives_back_only_what_no_run_touched(ledger: Ledger, status: RequestStatus) -> None:
    request = approved(ledger, rounds=6)
    released(ledger, request, 1)
    ledger.runs.fail(running(ledger, request, 2).id)
    ledger.runs.void(ledger.runs.admit(request, 3, "w", GAUSSIAN).id)
    reserved, open_run = ledger.runs.admit(request, 4, "w", GAUSSIAN), running(ledger, request, 5)
    ledger.transition(request, status, actor="someone")
    one = GAUSSIAN.divergence_nano
    # spent: rounds 1 and 2; reserved: round 5, which runs; given back: the other three of six
    assert (ledger.budgets.balance("city").spent_nano, ledger.budgets.balance("city").reserved_nano) == (2 * one, one)
    assert ledger.runs.get(reserved.id).status is RunStatus.VOID
    ledger.runs.fail(open_run.id)
    assert (ledger.budgets.balance("city").spent_nano, ledger.budgets.balance("city").reserved_nano) == (3 * one, 0)
    assert ledger.requests.get(request).status is status
    ledger.verify()


def test_what_an_expired_approval_held_is_free_for_the_next(ledger: Ledger, clock: Clock) -> None:
    charge = Charge(nano_left(ledger), None)
    approved(ledger, charge, rounds=1)
    clock.turn(days=30)
    approve(ledger, checked(ledger), charge, rounds=1, expires_at=clock.now + timedelta(days=1))


def test_unknown_names_are_refused(ledger: Ledger) -> None:
    asks = (
        lambda: ledger.requests.get("x"),
        lambda: ledger.runs.get("x"),
        lambda: ledger.budgets.balance("x"),
        ledger.datasets.get,
    )
    for ask in asks:
        with pytest.raises(InvalidRequest):
            ask()


def test_a_datasets_own_charge_is_reserved_before_it_is_drawn(ledger: Ledger) -> None:
    run = ledger.charge_now("city", LAPLACE, dataset="flu", version="v2", actor="owner", what="patient count")
    assert (run.status, ledger.budgets.balance("city").reserved_nano) == (RunStatus.RUNNING, LAPLACE.divergence_nano)
    ledger.runs.settle(run.id, b"1004", "d", "{}")
    assert ledger.budgets.balance("city").epsilon_spent == 0.2
    with pytest.raises(BudgetExceeded):
        ledger.charge_now("city", Charge(6 * NATS, None), dataset="flu", version="v3", actor="owner", what="count")
    ledger.verify()


def test_recovery_voids_what_was_reserved_and_fails_what_ran(ledger: Ledger) -> None:
    request = approved(ledger, rounds=3)
    reserved, ran = ledger.runs.admit(request, 1, "w", GAUSSIAN), running(ledger, request, 2)
    ledger.datasets.stage(dataset("v2"))
    recovery = ledger.recover()
    assert [run.id for run in recovery.voided] == [reserved.id]
    assert [run.id for run in recovery.failed] == [ran.id]
    assert [each.version for each in recovery.unstaged] == ["v2"]
    assert ledger.budgets.balance("city").spent_nano == GAUSSIAN.divergence_nano
    assert ledger.datasets.list(status="staged") == ()
    assert ledger.recover() == type(recovery)((), (), ())
    ledger.verify()


def test_a_clock_that_goes_back_revives_no_approval_and_breaks_no_chain(ledger: Ledger, clock: Clock) -> None:
    request, other = approved(ledger), approved(ledger)
    clock.turn(days=31)
    with pytest.raises(WrongStatus, match="expired"):
        ledger.runs.admit(request, 1, "w", GAUSSIAN)
    clock.turn(days=-400)
    with pytest.raises(WrongStatus, match="expired"):  # not even one that nobody looked at while the clock was right
        ledger.runs.admit(other, 1, "w", GAUSSIAN)
    assert ledger.requests.get(request).status is RequestStatus.EXPIRED
    ledger.budgets.create_population("later", PrivacyBudget(3.0, 1e-6))
    times = [each.at for each in ledger.entries.list()]
    assert times == sorted(times)
    ledger.verify()
