"""A suggestion is made of public figures alone, fits any ε, and follows what it says of its figures."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

import researcher
from policies.errors import UnsupportedMechanism
from policies.privacy.accountant import epsilon_of, resolve
from policies.privacy.mechanisms import DPSGD, as_dict, mechanism_from
from policies.privacy.suggestion import MOMENTUM, WANDER, noise_of, suggest

pytestmark = pytest.mark.quick


@dataclass
class Cohort:
    """All that a suggestion may look at."""

    training_patients: dict[str, int] = field(default_factory=lambda: {"a": 6400, "b": 5600, "c": 4800})


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 2.0, 8.0, 50.0])
@pytest.mark.parametrize("patients", [{"a": 60}, {"a": 126, "b": 126, "c": 126}, {"a": 1_000_000, "b": 5}])
def test_a_suggestion_keeps_its_epsilon_whatever_the_sizes(epsilon: float, patients: dict[str, int]) -> None:
    training = suggest(Cohort(patients), epsilon=epsilon).training
    assert epsilon_of(resolve(training), training.delta) <= epsilon
    assert mechanism_from(as_dict(training)) == training


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
def test_noise_moves_a_number_of_the_model_as_far_as_it_may(epsilon: float) -> None:
    suggested, patients = suggest(Cohort(), epsilon=epsilon).training, Cohort().training_patients
    # Momentum makes each step worth 1 / (1 - 0.9); settings have two digits, so within 5 % each.
    way = suggested.learning_rate / (1 - MOMENTUM) * suggested.rounds * suggested.steps * suggested.clipping_norm
    assert way * noise_of(suggested, patients) == pytest.approx(WANDER, rel=0.1)


def test_noise_of_all_steps_is_the_closed_form() -> None:
    training = DPSGD(
        loss="binary_cross_entropy", rounds=50, steps=2, sampling_rate=0.5, clipping_norm=2.0, learning_rate=1.0,
        noise_multiplier=4.0,
    )  # fmt: skip
    # 4 · √3 / (0.5 · 3000 · √100)
    assert noise_of(training, {"a": 1000, "b": 1000, "c": 1000}) == pytest.approx(4 * 3**0.5 / 15_000)


def test_more_patients_and_more_epsilon_go_further_and_clip_less() -> None:
    few, many = suggest(Cohort({"a": 200, "b": 200}), epsilon=1.0), suggest(Cohort({"a": 9000, "b": 9000}), epsilon=1.0)
    more = suggest(Cohort({"a": 9000, "b": 9000}), epsilon=8.0)
    norms = [suggested.training.clipping_norm for suggested in (few, many, more)]
    ways = [suggested.training.learning_rate * suggested.training.clipping_norm for suggested in (few, many, more)]
    assert norms == sorted(norms)
    assert ways == sorted(set(ways))


def test_hospitals_together_take_short_rounds_and_one_alone_long_ones() -> None:
    together, alone = suggest(Cohort(), epsilon=2.0), suggest(Cohort({"a": 6400}), epsilon=2.0)
    assert (together.strategy, together.options) == ("FedAvgM", {"server_momentum": MOMENTUM})
    assert together.training.rounds == 100
    assert together.average_last == 25
    assert (alone.strategy, alone.training.rounds, alone.training.momentum) == ("FedAvg", 5, MOMENTUM)


@pytest.mark.parametrize("rounds", [1, 10, 50])
def test_no_more_rounds_are_suggested_than_are_allowed(rounds: int) -> None:
    suggested = suggest(Cohort(), epsilon=2.0, rounds=rounds)
    assert suggested.training.rounds == rounds
    assert 1 <= suggested.average_last <= rounds


def test_nobody_is_refused() -> None:
    for patients in ({}, {"a": 0, "b": 40}):
        with pytest.raises(UnsupportedMechanism, match="No hospital publishes patients"):
            suggest(Cohort(patients), epsilon=1.0)


def test_researchers_ask_their_training_for_it_and_read_why() -> None:
    suggested = researcher.Training.suggest(Cohort(), epsilon=2.0, loss="cross_entropy", inputs=("age",))
    assert (suggested.training.loss, suggested.training.inputs) == ("cross_entropy", ("age",))
    assert suggested == suggest(Cohort(), epsilon=2.0, loss="cross_entropy", inputs=("age",))
    assert "16,800 patients train at 3 hospitals" in str(suggested)
