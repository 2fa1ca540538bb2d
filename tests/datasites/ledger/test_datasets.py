"""Dataset versions: published once, retired by the next."""

from __future__ import annotations

import pytest

from datasites.ledger.ledger import Ledger
from policies.errors import (
    InvalidRequest,
    WrongStatus,
)
from tests.datasites.ledger.ledger_factories import (
    BUDGET,
    GAUSSIAN,
    ORDER,
    approve,
    approved,
    checked,
    dataset,
    released,
)


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
