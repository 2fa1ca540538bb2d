"""From a regression's noisy sums to coefficients with standard errors, in the units of the columns.

Everything here is arithmetic on releases and public numbers: what one release says of scaled inputs
(`policies.schema.regression_fits`), or the sum of several hospitals (`policies.schema.summed_regression`), said in the
units of the columns; and several hospitals together, each weighed by its precision. Where noise hides a hospital's
coefficients nothing is said, and intervals are infinite.
tests/researcher/test_coefficients.py counts how often intervals hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from policies.privacy.regression import Regression
from policies.schema.design import Design, design_of
from policies.schema.regression_fits import last_step
from policies.schema.schemas import Schema
from policies.schema.summed_regression import fit_of_sums
from researcher.chances import normal_tails
from researcher.figures import NORMAL_95, FloatArray


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
    found = last_step(mechanism, released)
    if found is None:
        return hidden(design)
    scale = design.outcome.scale
    turned = design.to_units @ found.turn.T * scale.half
    values = design.to_units @ (found.start + found.turn.T @ found.step) * scale.half
    values[0] += scale.middle
    residual = math.sqrt(found.variance) * scale.half if mechanism.family == "gaussian" else None
    return Fit(design.names, values, turned @ found.noise @ turned.T, turned @ found.sampling @ turned.T, residual)


def fit_in_sum(mechanism: Regression, schema: Schema, sums: Mapping[str, FloatArray]) -> Fit:
    """The fit of all hospitals whose sum was opened, each weighed by its precision: as `together`, but of no one's."""
    design, found = design_of(mechanism, schema), fit_of_sums(sums, mechanism, schema)
    if found is None:
        return hidden(design)
    scale = design.outcome.scale
    units = design.to_units * scale.half
    values = units @ found.values
    values[0] += scale.middle
    residual = None if found.residual is None else found.residual * scale.half
    return Fit(design.names, values, units @ found.noise @ units.T, units @ found.sampling @ units.T, residual)


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
