"""One step of training under one noise of several hospitals: its grid, its sensitivity and what its parts leave.

Each hospital's sum of clipped gradients is a whole number of a fine grid (`engine.clipping`, `engine.lanes.sums`), and
one patient moves it by no more than the clipping norm C. It is rounded to a grid of which C is at least 2^13 steps,
held to a public bound, and a discrete Gaussian part is added, in whole numbers. Words of 32 bits hold the sum, and
going around them is arithmetic on the sum alone.

**Sensitivity.** Rounding moves each of two sums by half a step at most, so the two lie at most |g| + 1 apart at every
number, C + √d steps over d of them; holding both to a bound brings no two numbers further apart. √d is taken at
`MOST_NUMBERS`, so that a price needs no model: below 2 % more noise on the finest grid.

**Parts.** V = v (t - k) for a whole number v, so that every part has exactly the variance v. The divergence of
Poisson-sampled Gaussians at the multiplier √(vh) / Δ, h being the honest hospitals, is the first term of what is below,
and d τ (2α-1) / (α-1) its second.

**One step of training**: d whole numbers of Poisson-sampled patients, each of whom moves them by an integer vector of
length at most Δ, under discrete Gaussian parts, whose sum is within a factor of e^±τ of a discrete Gaussian Q of
variance V at every number. With P0 the noise and P1 the same moved, and α a whole number above 1,

    Σ ((1-q) P0 + q P1)^α P0^(1-α) ≤ e^(dτ(2α-1)) Σ_j C(α, j) (1-q)^(α-j) q^j exp((j² - j) Δ² / 2V),

for Q's own moments are no larger than a continuous Gaussian's (Canonne, Kamath and Steinke 2020, arXiv:2004.00010,
proposition 5). The other direction, D(P0, mixture), is no larger (Mironov et al. 2019, arXiv:1908.10530, theorem 5:
x ↦ shift - x turns one into the other, and maps whole numbers onto whole numbers). Of more than one step a round no
such sum exists: every step reads weights that the steps before moved, at each hospital its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from policies.errors import UnsupportedMechanism
from policies.privacy.checks import check_range
from policies.privacy.secure_aggregation import WORD, SecureAggregation
from policies.privacy.shared_noise import divisibility_error

MOST_NUMBERS = 2**20  # that one step trains
FINEST, COARSEST = 16, 13  # the clipping norm is 2^bits to 2^(bits+1) steps
MOST_MULTIPLIER = 60.0  # above it a hundred hospitals' noise would leave its half of a word
LEAST_OF_A_PART = 0.05  # below it a divergence is not computed (`accountant.LEAST_NOISE`)
SHAREABLE = ("steps", "optimizer", "momentum", "proximal_mu", "local")
"""Fields of a training that shared noise has a say in."""

_ROUNDING = 1 - 1e-12  # of a square root and a quotient in floats


@dataclass(frozen=True, kw_only=True)
class StepGrid:
    """Where the sums of one step lie: a function of what was declared, and of no data.

    Args:
      roster: of mode `"shared-noise"`.
      clipping_norm: C of each patient.
      sampling_rate: a patient's chance to take part.
    """

    roster: SecureAggregation
    clipping_norm: float
    sampling_rate: float

    @property
    def patients(self) -> int:
        """How many of the largest hospital take part at most, but for once in 10^13 times; more are held to it."""
        expected = self.sampling_rate * self.roster.most_patients
        return math.ceil(expected + 8 * math.sqrt(expected) + 8)

    @property
    def bits(self) -> int:
        """The finest grid whose sums fit half of a word, else the coarsest."""
        return next((bits for bits in range(FINEST, COARSEST, -1) if self._fits(bits)), COARSEST)

    @property
    def grid(self) -> float:
        """One step: a power of two, of which the clipping norm is 2^`bits` to 2^(`bits` + 1)."""
        return math.ldexp(1.0, math.frexp(self.clipping_norm)[1] - 1 - self.bits)

    @property
    def units(self) -> Fraction:
        """Steps of the clipping norm."""
        return Fraction(self.clipping_norm) / Fraction(self.grid)

    @property
    def sensitivity(self) -> float:
        """Δ in steps: what one patient moves the numbers of a rounded sum by, in L2."""
        return float(self.units) + math.sqrt(MOST_NUMBERS)

    @property
    def largest(self) -> int:
        """What each number of one hospital's sum is held to, before noise."""
        return int(2 ** (WORD - 2)) // len(self.roster.hospitals)

    def check(self) -> None:
        """Raise `UnsupportedMechanism` where a step may take so many patients that their sum leaves its word."""
        if not self._fits(self.bits):
            most = self.largest // 2 ** (COARSEST + 1)
            raise UnsupportedMechanism(
                f"sampling_rate={self.sampling_rate:g} of {self.roster.most_patients:,} patients is up to"
                f" {self.patients:,} of the largest hospital at once, and a sum of {len(self.roster.hospitals)}"
                f" hospitals under shared noise holds {most:,} of each. Lower sampling_rate, or train with masks:"
                " secure_aggregation=True."
            )

    def _fits(self, bits: int) -> bool:
        return self.patients << (bits + 1) <= self.largest


