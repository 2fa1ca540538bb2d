"""The one-run estimator: closed forms, values that others have published, and its null simulated."""

from __future__ import annotations

import math
import random

import pytest

from datasites.engine.one_run_estimator import (
    best_guesses,
    epsilon_bound,
    expected_right,
    p_value,
    right_guesses,
)
from policies.errors import InvalidRequest


@pytest.mark.parametrize("guesses", [1, 10, 100, 1000])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_all_right_has_a_closed_form(guesses: int, confidence: float) -> None:
    # P[Bin(r, q) = r] = q^r, so q = (1 - confidence)^(1/r) and ε = log(q / (1 - q)).
    q = (1 - confidence) ** (1 / guesses)
    found = epsilon_bound(1000, guesses, guesses, delta=0.0, confidence=confidence)
    assert found == pytest.approx(max(0.0, math.log(q / (1 - q))), abs=1e-9)


@pytest.mark.parametrize(
    ("canaries", "guesses", "right", "confidence", "published"),
    [
        # Audits published with the paper's own program (Hugging Face, melihcatal/codedp-cpt-models), δ = 1e-5.
        (500, 100, 100, 0.95, 3.4791953936219215),
        (500, 100, 100, 0.99, 3.023197554051876),
        (500, 100, 60, 0.95, 0.05073561053723097),
        (500, 35, 23, 0.95, 0.014548719860613346),
        (500, 25, 18, 0.95, 0.14663786999881268),
        (500, 95, 58, 0.95, 0.08366207984487103),
    ],
)
def test_bound_is_the_published_one(
    canaries: int, guesses: int, right: int, confidence: float, published: float
) -> None:
    found = epsilon_bound(canaries, guesses, right, delta=1e-5, confidence=confidence)
    assert found == pytest.approx(published, abs=1e-6)


def test_p_value_without_delta_is_a_binomial_tail() -> None:
    # At ε = 0 each guess is a coin: P[Bin(4, 1/2) ≥ 3] = 5/16.
    assert p_value(4, 4, 3, epsilon=0.0, delta=0.0) == pytest.approx(5 / 16)
    assert p_value(4, 4, 0, epsilon=3.0, delta=0.0) == pytest.approx(1.0)


def test_delta_adds_what_theorem_says() -> None:
    # r = v = 1, ε = 0: P[W ≥ 1] = 1/2, and i = 1 gives P[W = 0] = 1/2, so 1/2 + 2 m δ / 2.
    assert p_value(10, 1, 1, epsilon=0.0, delta=0.01) == pytest.approx(0.5 + 10 * 0.01)


def test_bound_grows_with_right_guesses_and_shrinks_with_delta_and_confidence() -> None:
    bounds = [epsilon_bound(400, 100, right, delta=1e-5, confidence=0.95) for right in range(40, 101)]
    assert bounds == sorted(bounds)
    assert bounds[0] == 0.0
    assert epsilon_bound(400, 100, 90, delta=1e-3, confidence=0.95) < bounds[50]
    assert epsilon_bound(400, 100, 90, delta=1e-5, confidence=0.99) < bounds[50]


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_bound_exceeds_the_truth_no_more_often_than_stated(epsilon: float) -> None:
    # Randomized response is the worst ε-DP mechanism there is: every coin is told rightly with e^ε/(1 + e^ε).
    draw, canaries, trials = random.Random(5), 200, 2000
    truth = 1 / (1 + math.exp(-epsilon))
    counts = [sum(draw.random() < truth for _ in range(canaries)) for _ in range(trials)]
    bounds = {each: epsilon_bound(canaries, canaries, each, delta=0.0, confidence=0.95) for each in set(counts)}
    too_high = sum(bounds[each] > epsilon for each in counts)
    assert too_high <= 0.05 * trials + 4 * math.sqrt(trials * 0.05 * 0.95)
    assert sum(bounds[each] > 0.4 * epsilon for each in counts) > trials / 2  # and it is of use


def test_guesses_are_of_the_surest_at_both_ends() -> None:
    scores, coins = [0.1, 5.0, -4.0, 0.2, 3.0, -3.0], [True, True, False, False, False, False]
    assert right_guesses(scores, coins, 2) == 2
    assert right_guesses(scores, coins, 4) == 3
    assert right_guesses(scores, coins, 5) == 3  # an odd number is rounded down
    assert right_guesses(scores, coins, 0) == 0


@pytest.mark.parametrize("strength", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("guesses", [20, 200, 1000])
def test_expected_right_is_what_gaussian_scores_give(strength: float, guesses: int) -> None:
    draw, found = random.Random(7), []
    for _ in range(40):
        coins = [draw.random() < 0.5 for _ in range(1000)]
        scores = [draw.gauss(strength if coin else 0.0, 1.0) for coin in coins]
        found.append(right_guesses(scores, coins, guesses))
    mean = sum(found) / len(found)
    assert mean == pytest.approx(expected_right(1000, guesses, strength), abs=4 * math.sqrt(guesses / 4 / 40) + 1)


def test_weak_scores_are_guessed_at_the_ends_and_strong_ones_all() -> None:
    few = best_guesses(1000, 0.5, delta=1e-5, confidence=0.95)
    many = best_guesses(1000, 6.0, delta=1e-5, confidence=0.95)
    assert 2 <= few < many <= 1000
    assert few % 2 == many % 2 == 0


def test_impossible_counts_are_refused() -> None:
    for canaries, guesses, right in ((10, 11, 5), (10, 5, 6), (10, 5, -1)):
        with pytest.raises(InvalidRequest):
            p_value(canaries, guesses, right, epsilon=1.0, delta=0.0)
    with pytest.raises(InvalidRequest):
        p_value(10, 5, 5, epsilon=-1.0, delta=0.0)
    with pytest.raises(InvalidRequest):
        epsilon_bound(10, 5, 5, delta=0.0, confidence=1.0)
