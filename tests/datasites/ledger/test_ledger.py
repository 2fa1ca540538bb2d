"""The ledger's promises, one test each: budgets, approvals, runs, closing, datasets."""

from __future__ import annotations

import math
import sqlite3
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from datasites.ledger.amounts import ATTO, amount_of

from datasites.ledger.entries import EntryKind
from datasites.ledger.ledger import Ledger
from policies.errors import (
    BudgetExceeded,
    BudgetTooSmall,
    InvalidRequest,
    RuleBroken,
    Unavailable,
    UnsupportedMechanism,
    WrongStatus,
)
from policies.privacy.accountant import Charge, conversion
from policies.privacy.budget import PrivacyBudget
from policies.source.findings import Finding
from policies.source.statuses import RequestStatus, RunStatus
from tests.datasites.ledger.ledger_factories import (
    BUDGET,
    GAUSSIAN,
    LAPLACE,
    NATS,
    ORDER,
    START,
    Clock,
    approve,
    approved,
    checked,
    dataset,
    nano_left,
    new_ledger,
    released,
    running,
    submitted,
)

IMPORT = Finding("import", 1, 1, "import os", "It reaches the host.", "Leave it out.")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Ledger:
    return new_ledger(tmp_path / "ledger.db", clock)


# Budgets


def test_capacity_is_epsilon_less_the_conversion_rounded_down(ledger: Ledger) -> None:
    capacity = ledger.budgets.balance("city").capacity_nano
    exact = (BUDGET.epsilon - conversion(ORDER, BUDGET.delta)) * NATS
    assert exact - 2 <= capacity <= exact


def test_nothing_spent_is_epsilon_zero(ledger: Ledger) -> None:
    balance = ledger.budgets.balance("city")
    assert (balance.epsilon_spent, balance.epsilon_reserved, balance.epsilon_remaining) == (0.0, 0.0, BUDGET.epsilon)
    assert balance.share_left == 1.0


def test_spent_epsilon_is_divergence_plus_conversion_rounded_up(ledger: Ledger) -> None:
    released(ledger, approved(ledger, rounds=1))
    exact = GAUSSIAN.divergence_nano / NATS + conversion(ORDER, BUDGET.delta)
    assert exact <= ledger.budgets.balance("city").epsilon_spent <= exact + 2e-9


def test_pure_releases_alone_cost_the_sum_of_their_epsilons(ledger: Ledger) -> None:
    request = approved(ledger, LAPLACE, rounds=2)
    released(ledger, request, 1, LAPLACE)
    released(ledger, request, 2, LAPLACE)
    assert ledger.budgets.balance("city").epsilon_spent == pytest.approx(
        0.4, abs=0
    )  # 2 x 0.2, below the conversion of δ


def test_one_release_without_pure_epsilon_ends_the_sum(ledger: Ledger) -> None:
    released(ledger, approved(ledger, LAPLACE, rounds=1), 1, LAPLACE)
    released(ledger, approved(ledger, rounds=1))
    # 0.05 of the Laplace release and 0.1 of the Gaussian one, at the order, and the conversion once
    assert ledger.budgets.balance("city").epsilon_spent == pytest.approx(0.15 + conversion(ORDER, 1e-5), abs=2e-9)


def test_spent_reserved_and_remaining_add_up_to_the_budget(ledger: Ledger) -> None:
    released(ledger, approved(ledger, rounds=2))
    balance = ledger.budgets.balance("city")
    total = balance.epsilon_spent + balance.epsilon_reserved + balance.epsilon_remaining
    assert total == pytest.approx(BUDGET.epsilon, abs=3e-9)


def test_a_budget_that_its_delta_uses_up_is_refused_with_the_nearest_order(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "ledger.db") as ledger:
        with pytest.raises(BudgetTooSmall, match=r"order=2.*Use order=\d+") as caught:
            ledger.budgets.create_population("city", PrivacyBudget(2.0, 1e-5), 2)
        assert conversion(caught.value.nearest, 1e-5) < 2.0  # type: ignore[attr-defined]
        assert ledger.budgets.populations() == ()


def test_a_budget_below_every_order_says_how_much_it_takes(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "ledger.db") as ledger, pytest.raises(BudgetTooSmall, match="choose ε above"):
        ledger.budgets.create_population("city", PrivacyBudget(0.001, 1e-9), 16)


