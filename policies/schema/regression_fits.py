"""What the last step of a regression's release says: a step, and how far noise and sampling may have moved it.

Everything here is arithmetic on a release and public numbers. A release is what a Newton step from b₀ is made of, for
inputs turned by T: score g with noise of deviation σ_g, information H with noise N_H of σ_H on its diagonal and 1/√2 of
it elsewhere. With the step d = H⁻¹ g the coefficients are b = b₀ + Tᵀ d, and but for a remainder of second order

    T⁻ᵀ (b - β) = H⁻¹ (score at β + noise of g - N_H d),

of covariance H⁻¹ (φ H + σ_g² I + σ_H²/2 (|d|² I + d dᵀ)) H⁻¹: sampling and noise (Avella-Medina, Bradshaw and Loh
2023, arXiv:2103.11003, keep the first two). φ is the variance of an outcome over what its family says: of a linear
regression that of residuals as released, else 1: counts are taken to vary as Poisson's do. Noise does not shrink
coefficients as errors in single values do: it is added to sums.

What is told. Where noise is as large as what it was added to, H⁻¹ is no inverse of anything. Nothing is said unless the
least eigenvalue of H is above `CLEAR` of the largest that its noise has by itself, and the last step was short enough
for a remainder of second order to be small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from policies.privacy.regression import Regression
from policies.schema.columns import FloatArray

CLEAR = 1.5  # times σ_H √(2 p), at which the eigenvalues of pure noise end (Wigner's semicircle)
LONGEST_STEP = 1.5  # root mean square of what the last step adds to a linear prediction
SHARPEST = 0.15  # of a Poisson regression, root mean square of a prediction's error: its link bends most


@dataclass(frozen=True, eq=False)
class LastStep:
    """The last step of one release, in turned coefficients.

    Args:
      start: [p], coefficients of scaled inputs before it.
      turn: T [p, p].
      step: d [p].
      noise, sampling: covariances [p, p] of both kinds of error in `step`.
      variance: φ.
    """

    start: FloatArray
    turn: FloatArray
    step: FloatArray
    noise: FloatArray
    sampling: FloatArray
    variance: float


def last_step(mechanism: Regression, released: Mapping[str, FloatArray]) -> LastStep | None:
    """What a release says of its coefficients; None where noise hides them.

    Args:
      released: as `policies.schema.design.sum_shapes` names it.
    """
    information, score = released["information"], released["score"]
    of_score, of_information, of_squares = released["noise"].tolist()
    if not is_clear(information, of_information):
        return None
    inverse = np.linalg.inv(information)
    step = inverse @ score
    noise = of_score**2 * np.eye(len(step)) + moved_by_squares(step, of_information)
    variance = _variance(mechanism, released, of_squares)
    found = LastStep(released["start"], released["turn"], step, inverse @ noise @ inverse, inverse * variance, variance)
    if mechanism.family != "gaussian" and not _is_near(mechanism, found):
        return None
    return found


def is_clear(information: FloatArray, deviation: float) -> bool:
    """Whether an information is told from its noise in every direction."""
    least = float(np.linalg.eigvalsh(information)[0])
    return least > CLEAR * math.sqrt(2 * len(information)) * deviation


def moved_by_squares(vector: FloatArray, deviation: float) -> FloatArray:
    """Covariance of N v of symmetric noise N, of `deviation` on the diagonal and 1/√2 of it elsewhere."""
    return np.asarray(deviation**2 / 2 * (vector @ vector * np.eye(len(vector)) + np.outer(vector, vector)))


def _variance(mechanism: Regression, released: Mapping[str, FloatArray], error: float) -> float:
    """Of an outcome over what its family says. Squares that noise has near 0 are taken to be as large as that noise."""
    if mechanism.family != "gaussian":
        return 1.0
    squares = max(float(released["squares"][0]), error)
    return squares / max(float(released["patients"][0]) - len(released["start"]), 1.0)


def _is_near(mechanism: Regression, found: LastStep) -> bool:
    """Whether the last step began so near that what it leaves is small beside the errors that are stated."""
    if float(np.sqrt(found.step @ found.step)) > LONGEST_STEP:
        return False
    spread = math.sqrt(float(np.trace(found.noise + found.sampling)))
    return mechanism.family != "poisson" or spread <= SHARPEST
