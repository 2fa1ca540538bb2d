"""Regression, declared: a few noisy sums over patients, from which coefficients and their errors are read.

What is private of a regression is a few sums: Σ z zᵀ of inputs and outcome, and, at given coefficients, the score
Σ (y - μ) x and the information Σ μ' x xᵀ. Each patient's part has a public bound in L2, and Gaussian noise of that
bound times a multiplier is added. Which sums there are, and which share of the budget each has, is fixed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from policies.errors import UnsupportedMechanism
from policies.privacy.checks import Patients, check_column, check_noise, check_range
from policies.privacy.conditions import parse
from policies.privacy.secure_aggregation import SecureAggregation

FAMILIES = ("gaussian", "binomial", "poisson")
MOST_TERMS = 50

MOMENTS = (0.1, 0.15)
"""Shares of the budget of the two sums of squares that tell how inputs lie and where to begin."""
STEPS = {"gaussian": (0.75,), "binomial": (0.25, 0.5), "poisson": (0.25, 0.5)}
"""Shares of the Newton steps after them, by family."""
SCORE_SHARE = 0.6
"""Of each step's, what its score has; the rest is its information's."""


@dataclass(frozen=True, kw_only=True)
class Regression:
    """A regression of one outcome on terms of the other columns, by the Gaussian mechanism.

    One record is drawn uniformly of each patient's that have all values. A release is made of four or six Gaussian
    mechanisms, later ones chosen by what earlier ones told, whose squared inverse noise multipliers add up to that of
    `noise_multiplier`; so it costs what one Gaussian mechanism of that multiplier does, α / (2 σ²) at order α.

    Args:
      outcome: a real or integer column (`gaussian`), a boolean or a category of two labels, of which the second is 1
        (`binomial`), or an integer column of counts from 0 (`poisson`).
      terms: 1 to 50, as `("age", "ward", "age * ward", "log(crp, 1)")`. An intercept is always in the model. The first
        label of a category is the reference.
      family: one of `FAMILIES`: with identity, logit and log link.
      epsilon: target ε at `delta` of all rounds, or None where `noise_multiplier` is given.
      noise_multiplier: noise standard deviation over L2 sensitivity of a release as a whole, in (0, 1000].
      delta: δ of that ε, in (0, 0.01].
      outcome_range: narrower public bounds that the outcome is held to, for less noise; None for the column's own.
      rounds: how often it may be asked.
      where: a condition as `age >= 65` (`conditions`), for records that count; all of them where it is empty.
      secure_aggregation: the hospitals whose sum alone can be read, and how many it needs; None to release by itself.
    """

    kind: ClassVar[str] = "regression"
    reads: ClassVar[Patients] = Patients.ALL
    sampling_rate: ClassVar[float] = 1.0  # for the accountant: each round is one Gaussian mechanism over everybody
    steps: ClassVar[int] = 1
    outcome: str
    terms: tuple[str, ...]
    family: str
    epsilon: float | None = None
    noise_multiplier: float | None = None
    delta: float = 1e-5
    outcome_range: tuple[float, float] | None = None
    rounds: int = 1
    where: str = ""
    secure_aggregation: SecureAggregation | None = None

    def __post_init__(self) -> None:
        check_column("outcome", self.outcome)
        terms = self.terms
        if not isinstance(terms, tuple) or not 1 <= len(terms) <= MOST_TERMS or len(set(terms)) != len(terms):
            raise UnsupportedMechanism(f"terms should be 1 to {MOST_TERMS}, no two alike, as terms=('age', 'ward').")
        for term in terms:
            if not isinstance(term, str) or not term:
                raise UnsupportedMechanism(f"terms has {str(term)[:60]!r}, which is no text. Write a column or a term.")
        if self.family not in FAMILIES:
            raise UnsupportedMechanism(f"family={self.family!r} is not known. Use one of {', '.join(FAMILIES)}.")
        check_range("delta", self.delta, 0, 0.01, open_low=True)
        check_range("rounds", self.rounds, 1, 1000, whole=True)
        if self.where != "":
            parse(self.where)
        check_noise(self.epsilon, self.noise_multiplier)
        self._check_outcome_range()

    def _check_outcome_range(self) -> None:
        if self.outcome_range is None:
            return
        ends = self.outcome_range
        if self.family == "binomial" or not isinstance(ends, tuple) or len(ends) != 2:
            raise UnsupportedMechanism(
                f"outcome_range={str(ends)[:60]} is not two numbers, or the family is binomial. Write (0, 20), or leave"
                " it out."
            )
        for end in ends:
            check_range("outcome_range", end, -1e15, 1e15)
        if not ends[0] < ends[1]:
            raise UnsupportedMechanism(f"outcome_range={ends} does not ascend. Write its lower end first.")


def parts_of(mechanism: Regression) -> tuple[tuple[str, float], ...]:
    """Name and share of ρ of each Gaussian mechanism in a release, in order; the shares add up to 1."""
    steps = STEPS[mechanism.family]
    return (
        *((f"moments {number}", share) for number, share in enumerate(MOMENTS, 1)),
        *(
            (f"{part} {number}", share * of_step)
            for number, share in enumerate(steps, 1)
            for part, of_step in (("score", SCORE_SHARE), ("information", 1 - SCORE_SHARE))
        ),
    )
