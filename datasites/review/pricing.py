"""What a plan costs a population, its year and a researcher, and whether it still fits: before, after, and short of."""

from __future__ import annotations

from dataclasses import dataclass

from datasites.ledger.amounts import Balance, Charged
from datasites.ledger.kept import Part
from datasites.ledger.ledger import Ledger
from datasites.ledger.years import Year, YearlyPlan
from policies.privacy import accountant
from policies.privacy.mechanisms import Gaussian
from policies.privacy.nano import NANO
from policies.release.plans import Plan, Published


@dataclass(frozen=True)
class Fit:
    """A budget with everything reserved in it, before and after a charge; all in ε at the budget's δ.

    Args:
      spent_before: spent and reserved now, without what is reserved for projects.
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
      epsilon: of all rounds alone, at `delta` (of the mechanism where it has one, else the population's), by the
        divergences that the ledger adds up: what the researcher asked for, and what the policy limits.
      delta: the mechanism's own δ; 0 of a pure one.
      pld_epsilon: the same by privacy loss distributions, where they apply: tighter.
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

    @property
    def alone(self) -> float:
        """ε that the request by itself promises: the tighter one, but where it is pure and has no δ."""
        return self.epsilon if self.pld_epsilon is None or not self.delta else self.pld_epsilon


@dataclass(frozen=True)
class BudgetLine:
    """One budget that a request draws on.

    Args:
      whose: "population", "researcher", or where there is one "year" of its plan, and "project" of what is kept.
      kept: what is then still reserved for projects.
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
    kept: float = 0.0


def cost_of(
    ledger: Ledger,
    plan: Plan,
    published: Published,
    *,
    yearly: YearlyPlan | None = None,
    part: Part | None = None,
    accepted: bool = False,
) -> Cost:
    """What a plan costs the population of its dataset as the ledger stands.

    Args:
      yearly: the population's plan; what does not fit this year's part does not fit.
      part: of the budget, kept for the request's project.
      accepted: as if its shared noise were accepted by the owner, so that the lesser ε is charged.
    """
    mechanism = plan.mechanism
    standing = ledger.budgets.standing(published.population, plan=yearly)
    balance = standing.balance_for(part.id if part else None)
    delta = mechanism.delta if isinstance(mechanism, Gaussian) else balance.budget.delta
    charge = accountant.charge_for(mechanism, balance.order, accepted=accepted)
    return Cost(
        epsilon=accountant.epsilon_of(mechanism, delta, accepted=accepted),
        delta=delta if isinstance(mechanism, Gaussian) else 0.0,
        pld_epsilon=accountant.pld_epsilon(mechanism, delta, accepted=accepted),
        rounds=plan.rounds,
        noise_multiplier=mechanism.noise_multiplier if isinstance(mechanism, Gaussian) else None,
        budget=balance.budget.epsilon,
        population=published.population,
        fit=fit_of(balance, charge, plan.rounds, year=standing.year),
    )


def budget_lines(
    ledger: Ledger,
    plan: Plan,
    published: Published,
    researcher: str,
    *,
    limit: float | None,
    yearly: YearlyPlan | None = None,
    part: Part | None = None,
    accepted: bool = False,
) -> tuple[BudgetLine, ...]:
    """The population's budget and the researcher's share, then this year's and the project's part, each with a plan.

    Args:
      limit: the policy's ε for a researcher who has no limit of their own.
      yearly, part: as for `cost_of`; their lines are left out where there are none.
      accepted: as for `cost_of`.
    """
    standing = ledger.budgets.standing(published.population, plan=yearly)
    whole = standing.balance_for(part.id if part else None)
    own = ledger.budgets.researcher_balance(published.population, researcher, limit=limit)
    charge = accountant.charge_for(plan.mechanism, whole.order, accepted=accepted)
    total = whole.charged(charge, plan.rounds)
    return (
        _line("population", published.population, whole, charge, plan.rounds),
        _line("researcher", researcher, own, charge, plan.rounds),
        *([_year_line(standing.year, total)] if standing.year else []),
        *([_part_line(part, total)] if part else []),
    )


def _year_line(year: Year, total: Charged) -> BudgetLine:
    return BudgetLine("year", str(year.year), "all", year.part, year.added, 0.0, _fit_in_year(year, total))


def _part_line(part: Part, total: Charged) -> BudgetLine:
    """What a request takes of it; the rest comes of what all share, and is in the population's line."""
    before, after = (part.epsilon - kept.epsilon_left for kept in (part.kept, part.kept.with_drawn(total)))
    return BudgetLine("project", part.project_name, "all", part.epsilon, before, 0.0, Fit(before, after, True, 0.0))


def _line(whose: str, name: str, balance: Balance, charge: accountant.Charge, rounds: int) -> BudgetLine:
    patients, account = balance.drawn_on(balance.charged(charge, rounds))
    kept = account.epsilon_kept_after(account.charged(charge, rounds))
    return BudgetLine(
        whose=whose,
        name=name,
        patients=patients.value,
        epsilon=balance.budget.epsilon,
        spent=account.epsilon_spent,
        reserved=account.epsilon_reserved,
        fit=fit_of(balance, charge, rounds),
        kept=kept,
    )


def fit_of(balance: Balance, charge: accountant.Charge, rounds: int, *, year: Year | None = None) -> Fit:
    """ε with everything reserved, before and after `rounds` times `charge`, and whether it fits.

    Of the account that the charge brings closest to its limit. With a `year`, it has to fit that, too.
    """
    _, account = balance.drawn_on(balance.charged(charge, rounds))
    total = account.charged(charge, rounds)
    short = max(0, account.after_nano(total) - account.limit_nano)
    if year is not None:
        short = max(short, year.short_nano(balance.charged(charge, rounds)))
    before, after = account.used_nano() / NANO, account.used_nano(total) / NANO
    return Fit(spent_before=before, spent_after=after, fits=short == 0, short=short / NANO)


def _fit_in_year(year: Year, total: Charged) -> Fit:
    short = max(0, year.short_nano(total)) / NANO
    return Fit(year.added, max(0, *year.added_nano(total)) / NANO, short == 0, short)


def standalone_epsilon(ledger: Ledger, plan: Plan, population: str, *, accepted: bool = False) -> float:
    """ε of all rounds of a plan alone, at its population's δ: what an owner's rules speak of.

    Of shared noise it is what holds without trust, unless it was `accepted`.
    """
    return accountant.epsilon_of(plan.mechanism, ledger.budgets.balance(population).budget.delta, accepted=accepted)
