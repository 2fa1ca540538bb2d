"""The draws of noise in a statistic and the Rényi divergence of one: what `Statistics` cost, draw by draw.

A statistic is answered by independent draws of python-dp's Laplace noise, each with a part of its ε: one for a count, a
sum and each cell of a table, two for a mean (sum, count), three for a variance (sum, sum of squares, count), and one
for each node of a quantile tree, whose levels share ε. A release is a function of these draws, so it costs no more than
they do, and independent draws add up.

Groups. By groups there are as many such draws as groups, and a part is what lies beside each other: all groups' counts,
all groups' sums, one level of all groups' trees. A record lies in one group. So one patient's k records still move the
values of a part by no more than k of one record's in L1, in one group or in several, and a count of patients, in which
a patient stands once in each group of theirs, by min(k, groups). The argument below needs no more than that.

What one patient can move. Adding or removing one moves the exact values under the draws of one part (the cells of a
table, the nodes of a level) by s_1, s_2, ... in units of a draw's L1 sensitivity, Σ|s_i| ≤ 1: the sensitivity is
declared for k records and no patient gives more. With ε the part's own, the divergence of draw i is L(|s_i| ε) where

    L(x) = log(a e^{(α-1)x} + (1-a) e^{-αx}) / (α-1),   a = α / (2α-1),

that of two Laplace distributions at a distance of x scales (Mironov 2017, arXiv:1702.07476, table II). L is convex, as
a logarithm of a sum of exponentials, and L(0) = 0: so Σ L(|s_i| ε) ≤ L(ε). To move one value by all of the sensitivity
is the worst that there is, and a part costs L(ε) whatever its number of cells. Which k records of a patient are used is
drawn at random: by joint quasi-convexity a mixture of such pairs diverges no more than its worst.

The grid. The library does not draw from the reals. Its noise is g Z, g a power of two below 2^-39 scales and Z discrete
Laplace, P[Z = z] ∝ p^|z|, p = e^-λ, λ = gε / (Δ + g) < 2^-39; values are rounded to multiples of g first, so they move
by whole numbers m of steps with λm ≤ ε. Summing P^α Q^(1-α) over all z, three geometric series, gives exactly

    (A + B)/2 + (A - B)/2 tanh(λ/2) / tanh((2α-1)λ/2),   A = e^{(α-1)λm}, B = e^{-αλm},

which is e^{(α-1) L(λm)} with the ratio of tangents instead of its limit 1/(2α-1). As x coth x ≤ 1 + x²/3 the ratio is
above its limit by a factor of at most 1 + ((2α-1)λ/2)²/3 < 1 + 2^-60 at α ≤ 512. So much, over α-1, is added for each
value that a patient can move: k of a part. Whole numbers are rounded after noise, which is post-processing; from
ε = 1e-9 a part their grid g is at most 1 and they are on it already, and less is refused.
"""

from __future__ import annotations

import math

from policies.errors import UnsupportedMechanism
from policies.privacy.mechanisms import Statistics

# 8^4 = 4096 leaves: quantiles are found to 1/4096 of the range. At ε = 1 this tree had the smallest errors of those
# tried (2 to 6 levels, 4 to 16 branches) over wide, narrow and small samples; python-dp's usual 16^4 was 1.3x worse.
TREE_HEIGHT = 4
TREE_BRANCHING = 8

PARTS = {
    "count": 1,
    "sum": 1,
    "mean": 2,
    "variance": 3,
    "quantiles": TREE_HEIGHT,
    "histogram": 1,
    "crosstab": 1,
    "missing": 1,
    "describe": 1,
}
"""Parts of each statistic, between which its ε is shared equally."""

LEAST_EPSILON = 1e-9  # of a part: its scale, at most 100 records over ε, stays below 2^40, and its grid below 1
_GRID = 2.0**-60  # nats over α-1, for each value that a patient moves: see the module's docstring


def epsilon_per_query(mechanism: Statistics) -> float:
    """Each statistic's equal share of ε."""
    return mechanism.epsilon / len(mechanism.queries)


def parts_of(mechanism: Statistics) -> tuple[float, ...]:
    """ε of each part of each statistic, in order; together they are the mechanism's.

    Raises:
      UnsupportedMechanism: a part has less than 1e-9, where the library's noise is coarser than what it is added to.

    >>> from policies.privacy.mechanisms import Query
    >>> parts_of(Statistics(queries=(Query("count"), Query("mean", ("age",))), epsilon=1.0))
    (0.5, 0.25, 0.25)
    """
    share = epsilon_per_query(mechanism)
    parts = tuple(share / PARTS[query.name] for query in mechanism.queries for _ in range(PARTS[query.name]))
    if min(parts) < LEAST_EPSILON:
        raise UnsupportedMechanism(
            f"epsilon={mechanism.epsilon} leaves ε={min(parts):.3g} for one draw of noise, below {LEAST_EPSILON:g}."
            " Ask for a larger epsilon or fewer statistics."
        )
    return parts


def divergence_of(mechanism: Statistics, order: int) -> float:
    """Rényi divergence in nats, at `order`, of one release: at least the exact value, but for float64's rounding.

    Raises what `parts_of` does.
    """
    grid = mechanism.records_per_patient * _GRID / (order - 1)
    return math.fsum(laplace_divergence(epsilon, order) + grid for epsilon in parts_of(mechanism))


def laplace_divergence(epsilon: float, order: int) -> float:
    """L of the module's docstring: the divergence in nats of two Laplace distributions `epsilon` scales apart."""
    up, down = (order - 1) * epsilon, order * epsilon
    if up > 30:  # e^up would overflow further on
        whole = up + math.log(order / (2 * order - 1)) + math.log1p((order - 1) / order * math.exp(-up - down))
    else:
        # a(α-1) = (1-a)α: the terms of first order cancel, and are left out rather than subtracted. With
        # h(x) = (e^x - 1 - x) / x², the sum less 1 is a(α-1) ε² ((α-1) h(up) + α h(-down)), of positive terms alone.
        weight = order * (order - 1) / (2 * order - 1)
        whole = math.log1p(weight * epsilon**2 * ((order - 1) * _remainder(up) + order * _remainder(-down)))
    return whole / (order - 1)


def _remainder(x: float) -> float:
    """(e^x - 1 - x) / x², by its series where subtracting would lose digits."""
    if abs(x) > 1:
        return (math.expm1(x) - x) / x**2
    total, term, number = 0.0, 0.5, 2
    while abs(term) > 1e-18:
        total += term
        number += 1
        term *= x / number
    return total
