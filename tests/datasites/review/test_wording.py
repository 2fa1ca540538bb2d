"""What a plan does, in words that are made of the plan alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from datasites.review.wording import summary
from policies.privacy.mechanisms import Mechanism, Query
from tests.policies.plan_factories import evaluation, plan_of, published, statistics, training


def test_a_training_says_what_leaves_how_often_and_with_how_much_noise() -> None:
    plan = plan_of(training(rounds=5, steps=40, sampling_rate=0.1))
    lines = summary(plan, published())
    assert "a model of 8 numbers, on about 1,000 patients (as declared) for 5 rounds of 40 steps" in lines[0]
    assert f"with chance 0.1, one record of theirs, and adds noise of {plan.mechanism.noise_multiplier:g} " in lines[1]  # type: ignore[union-attr]
    assert lines[2] == "What leaves: the model's numbers after each round."


@pytest.mark.parametrize("make", [training, evaluation])
def test_inputs_that_are_transformed_are_told_in_plain_words(make: Callable[..., Mechanism]) -> None:
    plan = plan_of(make(inputs=("bands(age, 18, 65)",)))
    assert "The model gets 3 numbers in [-1, 1] of each record: age in bands cut at 18 and 65." in summary(
        plan, published()
    )
    assert not any("The model gets" in line for line in summary(plan_of(make()), published()))


@pytest.mark.parametrize(("rounds", "says"), [(1, "1 time."), (2, "2 times.")])
def test_an_evaluation_says_that_it_scores_the_held_out_patients(rounds: int, says: str) -> None:
    assert summary(plan_of(evaluation(rounds=rounds)), published())[0].endswith(f"held-out patients, {says}")


def test_statistics_name_each_question() -> None:
    queries = (Query("count"), Query("mean", ("temperature",)))
    lines = summary(plan_of(statistics(queries=queries)), published(patients=1234, size_kind="dp-count"))
    assert lines[0].startswith("Answers 2 statistics over about 1,234 patients (a differentially private count): count")
    assert "mean of temperature" in lines[0]
    one = summary(plan_of(statistics(queries=queries[:1])), published())
    assert one[0].startswith("Answers 1 statistic over")
    assert one[1].startswith("At most 1 record of each patient")
