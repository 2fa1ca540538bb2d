"""Both risks are said, rounded against ourselves, and hold for an attacker who sees randomized response."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.privacy.budget import PrivacyBudget
from policies.privacy.risk import membership_belief, record_belief, risk_sentences, rounded_up


def test_the_figures_that_the_design_promises() -> None:
    assert math.floor(100 * membership_belief(2.0)) == 88
    assert math.floor(100 * record_belief(2.0)) == 98
    assert membership_belief(0.0) == record_belief(0.0) == 0.5


@given(st.floats(0, 100), st.floats(0, 100))
def test_more_epsilon_never_means_less_risk(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert membership_belief(low) <= membership_belief(high) <= record_belief(high) <= 1.0


@given(st.floats(0.01, 10))
def test_the_bound_is_what_randomized_response_reaches(epsilon: float) -> None:
    # Truth with chance p, else a lie: after seeing "yes", Bayes turns 1/2 into p/(p + (1 - p)) = e^ε / (1 + e^ε).
    truth, lie = math.exp(epsilon) / (1 + math.exp(epsilon)), 1 / (1 + math.exp(epsilon))
    assert membership_belief(epsilon) == pytest.approx(0.5 * truth / (0.5 * truth + 0.5 * lie))


def test_sentences_say_both_risks_and_the_chance_of_failure() -> None:
    first, second = risk_sentences(2.0, 1e-5)
    assert "in the data becomes at most 88.1 %" in first  # 0.8808, rounded up
    assert "which of two records a known patient has becomes at most 98.3 %" in second  # 0.98201
    assert all("except with a chance of about 0.00001" in each for each in (first, second))


def test_a_pure_release_never_fails() -> None:
    assert all("except" not in each for each in risk_sentences(0.2, 0.0))


def test_the_total_is_said_beside_the_request() -> None:
    last = risk_sentences(0.2, 0.0, total=PrivacyBudget(6.0, 1e-5))[-1]
    assert "ε = 6, δ = 0.00001 in total" in last
    assert "99.8 %" in last
    assert "as good as completely" in last  # e^12 / (1 + e^12)


@given(st.floats(0, 100))
def test_percentages_are_rounded_up(epsilon: float) -> None:
    first = risk_sentences(epsilon, 0.0)[0]
    if "at most" in first:
        stated = float(first.split("at most ")[1].split(" %")[0])
        assert stated >= 100 * membership_belief(epsilon) - 1e-6
        assert stated <= 100 * membership_belief(epsilon) + 0.1
    else:
        assert membership_belief(epsilon) > 0.999


@given(st.floats(1e-6, 100))
def test_epsilon_is_shown_rounded_up(epsilon: float) -> None:
    assert epsilon - 1e-9 <= float(rounded_up(epsilon)) <= epsilon + 1.1e-4
