"""When trials say that a release tells more than its mechanism's curve allows, and how many trials that takes.

An event is fixed beforehand, on separate trials. It is then counted in `trials` releases without the patient and as
many with. Clopper and Pearson's bounds (1934) on both chances hold together except with `ALARM`, shared by every pair
that one run of the harness tries (Bonferroni), and a fault is found where even these bounds are beyond the curve.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, binom

from tests.proof.curves import Curve

FloatArray = npt.NDArray[np.float64]

ALARM = 1e-4  # chance of any false alarm in one run of the whole harness
PAIRS = 120  # no run tries more pairs than this; `tests/proof/test_registry.py` counts them
EACH = ALARM / PAIRS
WANTED_POWER = 0.999
MOST_TRIALS = 100_000


def lowest(hits: npt.ArrayLike, trials: int, alarm: float) -> FloatArray:
    """Lower bound on a chance; it is too high with a chance of `alarm` at most."""
    counted = np.asarray(hits)
    return np.where(counted > 0, beta.ppf(alarm, np.maximum(counted, 1e-9), trials - counted + 1), 0.0)


def highest(hits: npt.ArrayLike, trials: int, alarm: float) -> FloatArray:
    """Upper bound on a chance; it is too low with a chance of `alarm` at most."""
    counted = np.asarray(hits)
    return np.where(counted < trials, beta.ppf(1 - alarm, counted + 1, np.maximum(trials - counted, 1e-9)), 1.0)


def found(curve: Curve, false_alarms: int, hits: int, trials: int, *, alarm: float = EACH) -> bool:
    """Whether an event seen `false_alarms` times without the patient and `hits` times with is beyond the curve."""
    false, true = highest(false_alarms, trials, alarm / 2), lowest(hits, trials, alarm / 2)
    return bool(true > curve.most(false) or 1 - false > curve.most_without(1 - true))


def power(curve: Curve, false_alarm: float, hit: float, trials: int, *, alarm: float = EACH) -> float:
    """Chance that `found` says so, where the event's true chances are `false_alarm` without and `hit` with.

    Exact, up to counts of false alarms that come once in 10^8 runs, which are taken as not found.
    """
    low, high = binom.ppf([1e-8, 1 - 1e-8], trials, false_alarm).astype(int)
    counts = np.unique(np.linspace(low, high, min(high - low + 1, 200)).astype(int))
    false = highest(counts, trials, alarm / 2)
    allowed = curve.most(false)
    true = lowest(np.arange(trials + 1), trials, alarm / 2)
    reversed_allowed = curve.most_without(1 - true)
    # The least hits that are beyond the curve, by either direction, at each count of false alarms.
    first = np.searchsorted(true, allowed, side="right")
    # More hits never allow more, so the first that is below stands after all that are not.
    second = np.searchsorted(-reversed_allowed, -(1 - false), side="right")
    needed = np.minimum(first, second)
    # Between the counts looked at, more false alarms never need fewer hits: the next count's need is taken.
    chance = np.diff(binom.cdf(np.r_[counts[0] - 1, counts], trials, false_alarm))
    return float((chance * binom.sf(needed - 1, trials, hit)).sum())


def trials_for(curve: Curve, false_alarm: float, hit: float, *, wanted: float = WANTED_POWER) -> int:
    """The fewest trials, to a twentieth, that find an event with these chances with the power `wanted`.

    Raises `ValueError` where `MOST_TRIALS` are not enough: the fault is another detector's.
    """
    high = 8
    while power(curve, false_alarm, hit, high) < wanted:
        high *= 2
        if high > MOST_TRIALS:
            raise ValueError(f"An event of {false_alarm:.3g} against {hit:.3g} is not beyond the curve.")
    low = high // 2
    while high - low > max(1, low // 20):
        middle = (low + high) // 2
        low, high = (low, middle) if power(curve, false_alarm, hit, middle) >= wanted else (middle, high)
    return high


def power_of_epsilon_alone(
    epsilon: float, delta: float, false_alarm: float, hit: float, trials: int, *, alarm: float = EACH
) -> float:
    """The same power for a null that is one (ε, δ): what audits that report an ε lower bound compare with."""
    counts = np.arange(trials + 1)
    allowed = np.exp(epsilon) * highest(counts, trials, alarm / 2) + delta
    needed = np.searchsorted(lowest(counts, trials, alarm / 2), allowed, side="right")
    return float((binom.pmf(counts, trials, false_alarm) * binom.sf(needed - 1, trials, hit)).sum())
