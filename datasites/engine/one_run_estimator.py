"""Bound ε from below by one training run: the estimator of Steinke, Nasr and Jagielski (2023), pure arithmetic.

An auditor hides m canaries, each in the data or not by the toss of a fair coin, sees one run's output, and guesses the
coins of the r canaries that it is surest of (arXiv:2305.08846). Were the run (ε, δ)-differentially private, then of r
guesses about e^ε/(1 + e^ε) could be right, however the auditor guesses; so many right guesses rule small ε out. What
comes of it is a lower bound, at a confidence, of the ε of that mechanism: never a proof that ε is not larger.

Making canaries and running the mechanism is in `datasites.engine.privacy_audit`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from policies.errors import InvalidRequest

LARGEST_EPSILON = 100.0
_HALVINGS = 50


def p_value(canaries: int, guesses: int, right: int, *, epsilon: float, delta: float) -> float:
    """At most the chance that an auditor of an (ε, δ)-DP run makes `right` or more right guesses (theorem 3.1 there).

    With W binomial of `guesses` trials at e^ε/(1 + e^ε), the bound is P[W ≥ v] + 2 m δ max_i P[v - i ≤ W < v] / i: each
    canary may slip past ε with chance δ, and those that do add to v.

    Args:
      canaries: m, each included with chance one half, whether or not it is guessed.
      guesses: r, at most `canaries`.
      right: v, at most `guesses`.
    """
    if not 0 <= right <= guesses <= canaries:
        raise InvalidRequest(f"{right} right of {guesses} guesses on {canaries} canaries is impossible. Count again.")
    if not (0 <= epsilon < math.inf and 0 <= delta <= 1):
        raise InvalidRequest(f"epsilon={epsilon}, delta={delta} is no guarantee. Use ε of at least 0 and δ in [0, 1].")
    chances = _binomial(guesses, epsilon)
    beyond = math.fsum(chances[right:])
    below, slipped = 0.0, 0.0
    for steps in range(1, right + 1):
        below += chances[right - steps]
        slipped = max(slipped, below / steps)
    return min(1.0, beyond + 2 * canaries * delta * slipped)


def epsilon_bound(canaries: int, guesses: int, right: int, *, delta: float, confidence: float) -> float:
    """The ε that so many right guesses rule out at `confidence`: the mechanism's own is above it. 0 where none is.

    Args:
      confidence: in (0, 1); that of one audit whose number of guesses was chosen before its output was seen.

    >>> round(epsilon_bound(100, 100, 100, delta=0.0, confidence=0.95), 4)  # log(p^(1/r) / (1 - p^(1/r)))
    3.4928
    """
    if not 0 < confidence < 1:
        raise InvalidRequest(f"confidence={confidence} is outside (0, 1). Use 0.95.")
    allowed = 1 - confidence
    low, high = 0.0, LARGEST_EPSILON
    if p_value(canaries, guesses, right, epsilon=low, delta=delta) >= allowed:
        return 0.0
    for _ in range(_HALVINGS):  # what is kept: `low` is ruled out
        middle = (low + high) / 2
        if p_value(canaries, guesses, right, epsilon=middle, delta=delta) < allowed:
            low = middle
        else:
            high = middle
    return low


def right_guesses(scores: Sequence[float], included: Sequence[bool], guesses: int) -> int:
    """How many are right of `guesses`: the highest half of scores taken for included, the lowest half for not.

    Args:
      scores: one for each canary, higher where its presence is likelier.
      included: the coins.
      guesses: rounded down to an even number.
    """
    order = sorted(range(len(scores)), key=lambda index: scores[index])
    half = guesses // 2
    lowest, highest = order[:half], order[len(order) - half :]
    return sum(not included[index] for index in lowest) + sum(bool(included[index]) for index in highest)


def expected_right(canaries: int, guesses: int, strength: float) -> float:
    """How many guesses are right on average where the scores are Gaussian, `strength` deviations apart.

    Scores are N(0, 1) or N(`strength`, 1) by a fair coin; a score s tells of inclusion with odds e^(d s - d²/2).
    """
    share, half = guesses / 2 / canaries, strength / 2  # centred between the two, both ends are alike
    if guesses == 0:
        return 0.0
    normal = NormalDist()
    low, high = 0.0, 40.0 + half
    for _ in range(_HALVINGS):  # the score that `share` of canaries exceed
        middle = (low + high) / 2
        if (normal.cdf(half - middle) + normal.cdf(-half - middle)) / 2 > share:
            low = middle
        else:
            high = middle
    return guesses * normal.cdf(half - low) / (2 * share)


def best_guesses(canaries: int, strength: float, *, delta: float, confidence: float) -> int:
    """The even number of guesses whose bound is expected to be largest at `strength`: to be fixed beforehand.

    From public facts alone, so that choosing it costs no confidence.
    """
    chosen, best, guesses = 2, -1.0, 2
    while guesses <= canaries:
        right = int(expected_right(canaries, guesses, strength))
        bound = epsilon_bound(canaries, guesses, right, delta=delta, confidence=confidence)
        if bound > best:
            chosen, best = guesses, bound
        guesses = max(guesses + 2, 2 * int(guesses * 0.6))
    return chosen


def _binomial(trials: int, epsilon: float) -> list[float]:
    """Chances of 0, 1, ... `trials` successes at e^ε/(1 + e^ε) each, by logarithms, so that none overflows."""
    success, failure = -math.log1p(math.exp(-epsilon)), -epsilon - math.log1p(math.exp(-epsilon))
    whole = math.lgamma(trials + 1)
    return [
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * success + (trials - k) * failure)
        for k in range(trials + 1)
    ]
