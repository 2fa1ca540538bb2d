"""Amounts of privacy loss: what can be entered, and how amounts add up."""

from __future__ import annotations

import math

import pytest

from datasites.ledger.amounts import Amount, Balance, Charged, amount_of
from datasites.ledger.ledger import Ledger
from policies.errors import (
    UnsupportedMechanism,
)
from policies.privacy.accountant import Charge
from policies.privacy.mechanisms import Patients
from tests.datasites.ledger.ledger_factories import (
    BUDGET,
    GAUSSIAN,
    LAPLACE,
    NATS,
    ORDER,
    approve,
    checked,
)


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


def test_amounts_add_up_exactly() -> None:
    once = Amount(3, 0, 1, 7)
    assert once * 3 - once == once + once == Amount(6, 0, 2, 14)
    assert once.as_dict() == {"divergence_nano": 3, "pure_nano": 0, "mixed": 1, "delta_atto": 7}


def test_a_pure_charge_keeps_its_epsilon_and_a_gaussian_one_has_none() -> None:
    assert amount_of(LAPLACE) == Amount(LAPLACE.divergence_nano, NATS // 5, 0, 0)
    assert amount_of(GAUSSIAN) == Amount(GAUSSIAN.divergence_nano, 0, 1, 0)


def test_epsilon_is_the_lesser_of_divergence_and_pure_epsilon_where_all_are_pure() -> None:
    assert Amount().epsilon_nano(100) == 0
    assert Amount(50, 120).epsilon_nano(100) == 120
    assert Amount(10, 120).epsilon_nano(100) == 110
    assert Amount(50, 120, mixed=1).epsilon_nano(100) == 150


def test_a_balance_says_what_is_left_rounded_down() -> None:
    spent = Charged.to(Patients.ALL, Amount(NATS // 3, 0, 1))
    facts = {"order": ORDER, "conversion_nano": NATS, "capacity_nano": 5 * NATS}
    balance = Balance(budget=BUDGET, spent=spent, reserved=Charged.to(Patients.TRAINING, Amount(NATS, 0, 1)), **facts)  # type: ignore[arg-type]
    assert balance.conversion_nano == NATS
    assert (balance.spent_nano, balance.reserved_nano) == (NATS // 3, NATS)
    assert balance.epsilon_remaining == (6 * NATS - NATS - NATS // 3 - NATS) / NATS
    assert balance.share_left == 0.7333  # (5 - 1/3 - 1) / 5
