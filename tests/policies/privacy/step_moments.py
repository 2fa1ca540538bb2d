"""What a step of training under parts of a shared noise costs, by its moments: what prices are held against."""

from __future__ import annotations

import math
from fractions import Fraction

from policies.privacy.checks import check_range
from policies.privacy.shared_noise import divisibility_error


def rounded_sensitivity(clipping: float, numbers: int) -> float:
    """Δ of a patient's `numbers` numbers that are held to `clipping` grid steps in L2, and each then rounded."""
    check_range("clipping", clipping, 0, 2.0**40, open_low=True)
    check_range("numbers", numbers, 1, 2**40, whole=True)
    return clipping + math.sqrt(numbers) / 2


def step_divergence(
    variance: Fraction, *, honest: int, parts: int, order: int, sensitivity: float, numbers: int, sampling_rate: float
) -> float:
    """Rényi divergence in nats of one step under the parts of so many honest hospitals, both ways, from above.

    Args:
      variance: V of the whole, in grid steps², which `parts` of them make.
      honest: who keep their part to themselves: t - k as assumed, and 1 if not.
      parts: t - k.
      order: a whole number, 2 to 512.
      sensitivity: Δ in grid steps, rounding included (`rounded_sensitivity`).
      numbers: d.
      sampling_rate: q in (0, 1], a patient's chance to take part.
    """
    check_range("order", order, 2, 512, whole=True)
    check_range("honest", honest, 1, parts, whole=True)
    check_range("sensitivity", sensitivity, 0, 2.0**41)
    check_range("numbers", numbers, 1, 2**40, whole=True)
    check_range("sampling_rate", sampling_rate, 0, 1, open_low=True)
    whole = Fraction(variance) * honest / parts
    error = divisibility_error(whole, honest) * numbers * (2 * order - 1) / (order - 1)
    each = float(sensitivity) ** 2 / (2 * float(whole))
    logs = [
        math.lgamma(order + 1) - math.lgamma(j + 1) - math.lgamma(order - j + 1)
        + (order - j) * (math.log1p(-sampling_rate) if sampling_rate < 1 else -math.inf if j < order else 0.0)
        + j * math.log(sampling_rate) + (j * j - j) * each
        for j in range(order + 1)
        if sampling_rate < 1 or j == order
    ]  # fmt: skip
    top = max(logs)
    moment = top + math.log(math.fsum(math.exp(log - top) for log in logs))
    return max(0.0, moment) / (order - 1) + error + 1e-9  # of floats: far more than logarithms are off by
