"""How well anybody may tell neighbours apart by what a declared mechanism releases: its trade-off curve.

The curve comes from the mechanism's privacy loss distribution (Koskela et al. 2020, arXiv:1906.03049; Google's
`dp-accounting`). A single (ε, δ) would be far too weak a null: at δ = 1e-5 it forbids nothing that a few thousand
trials could see, not even half of the noise (`tests/proof/test_power.py` has the numbers).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from dp_accounting.pld import privacy_loss_distribution as distributions

from policies.privacy.accountant import epsilon_of
from policies.privacy.draws import parts_of
from policies.privacy.mechanisms import DPSGD, Evaluation, Mechanism, Statistics

FloatArray = npt.NDArray[np.float64]

EPSILONS = np.r_[np.arange(-20.0, 20.0, 0.02), np.arange(20.0, 130.0, 0.5)]
INTERVAL = 1e-3  # of losses; rounded up, so that the curve allows too much rather than too little
_FEW = 16
COARSE_INTERVAL = 1e-2  # where noise is so small that losses run to a hundred


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


@lru_cache(maxsize=64)
def curve_of(mechanism: Mechanism, *, rounds: int | None = None) -> Curve:
    """The curve of all rounds of a mechanism together (or of `rounds` of them), as `policies` declares it."""
    releases = mechanism.rounds if rounds is None else rounds
    loss = _one_release(mechanism).self_compose(releases)
    # dp-accounting tells both directions apart only in its private fields.
    return Curve(
        np.asarray(loss._pmf_remove.get_delta_for_epsilon(EPSILONS)),
        np.asarray(loss._pmf_add.get_delta_for_epsilon(EPSILONS)),
    )


def stated(mechanism: Mechanism) -> tuple[float, float]:
    """(ε, δ) as the ledger and the certificate state them for all rounds."""
    delta = mechanism.delta if isinstance(mechanism, DPSGD) else 0.0
    return epsilon_of(mechanism, delta or 1e-9), delta


def _one_release(mechanism: Mechanism) -> Any:
    match mechanism:
        case DPSGD():
            assert mechanism.noise_multiplier is not None
            step = distributions.from_gaussian_mechanism(
                mechanism.noise_multiplier,
                value_discretization_interval=INTERVAL if mechanism.noise_multiplier >= 0.3 else COARSE_INTERVAL,
                sampling_prob=mechanism.sampling_rate,
            )
            return step.self_compose(mechanism.steps)
        case Evaluation():
            # Whole counts of L1 sensitivity 1 under exact discrete Laplace noise.
            return distributions.from_discrete_laplace_mechanism(
                mechanism.epsilon, value_discretization_interval=INTERVAL
            )
        case Statistics():
            # All records of the one patient are alike, so they move one cell of a table and one node of a level; by
            # groups they may move several by less, which tells less.
            epsilons = parts_of(mechanism)
            interval = INTERVAL / len(epsilons)  # each of them rounds up
            parts = [
                distributions.from_laplace_mechanism(1 / epsilon, value_discretization_interval=interval)
                for epsilon in epsilons
            ]
            whole = parts[0]
            for part in parts[1:]:
                whole = whole.compose(part)
            return whole
