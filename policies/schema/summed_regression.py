"""Regressions that leave as sums over hospitals: each one's coefficients, weighed by how sure they are.

Hospitals turn inputs by what their own noisy sums told, so these sums mean nothing together. What is made of them does:
in coefficients b of scaled inputs, of covariance N + S (noise and sampling, `regression_fits`), a hospital adds

    W = (N + S)⁻¹,   W b   and   W N W,

and with the sums over hospitals Σ W, Σ W b and Σ W N W the fit of all of them is b̂ = (Σ W)⁻¹ Σ W b, of covariance
(Σ W)⁻¹, of which (Σ W)⁻¹ (Σ W N W) (Σ W)⁻¹ is noise: the fit of `researcher.coefficients.together`, which weighs
hospitals by precision, without anybody's own. It is made of a release's noisy sums and public numbers alone, so that
nothing more is charged; noise is each hospital's own and whole. Of a hospital whose noise hides every coefficient W is
0; how many are not hidden is summed, too, and of a linear regression the deviations of residuals.

On the grid. Precisions reach over more orders of magnitude than a word of 32 bits: each number is a whole number of
steps that is split into a coarse word and 24 bits of a fine one, both of which add up. The step is the power of two
2^46 of which are more than the precision that any number of patients in the roster has, with residuals that deviate by
no less than `LEAST_DEVIATION` of half the outcome's range; less is taken to be that, which only widens errors. A
hospital whose numbers still reach beyond is weighed less, never held to a bound number by number: that would turn its
coefficients. Rounding is counted as noise.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.canonical import canonical
from policies.errors import UnsupportedMechanism, WeightsRefused
from policies.privacy.regression import Regression
from policies.privacy.secure_aggregation import SecureAggregation
from policies.schema.columns import FloatArray
from policies.schema.design import design_of
from policies.schema.filters import condition_sentences
from policies.schema.regression_fits import last_step
from policies.schema.schemas import Schema
from policies.schema.summed_statistics import SummedNumbers

PRECISION, WEIGHTED, NOISE = "precision", "weighted", "noise"  # W, W b and W N W
TOLD, RESIDUAL = "told", "residual"
FINE = "fine"
LEAST_DEVIATION = 2.0**-10
_FINE_UNITS = 2.0**24  # a hundred hospitals' fine words fit a word
_REACH = 2.0**46  # steps in the largest precision that is expected
_MOST = 2.0**50  # steps of one number: sums over a hundred hospitals are exact in float64, and products of them near
_RESIDUAL_STEP, _LARGEST_RESIDUAL = 2.0**-20, 4.0


@dataclass(frozen=True, eq=False)
class SummedFit:
    """The fit of all hospitals in a sum, in coefficients of scaled inputs.

    Args:
      values: [p].
      noise, sampling: covariances [p, p] of both kinds of error; rounding is in `noise`.
      residual: mean over hospitals of the deviation of scaled residuals; of a linear regression.
    """

    values: FloatArray
    noise: FloatArray
    sampling: FloatArray
    residual: float | None


def regression_numbers(mechanism: Regression, schema: Schema) -> dict[str, SummedNumbers]:
    """Every tensor of a regression's release in sums, by name. Raises `UnsupportedMechanism`."""
    size, step = len(design_of(mechanism, schema).names), _step(mechanism, schema)
    numbers: dict[str, SummedNumbers] = {}
    for name, shape in ((PRECISION, (size, size)), (WEIGHTED, (size,)), (NOISE, (size, size))):
        numbers[name] = SummedNumbers(shape, step * _FINE_UNITS)
        numbers[f"{name}/{FINE}"] = SummedNumbers(shape, step)
    return {**numbers, TOLD: SummedNumbers((1,), 1.0), RESIDUAL: SummedNumbers((1,), _RESIDUAL_STEP)}


def regression_digest(mechanism: Regression, schema: Schema) -> str:
    """Hex digest of what every number of such a release means: steps, shapes, inputs, outcome, bounds and condition."""
    design = design_of(mechanism, schema)
    facts = {
        "numbers": {
            name: [list(part.shape), part.step] for name, part in regression_numbers(mechanism, schema).items()
        },
        "inputs": list(design.names),
        "terms": [str(term) for term in design.terms],
        "columns": [schema.column(name).meaning for name in design.columns],
        "outcome": [design.outcome.column.name, mechanism.family, design.outcome.low, design.outcome.high],
        "condition": condition_sentences(mechanism.where, schema),
    }
    return hashlib.sha256(canonical(facts)).hexdigest()


