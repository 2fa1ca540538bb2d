"""How well anybody may tell neighbours apart by what a declared mechanism releases: its trade-off curve.

The curve comes from the mechanism's privacy loss distribution (Koskela et al. 2020, arXiv:1906.03049; Google's
`dp-accounting`). A single (ε, δ) would be far too weak a null: at δ = 1e-5 it forbids nothing that a few thousand
trials could see, not even half of the noise (`tests/proof/test_power.py` has the numbers).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from policies.privacy.accountant import epsilon_of
from policies.privacy.mechanisms import DPSGD, Mechanism

FloatArray = npt.NDArray[np.float64]

EPSILONS = np.r_[np.arange(-20.0, 20.0, 0.02), np.arange(20.0, 130.0, 0.5)]
INTERVAL = 1e-3  # of losses; rounded up, so that the curve allows too much rather than too little
_FEW = 16


class Curve:
    """The highest power of any test between neighbours at each rate of false alarms.

    An event S that has the chance p without a patient has at most min over ε of e^ε p + δ(ε) with the patient, and the
    other way round; every ε gives a bound, so a grid of them gives a bound.

    Args:
      with_patient: δ(ε) of the table with the patient against the one without, at `EPSILONS`.
      without_patient: δ(ε) the other way round.
    """

    def __init__(self, with_patient: FloatArray, without_patient: FloatArray) -> None:
        self._with_patient, self._without_patient = with_patient, without_patient

    @classmethod
    def of(cls, loss: Any) -> Curve:
        """Of a loss distribution of `dp-accounting`, which tells its two directions apart in private fields alone."""
        return cls(
            np.asarray(loss._pmf_remove.get_delta_for_epsilon(EPSILONS)),
            np.asarray(loss._pmf_add.get_delta_for_epsilon(EPSILONS)),
        )

    def most(self, chance: npt.ArrayLike) -> FloatArray:
        """The largest chance with the patient of what has `chance` without."""
        return _least(chance, self._with_patient)

    def most_without(self, chance: npt.ArrayLike) -> FloatArray:
        """The largest chance without the patient of what has `chance` with."""
        return _least(chance, self._without_patient)

    def delta(self, epsilon: float) -> float:
        """δ at ε, the larger of both directions."""
        return float(max(np.interp(epsilon, EPSILONS, each) for each in (self._with_patient, self._without_patient)))


def _least(chance: npt.ArrayLike, deltas: FloatArray) -> FloatArray:
    chances = np.asarray(chance, dtype=np.float64)
    if chances.size <= _FEW:
        lines = np.exp(EPSILONS)[:, None] * chances.reshape(1, -1) + deltas[:, None]
        return np.asarray(np.minimum(lines.min(0), 1.0).reshape(chances.shape))
    # An ε at a time keeps memory small where many chances are asked for.
    bound = np.ones(chances.shape)
    for factor, delta in zip(np.exp(EPSILONS), deltas, strict=True):
        np.minimum(bound, factor * chances + delta, out=bound)
    return bound


def stated(mechanism: Mechanism) -> tuple[float, float]:
    """(ε, δ) as the ledger and the certificate state them for all rounds."""
    delta = mechanism.delta if isinstance(mechanism, DPSGD) else 0.0
    return epsilon_of(mechanism, delta or 1e-9), delta
