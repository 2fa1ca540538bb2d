"""Privacy loss in integers, and the balance of a population: budget, spent, reserved, kept for projects, remaining.

Divergence and pure ε are counted in nano-nats (1e-9), δ in 1e-18, rounded against ourselves when an amount is made, so
sums are exact in any order. Nothing here touches a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self

from policies.errors import UnsupportedMechanism
from policies.privacy.accountant import Charge
from policies.privacy.budget import PrivacyBudget
from policies.privacy.mechanisms import Patients
from policies.privacy.nano import NANO
from policies.privacy.risk import NO_LOSS, PrivacyLoss, loss_in_filter, pure_loss

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
class Charged:
    """An amount in each of a population's two accounts: of the patients who train, and of those who are held out.

    Nobody is in both groups, and nobody changes: `budgets` has why. So one patient loses what one account holds, and
    the promise to all patients is kept where each account keeps it.
    """

    training: Amount = NOTHING
    held_out: Amount = NOTHING

    @classmethod
    def to(cls, patients: Patients, amount: Amount) -> Self:
        """An amount in the account of `patients`; in both where they are all of them."""
        return cls(
            NOTHING if patients is Patients.HELD_OUT else amount,
            NOTHING if patients is Patients.TRAINING else amount,
        )

    def __add__(self, other: Charged) -> Charged:
        return Charged(self.training + other.training, self.held_out + other.held_out)

    def __sub__(self, other: Charged) -> Charged:
        return self + other * -1

    def __mul__(self, times: int) -> Charged:
        return Charged(self.training * times, self.held_out * times)

    @property
    def accounts(self) -> tuple[Amount, Amount]:
        """Of those who train, and of those who are held out."""
        return self.training, self.held_out

    @property
    def divergence_nano(self) -> int:
        """The larger divergence."""
        return max(account.divergence_nano for account in self.accounts)

    @property
    def in_both(self) -> Charged:
        """The larger of both accounts, of each kind, in both: for patients of whom nobody knows in which they are."""
        pairs = zip(self.training.as_row(), self.held_out.as_row(), strict=True)
        return Charged.to(Patients.ALL, Amount(*(max(pair) for pair in pairs)))

    @property
    def is_nothing(self) -> bool:
        """Whether neither account holds anything."""
        return not any(part for account in self.accounts for part in account.as_row())

    def covers(self, other: Charged) -> bool:
        """Whether `other` costs no more, in each account and of each kind."""
        return all(mine.covers(theirs) for mine, theirs in zip(self.accounts, other.accounts, strict=True))

    def epsilon_nano(self, conversion_nano: int) -> int:
        """The larger ε of both, which is what the patients are promised."""
        return max(account.epsilon_nano(conversion_nano) for account in self.accounts)


NOWHERE = Charged()


@dataclass(frozen=True)
class Kept:
    """A part of a population's budget that is kept for one project, and how much of it the project has drawn.

    It is kept in both accounts, and in each as a divergence and as a pure ε of its size, so that it is there whichever
    of the two a balance counts by. A part that is kept for training, too, is a release without a pure ε as long as it
    is kept: all others are then admitted as if the project had trained already.

    Args:
      epsilon_nano: its size, in nano-nats.
      with_training: whether releases without a pure ε may draw on it.
      drawn: spent and reserved by requests that draw on it; what goes beyond its size came from what all share.
    """

    epsilon_nano: int
    with_training: bool = True
    drawn: Charged = NOWHERE

    def holds_kind(self, charged: Charged) -> bool:
        """Whether releases of this kind may draw on it at all."""
        return self.with_training or not any(account.mixed for account in charged.accounts)

    def left(self, more: Charged = NOWHERE) -> Charged:
        """What is kept of it, once `more` is drawn as well."""
        return Charged(*map(self._left, (self.drawn + more).accounts))

    def _left(self, drawn: Amount) -> Amount:
        divergence = max(0, self.epsilon_nano - drawn.divergence_nano)
        if self.with_training:
            return Amount(divergence, 0, 1)
        return Amount(divergence, max(0, self.epsilon_nano - drawn.pure_nano))

    def with_drawn(self, more: Charged) -> Kept:
        """The same once `more` is drawn as well."""
        return replace(self, drawn=self.drawn + more)

    @property
    def epsilon_left(self) -> float:
        """ε that is left of it, in the account that has less."""
        left = [
            account.divergence_nano if self.with_training else min(account.divergence_nano, account.pure_nano)
            for account in self.left().accounts
        ]
        return min(left) / NANO

    def of_account(self, patients: Patients) -> Kept:
        """The same as it stands in one account, in both."""
        drawn = self.drawn.held_out if patients is Patients.HELD_OUT else self.drawn.training
        return replace(self, drawn=Charged.to(Patients.ALL, drawn))


def how_often(holds: Callable[[int], bool]) -> int:
    """The largest number that something holds, which holds no number above one that it does not, and not all."""
    fits, too_many = 0, 1
    while holds(too_many):
        fits, too_many = too_many, 2 * too_many
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if holds(middle) else (fits, middle)
    return fits


@dataclass(frozen=True)
class Balance:
    """What a population (or one researcher's share of it) may lose, has lost, holds reserved, and keeps for projects.

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
      is_split: whether those who train and those who are held out are charged apart.
      kept: what is kept for projects and not drawn yet; nobody else can use it.
      own: the part of the project that draws on this balance, and is not in `kept`; None for all others.
    """

    budget: PrivacyBudget
    order: int
    conversion_nano: int
    capacity_nano: int
    spent: Charged
    reserved: Charged
    is_split: bool = False
    kept: Charged = NOWHERE
    own: Kept | None = None

    def charged(self, charge: Charge, rounds: int = 1) -> Charged:
        """What `rounds` releases would be charged, and to whom."""
        return Charged.to(charge.reads if self.is_split else Patients.ALL, amount_of(charge) * rounds)

    @property
    def used(self) -> Charged:
        """Spent and reserved together."""
        return self.spent + self.reserved

    def taken(self, total: Charged = NOWHERE) -> Charged:
        """All that nobody else can use once `total` is used as well: used, and kept for projects."""
        kept = self.kept if self.own is None else self.kept + self.own.left(total)
        return self.used + total + kept

    @property
    def limit_nano(self) -> int:
        """The budget's ε in nano-nats, rounded down."""
        return self.capacity_nano + self.conversion_nano

    @property
    def spent_nano(self) -> int:
        """Divergence that is spent, of the account that spent more."""
        return self.spent.divergence_nano

    @property
    def reserved_nano(self) -> int:
        """Divergence that is set aside, of the account that has more of it."""
        return self.reserved.divergence_nano

    @property
    def epsilon_spent(self) -> float:
        """ε at the budget's δ of all that was spent, rounded up; 0 when nothing was."""
        return self.spent.epsilon_nano(self.conversion_nano) / NANO

    @property
    def epsilon_reserved(self) -> float:
        """What the reserved releases would add to it, rounded up."""
        return (self.used_nano() - self.spent.epsilon_nano(self.conversion_nano)) / NANO

    @property
    def epsilon_kept(self) -> float:
        """What is kept for projects on top of both, rounded up."""
        return self.epsilon_kept_after()

    def epsilon_kept_after(self, total: Charged = NOWHERE) -> float:
        """The same once `total` is used."""
        return (self.after_nano(total) - self.used_nano(total)) / NANO

    @property
    def epsilon_remaining(self) -> float:
        """The budget's ε less all of them, rounded down, never below 0. A pure release of so much ε fits."""
        return max(0, self.limit_nano - self.after_nano()) / NANO

    @property
    def epsilon_remaining_with_training(self) -> float:
        """The same once a release without a pure ε is among them: the divergence that then fits."""
        return max(0, self.capacity_nano - self.taken().training.divergence_nano) / NANO

    @property
    def share_left(self) -> float:
        """The share that is left of what fits, of the account that has less of it, rounded down."""
        return min(self._share_left(account) for account in self.taken().accounts) / 10_000

    def _share_left(self, used: Amount) -> int:
        """The larger share in 1/10,000, of the divergence or, where all releases are pure, of ε."""
        ways = [(self.capacity_nano - used.divergence_nano, self.capacity_nano)]
        if not used.mixed:
            ways.append((self.limit_nano - used.pure_nano, self.limit_nano))
        return max([left * 10_000 // whole for left, whole in ways if whole > 0 and left > 0], default=0)

    @property
    def promise(self) -> PrivacyLoss:
        """Of all that may ever be released."""
        return loss_in_filter(self.budget.epsilon, self.budget.delta, self.order)

    def loss_of(self, total: Charged) -> PrivacyLoss:
        """Of releases that come to `total`, to a patient of the group that loses more."""
        return max(map(self._loss_of, total.accounts), key=lambda loss: loss.membership)

    def _loss_of(self, total: Amount) -> PrivacyLoss:
        """The lesser bound where there are two."""
        if not any(total.as_row()):
            return NO_LOSS
        filtered = (total.divergence_nano + self.conversion_nano) / NANO
        loss = loss_in_filter(filtered, self.budget.delta, self.order)
        if total.mixed or loss.membership < total.pure_nano / NANO:
            return loss
        return pure_loss(total.pure_nano / NANO)

    def account(self, patients: Patients) -> Balance:
        """The same of one account alone."""
        held_out = patients is Patients.HELD_OUT
        spent, reserved, kept = (
            Charged.to(Patients.ALL, total.held_out if held_out else total.training)
            for total in (self.spent, self.reserved, self.kept)
        )
        own = self.own and self.own.of_account(patients)
        return replace(self, spent=spent, reserved=reserved, kept=kept, own=own, is_split=False)

    def drawn_on(self, total: Charged) -> tuple[Patients, Balance]:
        """The account that `total` brings closest to its limit; all patients' where they have but one budget."""
        if not self.is_split:
            return Patients.ALL, self
        groups = zip((Patients.TRAINING, Patients.HELD_OUT), total.accounts, strict=True)
        after = {
            patients: self.account(patients).after_nano(Charged.to(Patients.ALL, added))
            for patients, added in groups
            if any(added.as_row())
        }
        patients = max(after, key=lambda patients: after[patients])
        return patients, self.account(patients)

    def used_nano(self, total: Charged = NOWHERE) -> int:
        """ε in nano-nats of all that is used, with `total` on top: what its patients have lost, or may by approvals."""
        return (self.used + total).epsilon_nano(self.conversion_nano)

    def after_nano(self, total: Charged = NOWHERE) -> int:
        """ε in nano-nats of all that is used or kept, with `total` on top."""
        return self.taken(total).epsilon_nano(self.conversion_nano)

    def holds(self, total: Charged) -> bool:
        """Whether `total` fits on top of all that is used or kept, in each account."""
        return self.after_nano(total) <= self.limit_nano

    def share_of(self, total: Charged) -> float:
        """The share of what is left that `total` would take, where it takes the larger one; above 1 if it fits not."""
        shares = []
        for taken, then in zip(self.taken().accounts, self.taken(total).accounts, strict=True):
            before, after = (amount.epsilon_nano(self.conversion_nano) for amount in (taken, then))
            left = self.limit_nano - before
            shares.append((after - before) / left if left > 0 else 2.0 * (after > self.limit_nano))
        return max(shares)

    def times(self, total: Charged) -> int:
        """How often `total`, which is not nothing, fits on top of all that is used or kept."""
        return how_often(lambda many: self.holds(total * many))
