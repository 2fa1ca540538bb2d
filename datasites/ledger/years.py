"""Yearly plans: how much of a population's budget one calendar year may add, and what a year has added.

The promise for ever is the population's budget, in `budgets`. A plan is the owner's policy within it. What a year has
added is what all that is spent and reserved now comes to, less what was spent when the year opened, both by the
function that balances are shown and admitted by (`Amount.epsilon_nano`), in each of the two accounts. What was approved
before and has yet to run therefore counts in the year that it still stands in, so what a year spends is at most its
part, or what earlier years had approved.

A year is one of UTC, by the ledger's own time, which never goes back (`Store.now`): the spent total with which a year
opened follows from the chain, it is the same whoever asks, and a clock that is set back opens no year twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from datasites.ledger.amounts import NOWHERE, Charged, how_often
from policies.privacy.nano import NANO, nano_down

Opening = Callable[[int], Charged]
"""What a population had spent when a year opened."""


@dataclass(frozen=True)
class YearlyPlan:
    """A population's plan: `epsilon` may be added in each calendar year.

    Args:
      carry_over_since: the first year whose unused rest is added to the next one's; None where it lapses.
    """

    epsilon: float
    carry_over_since: int | None = None


@dataclass(frozen=True)
class Year:
    """One calendar year of a population as its plan has it.

    Args:
      parts_nano: what may be added in each account, with what earlier years left where that carries over.
      opened: spent when it opened.
      used: spent and reserved now.
    """

    year: int
    plan: YearlyPlan
    conversion_nano: int
    parts_nano: tuple[int, int]
    opened: Charged
    used: Charged

    def added_nano(self, total: Charged = NOWHERE) -> tuple[int, int]:
        """ε in nano-nats that this year has added to each account, with `total` on top."""
        pairs = zip((self.used + total).accounts, self.opened.accounts, strict=True)
        first, second = (
            now.epsilon_nano(self.conversion_nano) - then.epsilon_nano(self.conversion_nano) for now, then in pairs
        )
        return first, second

    def short_nano(self, total: Charged) -> int:
        """By how much `total` exceeds it, in the account where it exceeds it more; 0 or less where it fits.

        Nothing of an account that `total` does not charge is asked: it exceeds nothing there that is not exceeded yet.
        """
        accounts = zip(self.parts_nano, self.added_nano(total), total.accounts, strict=True)
        return max((added - part for part, added, charged in accounts if any(charged.as_row())), default=0)

    def holds(self, total: Charged) -> bool:
        """Whether `total` fits."""
        return self.short_nano(total) <= 0

    def times(self, total: Charged) -> int:
        """How often `total`, which is not nothing, fits."""
        return how_often(lambda many: self.holds(total * many))

    @property
    def part(self) -> float:
        """ε that may be added, in the account that has less left."""
        return self._tightest[0] / NANO

    @property
    def added(self) -> float:
        """ε that was added, in that account."""
        return max(0, self._tightest[1]) / NANO

    @property
    def left(self) -> float:
        """ε that may still be added, never below 0."""
        part, added = self._tightest
        return max(0, part - added) / NANO

    @property
    def next_opens(self) -> str:
        """The day on which the next one opens, in UTC."""
        return f"{self.year + 1}-01-01"

    @property
    def _tightest(self) -> tuple[int, int]:
        return min(zip(self.parts_nano, self.added_nano(), strict=True), key=lambda account: account[0] - account[1])


def year_of(at: str) -> int:
    """The year of a time as entries hold it."""
    return int(at[:4])


def year_from(plan: YearlyPlan, year: int, first: int, opening: Opening, used: Charged, conversion_nano: int) -> Year:
    """A year as a plan has it.

    Args:
      first: the year in which the population was made: before it there was nothing to leave over.
      opening: what was spent when a year opened.
      used: spent and reserved now.
    """
    part, since = nano_down(plan.epsilon), year if plan.carry_over_since is None else max(first, plan.carry_over_since)
    openings = [opening(opens) for opens in range(min(since, year), year + 1)]
    spent = [[account.epsilon_nano(conversion_nano) for account in opened.accounts] for opened in openings]
    left = [0, 0]
    for then, now in pairwise(spent):
        left = [max(0, left[account] + part - (now[account] - then[account])) for account in (0, 1)]
    return Year(year, plan, conversion_nano, (part + left[0], part + left[1]), openings[-1], used)
