"""A population's budget as plain data, for every answer that shows one."""

from __future__ import annotations

from typing import Any

from datasites.ledger.ledger import Ledger


def balance_dict(ledger: Ledger, population: str) -> dict[str, Any]:
    """A population's budget in ε: promised, spent, reserved and left, with δ and the order of its filter."""
    balance = ledger.budgets.balance(population)
    return {
        "population": population,
        "epsilon": balance.budget.epsilon,
        "delta": balance.budget.delta,
        "order": balance.order,
        "epsilon_spent": balance.epsilon_spent,
        "epsilon_reserved": balance.epsilon_reserved,
        "epsilon_remaining": balance.epsilon_remaining,
        "epsilon_remaining_with_training": balance.epsilon_remaining_with_training,
        "share_left": balance.share_left,
    }
