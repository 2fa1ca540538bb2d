"""A population's budget as plain data, for every answer that shows one."""

from __future__ import annotations

from typing import Any

from datasites.ledger.amounts import Balance
from datasites.ledger.ledger import Ledger
from policies.privacy.mechanisms import Patients

GROUPS = (Patients.TRAINING, Patients.HELD_OUT)


def balance_dict(ledger: Ledger, population: str) -> dict[str, Any]:
    """A population's budget in ε: promised, spent, reserved and left, with δ and the order of its filter.

    Where it has two accounts they are in `accounts`, and the figures are of the one that has less left.
    """
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
        "accounts": [account_dict(balance, patients) for patients in GROUPS] if balance.is_split else [],
    }


def account_dict(balance: Balance, patients: Patients) -> dict[str, Any]:
    """One of the two accounts of a population, of those who train or of those who are held out."""
    account = balance.account(patients)
    return {
        "patients": patients.value,
        "epsilon_spent": account.epsilon_spent,
        "epsilon_reserved": account.epsilon_reserved,
        "epsilon_remaining": account.epsilon_remaining,
        "epsilon_remaining_with_training": account.epsilon_remaining_with_training,
    }
