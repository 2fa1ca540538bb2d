"""Which waiting requests fit into a population's budget together, and what each of them would leave.

Nothing here decides or reads anything: requests come with what they would be charged, and the answers are what the
ledger would say if they were approved one after the other (`datasites.ledger.admission`). The checks of the policy are
each request's own, and on its page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from datasites.ledger.admission import Asked, Standing
from datasites.ledger.amounts import Amount
from policies.errors import BudgetExceeded
from policies.privacy.nano import NANO

MOST_EXACT = 24  # requests of which every set is looked at, as far as the steps go
MOST_STEPS = 3_000


@dataclass(frozen=True)
class Candidate:
    """A waiting request by its id, with what its approval would reserve."""

    id: str
    asked: Asked


@dataclass(frozen=True)
class Line:
    """What approving one request after those before it would leave.

    Args:
      fits: with all before it that fit.
      alone: without any of them.
      why: what holds it up where it does not fit; "" where it does.
      added: ε that it adds to all that is spent and reserved, whether what is reserved for its project pays for it.
      left: ε that is then left of the budget for others; of what is left where it does not fit.
      left_this_year: the same of this year's part; None where there is no plan.
    """

    id: str
    fits: bool
    alone: bool
    why: str
    added: float
    left: float
    left_this_year: float | None


@dataclass(frozen=True)
class Chosen:
    """A set of requests that fit together. `is_largest`: no set of more of them fits."""

    ids: tuple[str, ...]
    is_largest: bool


def in_order(standing: Standing, candidates: Sequence[Candidate]) -> tuple[Line, ...]:
    """Each request with what is left once it is approved after those before it that fit, in the order given."""
    lines, now = [], standing
    for candidate in candidates:
        why = _why(now, candidate.asked)
        used, conversion = now.balance.used, now.balance.conversion_nano
        added = ((used + candidate.asked.total).epsilon_nano(conversion) - used.epsilon_nano(conversion)) / NANO
        if not why:
            now = now.after(candidate.asked)
        alone = not why or standing.holds(candidate.asked)
        lines.append(Line(candidate.id, not why, alone, why, added, *_left(now)))
    return tuple(lines)


def most_together(standing: Standing, candidates: Sequence[Candidate]) -> Chosen:
    """As many requests as fit together, in the order given; where that many do anyway, those that come first.

    The first are tried first, then the small ones, and what that finds is the answer where no more could fit if each
    account were by itself. Else, of up to `MOST_EXACT` requests, every larger set is looked at, as far as `MOST_STEPS`
    go; beyond them what was found stands, and says so.
    """
    small_first = sorted(candidates, key=lambda candidate: _size(standing, candidate))
    found = max(_one_by_one(standing, candidates), _one_by_one(standing, small_first), key=len)
    search = _Search(small_first, found)
    exact = len(found) == _at_most(standing, candidates) or (
        len(candidates) <= MOST_EXACT and search.is_through(standing)
    )
    chosen = set(search.best)
    return Chosen(tuple(candidate.id for candidate in candidates if candidate.id in chosen), exact)


def _one_by_one(standing: Standing, candidates: Sequence[Candidate]) -> list[str]:
    """Those that fit if each that still fits is taken."""
    found = []
    for candidate in candidates:
        if standing.holds(candidate.asked):
            found.append(candidate.id)
            standing = standing.after(candidate.asked)
    return found


class _Search:
    """Looks for a set of more requests than one that is known."""

    def __init__(self, candidates: Sequence[Candidate], best: Sequence[str]) -> None:
        self._candidates, self._steps = candidates, 0
        self.best = list(best)

    def is_through(self, standing: Standing) -> bool:
        """Look at every set that could be larger; False where there were too many."""
        self._extend(standing, 0, [])
        return self._steps <= MOST_STEPS

    def _extend(self, standing: Standing, at: int, chosen: list[str]) -> None:
        if len(chosen) > len(self.best):
            self.best = list(chosen)
        for number in range(at, len(self._candidates)):
            self._steps += 1
            candidate, rest = self._candidates[number], self._candidates[number:]
            if self._steps > MOST_STEPS or len(chosen) + _at_most(standing, rest) <= len(self.best):
                return
            if standing.holds(candidate.asked):
                self._extend(standing.after(candidate.asked), number + 1, [*chosen, candidate.id])


def _at_most(standing: Standing, candidates: Sequence[Candidate]) -> int:
    """A number that no set of them exceeds: of each account by itself, with nothing kept for projects or by limits."""
    conversion, used = standing.balance.conversion_nano, standing.balance.used.accounts
    limits = [standing.balance.limit_nano] * 2
    if standing.year is not None:
        opened = (account.epsilon_nano(conversion) for account in standing.year.opened.accounts)
        parts = zip(limits, standing.year.parts_nano, opened, strict=True)
        limits = [min(limit, part + before) for limit, part, before in parts]
    added = zip(*(candidate.asked.total.accounts for candidate in candidates), strict=True)
    accounts = zip(used, limits, added, strict=False)
    return min((_most_of(*account, conversion) for account in accounts), default=0)


def _most_of(used: Amount, limit: int, added: Sequence[Amount], conversion: int) -> int:
    """How many of one account's amounts fit below a limit, the smallest first, by divergence or while all are pure."""
    free = sum(not any(amount.as_row()) for amount in added)
    divergences = (amount.divergence_nano for amount in added if any(amount.as_row()))
    pure = (amount.pure_nano for amount in added if any(amount.as_row()) and not amount.mixed)
    by_divergence = _smallest(divergences, limit - conversion - used.divergence_nano)
    by_sum = 0 if used.mixed else _smallest(pure, limit - used.pure_nano)
    return free + max(by_divergence, by_sum)


def _smallest(values: Iterable[int], limit: int) -> int:
    return sum(total <= limit for total in accumulate(sorted(values)))


def _why(standing: Standing, asked: Asked) -> str:
    if standing.holds(asked):
        return ""
    try:
        standing.check(asked)
    except BudgetExceeded as error:
        return error.public_message
    return ""


def _left(standing: Standing) -> tuple[float, float | None]:
    return standing.balance_for().epsilon_remaining, standing.year.left if standing.year else None


def _size(standing: Standing, candidate: Candidate) -> float:
    return standing.balance_for(candidate.asked.part).share_of(candidate.asked.total)
