"""From sums of devices' noisy numbers to a mean and a variance, with intervals that hold what they say.

The noise of a sum is the difference of two negative binomial variables of shape r, r the number of whole noises in it:
one for each device that added all of its own, n/t where n devices each added a t-th. It is nearly the Laplace variable
of shape r, a Gaussian of a variance that is itself gamma distributed, so its quantiles follow from one smooth integral;
a unit is added for what is whole in the one and not in the other. Intervals are about the devices that answered: the
mean and variance of their own numbers, held to the bounds. What noise cannot tell apart from the public bounds is cut
off there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from policies.privacy.device_reports import NUMBERS, Column, DeviceQuestion
from policies.privacy.shared_noise import laplace_variance, rate_of

LEVEL = 0.95
_POINTS = 400  # of the integral: it is off by far less than 1e-9
_SIDES = 2  # of a variance's interval: a mean's and a mean square's, which miss together with 5 % at most


@dataclass(frozen=True)
class Figure:
    """What a team learned of one column, of the devices that answered; intervals hold the truth in 95 of 100 reports.

    Args:
      column: its name.
      devices: that answered.
      mean, mean_low, mean_high: of their numbers.
      variance, variance_low, variance_high: of their numbers, around their mean.
    """

    column: str
    devices: int
    mean: float
    mean_low: float
    mean_high: float
    variance: float
    variance_low: float
    variance_high: float

    @property
    def deviation(self) -> tuple[float, float, float]:
        """The standard deviation, and its interval."""
        low, middle, high = (math.sqrt(value) for value in (self.variance_low, self.variance, self.variance_high))
        return middle, low, high


def figures(question: DeviceQuestion, sums: Sequence[int], *, devices: int, shares: float) -> tuple[Figure, ...]:
    """A figure for each column.

    Args:
      sums: of the devices' numbers, y and s of each column in turn.
      devices: how many are in the sums.
      shares: how many whole noises are.
    """
    return tuple(
        _figure(question, column, sums[NUMBERS * place], sums[NUMBERS * place + 1], devices, shares)
        for place, column in enumerate(question.columns)
    )


def margin(question: DeviceQuestion, column: Column, *, devices: int, shares: float, level: float = LEVEL) -> float:
    """How far a mean over `devices` is from theirs at most, in `level` of reports, in the column's own units."""
    return _mean_margin(question, devices, shares, level) * column.half


def quantile(halvings: int, shares: float, level: float) -> float:
    """Which the size of a sum's noise exceeds with a chance of at most 1 - `level`, in units."""
    return _quantile(float(shares), level) / rate_of(halvings) + 1


def _mean_margin(question: DeviceQuestion, devices: int, shares: float, level: float) -> float:
    """In halves of the range; half a step is what a number loses when it is rounded."""
    return (quantile(question.halvings, shares, level) / devices + 0.5) / question.steps


def _figure(question: DeviceQuestion, column: Column, y: int, s: int, devices: int, shares: float) -> Figure:
    """In halves of the range from the middle first, so that every number is in [-1, 1]."""
    steps = question.steps
    mean, square = y / (steps * devices), s / (steps * devices)
    noise = laplace_variance(question.halvings, shares) / (steps * devices) ** 2
    each = 1 - (1 - LEVEL) / _SIDES
    mean_half = _mean_margin(question, devices, shares, LEVEL)
    mean_low, mean_high = _held(mean - mean_half, -1, 1), _held(mean + mean_half, -1, 1)
    wide = _mean_margin(question, devices, shares, each)  # of y, and of s as well: one unit is one unit
    from_low, from_high = _held(mean - wide, -1, 1), _held(mean + wide, -1, 1)
    most = max(from_low**2, from_high**2)
    least = 0.0 if from_low <= 0 <= from_high else min(from_low**2, from_high**2)
    low = _held(square - wide - 1 / steps - most, 0, 1)  # y² moved by up to a step where y was rounded
    high = _held(square + wide + 1 / steps - least, 0, 1 - least)
    middle = _held(mean, mean_low, mean_high)
    high = max(low, high)
    variance = _held(square - mean**2 + noise, low, high)
    half = column.half
    return Figure(
        column.name, devices,
        column.middle + half * middle, column.middle + half * mean_low, column.middle + half * mean_high,
        half**2 * variance, half**2 * low, half**2 * high,
    )  # fmt: skip


def _held(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


@lru_cache(maxsize=1024)
def _quantile(shares: float, level: float) -> float:
    """Of the Laplace variable of shape `shares` and width 1, by bisection."""
    low, high = 0.0, 40.0 * (1 + math.sqrt(shares))
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _beyond(middle, shares) > 1 - level else (low, middle)
    return high


def _beyond(size: float, shape: float) -> float:
    """P[|X| > size] = E erfc(size / (2 √G)), G gamma distributed: the trapezium rule over log G."""
    low, high = (
        math.log(shape) - 40 / min(shape, 1) if shape < 1 else math.log(shape) - 40 / math.sqrt(shape),
        math.log(shape + 40 * math.sqrt(shape) + 40),
    )
    step, total = (high - low) / _POINTS, []
    for point in range(_POINTS + 1):
        place = low + step * point
        weight = math.exp(shape * place - math.exp(place) - math.lgamma(shape))
        total.append(weight * math.erfc(size / (2 * math.exp(place / 2))))
    return step * math.fsum(total)
