"""Budgets of populations: what fits, what is refused and how, and what a balance says."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from datasites.ledger.amounts import ATTO, NOWHERE, Amount, Balance, Charged, amount_of
from datasites.ledger.entries import EntryKind
from datasites.ledger.ledger import Ledger
from policies.errors import (
    BudgetExceeded,
    BudgetTooSmall,
    RuleBroken,
    WrongStatus,
)
from policies.privacy.accountant import Charge, conversion
from policies.privacy.budget import PrivacyBudget
from policies.privacy.mechanisms import Patients
from policies.source.statuses import RequestStatus
from tests.datasites.ledger.ledger_factories import (
    BUDGET,
    GAUSSIAN,
    LAPLACE,
    NATS,
    ORDER,
    approve,
    approved,
    checked,
    nano_left,
    released,
)


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


# -- pure releases ----------------------------------------------------------------------------------------------------

ONE = Charge(divergence_nano=97 * NATS // 100, pure_epsilon_nano=NATS)


def test_pure_releases_are_admitted_while_their_epsilons_add_up_to_the_budget(ledger: Ledger) -> None:
    # Six have a divergence of 5.82 at order 16, above the capacity of 5.48; their ε add up to 6.
    for number in range(6):
        assert ledger.budgets.balance("city").epsilon_remaining == 6 - number
        released(ledger, approved(ledger, ONE, rounds=1), 1, ONE)
    balance = ledger.budgets.balance("city")
    assert balance.spent_nano > balance.capacity_nano
    assert (balance.epsilon_spent, balance.epsilon_remaining, balance.share_left) == (6.0, 0.0, 0.0)
    with pytest.raises(BudgetExceeded, match=r"adds ε=1.0000 but ε=0.0000 remains"):
        approve(ledger, checked(ledger), ONE, rounds=1)
    ledger.verify()


def test_what_is_shown_as_left_is_what_is_admitted(ledger: Ledger) -> None:
    # The audit's case: four of ε = 1 showed 2 left, and a fifth was refused with 0.06 remaining.
    approved(ledger, ONE, rounds=4)
    balance = ledger.budgets.balance("city")
    assert (balance.epsilon_remaining, balance.times(balance.charged(ONE))) == (2.0, 2)
    approve(ledger, checked(ledger), ONE, rounds=2)
    assert ledger.budgets.balance("city").times(balance.charged(ONE)) == 0


def test_a_release_without_pure_epsilon_is_admitted_by_its_divergence_alone(ledger: Ledger) -> None:
    pure = approved(ledger, ONE, rounds=6)
    assert ledger.budgets.balance("city").epsilon_remaining_with_training == 0.0
    with pytest.raises(BudgetExceeded):
        approve(ledger, checked(ledger), Charge(1, None), rounds=1)
    released(ledger, pure, 1, ONE)
    ledger.transition(pure, RequestStatus.REVOKED, actor="owner")  # five go back, so that 0.97 nats are spent
    approve(ledger, checked(ledger), GAUSSIAN, rounds=1)
    ledger.verify()


def test_once_there_is_one_without_pure_epsilon_the_sum_of_the_others_counts_no_more(ledger: Ledger) -> None:
    training = approved(ledger, rounds=1)
    with pytest.raises(BudgetExceeded):
        approve(ledger, checked(ledger), ONE, rounds=6)
    ledger.transition(training, RequestStatus.REVOKED, actor="owner")
    approve(ledger, checked(ledger), ONE, rounds=6)  # nothing of it was spent


@settings(max_examples=200, deadline=None)
@given(
    used=st.tuples(*[st.tuples(st.integers(0, 7 * NATS), st.integers(0, 7 * NATS), st.integers(0, 1))] * 2),
    reads=st.sampled_from(Patients),
    divergence=st.integers(1, 3 * NATS),
    pure=st.none() | st.integers(1, 3 * NATS),
)
def test_how_often_something_fits_is_how_often_it_is_admitted(
    used: tuple[tuple[int, int, int], ...], reads: Patients, divergence: int, pure: int | None
) -> None:
    facts = {"order": ORDER, "conversion_nano": NATS, "capacity_nano": 5 * NATS}
    spent = Charged(*(Amount(*account) for account in used))
    assume(all(account.epsilon_nano(NATS) <= 6 * NATS for account in spent.accounts))  # as every admission leaves it
    balance = Balance(budget=BUDGET, spent=spent, reserved=NOWHERE, is_split=True, **facts)  # type: ignore[arg-type]
    amount = balance.charged(Charge(divergence, pure, reads=reads))
    times = balance.times(amount)
    assert balance.holds(amount * times)
    assert not balance.holds(amount * (times + 1))
    assert (balance.share_of(amount) <= 1) == balance.holds(amount)
    if pure is not None and divergence <= pure <= balance.epsilon_remaining * NATS:
        assert balance.holds(amount)
