"""Regression on private records: a few noisy sums, each made where the ones before it say that it tells most.

Every sum is a Gaussian mechanism (`datasites.engine.noisy_sums`) over one record of each patient; what stands between
them, and all that is released, is made of noisy sums and public numbers, and costs nothing more.

1. Two sums of squares of inputs and outcome. The inverse root of the first turns and scales inputs so that they vary
   alike in every direction, and rows that are longer than a public bound C (C² = `ROOM` times their mean square) are
   held to it. So much less noise is needed: a column whose values lie close together in wide bounds costs what others
   do. They also give the least-squares fit to begin at.
2. Newton steps from noisy scores and informations (Avella-Medina, Bradshaw and Loh 2023, arXiv:2103.11003): one where
   the link is the identity, else two.

Held rows. A row that is too long gets a weight below 1, in score and information alike: Σ w (y - μ) x is 0 on average
at the true coefficients whatever the weights are, as long as they are made of inputs alone (Mallows' weights), so
nothing is biased; and as w² ≤ w, errors read from the information are no smaller than they should be. Residuals of a
linear regression are held to `FAR` of their deviations, as Huber's; of the others they are bounded by themselves.

What is released is what the last step was made of; `researcher.coefficients` works out what is known from it. Where it
leaves in a sum over hospitals alone, it is what adds up of that (`policies.schema.summed_regression`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from datasites.engine.matrix import GroupedRows
from datasites.engine.noise import NoiseSource
from datasites.engine.noisy_sums import Bounded, noisy_sum
from datasites.engine.survival import one_of_each
from policies.errors import UnsupportedMechanism
from policies.privacy.regression import STEPS, Regression, parts_of
from policies.schema.columns import FloatArray
from policies.schema.design import Design, design_of
from policies.schema.schemas import Schema
from policies.schema.summed_regression import weighed

ROOM = 1.25
FAR = 3.5
SQUARED = 0.5  # of the score's norm, the part beside it that the sum of squared residuals has
FARTHEST = 2.0  # that a step before the last goes, in root mean squares of what it adds to predictions
LEAST_MEAN = 0.005  # of the largest outcome, that a mean is taken to be
LARGEST_LINEAR = 30.0
_ROWS_AT_ONCE = 32_768

Rows = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
"""Of turned inputs [N, p], inputs [N, p] and outcomes [N] the rows that are summed."""


def regression_sums(
    mechanism: Regression, schema: Schema, records: npt.ArrayLike | GroupedRows, noise: NoiseSource
) -> dict[str, FloatArray]:
    """A regression's release: a Gaussian mechanism of `mechanism.noise_multiplier`, patients as unit.

    Args:
      records: the private matrix [N, 2 + C]; N may be 0.
      noise: a fresh source; drawing of records and noise take children of it.

    Returns:
      float64, p the inputs of `policies.schema.design`: `start` [p], coefficients of scaled inputs before the last
      step; `turn` [p, p], what turns inputs; `score` [p] and `information` [p, p] there, of turned inputs; `squares`
      [1], of residuals there, and 0 but for a linear regression; `patients` [1]; `noise` [3], standard errors of a
      number of `score`, of `information` on its diagonal (1/√2 of it elsewhere) and of `squares`. For a sum over
      hospitals what is made of these, of `summed_regression.regression_numbers`, on its grid and not masked yet.

    Raises:
      UnsupportedMechanism: mechanism and schema do not go together, decided before `records` is looked at.
    """
    design = design_of(mechanism, schema)
    if mechanism.noise_multiplier is None:
        raise UnsupportedMechanism("This regression has no noise multiplier yet. Pass it through `resolve` first.")
    multipliers = {name: mechanism.noise_multiplier / math.sqrt(share) for name, share in parts_of(mechanism)}
    chosen = one_of_each(
        schema, np.asarray(records, dtype=np.float64), design.columns, noise.child("records"), mechanism.where
    )
    sums = _Sums(design, multipliers, chosen, noise)
    known = _beginning(design, sums)
    released = _newton(mechanism, design, sums, known)
    return released if mechanism.secure_aggregation is None else weighed(mechanism, schema, released)


@dataclass(frozen=True, repr=False)
class _Sums:
    """Noisy sums over one record of each patient."""

    design: Design
    multipliers: dict[str, float]
    chosen: FloatArray
    noise: NoiseSource

    def of(
        self, name: str, made: Rows, turn: FloatArray, norm: float, *, size: int, squares: bool
    ) -> tuple[FloatArray, Bounded]:
        """One sum with its noise, over rows at most `norm` long, and what is public of it."""
        bounded = Bounded(size, norm, self.multipliers[name], squares)
        return noisy_sum(bounded, self._rows(made, turn), self.noise.child(name)), bounded

    def _rows(self, made: Rows, turn: FloatArray) -> Iterator[FloatArray]:
        for begin in range(0, len(self.chosen), _ROWS_AT_ONCE):
            records = self.chosen[begin : begin + _ROWS_AT_ONCE]
            inputs = self.design.inputs(records)
            yield made(inputs @ turn.T, inputs, self.design.outcomes(records))


@dataclass(frozen=True)
class _Known:
    """What sums so far have told: public.

    Args:
      patients: about how many.
      middle: mean inputs.
      turn: makes turned inputs of inputs.
      bound: C, of turned inputs.
      fit: least squares of the outcome in [-1, 1] (in [0, 1] of counts), coefficients of inputs.
      spread: standard deviation about it.
    """

    patients: float
    middle: FloatArray
    turn: FloatArray
    bound: float
    fit: FloatArray
    spread: float


def _beginning(design: Design, sums: _Sums) -> _Known:
    """Turn inputs and fit least squares, from two sums of squares."""
    size = len(design.names)
    known = _Known(1.0, np.eye(size)[0], np.eye(size), design.norm, np.zeros(size), math.inf)
    for number in (1, 2):
        known = _improved(design, sums, known, number)
    return known


def _improved(design: Design, sums: _Sums, known: _Known, number: int) -> _Known:
    first, size = number == 1, len(known.fit)
    far = 1.0 if first else FAR * known.spread
    beside = 1.0 if first else math.sqrt(size) / 2  # how much of a row's length its residual may have

    def made(turned: FloatArray, inputs: FloatArray, outcomes: FloatArray) -> FloatArray:
        weights = np.minimum(1.0, known.bound**2 / np.maximum(_squared(turned), 1e-300))
        residuals = np.clip((_between(design, outcomes) - inputs @ known.fit) / far, -1, 1)
        return np.asarray(np.sqrt(weights)[:, None] * np.column_stack([turned, beside * residuals]))

    norm = math.hypot(known.bound, beside)
    noisy, bounded = sums.of(f"moments {number}", made, known.turn, norm, size=size + 1, squares=True)
    least = 0.7 * bounded.error * math.sqrt(2 * size)  # about where eigenvalues of pure noise end
    values, vectors = np.linalg.eigh(noisy[:size, :size])
    values = np.maximum(values, least)
    step = vectors @ ((vectors.T @ noisy[:size, size]) / values)
    residual = np.r_[step, -1.0]
    squares = max(float(residual @ noisy @ residual), 2 * bounded.error) * (far / beside) ** 2
    patients = max(float(noisy[0, 0]), 10.0) if first else known.patients
    middle = noisy[:size, 0] / patients if first else known.middle
    turn = (vectors / np.sqrt(values / patients)) @ vectors.T
    return _Known(
        patients=patients,
        middle=np.r_[1.0, np.clip(middle[1:], -1, 1)],
        turn=turn @ known.turn,
        bound=math.sqrt(ROOM * size),
        fit=known.fit + known.turn.T @ step * (far / beside),
        spread=min(math.sqrt(squares / patients), 2.0 / FAR),
    )


def _between(design: Design, outcomes: FloatArray) -> FloatArray:
    """Outcomes of any family in [-1, 1]."""
    if design.outcome.family == "gaussian":
        return outcomes
    return np.asarray(outcomes / design.outcome.high)


def _newton(mechanism: Regression, design: Design, sums: _Sums, known: _Known) -> dict[str, FloatArray]:
    steps, size = len(STEPS[mechanism.family]), len(known.fit)
    link = _link(design, known)
    coefficients, released = link.start, dict[str, FloatArray]()
    for number in range(1, steps + 1):
        at = _At(link, known, coefficients)
        length = known.bound * link.far * math.hypot(1.0, link.squared)
        score, of_score = sums.of(f"score {number}", at.score, known.turn, length, size=size + 1, squares=False)
        information, of_information = sums.of(
            f"information {number}", at.root, known.turn, known.bound * math.sqrt(link.weight), size=size, squares=True
        )
        per_square = link.far / (link.squared * known.bound) if link.squared else 0.0
        released = {
            "start": coefficients,
            "turn": known.turn,
            "score": score[:size],
            "information": information,
            "squares": score[size:] * per_square,
            "patients": np.array([known.patients]),
            "noise": np.array([of_score.error, of_information.error, of_score.error * per_square]),
        }
        coefficients = _stepped(coefficients, known, score[:size], information, of_information.error)
    return released


@dataclass(frozen=True)
class _Link:
    """What a family has of its own.

    Args:
      start: coefficients to begin at.
      mean: the expected outcome at linear predictions, bounded.
      slope: its derivative there, from the mean: the weight of a record's information.
      far: the largest residual, to which longer ones are held.
      weight: to which slopes are held, with a record's weight.
      squared: of the score's norm, the part beside it that the squared residual has.
    """

    start: FloatArray
    mean: Callable[[FloatArray], FloatArray]
    slope: Callable[[FloatArray], FloatArray]
    far: float
    weight: float
    squared: float = 0.0


def _link(design: Design, known: _Known) -> _Link:
    family, most = design.outcome.family, design.outcome.high
    if family == "gaussian":
        return _Link(known.fit, lambda linear: linear, np.ones_like, FAR * known.spread, 1.0, SQUARED)
    share = min(max(float(known.fit @ known.middle), LEAST_MEAN), 1.0)
    if family == "binomial":
        share = min(share, 1 - LEAST_MEAN)
        start = _begun(known, 1 / (share * (1 - share)), math.log(share / (1 - share)))
        return _Link(start, _logistic, lambda mean: mean * (1 - mean), 1.0, 0.25)
    largest = math.log(max(most, 1.0))
    start = _begun(known, 1 / share, math.log(share * most))
    return _Link(
        start,
        lambda linear: np.asarray(np.exp(np.clip(linear, -LARGEST_LINEAR, largest))),
        lambda mean: mean,
        most,
        min(most, max(2 * share * most, 0.1)),
    )


def _begun(known: _Known, slope: float, level: float) -> FloatArray:
    """Coefficients by a link's slope at the mean outcome, through its level at the mean inputs; none of them wild."""
    start = np.r_[0.0, known.fit[1:] * slope]
    spread = np.linalg.solve(known.turn.T, start - np.eye(len(start))[0] * (start @ known.middle))
    held = start * min(1.0, FARTHEST / max(float(np.sqrt(spread @ spread)), FARTHEST))
    return np.asarray(np.r_[level - float(held @ known.middle), held[1:]])


