"""What a plan does, in words that are made of the plan alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from datasites.review.wording import summary
from policies.privacy.grouping import groupings_from
from policies.privacy.mechanisms import Evaluation, Mechanism, Query
from tests.policies.plan_factories import evaluation, plan_of, published, regression, statistics, survival, training


def test_a_training_says_what_leaves_how_often_and_with_how_much_noise() -> None:
    plan = plan_of(training(rounds=5, steps=40, sampling_rate=0.1))
    lines = summary(plan, published())
    assert "a model of 8 numbers, on about 1,000 patients (as declared) for 5 rounds of 40 steps" in lines[0]
    assert f"with chance 0.1, one record of theirs, and adds noise of {plan.mechanism.noise_multiplier:g} " in lines[1]  # type: ignore[union-attr]
    assert lines[2] == "What leaves: the model's numbers after each round."
    for compression, rounded in (("int8", "to a quarter of the standard deviation"), ("int4", "to the standard dev")):
        line = summary(plan_of(training(compression=compression)), published())[2]
        assert line.startswith("What leaves: the model's numbers after each round, as how far each moved, rounded")
        assert rounded in line


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


def test_the_points_of_a_learning_curve_are_charged_as_they_are_asked() -> None:
    said = (
        "Each time is charged as it is asked, a pure ε = 0.05 to the held-out patients; what is never asked goes back."
    )
    assert said in summary(plan_of(evaluation(rounds=8, epsilon=0.05)), published())
    assert said not in summary(plan_of(evaluation(rounds=1, epsilon=0.05)), published())


def test_statistics_name_each_question() -> None:
    queries = (Query("count"), Query("mean", ("temperature",)))
    lines = summary(plan_of(statistics(queries=queries)), published(patients=1234, size_kind="dp-count"))
    assert lines[0].startswith("Answers 2 statistics over about 1,234 patients (a differentially private count): count")
    assert "mean of temperature" in lines[0]
    one = summary(plan_of(statistics(queries=queries[:1])), published())
    assert one[0].startswith("Answers 1 statistic over")
    assert one[1].startswith("At most 1 record of each patient")


def test_a_number_and_its_subgroups_are_said_with_what_each_has_of_epsilon() -> None:
    asked = Evaluation(
        loss="mean_squared_error", epsilon=0.6, bins=8, target="temperature", subgroups=("cough", ("age", 18, 65))
    )
    lines = summary(plan_of(asked), published())
    assert lines[1] == "The model predicts temperature (real, 34 to 42), with the loss mean_squared_error."
    assert lines[2] == "What leaves: noisy counts of patients by predicted and true value, in 8 bins each."
    assert lines[3].startswith("The same by group of cough, age in 3 bands.")
    assert lines[3].endswith("these columns have ε = 0.2 of 0.6.")


def test_class_weights_are_said() -> None:
    lines = summary(plan_of(training(class_weights=(1.0, 5.0))), published())
    assert "Errors weigh by class: no × 1, yes × 5." in lines


def test_survival_names_time_event_groups_and_what_leaves() -> None:
    lines = summary(plan_of(survival(until=60, bins=20)), published())
    assert lines[0].startswith("Counts about 1,000 patients (as declared) by age and whether influenza was seen")
    assert "for each of 2 groups by cough" in lines[0]
    assert "20 intervals of time up to 60" in lines[1]
    assert "groups" not in summary(plan_of(survival(by=None)), published())[0]


def test_a_regression_names_outcome_terms_and_what_leaves() -> None:
    lines = summary(plan_of(regression(terms=("age", "log(age, 1)"))), published())
    assert lines[0].startswith(
        "Fits the mean of temperature (a linear regression) to 2 terms over about 1,000 patients"
    )
    assert lines[0].endswith("age; the logarithm of age + 1.")
    assert "3 coefficients" in lines[1]
    assert "largest part that one patient can have" in lines[1]
    assert (
        "how likely influenza is"
        in summary(plan_of(regression(outcome="influenza", family="binomial")), published())[0]
    )


def test_a_cohort_and_groups_are_said_in_plain_words() -> None:
    queries = (Query("count"), Query("missing", ("temperature",)), Query("describe", ("age",)))
    asked = statistics(queries=queries, where="age >= 65 and cough", group_by=groupings_from({"age": [80]}))
    lines = summary(plan_of(asked), published())
    assert lines[0].endswith("count, how many records have temperature, distribution of age.")
    assert lines[1].startswith("Only records count for which age is at least 65 and cough is yes.")
    assert lines[2] == "Each is answered apart for 2 groups, by age."
