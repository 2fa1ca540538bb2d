"""Whether an amount is admitted: a population as it stands, and what an approval would leave of it.

One value answers the ledger when it reserves, the pages that show what is left, and the list of requests that fit
together; nothing here touches a file. An amount is admitted where all of these hold it: the population's budget with
what is kept for projects, the δ that is kept for mechanisms, this year's part where there is a plan, and the share of
its researcher where that is limited.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from datasites.ledger.amounts import ATTO, NOWHERE, Balance, Charged, Kept
from datasites.ledger.years import Year
from policies.errors import BudgetExceeded
from policies.privacy.nano import NANO, nano_down


@dataclass(frozen=True)
class Asked:
    """What an approval would reserve, for whom, and the part of which project it draws on."""

    total: Charged
    researcher: str
    part: int | None = None


@dataclass(frozen=True)
class Standing:
    """A population's budget as it stands.

    Args:
      balance: its balance, with nothing in `kept`.
      delta_capacity_atto: δ that is kept for mechanisms that fail with one of their own.
      parts: what is kept for projects, by the part's number.
      year: this year's part; None where the population has no plan.
      shares: of researchers whose share is limited, by their e-mail.
    """

    population: str
    balance: Balance
    delta_capacity_atto: int
    parts: Mapping[int, Kept] = field(default_factory=dict)
    year: Year | None = None
    shares: Mapping[str, Balance] = field(default_factory=dict)

    def balance_for(self, part: int | None = None) -> Balance:
        """The balance as whoever draws on a part has it; on none, as all others do."""
        kept = sum((kept.left() for number, kept in self.parts.items() if number != part), NOWHERE)
        return replace(self.balance, kept=kept, own=None if part is None else self.parts[part])

    def without(self, part: int | None) -> Standing:
        """The same as if nothing were kept by a part."""
        return replace(self, parts={number: kept for number, kept in self.parts.items() if number != part})

    def holds(self, asked: Asked) -> bool:
        """Whether it is admitted."""
        share = self.shares.get(asked.researcher)
        return (
            self.balance_for(asked.part).holds(asked.total)
            and not self._delta_missing(asked.total)
            and (self.year is None or self.year.holds(asked.total))
            and (share is None or share.holds(asked.total))
        )

    def check(self, asked: Asked) -> None:
        """Raise `BudgetExceeded`, naming which of them does not hold it, what is left, and what is short."""
        self._check_budget(asked)
        if missing := self._delta_missing(asked.total):
            raise missing
        self._check_year(asked.total)
        share = self.shares.get(asked.researcher)
        if share is not None:
            _check_holds(share, asked.total, f"researcher {asked.researcher} in population {self.population!r}")

    def after(self, asked: Asked) -> Standing:
        """The same once it is approved."""
        total, parts, shares = asked.total, dict(self.parts), dict(self.shares)
        if asked.part is not None:
            parts[asked.part] = parts[asked.part].with_drawn(total)
        if asked.researcher in shares:
            shares[asked.researcher] = _reserving(shares[asked.researcher], total)
        year = self.year and replace(self.year, used=self.year.used + total)
        return replace(self, balance=_reserving(self.balance, total), parts=parts, year=year, shares=shares)

    def _check_budget(self, asked: Asked) -> None:
        balance = self.balance_for(asked.part)
        whose = f"population {self.population!r}"
        others = balance.kept.divergence_nano
        _check_holds(
            balance, asked.total, whose, f" with what is reserved for projects, ε={_up(others)}" if others else ""
        )

    def _delta_missing(self, total: Charged) -> BudgetExceeded | None:
        for used, added in zip(self.balance.used.accounts, total.accounts, strict=True):
            delta_left = self.delta_capacity_atto - used.delta_atto
            if added.delta_atto > delta_left:
                return BudgetExceeded(
                    f"The mechanism fails with δ={added.delta_atto / ATTO:.3g} of its own; population"
                    f" {self.population!r} keeps δ={max(0, delta_left) / ATTO:.3g} for such. Use a mechanism with pure"
                    " ε.",
                    requested=added.divergence_nano / NANO,
                    remaining=self.balance.epsilon_remaining_with_training,
                    short=0.0,
                )
        return None

    def _check_year(self, total: Charged) -> None:
        year = self.year
        if year is None or year.holds(total):
            return
        groups, short = _groups(self.balance.is_split), year.short_nano(total)
        accounts = zip(year.parts_nano, year.added_nano(), year.added_nano(total), groups, strict=True)
        part, now, then, group = next(account for account in accounts if account[2] - account[0] == short)
        left = max(0, part - now)
        raise BudgetExceeded(
            f"This adds ε={_up(then - now)} but ε={_down(left)} remains of the part of {year.year}, ε={_down(part)}, in"
            f" the yearly plan of population {self.population!r}{group}: ε={_up(short)} short. The next"
            f" year opens on {year.next_opens} (UTC) with ε={_down(nano_down(year.plan.epsilon))}"
            f"{'' if year.plan.carry_over_since is None else ' and what is left of this one'}.",
            requested=(then - now) / NANO,
            remaining=left / NANO,
            short=short / NANO,
        )


def _reserving(balance: Balance, total: Charged) -> Balance:
    return replace(balance, reserved=balance.reserved + total)


def _groups(is_split: bool) -> tuple[str, str]:
    return (" (patients who train)", " (patients held out)") if is_split else ("", "")


def _check_holds(balance: Balance, total: Charged, whose: str, besides: str = "") -> None:
    """Raise `BudgetExceeded` unless `total` fits."""
    if balance.holds(total):
        return
    accounts = (
        (before.epsilon_nano(balance.conversion_nano), after.epsilon_nano(balance.conversion_nano), group)
        for before, after, group in zip(
            balance.taken().accounts, balance.taken(total).accounts, _groups(balance.is_split), strict=True
        )
    )
    now, then, group = next(account for account in accounts if account[1] > balance.limit_nano)
    left = max(0, balance.limit_nano - now)
    adds, short = then - now, then - balance.limit_nano  # which is more, where a copy had lost more than was left
    raise BudgetExceeded(
        f"This adds ε={_up(adds)} but ε={_down(left)} remains of {whose}{group} at δ={balance.budget.delta}{besides}:"
        f" ε={_up(short)} short. Ask for fewer rounds or more noise.",
        requested=adds / NANO,
        remaining=left / NANO,
        short=short / NANO,
    )


def _up(nano: int) -> str:
    return f"{math.ceil(nano / 100_000) / 10_000:.4f}"


def _down(nano: int) -> str:
    return f"{nano // 100_000 / 10_000:.4f}"
