"""What a plan costs a population and a researcher, and whether it still fits: ε before, after, and short of."""

from __future__ import annotations

from dataclasses import dataclass

from datasites.ledger.amounts import Balance
from datasites.ledger.ledger import Ledger
from policies.privacy import accountant
from policies.privacy.mechanisms import Gaussian
from policies.privacy.nano import NANO
from policies.release.plans import Plan, Published


@dataclass(frozen=True)
class Fit:
    """A budget with everything reserved in it, before and after a charge; all in ε at the budget's δ.

    Args:
      spent_before: spent and reserved now.
      spent_after: the same with the charge.
      short: by how much ε is exceeded with the charge; 0 where it fits.
    """

    spent_before: float
    spent_after: float
    fits: bool
    short: float


@dataclass(frozen=True)
class Cost:
    """What a plan costs, taken alone and on top of all that its population has lost.

    Args:
      epsilon: of all rounds alone, at `delta` (of the mechanism where it has one, else the population's).
      delta: the mechanism's own δ; 0 of a pure one.
      pld_epsilon: the same by privacy loss distributions, where they apply: tighter, for information.
      budget: ε promised to the population in all.
    """

    epsilon: float
    delta: float
    pld_epsilon: float | None
    rounds: int
    noise_multiplier: float | None
    budget: float
    population: str
    fit: Fit


@dataclass(frozen=True)
class BudgetLine:
    """One budget that a request draws on: the population's, or its researcher's share of it.

    Args:
      patients: whose account it is, that which the request brings closest to its limit; all of them where the
        population's two groups have one budget together.
    """

    whose: str
    name: str
    patients: str
    epsilon: float
    spent: float
    reserved: float
    fit: Fit


def cost_of(ledger: Ledger, plan: Plan, published: Published) -> Cost:
    """What a plan costs the population of its dataset as the ledger stands."""
    mechanism = plan.mechanism
    balance = ledger.budgets.balance(published.population)
    delta = mechanism.delta if isinstance(mechanism, Gaussian) else balance.budget.delta
    return Cost(
        epsilon=accountant.epsilon_of(mechanism, delta),
        delta=delta if isinstance(mechanism, Gaussian) else 0.0,
        pld_epsilon=accountant.pld_epsilon(mechanism, delta),
        rounds=plan.rounds,
        noise_multiplier=mechanism.noise_multiplier if isinstance(mechanism, Gaussian) else None,
        budget=balance.budget.epsilon,
        population=published.population,
        fit=fit_of(balance, accountant.charge_for(mechanism, balance.order), plan.rounds),
    )


def budget_lines(
    ledger: Ledger, plan: Plan, published: Published, researcher: str, *, limit: float | None
) -> tuple[BudgetLine, BudgetLine]:
    """The population's budget and the researcher's share, each with and without a plan.

    Args:
      limit: the policy's ε for a researcher who has no limit of their own.
    """
    whole = ledger.budgets.balance(published.population)
    own = ledger.budgets.researcher_balance(published.population, researcher, limit=limit)
    charge = accountant.charge_for(plan.mechanism, whole.order)
    return (
        _line("population", published.population, whole, charge, plan.rounds),
        _line("researcher", researcher, own, charge, plan.rounds),
    )


def _line(whose: str, name: str, balance: Balance, charge: accountant.Charge, rounds: int) -> BudgetLine:
    patients, account = balance.drawn_on(balance.charged(charge, rounds))
    return BudgetLine(
        whose=whose,
        name=name,
        patients=patients.value,
        epsilon=balance.budget.epsilon,
        spent=account.epsilon_spent,
        reserved=account.epsilon_reserved,
        fit=fit_of(balance, charge, rounds),
    )


def fit_of(balance: Balance, charge: accountant.Charge, rounds: int) -> Fit:
    """ε with everything reserved, before and after `rounds` times `charge`, and whether it fits.

    Of the account that the charge brings closest to its limit.
    """
    _, account = balance.drawn_on(balance.charged(charge, rounds))
    after = account.after_nano(account.charged(charge, rounds))
    short = max(0, after - account.limit_nano)
    return Fit(spent_before=account.after_nano() / NANO, spent_after=after / NANO, fits=short == 0, short=short / NANO)


def standalone_epsilon(ledger: Ledger, plan: Plan, population: str) -> float:
    """ε of all rounds of a plan alone, at its population's δ: what an owner's rules speak of."""
    return accountant.epsilon_of(plan.mechanism, ledger.budgets.balance(population).budget.delta)
