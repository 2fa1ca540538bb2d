"""Noise that parties add in parts, so that the parts of any t honest ones make the whole: whole numbers, drawn exactly.

Under a sum that nobody can open, each of n parties need not add all of the noise. It adds a part, and as long as t of
them add theirs and keep it to themselves, their parts alone are the whole; more parts only add independent noise, which
is post-processing. What is drawn here comes from a source of bits and comparisons of whole numbers: no float is
involved.

**Discrete Laplace in Pólya parts, exactly.** Z with P[Z = z] ∝ a^|z| is G - H of independent geometric variables, and a
geometric variable is the sum of t independent negative binomial (Pólya) ones, NB(1/t, a), since the generating function
((1-a) / (1-az))^r is a power. So a part is the difference of two of NB(1/t, a), and t parts are Z without any error
(generalised discrete Laplace noise; Harrison and Manurangsi 2025, arXiv:2504.05202). Of h honest parties the noise is
the difference of two of NB(r, a), r = h/t.

*What r ≤ 1 still promises.* q(j) of NB(r, a) decreases and is log-convex, so each q(j) q(j+k) is log-convex in k, and
so is their sum P[k] (Hölder); it decreases for k ≥ 0 and is symmetric. With f = log P a shift by d is seen by at most
max |f(k) - f(k+d)| = f(0) - f(d): for k ≥ 0 since f is convex there, and for -d ≤ k ≤ 0 since both lie in [f(d), f(0)].
It is pure ε, wd at r = 1, and grows slowly as r falls: where all others work together, r = 1/t.

*Drawing NB(1/t, 1 - 2^-m).* From 0, m times: k ← k + NB(k + 1/t, 1/2). If k has the generating function
G(z) = (2^-m / (1 - (1 - 2^-m) z))^r, then k + NB(k + r, 1/2) has (2-z)^-r G(z / (2-z)), which is the same with m + 1 in
the place of m. NB(k, 1/2) is failures before k heads of a fair coin, and NB(1/t, 1/2) a geometric variable j of ratio
1/2 that is kept with the rational chance Π_{i ≤ j} (i - 1 + 1/t) / i, in more than half of all tries.

**Discrete Gaussians in parts, nearly.** The sum of t discrete Gaussians of variance v (drawn by Canonne, Kamath and
Steinke 2020, arXiv:2004.00010) is no discrete Gaussian of variance tv, but close: no chance differs by a factor of more
than e^τ, τ = 10 Σ_{k<t} exp(-2π² v k / (k+1)), at v ≥ 1/4 (Kairouz, Liu and Steinke 2021, arXiv:2102.06387, theorem
9). With P the sum, Q the Gaussian, both shifted by the same whole number, P ≤ e^τ Q and P ≥ e^-τ Q give for d numbers

    D_α(P shifted, P) ≤ D_α(Q shifted, Q) + dτ (2α-1) / (α-1) ≤ α Δ² / (2tv) + dτ (2α-1) / (α-1).

At v = 4 τ is below 1e-15 for any t up to 10,000, and it is added all the same.
"""

from __future__ import annotations

import math
import random
from fractions import Fraction
from functools import lru_cache

from policies.privacy.checks import check_range

MOST_PARTIES = 10_000
MOST_HALVINGS = 40
LEAST_VARIANCE = Fraction(1, 4)  # of one part: see the bound
_BLOCK = 1000  # terms of a sum that are bounded together are this small a part of those before
_ROUNDING = 1e-6  # of floats, in nats: far more than logarithms of gamma functions are off by here


# -- discrete Laplace --------------------------------------------------------------------------------------------------


def rate_of(halvings: int) -> float:
    """w of discrete Laplace noise with P[Z = z] ∝ e^(-w|z|): -ln(1 - 2^-halvings).

    >>> round(rate_of(13) * 2**13, 4)
    1.0001
    """
    return -math.log1p(-(2.0**-halvings))


def rate_above(halvings: int) -> Fraction:
    """A fraction no smaller than that rate: x + x²/2 + x³ at x = 2^-halvings, for halvings ≥ 1."""
    step = Fraction(1, 2**halvings)
    return step + step**2 / 2 + step**3


def laplace_part(halvings: int, parties: int, source: random.Random) -> int:
    """One party's part of discrete Laplace noise of the rate `rate_of(halvings)`, which `parties` of them make.

    Args:
      halvings: in [1, 40]; the noise is about 2^halvings wide.
      parties: t in [1, 10000]; at 1 the part is the whole.
      source: of bits that nobody else knows, as `random.SystemRandom()`.
    """
    check_range("halvings", halvings, 1, MOST_HALVINGS, whole=True)
    check_range("parties", parties, 1, MOST_PARTIES, whole=True)
    return _polya(halvings, parties, source) - _polya(halvings, parties, source)


