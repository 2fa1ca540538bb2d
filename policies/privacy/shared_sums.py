"""What hospitals' sums under one noise cost: ε if the roster keeps its word, ε if not, and which of them is charged.

Hospitals whose releases leave in sums alone (`secure_aggregation`) need not add a whole noise each. Of a sum over t of
them, k may work together with a researcher who drops whom they like, and know their own parts: t - k parts are secret,
so t - k parts make the whole, and k is at most what the masks hold against. That is *ε as assumed*. If more than k work
together, one hospital's numbers may be read under its own part alone: *ε if not*, several times as much.

**Draws** (tables of an evaluation, statistics, survival): one patient moves one number of each by one unit at the most.
A unit is carried as S steps, and parts of discrete Laplace noise of rate w = -ln(1 - 2^-m) are added (`shared_noise`),
exactly, with wS ≤ ε of the draw; m is the least with S ≥ 64, so that less than a 64th of ε is left unused. Sums of
values are rounded to the nearest step once, before noise: x ↦ ⌊x + ½⌋ never falls, and S more of x are S more of it, so
that a patient still moves it by S at the most. A draw's ε if not is `laplace_loss` of one part. Draws are independent,
so ε add up, and so do divergences, each the largest that its pure ε admits (`accountant.pure_divergence`).

Which mechanisms are made of such draws is in `shared_mechanisms`, and the grid of a step of training in `shared_steps`.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from policies.canonical import canonical
from policies.errors import UnsupportedMechanism
from policies.numbers import written
from policies.privacy.checks import check_range
from policies.privacy.nano import epsilon_up, exact
from policies.privacy.secure_aggregation import WORD, SecureAggregation
from policies.privacy.shared_noise import laplace_loss, laplace_variance, rate_above

LEAST_STEPS = 64  # S: less than a 64th of a draw's ε is lost to the grid
LEAST_EPSILON, MOST_EPSILON = 0.001, 100.0  # of a draw: below, a hundred hospitals' noise would leave 32-bit words
MOST_DRAWS = 1000
MOST_NUMBERS = 50_000  # of a release: their parts take ten seconds
_SPARE = 64  # widths of noise that none is ever beyond: e^-64


class Sharing:
    """What an owner reads and accepts of any noise that hospitals share: two ε of a request, and on whom they rest."""

    roster: SecureAggregation
    delta: float = 0.0
    """δ at which both ε hold; 0 of pure ones."""

    @property
    def digest(self) -> str:
        """SHA-256 of roster, keys, threshold, k and what is asked: what an owner's acceptance is bound to."""
        raise NotImplementedError

    @property
    def parts(self) -> int:
        """How many parts make the whole noise: those of a smallest sum that nobody else knows."""
        return self.roster.parts

    @property
    def epsilons_in_all(self) -> tuple[float, float]:
        """ε of all releases together, as assumed and if not."""
        raise NotImplementedError

    @property
    def at_delta(self) -> str:
        """What follows an ε in a sentence: its δ, where there is one."""
        return f" (δ = {written(self.delta)})" if self.delta else ""

    def sentence(self) -> str:
        """What an owner accepts, in so many words, before a request is charged as assumed."""
        names = ", ".join(party.name for party in self.roster.hospitals)
        assumed, if_not = (f"{shown(epsilon)}{self.at_delta}" for epsilon in self.epsilons_in_all)
        return (
            f"I rely on these hospitals: {names}. While {self.assumption()} with the researcher, this request"
            f" shows at most ε = {assumed} of any patient. If more do, it may show up to"
            f" ε = {if_not}, and the ledger will have charged only {assumed}."
        )

    def assumption(self) -> str:
        """What ε as assumed rests on, as the beginning of a sentence: "none of them works together"."""
        colluding = self.roster.may_collude
        if colluding == 0:
            return "none of them works together"
        return f"no more than {colluding} of them {'works' if colluding == 1 else 'work'} together"

    def acceptance(self, *, request: str, plan_digest: str) -> str:
        """Hex digest that an owner gives back to accept this sentence, for one request and its plan alone."""
        facts = {"request": request, "plan": plan_digest, "shared": self.digest, "sentence": self.sentence()}
        return hashlib.sha256(canonical(facts)).hexdigest()