def test_a_population_is_never_started_anew(ledger: Ledger) -> None:
    with pytest.raises(WrongStatus, match="raised, never started anew"):
        ledger.budgets.create_population("city", BUDGET, ORDER)


def test_raising_a_budget_adds_the_difference_and_says_the_new_promise(ledger: Ledger) -> None:
    before = ledger.budgets.balance("city").capacity_nano
    assert ledger.budgets.raise_budget("city", PrivacyBudget(7.5, 1e-5)) == PrivacyBudget(7.5, 1e-5)
    assert ledger.budgets.balance("city").capacity_nano - before == 1.5 * NATS
    assert ledger.entries.list()[-1].kind is EntryKind.BUDGET


@pytest.mark.parametrize("budget", [PrivacyBudget(5.0, 1e-5), PrivacyBudget(6.0, 1e-5), PrivacyBudget(7.0, 1e-4)])
def test_a_budget_is_not_lowered_and_its_delta_stays(ledger: Ledger, budget: PrivacyBudget) -> None:
    with pytest.raises(RuleBroken):
        ledger.budgets.raise_budget("city", budget)


def test_populations_do_not_share_budgets(ledger: Ledger) -> None:
    ledger.budgets.create_population("county", BUDGET, ORDER)
    released(ledger, approved(ledger, rounds=1))
    assert ledger.budgets.balance("county").spent_nano == 0
    assert ledger.budgets.populations() == ("city", "county")


# Approval


def test_approval_reserves_all_rounds_in_the_same_entry(ledger: Ledger) -> None:
    request = approved(ledger, rounds=5)
    entry = ledger.entries.list(request=request)[-1]
    assert (entry.kind, entry.amount) == (EntryKind.RESERVE, amount_of(GAUSSIAN) * 5)
    assert ledger.budgets.balance("city").reserved_nano == 5 * GAUSSIAN.divergence_nano
    assert ledger.requests.get(request).status is RequestStatus.APPROVED


def test_what_does_not_fit_is_refused_naming_asked_left_and_short(ledger: Ledger) -> None:
    left = nano_left(ledger)
    request = checked(ledger)
    with pytest.raises(BudgetExceeded, match=r"adds ε=.* but ε=.* remains .* short") as caught:
        approve(ledger, request, Charge(left + 1, None), rounds=1)
    error = caught.value
    assert error.requested - error.remaining == pytest.approx(error.short)
    assert error.short == pytest.approx(1e-9)
    assert ledger.requests.get(request).status is RequestStatus.CHECKED
    assert nano_left(ledger) == left


def test_the_last_nano_nat_can_be_spent_and_no_more(ledger: Ledger) -> None:
    charge = Charge(nano_left(ledger), None)
    released(ledger, approved(ledger, charge, rounds=1), 1, charge)
    balance = ledger.budgets.balance("city")
    assert (nano_left(ledger), balance.epsilon_remaining, balance.share_left) == (0, 0.0, 0.0)
    assert balance.epsilon_spent == BUDGET.epsilon
    with pytest.raises(BudgetExceeded):
        approve(ledger, checked(ledger), Charge(1, None), rounds=1)


