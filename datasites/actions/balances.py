"""A population's budget as plain data, for every answer that shows one."""

from __future__ import annotations

from typing import Any

from datasites.datasite import Datasite
from datasites.ledger.amounts import Balance
from datasites.ledger.kept import Part
from datasites.ledger.ledger import Ledger
from datasites.ledger.years import Year, YearlyPlan
from policies.privacy.mechanisms import Patients

GROUPS = (Patients.TRAINING, Patients.HELD_OUT)


def balances(datasite: Datasite) -> list[dict[str, Any]]:
    """The budgets of all populations; without their plans where the policy cannot be read, as its page says."""
    plan = datasite.decisions.yearly_plan
    return [balance_dict(datasite.ledger, name, plan(name)) for name in datasite.ledger.budgets.populations()]


def balance_dict(ledger: Ledger, population: str, plan: YearlyPlan | None = None) -> dict[str, Any]:
    """A population's budget in ε: promised, spent, reserved, kept for projects and left, with δ and its filter's order.

    Where it has two accounts they are in `accounts`, and the figures are of the one that has less left. `year` is this
    year's part where the population has a plan, and `parts` what is kept for projects.
    """
    standing = ledger.budgets.standing(population, plan=plan)
    balance = standing.balance_for()
    return {
        **_balance_dict(population, balance),
        "epsilon_kept": balance.epsilon_kept,
        "accounts_kept": {patients.value: balance.account(patients).epsilon_kept for patients in GROUPS},
        "year": standing.year and year_dict(standing.year),
        "parts": [part_dict(part) for part in ledger.parts.list(population)],
    }


def balance_for_researchers(
    ledger: Ledger, population: str, plan: YearlyPlan | None, researcher: str
) -> dict[str, Any]:
    """What a researcher is told of it: what is left for them is what this year still admits, whatever the reason.

    What is reserved for projects is not left, but where the researcher is named for it.
    """
    standing = ledger.budgets.standing(population, plan=plan)
    for part in ledger.parts.list(population):
        if researcher in part.researchers:
            standing = standing.without(part.id)
    told = _balance_dict(population, standing.balance_for())
    if standing.year is not None:
        for figures in (told, *told["accounts"]):
            for name in ("epsilon_remaining", "epsilon_remaining_with_training"):
                figures[name] = min(figures[name], standing.year.left)
    return told


def _balance_dict(population: str, balance: Balance) -> dict[str, Any]:
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


def year_dict(year: Year) -> dict[str, Any]:
    """This year's part of a population's budget, of the account that has less of it left."""
    return {
        "year": year.year,
        "part": year.part,
        "epsilon_added": year.added,
        "epsilon_left": year.left,
        "carries_over": year.plan.carry_over_since is not None,
        "next_opens": year.next_opens,
    }


def part_dict(part: Part) -> dict[str, Any]:
    """What is kept of a population's budget for a project, for the owner's eyes."""
    return {
        "population": part.population,
        "project": part.project_name,
        "project_id": part.project,
        "epsilon": part.epsilon,
        "epsilon_left": part.kept.epsilon_left,
        "with_training": part.kept.with_training,
        "researchers": list(part.researchers),
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