def _logistic(linear: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-np.clip(linear, -LARGEST_LINEAR, LARGEST_LINEAR))))


@dataclass(frozen=True)
class _At:
    """What is summed at some coefficients. Weights are made of inputs alone."""

    link: _Link
    known: _Known
    coefficients: FloatArray = field(repr=False)

    def score(self, turned: FloatArray, inputs: FloatArray, outcomes: FloatArray) -> FloatArray:
        """Of each record its score and its squared residual."""
        mean = self.link.mean(inputs @ self.coefficients)
        residuals = np.clip(outcomes - mean, -self.link.far, self.link.far)
        squares = residuals**2 * (self.link.squared * self.known.bound / self.link.far)
        return np.column_stack([turned * (self._weights(turned, mean) * residuals)[:, None], squares])

    def root(self, turned: FloatArray, inputs: FloatArray, outcomes: FloatArray) -> FloatArray:
        """Of each record a row whose square is its information."""
        mean = self.link.mean(inputs @ self.coefficients)
        return np.asarray(turned * np.sqrt(self._weights(turned, mean) * self.link.slope(mean))[:, None])

    def _weights(self, turned: FloatArray, mean: FloatArray) -> FloatArray:
        squared, slopes = np.maximum(_squared(turned), 1e-300), np.maximum(self.link.slope(mean), 1e-300)
        bound = self.known.bound
        by_length, by_slope = bound / np.sqrt(squared), bound**2 * self.link.weight / (squared * slopes)
        return np.asarray(np.minimum(1.0, np.minimum(by_length, by_slope)))


def _squared(rows: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("ij,ij->i", rows, rows))


def _stepped(
    coefficients: FloatArray, known: _Known, score: FloatArray, information: FloatArray, error: float
) -> FloatArray:
    """The next coefficients: a step of bounded length, and short where noise is all that there is."""
    values, vectors = np.linalg.eigh(information)
    step = vectors @ ((vectors.T @ score) / np.maximum(values, error * math.sqrt(2 * len(score))))
    length = float(np.sqrt(step @ step))
    return np.asarray(coefficients + known.turn.T @ step * min(1.0, FARTHEST / max(length, FARTHEST)))
