"""The best adversary there is, found exactly, gains no more than what is promised from what the ledger admits.

A few mechanisms with few outcomes, chosen one after another as the outcomes so far suggest. The largest sum of
P(t) - e^ε Q(t) over transcripts, over all such strategies, is found by dynamic programming: the sum is linear in each
choice. So is the chance of a privacy loss above the one that certainties are stated for. Admission is the ledger's own
function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import pytest

from datasites.ledger.amounts import NOWHERE, Amount, Balance, Charged
from policies.privacy.accountant import conversion
from policies.privacy.budget import PrivacyBudget
from policies.privacy.mechanisms import Patients
from policies.privacy.nano import NANO, nano_down, nano_up

ORDER = 4
Pair = tuple[tuple[float, float], ...]  # of each outcome its chance with the patient, and without


@dataclass(frozen=True)
class Choice:
    """A mechanism that an adversary may ask for: the chances of its outcomes, and what it is charged."""

    pair: Pair
    amount: Amount


def divergence(pair: Pair) -> float:
    ways = (pair, tuple((q, p) for p, q in pair))
    return max(math.log(sum(p**ORDER * q ** (1 - ORDER) for p, q in way)) / (ORDER - 1) for way in ways)


def pure(epsilon: float) -> Choice:
    """Randomized response: the worst that a pure ε may be."""
    truth = 1 / (1 + math.exp(-epsilon))
    pair = ((truth, 1 - truth), (1 - truth, truth))
    return Choice(pair, Amount(nano_up(divergence(pair)), nano_up(epsilon)))


def revealing(chance: float, loss: float) -> Choice:
    """Nearly nothing, but for a large privacy loss with a small chance: where the conversion of δ is tight."""
    rare = chance * math.exp(-loss)
    pair = ((chance, rare), (1 - chance, 1 - rare))
    return Choice(pair, Amount(nano_up(divergence(pair)), 0, 1))


def tight(balance: Balance, loss: float) -> Choice:
    """The likeliest `loss` that the capacity has room for."""
    chance = math.exp((ORDER - 1) * (balance.capacity_nano / NANO - loss)) * 0.98
    return revealing(chance, loss)


def empty(budget: PrivacyBudget) -> Balance:
    nano = nano_up(conversion(ORDER, budget.delta))
    return Balance(budget, ORDER, nano, nano_down(budget.epsilon) - nano, NOWHERE, NOWHERE)


def as_the_ledger(balance: Balance) -> Callable[[Amount], bool]:
    return lambda total: balance.holds(Charged.to(Patients.ALL, total))


def above(epsilon: float) -> Callable[[float], float]:
    """Of a transcript, P(t) - e^ε Q(t) where it is positive, over P(t)."""
    return lambda loss: max(0.0, -math.expm1(epsilon - loss))


def best_gain(
    end: Callable[[float], float], choices: Sequence[Choice], admits: Callable[[Amount], bool], steps: int
) -> float:
    """The largest mean of `end` of the privacy loss that any strategy of at most `steps` choices reaches."""

    @cache
    def gain(used: Amount, loss: float, steps: int) -> float:
        """Of the transcripts that begin with a privacy loss of `loss`, per chance with the patient."""
        stopped = end(loss)
        if steps == 0:
            return stopped
        asked = [stopped]
        for choice in choices:
            if admits(used + choice.amount):
                then = (
                    p * gain(used + choice.amount, round(loss + math.log(p / q), 9), steps - 1) for p, q in choice.pair
                )
                asked.append(sum(then))
        return max(asked)

    return gain(Amount(), 0.0, steps)


def admits_either_way(balance: Balance) -> Callable[[Amount], bool]:
    """A rule that is wrong: the sum of pure ε counts beside a release that has none."""

    def admits(total: Amount) -> bool:
        return total.divergence_nano <= balance.capacity_nano or 0 < total.pure_nano <= balance.limit_nano

    return admits


BUDGETS = (PrivacyBudget(2.5, 0.01), PrivacyBudget(3.0, 0.005))


def choices_within(balance: Balance) -> list[Choice]:
    """Pure mechanisms, and revealing ones that fill the capacity or half of it."""
    capacity = balance.capacity_nano / NANO
    rare = [
        revealing(chance, loss)
        for share in (1.0, 0.5)
        for loss in (balance.budget.epsilon + 0.4, balance.budget.epsilon + 1.2)
        for chance in [math.exp((ORDER - 1) * (share * capacity - loss)) * 0.98]
    ]
    return [pure(0.5), pure(1.0), *rare]


@pytest.mark.parametrize("budget", BUDGETS)
def test_no_strategy_gains_more_than_delta(budget: PrivacyBudget) -> None:
    balance = empty(budget)
    gained = best_gain(above(budget.epsilon), choices_within(balance), as_the_ledger(balance), steps=7)
    assert 0.2 * budget.delta < gained <= budget.delta * (1 + 1e-6)


@pytest.mark.parametrize("budget", BUDGETS)
def test_no_strategy_makes_a_larger_loss_than_is_stated_likelier_than_delta(budget: PrivacyBudget) -> None:
    balance = empty(budget)
    bound, epsilon = balance.promise.membership, budget.epsilon
    choices = [pure(0.5), pure(1.0), *(tight(balance, bound + more) for more in (1e-6, 0.3, 1.0))]
    assert best_gain(lambda loss: float(loss > bound), choices, as_the_ledger(balance), steps=7) <= budget.delta
    # ε itself is exceeded far more often: that is why it is not what certainties are stated for.
    likely = [tight(balance, epsilon + 1e-6)]
    assert best_gain(lambda loss: float(loss > epsilon), likely, as_the_ledger(balance), steps=1) > 3 * budget.delta


@pytest.mark.parametrize("budget", BUDGETS)
def test_pure_releases_alone_gain_nothing_at_all(budget: PrivacyBudget) -> None:
    balance = empty(budget)
    assert as_the_ledger(balance)(pure(1.0).amount * int(budget.epsilon))
    assert best_gain(above(budget.epsilon), [pure(0.5), pure(1.0)], as_the_ledger(balance), steps=8) <= 1e-7


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_rule_that_adds_up_pure_epsilon_beside_a_training_is_found_out(budget: PrivacyBudget) -> None:
    balance = empty(budget)
    gained = best_gain(above(budget.epsilon), choices_within(balance), admits_either_way(balance), steps=7)
    assert gained > 1.5 * budget.delta
