"""From a regression's noisy sums to coefficients with standard errors, in the units of the columns.

Everything here is arithmetic on releases and public numbers. A release is what a Newton step from b₀ is made of, for
inputs turned by T: score g with noise of deviation σ_g, information H with noise N_H of σ_H on its diagonal and 1/√2 of
it elsewhere. With the step d = H⁻¹ g the coefficients are b = b₀ + Tᵀ d, and but for a remainder of second order

    T⁻ᵀ (b - β) = H⁻¹ (score at β + noise of g - N_H d),

of covariance H⁻¹ (φ H + σ_g² I + σ_H²/2 (|d|² I + d dᵀ)) H⁻¹: sampling and noise (Avella-Medina, Bradshaw and Loh
2023, arXiv:2103.11003, keep the first two). φ is the variance of an outcome over what its family says: of a linear
regression that of residuals as released, else 1: counts are taken to vary as Poisson's do. Noise does not shrink
coefficients as errors in single values do: it is added to sums.

What is told. Where noise is as large as what it was added to, H⁻¹ is no inverse of anything. Nothing is said, and
intervals are infinite, unless the least eigenvalue of H is above `CLEAR` of the largest that its noise has by itself,
and the last step was short enough for a remainder of second order to be small.
tests/researcher/test_coefficients.py counts how often intervals hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from policies.privacy.regression import Regression
from policies.schema.design import Design
from researcher.chances import normal_tails
from researcher.figures import NORMAL_95, FloatArray

CLEAR = 1.5  # times σ_H √(2 p), at which the eigenvalues of pure noise end (Wigner's semicircle)
LONGEST_STEP = 1.5  # root mean square of what the last step adds to a linear prediction
SHARPEST = 0.15  # of a Poisson regression, root mean square of a prediction's error: its link bends most


@dataclass(frozen=True)
class Coefficient:
    """One coefficient, in the units of its column.

    Args:
      value: NaN where noise hides it.
      noise_error, sampling_error: standard errors; infinite where noise hides it.
      ratio: what e to its power is called: "odds ratio", "rate ratio"; "" of a linear regression.
    """

    name: str
    value: float
    noise_error: float
    sampling_error: float
    ratio: str = ""

    @property
    def error(self) -> float:
        """Standard error from noise and sampling together."""
        return math.hypot(self.noise_error, self.sampling_error)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval."""
        if not math.isfinite(self.value):
            return -math.inf, math.inf
        return self.value - NORMAL_95 * self.error, self.value + NORMAL_95 * self.error

    @property
    def p_value(self) -> float:
        """Of the hypothesis that it is 0, with noise and sampling; 1 where noise hides it."""
        return normal_tails(self.value / self.error) if math.isfinite(self.value) else 1.0

    @property
    def exponent(self) -> tuple[float, float, float]:
        """e to the coefficient, the odds or rate ratio of one unit more, with its 95 % interval."""
        low, high = self.interval
        return _exp(self.value), _exp(low), _exp(high)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


@dataclass(frozen=True, eq=False)
class Fit:
    """Coefficients of scaled inputs with covariances; empty where noise hides them.

    Args:
      names: of the coefficients.
      values: [p], in the units of the columns.
      noise, sampling: covariances [p, p] of both kinds of error, in these units.
      residual: standard deviation of the outcome about the line; of a linear regression.
    """

    names: tuple[str, ...]
    values: FloatArray
    noise: FloatArray
    sampling: FloatArray
    residual: float | None = None

    @property
    def told(self) -> bool:
        """Whether anything is said."""
        return bool(np.isfinite(self.values).all())

    def coefficients(self, ratio: str = "") -> dict[str, Coefficient]:
        """Each coefficient, by name."""
        noise, sampling = (np.sqrt(np.maximum(np.diag(part), 0.0)) for part in (self.noise, self.sampling))
        return {
            name: Coefficient(name, float(self.values[place]), float(noise[place]), float(sampling[place]), ratio)
            for place, name in enumerate(self.names)
        }


