"""Goodness of fit: how unlikely noise that was drawn is under the distribution that was declared."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2, chisquare, kstest, norm

from tests.proof.attacker import flat
from tests.proof.cases import known_keys, release
from tests.proof.mechanisms.dp_sgd import CLIPPING_NORM, WIDE, sgd
from tests.proof.neighbours import PUBLISHED, crowd, loud

FloatArray = npt.NDArray[np.float64]

FALSE_ALARM = 1e-6  # of one p-value; with fixed keys it comes always or never


def released_noise(*, seed: str) -> FloatArray:
    """The noise of a step over nobody, in deviations, as it can be read from the 20,481 released weights."""
    mechanism = sgd(noise_multiplier=4.0, learning_rate=100.0)
    with known_keys(seed):
        after = flat(release(mechanism, crowd(0), loud(WIDE), WIDE, PUBLISHED))
    unit = mechanism.learning_rate * CLIPPING_NORM * 4.0 / PUBLISHED
    return np.asarray((flat(loud(WIDE)) - after) / unit)


def gaussian_p_values(deviations: FloatArray) -> dict[str, float]:
    """p-values of standard Gaussian noise: of its size, its shape, and neighbours' independence."""
    count = len(deviations)
    size = float((deviations**2).sum())
    products = float((deviations[1:] * deviations[:-1]).sum()) / math.sqrt(count - 1)  # nearly a standard Gaussian
    return {
        "size": 2 * min(float(chi2.cdf(size, count)), float(chi2.sf(size, count))),
        "shape": float(kstest(deviations, "norm").pvalue),
        "independence": 2 * float(norm.sf(abs(products))),
    }


def laplace_p_value(drawn: npt.NDArray[np.int64], epsilon: float) -> float:
    """p-value of whole numbers with chances tanh(ε/2) e^{-ε|k|}, by chi-square over cells that expect 20 or more."""
    reach = max(1, int(math.log(len(drawn) * math.tanh(epsilon / 2) / 20) / epsilon))
    inner = np.arange(-reach, reach + 1)
    chances = math.tanh(epsilon / 2) * np.exp(-epsilon * np.abs(inner))
    tail = (1 - chances.sum()) / 2
    seen = np.bincount(np.clip(drawn, -reach - 1, reach + 1) + reach + 1, minlength=2 * reach + 3)
    return float(chisquare(seen, np.r_[tail, chances, tail] * len(drawn)).pvalue)


def power_of_size(count: int, factor: float) -> float:
    """The power of the test of size against noise `factor` times as large as declared."""
    low, high = chi2.ppf(FALSE_ALARM / 2, count), chi2.isf(FALSE_ALARM / 2, count)
    return float(chi2.cdf(low / factor**2, count) + chi2.sf(high / factor**2, count))