def weighed(mechanism: Regression, schema: Schema, released: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """What one hospital adds, on the grid: tensors of `regression_numbers`, made of its release alone.

    Args:
      released: what it would release by itself, of `policies.schema.design.sum_shapes`.
    """
    numbers = regression_numbers(mechanism, schema)
    none = {name: np.zeros(part.shape) for name, part in numbers.items()}
    found = last_step(mechanism, released)
    if found is None:
        return none
    least = LEAST_DEVIATION**2 / found.variance if mechanism.family == "gaussian" else 1.0
    unturned = np.linalg.inv(found.turn)
    inverse = np.linalg.inv(found.noise + found.sampling * max(1.0, least))
    precision = _even(unturned @ inverse @ unturned.T)
    of_noise = _even(unturned @ inverse @ found.noise @ inverse @ unturned.T)
    weighted = precision @ (found.start + found.turn.T @ found.step)
    whole = {PRECISION: precision, WEIGHTED: weighted, NOISE: of_noise}
    largest = max(float(np.abs(value).max()) for value in whole.values())
    if not math.isfinite(largest):
        return none
    step = numbers[f"{PRECISION}/{FINE}"].step
    less = min(1.0, _most_units(_declared(mechanism)) * step / largest)
    split = {name: _split(value * less, step) for name, value in whole.items()}
    residual = min(math.sqrt(found.variance), _LARGEST_RESIDUAL) if mechanism.family == "gaussian" else 0.0
    return {
        **{name: coarse for name, (coarse, _) in split.items()},
        **{f"{name}/{FINE}": fine for name, (_, fine) in split.items()},
        TOLD: np.ones(1),
        RESIDUAL: np.array([np.rint(residual / _RESIDUAL_STEP) * _RESIDUAL_STEP]),
    }


def told_in(sums: Mapping[str, npt.ArrayLike]) -> int:
    """Of how many hospitals something is in a sum: noise hides every coefficient of the others."""
    return int(np.asarray(sums[TOLD]).reshape(-1)[0])


def check_sums(sums: Mapping[str, npt.ArrayLike], mechanism: Regression, schema: Schema) -> None:
    """Raise `WeightsRefused` where an opened sum is none that hospitals' regressions come to."""
    hospitals = len(_declared(mechanism).hospitals)
    for name, part in regression_numbers(mechanism, schema).items():
        shape = np.shape(sums.get(name, ()))
        if shape != part.shape or not np.isfinite(np.asarray(sums[name])).all():
            raise WeightsRefused(
                f"{name} of the sum has shape {shape}, wanted {part.shape} and finite numbers. Ask for it anew."
            )
    if not 0 <= told_in(sums) <= hospitals:
        raise WeightsRefused(
            f"told={told_in(sums)} of the sum is outside [0, {hospitals}], its hospitals: one of them has sent wrong"
            " numbers. Tell the hospitals' owners."
        )
    for name in (PRECISION, NOISE):
        if not np.array_equal(whole := _joined(sums, name), whole.T) or float(np.diag(whole).min()) < 0:
            raise WeightsRefused(
                f"{name} of the sum is not symmetric with a diagonal of 0 or more, as sums of squares are: a hospital"
                " has sent wrong numbers. Tell the hospitals' owners."
            )


def fit_of_sums(sums: Mapping[str, npt.ArrayLike], mechanism: Regression, schema: Schema) -> SummedFit | None:
    """The fit of all hospitals in an opened sum; None where noise hides every coefficient of each.

    Args:
      sums: of `regression_numbers`, as `check_sums` lets them through.
    """
    declared, step = _declared(mechanism), _step(mechanism, schema)
    precision, weighted, of_noise = (_joined(sums, name) for name in (PRECISION, WEIGHTED, NOISE))
    size, hospitals, told = len(weighted), len(declared.hospitals), told_in(sums)
    # Eigenvalues that rounding alone may have: half a step in each number of each hospital.
    if told == 0 or float(np.linalg.eigvalsh(precision)[0]) <= hospitals * step * size:
        return None
    inverse = np.linalg.inv(precision)
    values = inverse @ weighted
    # What rounding does to W b - W b̂, number by number uniform within half a step, W's symmetric.
    rounded = hospitals * step**2 / 12 * ((1 + values @ values) * np.eye(size) + np.outer(values, values))
    noise = inverse @ (of_noise + rounded) @ inverse
    sampling = inverse @ (precision - of_noise) @ inverse
    residual = float(np.asarray(sums[RESIDUAL]).reshape(-1)[0]) / told if mechanism.family == "gaussian" else None
    return SummedFit(values, noise, sampling, residual)


def _declared(mechanism: Regression) -> SecureAggregation:
    if mechanism.secure_aggregation is None:
        raise UnsupportedMechanism("This regression is released by each hospital. Ask with secure_aggregation=True.")
    return mechanism.secure_aggregation


def _step(mechanism: Regression, schema: Schema) -> float:
    """The power of two 2^46 of which are above the precision of a hospital's coefficients, with room.

    A hospital has about as many patients as the roster says of those it trains on, which are half of them or more; each
    has a row of inputs in [-1, 1] of a weight of at most 1, and a link's slope there.
    """
    family = mechanism.family
    slope = max(1.0, design_of(mechanism, schema).outcome.high) if family == "poisson" else 1.0
    variance = LEAST_DEVIATION**2 if family == "gaussian" else 1.0
    reach = 4.0 * _declared(mechanism).most_patients * slope / variance
    return math.ldexp(1.0, math.ceil(math.log2(reach / _REACH)))


def _most_units(declared: SecureAggregation) -> float:
    """Steps that one number of a hospital may come to: its coarse word fits its part of one."""
    return min(_MOST, (declared.largest - 1) * _FINE_UNITS)


def _split(values: FloatArray, step: float) -> tuple[FloatArray, FloatArray]:
    """Numbers as multiples of a coarse step and of a fine one, the second from 0."""
    units = np.rint(values / step)
    coarse = np.floor(units / _FINE_UNITS)
    return coarse * (step * _FINE_UNITS), (units - coarse * _FINE_UNITS) * step


def _joined(sums: Mapping[str, npt.ArrayLike], name: str) -> FloatArray:
    return np.asarray(sums[name], dtype=np.float64) + np.asarray(sums[f"{name}/{FINE}"], dtype=np.float64)


def _even(matrix: FloatArray) -> FloatArray:
    """Symmetric to the bit."""
    return np.asarray((matrix + matrix.T) / 2)