@dataclass(frozen=True, kw_only=True)
class SharedStep:
    """One step's noise, of which each hospital adds a part.

    Args:
      where: the grid.
      noise_multiplier: deviation of the whole noise over the clipping norm; in [0, 60].
    """

    where: StepGrid
    noise_multiplier: float

    @property
    def parts(self) -> int:
        """How many make the whole noise."""
        return self.where.roster.parts

    @property
    def variance(self) -> int:
        """v of one part, in steps²: a whole number, no less than the whole's share."""
        return math.ceil((Fraction(self.noise_multiplier) * self.where.units) ** 2 / self.parts)

    def multiplier(self, honest: int) -> float:
        """Deviation of so many parts over Δ, rounded down."""
        check_range("honest", honest, 1, self.parts, whole=True)
        return math.sqrt(self.variance * honest) / self.where.sensitivity * _ROUNDING

    def error(self, honest: int, order: int) -> float:
        """d τ (2α-1) / (α-1): what the parts' sum is off a discrete Gaussian's divergence."""
        tau = divisibility_error(Fraction(self.variance * honest), honest)
        return tau * MOST_NUMBERS * (2 * order - 1) / (order - 1)

    def deviation(self, hospitals: int) -> float:
        """Of the noise in a sum over so many hospitals, in units of the gradient."""
        return math.sqrt(self.variance * hospitals) * self.where.grid

    def check(self) -> None:
        """Raise `UnsupportedMechanism` where it cannot be drawn, summed or accounted for."""
        self.where.check()
        if self.noise_multiplier > MOST_MULTIPLIER:
            raise UnsupportedMechanism(
                f"noise_multiplier={self.noise_multiplier:g} is above {MOST_MULTIPLIER:g}, the most that hospitals"
                " share. Ask for a larger ε, fewer rounds or a lower sampling_rate."
            )
        if self.multiplier(1) < LEAST_OF_A_PART:
            raise UnsupportedMechanism(
                f"noise_multiplier={self.noise_multiplier:g} in {self.parts} parts leaves each one"
                f" {self.multiplier(1):.3f} of what a patient moves, below {LEAST_OF_A_PART}: what one part alone hides"
                " cannot be accounted for. Ask for a smaller ε, or train with masks: secure_aggregation=True."
            )


def least_multiplier(where: StepGrid, noise: float) -> float:
    """The noise multiplier, in steps of 1/1000, whose whole noise is at least `noise` times Δ."""
    share = Fraction(where.sensitivity) / where.units
    return math.ceil(Fraction(noise) * share * 1000 * (1 + Fraction(1, 10**9))) / 1000


@lru_cache(maxsize=4096)
def shared_step(where: StepGrid, noise_multiplier: float) -> SharedStep:
    """Checked once. Raises `UnsupportedMechanism` as `SharedStep.check`."""
    step = SharedStep(where=where, noise_multiplier=noise_multiplier)
    step.check()
    return step


def check_numbers(numbers: int) -> None:
    """Raise `UnsupportedMechanism` where a model trains more numbers than a step's price counts on."""
    if numbers > MOST_NUMBERS:
        raise UnsupportedMechanism(
            f"The model trains {numbers:,} numbers, above {MOST_NUMBERS:,}, the most that share one noise. Freeze some"
            " of them, or train with masks: secure_aggregation=True."
        )


def check_one_step(steps: int) -> None:
    """Raise `UnsupportedMechanism` where a round has more steps than one: their noise cannot be shared."""
    check_range("steps", steps, 1, 2**53, whole=True)
    if steps > 1:
        raise UnsupportedMechanism(
            f"steps={steps} a round cannot share one noise: each step reads weights that this hospital's own steps"
            ' moved, so each needs a whole noise. Use steps=1, or mode="masks", under which each adds all of its own.'
        )


def check_shareable(asked: Mapping[str, Any]) -> None:
    """Raise `UnsupportedMechanism`, with the reason, where a training cannot share one noise.

    Args:
      asked: what it has of `SHAREABLE`.
    """
    check_one_step(asked["steps"])
    if asked["optimizer"] != "sgd":
        raise UnsupportedMechanism(
            f"optimizer={asked['optimizer']!r} cannot share one noise: each hospital would divide by what it alone"
            ' knows of its gradients, and only a sum of them is covered. Use optimizer="sgd"; the strategies FedAdam,'
            " FedAdagrad and FedYogi do it with what was added up."
        )
    reasons = {
        "momentum": "its memory begins anew each round, so that it does nothing in one step: use the strategy FedAvgM",
        "proximal_mu": "it pulls towards the weights that a round begins with, which one step has not left",
    }
    for name, reason in reasons.items():
        if asked[name]:
            raise UnsupportedMechanism(f"{name}={asked[name]} is of no use under shared noise: {reason}. Leave it out.")
    if asked["local"]:
        raise UnsupportedMechanism(
            f"local={', '.join(asked['local'])} cannot share one noise: local parameters stay at their hospital under"
            " its own part alone, which is not the whole. Train all, or with masks: secure_aggregation=True."
        )
