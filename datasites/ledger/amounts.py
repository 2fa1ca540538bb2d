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
from policies.privacy.nano import NANO

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


NOTHING = Amount()


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

    What is shown and what is admitted are one function of the totals, `Amount.epsilon_nano`: the sum of the pure ε
    while every release is pure, or the divergence with the conversion of δ, whichever is less. It may rise up to the
    budget's ε. `budgets` has the argument for it.

    Args:
      budget: (ε, δ) promised; of a researcher without a limit, the population's.
      order: Rényi order of the filter, fixed when the population was created.
      conversion_nano: what turns a divergence at this order into ε at the budget's δ, rounded up.
      capacity_nano: divergence that fits in all, nano-nats: ε less the conversion, rounded down. Below 0 where a
        researcher's limit is less than the conversion, so that nothing but pure releases fits.
      spent, reserved: what is used, and what is set aside.
    """

    budget: PrivacyBudget
    order: int
    conversion_nano: int
    capacity_nano: int
    spent: Amount
    reserved: Amount

    @property
    def used(self) -> Amount:
        """Spent and reserved together."""
        return self.spent + self.reserved

    @property
    def limit_nano(self) -> int:
        """The budget's ε in nano-nats, rounded down."""
        return self.capacity_nano + self.conversion_nano

    @property
    def spent_nano(self) -> int:
        """Divergence that is spent."""
        return self.spent.divergence_nano

    @property
    def reserved_nano(self) -> int:
        """Divergence that is set aside."""
        return self.reserved.divergence_nano

    @property
    def epsilon_spent(self) -> float:
        """ε at the budget's δ of all that was spent, rounded up; 0 when nothing was."""
        return self.spent.epsilon_nano(self.conversion_nano) / NANO

    @property
    def epsilon_reserved(self) -> float:
        """What the reserved releases would add to it, rounded up."""
        return max(0, self.after_nano() - self.spent.epsilon_nano(self.conversion_nano)) / NANO

    @property
    def epsilon_remaining(self) -> float:
        """The budget's ε less both, rounded down, never below 0. A pure release of so much ε fits."""
        return max(0, self.limit_nano - self.after_nano()) / NANO

    @property
    def epsilon_remaining_with_training(self) -> float:
        """The same once a release without a pure ε is among them: the divergence that then fits."""
        return max(0, self.capacity_nano - self.used.divergence_nano) / NANO

    @property
    def share_left(self) -> float:
        """The larger share that is left, of the divergence or, where all releases are pure, of ε; rounded down."""
        used = self.used
        ways = [(self.capacity_nano - used.divergence_nano, self.capacity_nano)]
        if not used.mixed:
            ways.append((self.limit_nano - used.pure_nano, self.limit_nano))
        return max([left * 10_000 // whole for left, whole in ways if whole > 0 and left > 0], default=0) / 10_000

    def after_nano(self, amount: Amount = NOTHING) -> int:
        """ε in nano-nats of all that is used, with `amount` on top."""
        return (self.used + amount).epsilon_nano(self.conversion_nano)

    def holds(self, amount: Amount) -> bool:
        """Whether `amount` fits on top of all that is used."""
        return self.after_nano(amount) <= self.limit_nano

    def share_of(self, amount: Amount) -> float:
        """The share of what is left that `amount` would take; above 1 where it does not fit."""
        left = self.limit_nano - self.after_nano()
        return (self.after_nano(amount) - self.after_nano()) / left if left > 0 else 2.0

    def times(self, amount: Amount) -> int:
        """How often `amount`, which is not nothing, fits on top of all that is used."""
        used = self.used
        fits = [(self.capacity_nano - used.divergence_nano) // amount.divergence_nano]
        if not used.mixed and not amount.mixed:
            fits.append((self.limit_nano - used.pure_nano) // amount.pure_nano)
        return max(0, *fits)