def fit_of(mechanism: Regression, design: Design, released: Mapping[str, FloatArray]) -> Fit:
    """The fit of one hospital's release."""
    information, score, turn = released["information"], released["score"], released["turn"]
    of_score, of_information, of_squares = released["noise"].tolist()
    if not is_clear(information, of_information):
        return hidden(design)
    inverse = np.linalg.inv(information)
    step = inverse @ score
    noise = of_score**2 * np.eye(len(step)) + moved_by_squares(step, of_information)
    variance = _variance(mechanism, released, of_squares)
    scaled = _Parts(inverse @ noise @ inverse, inverse * variance)
    if mechanism.family != "gaussian" and not _is_near(mechanism, step, scaled):
        return hidden(design)
    scale = design.outcome.scale
    turned = design.to_units @ turn.T * scale.half
    values = design.to_units @ (released["start"] + turn.T @ step) * scale.half
    values[0] += scale.middle
    residual = math.sqrt(variance) * scale.half if mechanism.family == "gaussian" else None
    return Fit(design.names, values, turned @ scaled.noise @ turned.T, turned @ scaled.sampling @ turned.T, residual)


@dataclass(frozen=True, eq=False)
class _Parts:
    """Covariances of turned coefficients."""

    noise: FloatArray
    sampling: FloatArray


def _variance(mechanism: Regression, released: Mapping[str, FloatArray], error: float) -> float:
    """Of an outcome over what its family says. Squares that noise has near 0 are taken to be as large as that noise."""
    if mechanism.family != "gaussian":
        return 1.0
    squares = max(float(released["squares"][0]), error)
    return squares / max(float(released["patients"][0]) - len(released["start"]), 1.0)


def _is_near(mechanism: Regression, step: FloatArray, scaled: _Parts) -> bool:
    """Whether the last step began so near that what it leaves is small beside the errors that are stated."""
    if float(np.sqrt(step @ step)) > LONGEST_STEP:
        return False
    spread = math.sqrt(float(np.trace(scaled.noise + scaled.sampling)))
    return mechanism.family != "poisson" or spread <= SHARPEST


def is_clear(information: FloatArray, deviation: float) -> bool:
    """Whether an information is told from its noise in every direction."""
    least = float(np.linalg.eigvalsh(information)[0])
    return least > CLEAR * math.sqrt(2 * len(information)) * deviation


def moved_by_squares(vector: FloatArray, deviation: float) -> FloatArray:
    """Covariance of N v of symmetric noise N, of `deviation` on the diagonal and 1/√2 of it elsewhere."""
    return np.asarray(deviation**2 / 2 * (vector @ vector * np.eye(len(vector)) + np.outer(vector, vector)))


def hidden(design: Design) -> Fit:
    """What is said where noise is as large as what it was added to."""
    size = len(design.names)
    infinite = np.diag(np.full(size, math.inf))
    return Fit(design.names, np.full(size, math.nan), infinite, infinite)


def together(fits: Sequence[Fit]) -> Fit:
    """One fit of several hospitals', each weighed by its precision; of those that say something."""
    told = [fit for fit in fits if fit.told]
    if not told:
        return fits[0]
    weights = [np.linalg.inv(fit.noise + fit.sampling) for fit in told]
    inverse = np.linalg.inv(np.sum(weights, axis=0))
    shares = [inverse @ weight for weight in weights]
    return Fit(
        told[0].names,
        np.sum([share @ fit.values for share, fit in zip(shares, told, strict=True)], axis=0),
        np.sum([share @ fit.noise @ share.T for share, fit in zip(shares, told, strict=True)], axis=0),
        np.sum([share @ fit.sampling @ share.T for share, fit in zip(shares, told, strict=True)], axis=0),
        None if told[0].residual is None else float(np.mean([fit.residual for fit in told if fit.residual])),
    )