@dataclass(frozen=True, kw_only=True)
class SharedDraws(Sharing):
    """Independent draws that hospitals add up under one noise.

    Args:
      roster: the named hospitals, their keys, the threshold t and k, those that may work together with the researcher;
        of mode `"shared-noise"`.
      draws: ε of each independent table, count or sum of a release, one patient moving one number of each by one unit
        at the most; each in [0.001, 100].
      rounds: releases that are asked for.
    """

    roster: SecureAggregation
    draws: tuple[float, ...]
    rounds: int = 1

    def __post_init__(self) -> None:
        if not self.roster.shares_noise:
            raise UnsupportedMechanism(f"mode={self.roster.mode!r} shares no noise. Each hospital adds all of its own.")
        check_range("rounds", self.rounds, 1, 1000, whole=True)
        check_range("draws", len(self.draws), 1, MOST_DRAWS, whole=True)
        for epsilon in self.draws:
            check_range("epsilon of a draw", epsilon, LEAST_EPSILON, MOST_EPSILON)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of roster, keys, threshold, k, every ε and how often: what an owner's acceptance is bound to."""
        asked = {"roster": self.roster.as_dict(), "draws": list(self.draws), "rounds": self.rounds}
        return hashlib.sha256(canonical(asked)).hexdigest()

    @property
    def epsilon(self) -> float:
        """ε of a release as assumed: pure, of all draws together, rounded up."""
        return epsilon_up(math.fsum(self.draws))

    @cached_property
    def epsilon_if_not(self) -> float:
        """ε of one hospital's numbers under its own part alone, of a release: pure, of all draws, rounded up."""
        return epsilon_up(math.fsum(self.draws_if_not))

    @property
    def epsilons_in_all(self) -> tuple[float, float]:
        """ε of all releases together, as assumed and if not."""
        return float(exact(self.epsilon) * self.rounds), float(exact(self.epsilon_if_not) * self.rounds)

    @cached_property
    def draws_if_not(self) -> tuple[float, ...]:
        """ε of each draw under one part alone."""
        grids = map(grid_of, self.draws)
        return tuple(
            max(epsilon, laplace_loss(halvings, honest=1, parties=self.parts, distance=steps))
            for epsilon, (halvings, steps) in zip(self.draws, grids, strict=True)
        )

    def most_patients(self) -> int:
        """Of one hospital, so that the sum of all of them fits a word under noise that none is ever beyond."""
        each = int(2 ** (WORD - 1) - 1) // len(self.roster.hospitals)
        return min((each - (_SPARE << halvings)) // steps for halvings, steps in map(grid_of, self.draws))

    def standard_error(self, draw: int, *, hospitals: int) -> float:
        """Of a draw's total over so many hospitals, from noise alone, in units: of a count in patients."""
        self._check_sum(hospitals)
        halvings, steps = grid_of(self.draws[draw])
        return math.sqrt(laplace_variance(halvings, Fraction(hospitals, self.parts))) / steps

    def rounding(self, draw: int) -> float:
        """How much larger the deviation of a sum is made by rounding at each hospital; at least 1."""
        halvings, _ = grid_of(self.draws[draw])
        return math.sqrt(1 + self.parts / (12 * laplace_variance(halvings, 1)))

    def standard_error_of_whole_noises(self, draw: int, *, hospitals: int) -> float:
        """The same where each hospital adds all of its own noise, P[Z = z] ∝ e^(-ε|z|), as under mode "masks"."""
        self._check_sum(hospitals)
        ratio = math.exp(-self.draws[draw])
        return math.sqrt(2 * ratio * hospitals) / (1 - ratio)

    def _check_sum(self, hospitals: int) -> None:
        check_range("hospitals of a sum", hospitals, self.roster.threshold, len(self.roster.hospitals), whole=True)


def grid_of(epsilon: float) -> tuple[int, int]:
    """m and S of a draw: the halvings of its noise, and the steps that one patient counts for."""
    halvings = 1
    while (steps := math.floor(Fraction(epsilon) / rate_above(halvings))) < LEAST_STEPS:
        halvings += 1
    return halvings, steps


def check_fits(counts: SharedDraws, numbers: int) -> None:
    """Raise `UnsupportedMechanism` where a release has too many numbers, or a sum of it might leave its 32-bit words.

    A hospital has about as many patients as the roster says of those it trains on, which are half of them or more.
    """
    if numbers > MOST_NUMBERS:
        raise UnsupportedMechanism(
            f"{numbers:,} numbers are above {MOST_NUMBERS:,}, the most that share one noise: each is drawn exactly,"
            " which takes a fifth of a millisecond. Use fewer groups or bins, or masks: secure_aggregation=True."
        )
    most = counts.most_patients()
    if 2 * counts.roster.most_patients > most:
        raise UnsupportedMechanism(
            f"A sum over {len(counts.roster.hospitals)} hospitals under shared noise at ε ="
            f" {min(counts.draws):.3g} a draw holds {most:,} patients of each, and the largest may have"
            f" {2 * counts.roster.most_patients:,}. Ask with masks: secure_aggregation=True."
        )


def shown(epsilon: float) -> str:
    """To two digits behind the point, rounded up."""
    return f"{math.ceil(round(epsilon * 100, 6)) / 100:.2f}"
