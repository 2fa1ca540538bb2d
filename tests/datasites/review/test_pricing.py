"""What a plan costs, before and after, against budgets whose figures are worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datasites.ledger.amounts import Amount, Balance, Charged
from datasites.ledger.ledger import Ledger
from datasites.review.pricing import budget_lines, cost_of, fit_of, standalone_epsilon
from policies.privacy.accountant import Charge
from policies.privacy.budget import PrivacyBudget
from policies.privacy.mechanisms import Patients
from tests.datasites.ledger.ledger_factories import approved, new_ledger
from tests.policies.plan_factories import plan_of, published, statistics, training

ADA = "ada@university.example"
NATS = 10**9


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with new_ledger(tmp_path / "ledger.db") as ledger:
        yield ledger


def test_a_pure_plan_costs_its_epsilon_and_no_delta(ledger: Ledger) -> None:
    cost = cost_of(ledger, plan_of(statistics(epsilon=0.2)), published())
    assert (cost.epsilon, cost.delta, cost.rounds, cost.noise_multiplier) == (pytest.approx(0.2), 0.0, 1, None)
    assert (cost.budget, cost.population) == (6.0, "city")
    assert standalone_epsilon(ledger, plan_of(statistics(epsilon=0.2)), "city") == pytest.approx(0.2)


def test_a_training_costs_no_more_than_it_declares_and_names_its_noise(ledger: Ledger) -> None:
    plan = plan_of(training(epsilon=2.0))
    cost = cost_of(ledger, plan, published())
    assert 0 < cost.epsilon <= 2.0
    assert cost.delta == plan.mechanism.delta > 0  # type: ignore[union-attr]
    assert cost.rounds == 5
    assert cost.pld_epsilon is None or cost.pld_epsilon <= cost.epsilon  # a tighter account of the same noise


def test_each_charge_comes_on_top_of_the_ones_before(ledger: Ledger) -> None:
    plan = plan_of(statistics())
    first = cost_of(ledger, plan, published()).fit
    approved(ledger)  # reserves in the same population
    then = cost_of(ledger, plan, published()).fit
    assert first.spent_before == 0.0 < then.spent_before
    assert then.spent_after > then.spent_before
    assert then.spent_after > first.spent_after
    assert first.fits
    assert then.fits


def test_what_does_not_fit_says_by_how_much() -> None:
    """Capacity 1 nat, 0.6 of it spent or reserved: three rounds of 0.2 are 0.2 too much, two fit to the last."""
    balance = _balance(capacity=NATS, spent=NATS // 2, reserved=NATS // 10)
    charge = Charge(divergence_nano=NATS // 5, pure_epsilon_nano=None)
    assert (fit_of(balance, charge, 2).fits, fit_of(balance, charge, 2).short) == (True, 0.0)
    three = fit_of(balance, charge, 3)
    assert (three.fits, three.short) == (False, pytest.approx(0.2))


def test_a_pure_charge_is_never_shown_as_more_than_its_epsilon() -> None:
    """The conversion of the order's divergence is larger than the pure ε of one small charge."""
    balance = _balance(capacity=4 * NATS, spent=0, reserved=0, conversion=NATS)
    fit = fit_of(balance, Charge(divergence_nano=NATS // 100, pure_epsilon_nano=NATS // 10), 1)
    assert fit.spent_after == pytest.approx(fit.spent_before + 0.1)


def test_a_researcher_is_shown_the_share_and_limit_that_are_theirs(ledger: Ledger) -> None:
    plan = plan_of(statistics(epsilon=0.2))
    approved(ledger)  # of another researcher
    whole, own = budget_lines(ledger, plan, published(), ADA, limit=0.5)
    assert (whole.whose, whole.name, own.whose, own.name) == ("population", "city", "researcher", ADA)
    assert whole.reserved > 0 == own.reserved
    assert own.epsilon == 0.5
    ledger.budgets.set_researcher_limit("city", ADA, 0.1, actor="owner")
    assert budget_lines(ledger, plan, published(), ADA, limit=0.5)[1].epsilon == 0.1
    assert budget_lines(ledger, plan, published(), "b@university.example", limit=None)[1].epsilon == 6.0


def _balance(*, capacity: int, spent: int, reserved: int, conversion: int = 0) -> Balance:
    return Balance(
        budget=PrivacyBudget(6.0, 1e-5),
        order=16,
        conversion_nano=conversion,
        capacity_nano=capacity,
        spent=Charged.to(Patients.ALL, Amount(spent, 0, 1 if spent else 0)),
        reserved=Charged.to(Patients.ALL, Amount(reserved, 0, 1 if reserved else 0)),
    )
