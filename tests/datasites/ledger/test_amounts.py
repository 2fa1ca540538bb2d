"""Amounts of privacy loss: what can be entered, and how amounts add up."""

from __future__ import annotations

import math

import pytest

from datasites.ledger.ledger import Ledger
from policies.errors import (
    UnsupportedMechanism,
)
from policies.privacy.accountant import Charge
from tests.datasites.ledger.ledger_factories import (
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