def laplace_loss(halvings: int, *, honest: int, parties: int, distance: int) -> float:
    """ε of whole numbers that move by `distance`, with the parts of `honest` parties where `parties` make the whole.

    Pure ε (δ = 0), rounded up. At honest ≥ parties it is that of the whole; without any honest party there is none.

    >>> laplace_loss(13, honest=2, parties=2, distance=8192) < 1.0002
    True
    """
    check_range("parties", parties, 1, MOST_PARTIES, whole=True)
    check_range("distance", distance, 0, 2**MOST_HALVINGS, whole=True)
    if distance == 0:
        return 0.0
    if honest >= parties:
        return float(rate_above(halvings) * distance) * (1 + 2.0**-50)
    return math.inf if honest < 1 else _loss(halvings, honest, parties, distance)


def laplace_variance(halvings: int, shares: Fraction | float) -> float:
    """Of the noise of parts that make `shares` wholes: 2a / (1-a)² for each whole, a = 1 - 2^-halvings."""
    return float(shares) * 2 * (1 - 2.0**-halvings) * 4.0**halvings


def _polya(halvings: int, parties: int, source: random.Random) -> int:
    count = 0
    for _ in range(halvings):
        count += _failures(count, source) + _polya_of_a_coin(parties, source)
    return count


def _failures(heads: int, source: random.Random) -> int:
    """NB(heads, 1/2): tails of a fair coin before so many heads. Never more flips at once than heads are missing."""
    tails = 0
    while heads:
        came = source.getrandbits(heads).bit_count()
        tails += heads - came
        heads -= came
    return tails


def _polya_of_a_coin(parties: int, source: random.Random) -> int:
    """NB(1/parties, 1/2)."""
    while True:
        drawn = 0
        while source.getrandbits(1):
            drawn += 1
        if all(source.randrange(parties * i) <= parties * (i - 1) for i in range(1, drawn + 1)):
            return drawn


@lru_cache(maxsize=256)
def _loss(halvings: int, honest: int, parties: int, distance: int) -> float:
    """f(0) - f(distance) of the module's docstring, from above: sums of decreasing terms, block by block."""
    shape, rate = honest / parties, rate_of(halvings)

    def chance(count: int) -> float:  # log of c_j a^j, of which the constant of NB is left out
        return math.lgamma(count + shape) - math.lgamma(shape) - math.lgamma(count + 1) - rate * count

    most, least, begin, end = 0.0, 0.0, 0, int(25 / rate) + 1
    while begin < end:
        size = 1 + begin // _BLOCK
        last = begin + size - 1
        most += size * math.exp(2 * chance(begin))
        least += size * math.exp(chance(last) + chance(last + distance) - chance(distance))
        begin += size
    most += math.exp(2 * chance(begin)) / -math.expm1(-2 * rate)  # all that comes after, as a geometric series
    return math.log(most) - math.log(least) - chance(distance) + _ROUNDING


# -- discrete Gaussian -------------------------------------------------------------------------------------------------


def divisibility_error(variance: Fraction, parties: int) -> float:
    """τ: no chance of the parts' sum is off the discrete Gaussian's by more than a factor of e^τ."""
    part = float(_part_of(variance, parties))
    return 10 * math.fsum(math.exp(-2 * math.pi**2 * part * k / (k + 1)) for k in range(1, parties))


def gaussian_divergence(
    variance: Fraction, *, honest: int, parties: int, order: float, sensitivity: float, numbers: int
) -> float:
    """Rényi divergence, in nats, of `numbers` whole ones that move by `sensitivity` in L2, under honest parties' parts.

    Args:
      variance: of the whole, which `parties` parts make.
      honest: parties that add theirs, and keep it to themselves.
      order: above 1.
    """
    check_range("order", order, 1, math.inf if order == math.inf else 1e6, open_low=True)
    if honest < 1:
        return math.inf
    part = _part_of(variance, parties)
    counted = min(honest, parties)
    whole = part * counted
    error = divisibility_error(whole, counted) * numbers * (2 * order - 1) / (order - 1)
    return order * sensitivity**2 / (2 * float(whole)) + error


def _part_of(variance: Fraction, parties: int) -> Fraction:
    check_range("parties", parties, 1, MOST_PARTIES, whole=True)
    part = Fraction(variance) / parties
    check_range("variance / parties", float(part), float(LEAST_VARIANCE), 2.0**80)
    return part
