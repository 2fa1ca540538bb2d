"""Privacy loss in integers, and the balance of a population: budget, spent, reserved, remaining.

Divergence and pure ε are counted in nano-nats (1e-9), δ in 1e-18, rounded against ourselves when an amount is made, so
sums are exact in any order. Nothing here touches a file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from policies.errors import UnsupportedMechanism
from policies.privacy.accountant import Charge
from policies.privacy.budget import PrivacyBudget
from policies.privacy.nano import NANO, nano_down

ATTO = 10**18
COLUMNS = ("divergence_nano", "pure_nano", "mixed", "delta_atto")
_LARGEST = 2**62  # SQLite's integers are below 2**63


@dataclass(frozen=True)
class Amount:
    """Privacy loss of one or several releases at the population's order.

    Args:
      divergence_nano: Rényi divergence in nano-nats, rounded up.
      pure_nano: pure ε in nano-nats, of the releases that have one.
      mixed: how many releases have no pure ε; where any, `pure_nano` bounds nothing.
      delta_atto: δ that the mechanisms themselves fail with, in 1e-18, rounded up.
    """

    divergence_nano: int = 0
    pure_nano: int = 0
    mixed: int = 0
    delta_atto: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.divergence_nano + other.divergence_nano,
            self.pure_nano + other.pure_nano,
            self.mixed + other.mixed,
            self.delta_atto + other.delta_atto,
        )

    def __sub__(self, other: Amount) -> Amount:
        return self + other * -1

    def __mul__(self, times: int) -> Amount:
        return Amount(*(mine * times for mine in self.as_row()))

    def as_row(self) -> tuple[int, int, int, int]:
        """The four numbers in the order of the columns."""
        return self.divergence_nano, self.pure_nano, self.mixed, self.delta_atto

    def as_dict(self) -> dict[str, int]:
        """The four numbers by name."""
        return dict(zip(COLUMNS, self.as_row(), strict=True))

    def covers(self, other: Amount) -> bool:
        """Whether `other` costs no more, of each kind."""
        return all(mine >= theirs for mine, theirs in zip(self.as_row(), other.as_row(), strict=True))

    def epsilon_nano(self, conversion_nano: int) -> int:
        """ε in nano-nats at the δ that `conversion_nano` belongs to; of nothing, 0."""
        if not any(self.as_row()):
            return 0
        epsilon = self.divergence_nano + conversion_nano
        return epsilon if self.mixed else min(epsilon, self.pure_nano)


def amount_of(charge: Charge) -> Amount:
    """The amount of one release. Raises `UnsupportedMechanism` where the charge is not a positive, finite number."""
    divergence, pure, delta = charge.divergence_nano, charge.pure_epsilon_nano, charge.delta
    for name, value in (("divergence_nano", divergence), ("pure_epsilon_nano", 1 if pure is None else pure)):
        if type(value) is not int or not 0 < value < _LARGEST // 1000:
            raise UnsupportedMechanism(
                f"A charge with {name}={value!r} cannot be entered. It is not a positive number."
            )
    if not (math.isfinite(delta) and 0 <= delta < 1):
        raise UnsupportedMechanism(f"A charge with delta={delta!r} cannot be entered. It lies outside [0, 1).")
    delta_atto = math.ceil(Fraction(delta) * ATTO)
    if pure is None or delta_atto:
        return Amount(divergence, 0, 1, delta_atto)
    return Amount(divergence, pure, 0, 0)


@dataclass(frozen=True)
class Balance:
    """What a population (or one researcher's share of it) may lose, has lost, and holds reserved.

    Args:
      budget: (ε, δ) promised; of a researcher without a limit, the population's.
      order: Rényi order of the filter, fixed when the population was created.
      conversion_nano: what turns a divergence at this order into ε at the budget's δ, rounded up.
      capacity_nano: divergence that fits in all, nano-nats: ε less the conversion, rounded down.
      spent_nano, reserved_nano: divergence of it that is used, and that is set aside.
      epsilon_spent: ε at the budget's δ of all that was spent, rounded up; 0 when nothing was.
      epsilon_reserved: what the reserved releases would add to it, rounded up.
      epsilon_remaining: the budget's ε less both, rounded down, never below 0.
      share_left: of the capacity, in [0, 1], rounded down.
    """

    budget: PrivacyBudget
    order: int
    conversion_nano: int
    capacity_nano: int
    spent_nano: int
    reserved_nano: int
    epsilon_spent: float
    epsilon_reserved: float
    epsilon_remaining: float
    share_left: float


def balance_of(
    *,
    budget: PrivacyBudget,
    order: int,
    conversion_nano: int,
    capacity_nano: int,
    spent: Amount,
    reserved: Amount,
) -> Balance:
    """The balance that these totals come to."""
    used = spent + reserved
    spent_epsilon, used_epsilon = spent.epsilon_nano(conversion_nano), used.epsilon_nano(conversion_nano)
    left = max(0, capacity_nano - used.divergence_nano)
    return Balance(
        budget=budget,
        order=order,
        conversion_nano=conversion_nano,
        capacity_nano=capacity_nano,
        spent_nano=spent.divergence_nano,
        reserved_nano=reserved.divergence_nano,
        epsilon_spent=spent_epsilon / NANO,
        epsilon_reserved=max(0, used_epsilon - spent_epsilon) / NANO,
        epsilon_remaining=max(0, nano_down(budget.epsilon) - used_epsilon) / NANO,
        share_left=left * 10_000 // capacity_nano / 10_000 if capacity_nano else 0.0,
    )