def test_rounds_count_in_whether_it_fits(ledger: Ledger) -> None:
    half = Charge(nano_left(ledger) // 2 + 1, None)
    with pytest.raises(BudgetExceeded):
        approve(ledger, checked(ledger), half, rounds=2)
    approve(ledger, checked(ledger), half, rounds=1)


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


@pytest.mark.parametrize(
    "charge",
    [
        Charge(0, None),
        Charge(-1, None),
        Charge(1.5, None),
        Charge(2**61, None),
        Charge(1, 0),
        Charge(1, None, math.nan),
    ],  # type: ignore[arg-type]
    ids=repr,
)
def test_a_charge_that_is_not_a_positive_number_is_refused(ledger: Ledger, charge: Charge) -> None:
    with pytest.raises(UnsupportedMechanism):
        approve(ledger, checked(ledger), charge)


def test_a_mechanism_with_its_own_delta_needs_a_share_kept_for_it(ledger: Ledger) -> None:
    charge = Charge(1000, None, delta=1e-7)
    with pytest.raises(BudgetExceeded, match="δ=1e-07 of its own"):
        approve(ledger, checked(ledger), charge, rounds=1)
    ledger.budgets.create_population("county", BUDGET, ORDER, mechanism_delta=3e-7)
    # What is kept for mechanisms is not there for the conversion.
    assert ledger.budgets.balance("county").capacity_nano < ledger.budgets.balance("city").capacity_nano
    approve(ledger, checked(ledger, population="county"), charge, rounds=2)
    with pytest.raises(BudgetExceeded):  # 4 x 1e-7 > 3e-7
        approve(ledger, checked(ledger, population="county"), charge, rounds=2)
    assert amount_of(charge).delta_atto >= 1e-7 * ATTO


def test_a_researchers_limit_is_policy_within_the_budget(ledger: Ledger) -> None:
    request = approved(ledger, LAPLACE, rounds=2)
    with pytest.raises(BudgetExceeded, match=r"researcher rita@uni.example") as caught:
        approve(ledger, checked(ledger), LAPLACE, rounds=1, researcher_epsilon=0.5)  # 0.4 + 0.2 > 0.5
    assert caught.value.short == pytest.approx(0.1)
    approve(ledger, checked(ledger, "sam@uni.example"), LAPLACE, rounds=1, researcher_epsilon=0.5)
    ledger.budgets.set_researcher_limit("city", "rita@uni.example", 0.6, actor="owner")
    approve(ledger, checked(ledger), LAPLACE, rounds=1, researcher_epsilon=0.5)
    released(ledger, request, 1, LAPLACE)
    own = ledger.budgets.researcher_balance("city", "rita@uni.example")
    assert (own.budget.epsilon, own.epsilon_spent, own.epsilon_remaining) == (0.6, 0.2, 0.0)
    ledger.verify()


# Runs


def test_a_run_goes_from_reserved_to_released_and_is_charged_once(ledger: Ledger) -> None:
    request = approved(ledger)
    run = ledger.runs.admit(request, 1, "w", GAUSSIAN)
    assert run.status is RunStatus.RESERVED
    assert ledger.runs.start(run.id).status is RunStatus.RUNNING
    ledger.runs.settle(run.id, b"bytes", "digest", "{}")
    assert ledger.runs.release(request, 1) == (b"bytes", "digest", "{}")
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


def test_a_charge_other_than_the_approved_one_is_refused(ledger: Ledger) -> None:
    with pytest.raises(WrongStatus, match="not the one that was approved"):
        ledger.runs.admit(approved(ledger), 1, "w", LAPLACE)


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


# Closing


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


def test_what_an_expired_approval_held_is_free_for_the_next(ledger: Ledger, clock: Clock) -> None:
    charge = Charge(nano_left(ledger), None)
    approved(ledger, charge, rounds=1)
    clock.turn(days=30)
    approve(ledger, checked(ledger), charge, rounds=1, expires_at=clock.now + timedelta(days=1))


# Requests, comments, datasets


def test_the_same_submission_again_is_answered_with_the_first(ledger: Ledger) -> None:
    request = submitted(ledger)
    head = ledger.entries.head()
    assert ledger.requests.submit(ledger.requests.get(request)).id == request
    assert ledger.entries.head() == head
    with pytest.raises(WrongStatus, match="other contents"):
        submitted(ledger, "eve@uni.example", id=request)


def test_a_request_that_failed_inspection_is_denied_with_its_findings(ledger: Ledger) -> None:
    request = submitted(ledger, population=None, version="")
    denied = ledger.transition(request, "denied", actor="datasite", findings=(IMPORT,), comment="No.")
    assert (denied.status, denied.findings) == (RequestStatus.DENIED, (IMPORT,))
    assert [each.text for each in ledger.requests.comments(request)] == ["No."]


def test_requests_are_listed_by_status_and_researcher(ledger: Ledger) -> None:
    mine, theirs = approved(ledger), submitted(ledger, "sam@uni.example")
    ledger.charge_now("city", LAPLACE, dataset="flu", version="v2", actor="owner", what="patient count")
    assert [each.id for each in ledger.requests.list()] == [mine, theirs]
    assert [each.id for each in ledger.requests.list(status="approved")] == [mine]
    assert [each.id for each in ledger.requests.list(researcher="sam@uni.example")] == [theirs]
    assert len(ledger.requests.list(by_owner=True)) == 1


def test_unknown_names_are_refused(ledger: Ledger) -> None:
    asks = (
        lambda: ledger.requests.get("x"),
        lambda: ledger.runs.get("x"),
        lambda: ledger.budgets.balance("x"),
        ledger.dataset,
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


def test_publishing_retires_the_version_before_at_once(ledger: Ledger) -> None:
    old = approved(ledger)
    waiting = checked(ledger)
    ledger.datasets.stage(dataset("v2"))
    assert [each.version for each in ledger.datasets.list()] == ["v1"]
    ledger.datasets.publish(dataset("v2", patients=1100), actor="owner")
    assert [(each.version, each.patients) for each in ledger.datasets.list()] == [("v2", 1100)]
    assert ledger.datasets.get(version="v1").status == "retired"
    with pytest.raises(WrongStatus, match="is retired"):
        ledger.runs.admit(old, 1, "w", GAUSSIAN)
    with pytest.raises(WrongStatus, match="is retired"):
        approve(ledger, waiting)


def test_a_version_is_published_once_and_its_name_keeps_its_population(ledger: Ledger) -> None:
    with pytest.raises(WrongStatus):
        ledger.datasets.publish(dataset("v1"), actor="owner")
    ledger.budgets.create_population("county", BUDGET, ORDER)
    with pytest.raises(WrongStatus, match="belongs to population 'city'"):
        ledger.datasets.publish(dataset("v9", population="county"), actor="owner")
    with pytest.raises(InvalidRequest):
        ledger.datasets.publish(dataset("v9", patients=None), actor="owner")


def test_retiring_takes_a_dataset_back_and_keeps_its_charges(ledger: Ledger) -> None:
    released(ledger, approved(ledger))
    ledger.datasets.retire("v1", actor="owner")
    assert ledger.datasets.list() == ()
    assert ledger.budgets.balance("city").spent_nano == GAUSSIAN.divergence_nano
    with pytest.raises(WrongStatus):
        ledger.datasets.retire("v1", actor="owner")


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


# The file


def test_the_file_is_its_users_alone(ledger: Ledger) -> None:
    for suffix in ("", "-wal", "-shm"):
        mode = ledger.path.with_name(ledger.path.name + suffix).stat().st_mode
        assert stat.S_IMODE(mode) == 0o600, suffix


def test_it_writes_ahead_with_full_sync(ledger: Ledger) -> None:
    with ledger.store.reading() as db:
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert db.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_a_ledger_is_never_made_over_another(ledger: Ledger) -> None:
    with pytest.raises(WrongStatus, match="never started anew"):
        Ledger.create(ledger.path)
    assert ledger.budgets.populations() == ("city",)


def test_opening_what_is_not_there_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="datasite init"):
        Ledger.open(tmp_path / "ledger.db")
    assert not list(tmp_path.iterdir())


def test_a_lock_held_elsewhere_is_unavailable_with_nothing_half_done(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path / "ledger.db", busy_seconds=0.05)
    request = checked(ledger)
    other = sqlite3.connect(ledger.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"):
        approve(ledger, request)
    assert ledger.requests.get(request).status is RequestStatus.CHECKED  # reading goes on
    other.execute("ROLLBACK")
    other.close()
    approve(ledger, request)


def test_a_full_disk_is_unavailable_with_nothing_half_done(ledger: Ledger) -> None:
    run = running(ledger, approved(ledger))
    head = ledger.entries.head()
    with ledger.store.reading() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
    ledger.store._connection().execute(f"PRAGMA max_page_count = {pages}")  # as a disk with no room for one page more
    with pytest.raises(Unavailable, match="disk is full"):
        ledger.runs.settle(run.id, bytes(1_000_000), "d", "{}")
    assert (ledger.entries.head(), ledger.runs.get(run.id).status) == (head, RunStatus.RUNNING)
    assert ledger.budgets.balance("city").spent_nano == 0
    ledger.store._connection().execute(f"PRAGMA max_page_count = {pages + 1000}")
    ledger.runs.settle(run.id, bytes(1_000_000), "d", "{}")
    ledger.verify()


def test_a_backup_is_a_whole_ledger(ledger: Ledger, tmp_path: Path) -> None:
    released(ledger, approved(ledger))
    ledger.backup(tmp_path / "copy.db")
    with Ledger.open(tmp_path / "copy.db") as copy:
        assert copy.verify() == ledger.verify()
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600


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
