"""A release as its owner reads it: every number with the error that its noise makes, a model by its figures."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from datasites.review.released import MOST_VALUES, noise_sentences, released_parts
from policies.privacy.grouping import groupings_from
from policies.privacy.mechanisms import DPSGD, Evaluation, KaplanMeier, Query, Statistics
from policies.release.evaluation_tables import evaluation_tables
from policies.schema.noise_scales import LAPLACE_95, standard_error
from policies.schema.questions import answer_shape
from policies.schema.schemas import Schema
from tests.factories import SCHEMA

FLU = Schema.from_toml(SCHEMA)
TRAINING = DPSGD(
    loss="binary_cross_entropy", rounds=2, steps=1, sampling_rate=0.1, clipping_norm=1.5, learning_rate=0.1,
    noise_multiplier=1.25,
)  # fmt: skip


def asked(*queries: Query, epsilon: float = 1.0, bins: int = 10) -> Statistics:
    return Statistics(queries=queries, epsilon=epsilon, bins=bins)


def test_a_count_has_the_interval_of_its_noise() -> None:
    mechanism = asked(Query("count"), epsilon=0.5)
    (part,) = released_parts({"count": np.array([412.0])}, mechanism, FLU, patients=400)
    (value,) = part.numbers
    assert (part.title, part.unit, part.count) == ("Count of patients", "patients", 1)
    assert value.value == 412.0
    reach = LAPLACE_95 * standard_error(Query("count"), mechanism, FLU)
    assert value.low == pytest.approx(412.0 - reach)
    assert value.high == pytest.approx(412.0 + reach)


def test_the_interval_covers_the_answer_95_times_in_100() -> None:
    """Laplace noise of the declared scale, drawn 2,000 times, is inside 0.95 of the time, whole numbers included."""
    mechanism, draw = asked(Query("count"), epsilon=1.0), np.random.default_rng(7)
    noisy = np.round(300 + draw.laplace(scale=1.0, size=2_000))
    inside = 0
    for number in noisy:
        (part,) = released_parts({"count": np.array([number])}, mechanism, FLU, patients=300)
        (value,) = part.numbers
        assert value.low is not None
        assert value.high is not None
        inside += value.low <= 300 <= value.high
    assert inside / 2_000 >= 0.94


@pytest.mark.parametrize("name", ["mean", "variance", "sum"])
def test_a_number_of_a_column_has_its_unit_and_a_narrower_interval_at_more_epsilon(name: str) -> None:
    query = Query(name, ("temperature",))
    widths = []
    for epsilon in (0.1, 1.0):
        answer = np.array([1.5 if name == "variance" else 37.0])
        (part,) = released_parts({query.key: answer}, asked(query, epsilon=epsilon), FLU, patients=4000)
        (value,) = part.numbers
        assert part.unit == ("degC²" if name == "variance" else "degC")
        assert value.low is not None
        assert value.high is not None
        widths.append(value.high - value.low)
    assert widths[1] < widths[0]


def test_a_quantile_has_its_error_in_ranks() -> None:
    query = Query("quantiles", ("age",), (0.25, 0.5))
    (part,) = released_parts({query.key: np.array([31.0, 49.0])}, asked(query), FLU, patients=4000)
    assert [value.label for value in part.numbers] == ["25 %", "50 %"]
    assert all(value.low is None for value in part.numbers)
    assert "percentage points" in part.error


def test_cells_are_named_and_only_the_first_are_listed() -> None:
    query = Query("crosstab", ("cough", "influenza"))
    (part,) = released_parts({query.key: np.array([[1.0, 2.0], [3.0, -1.0]])}, asked(query), FLU, patients=400)
    assert [(value.label, value.value) for value in part.numbers][-1] == ("yes, yes", -1.0)
    many = Query("crosstab", ("age", "temperature"))
    shape = answer_shape(many, asked(many, bins=30), FLU)
    (part,) = released_parts({many.key: np.zeros(shape)}, asked(many, bins=30), FLU, patients=400)
    assert (part.count, len(part.numbers)) == (math.prod(shape), MOST_VALUES)


def test_scores_are_counts_by_truth_and_score() -> None:
    mechanism = Evaluation(loss="binary_cross_entropy", epsilon=1.0, bins=2)
    (part,) = released_parts({"scores": np.array([[4.0, 1.0], [0.0, 6.0]])}, mechanism, FLU, patients=400)
    assert [value.label for value in part.numbers] == [
        "truly no, score 0 to 0.5",
        "truly no, score 0.5 to 1",
        "truly yes, score 0 to 0.5",
        "truly yes, score 0.5 to 1",
    ]


def test_a_model_is_shown_by_its_figures_alone() -> None:
    weights = {"layer.weight": np.array([[3.0, -4.0]], np.float32), "layer.bias": np.array([np.nan, 1.0], np.float32)}
    first, second = released_parts(weights, TRAINING, FLU, patients=400)
    assert (first.shape, first.count, first.minimum, first.maximum, first.norm) == ((1, 2), 2, -4.0, 3.0, 5.0)
    assert first.numbers == ()
    assert (second.not_finite, second.norm) == (1, 1.0)


def test_a_tensor_of_no_finite_number_is_shown_all_the_same() -> None:
    (part,) = released_parts({"w": np.array([np.inf, np.nan])}, TRAINING, FLU, patients=400)
    assert part.not_finite == 2
    assert math.isnan(part.norm)


def test_the_noise_is_said_in_words_that_agree() -> None:
    training = " ".join(noise_sentences(TRAINING))
    assert "1 step of training" in training
    assert "noise of 1.25 times" in training
    whole = " ".join(noise_sentences(replace(TRAINING, compression="int8")))
    assert "whole steps of a public grid that each weight moved by, noise included" in whole
    assert (
        "Each of 1 statistic has ε = 0.00001 of the 0.00001" in noise_sentences(asked(Query("count"), epsilon=1e-5))[0]
    )


HAZARDS = Evaluation(
    loss="discrete_hazards", epsilon=1.0, bins=2, target=("age", "influenza"), horizon=60.0, subgroups=("cough",)
)


def test_tables_of_times_name_what_is_known_of_each_patient() -> None:
    schema = FLU.predicting(HAZARDS)
    shapes = {table.name: table.shape for table in evaluation_tables(HAZARDS, schema, 3)}
    tensors = {name: np.zeros(shape) for name, shape in shapes.items()}
    parts = {part.name: part for part in released_parts(tensors, HAZARDS, FLU, patients=400)}
    labels = [value.label for value in parts["scores"].numbers]
    assert labels[0] == "event after 0 to 20, risk 0 to 0.5"
    assert labels[6] == "censored after 0 to 20, risk 0 to 0.5"
    assert labels[-1] == "without the event at 60, risk 0.5 to 1"
    assert parts["errors"].title == "Squared errors of predicted survival"
    assert parts["scores/cough"].numbers[0].label.startswith("no, event after 0 to 20")
    assert any("disjoint" in sentence for sentence in noise_sentences(HAZARDS))


@pytest.mark.parametrize("loss", ["mean_squared_error", "poisson", "multilabel_binary_cross_entropy_with_logits"])
def test_every_cell_of_a_table_is_named(loss: str) -> None:
    target = ("cough", "influenza") if "multilabel" in loss else "age"
    mechanism = Evaluation(loss=loss, epsilon=1.0, bins=3, target=target)
    (table,) = evaluation_tables(mechanism, FLU.predicting(mechanism), 1)
    (part,) = released_parts({"scores": np.zeros(table.shape)}, mechanism, FLU, patients=400)
    assert len({value.label for value in part.numbers}) == table.size


def test_intervals_of_a_table_cover_its_noise() -> None:
    mechanism = Evaluation(loss="mean_squared_error", epsilon=1.0, bins=5, target="age", subgroups=("cough",))
    p = math.exp(-mechanism.draws[0])  # each of two tables has half of ε
    draw = np.random.default_rng(3)
    tensors = {name: 30.0 + draw.geometric(1 - p, shape) - draw.geometric(1 - p, shape)
               for name, shape in (("scores", (5, 5)), ("scores/cough", (2, 5, 5)))}  # fmt: skip
    cells = [value for part in released_parts(tensors, mechanism, FLU, patients=400) for value in part.numbers]
    inside = [value.low is not None and value.high is not None and value.low <= 30 <= value.high for value in cells]
    assert sum(inside) >= 65  # of 75 at 95 %: fewer once in 2,000 times


def test_a_survival_table_is_counts_by_group_time_and_event() -> None:
    mechanism = KaplanMeier(time="age", event="influenza", by="cough", epsilon=1.0, bins=2)
    (part,) = released_parts({"patients": np.arange(10.0).reshape(2, 5)}, mechanism, FLU, patients=400)
    assert [value.label for value in part.numbers][:5] == [
        "no, influenza at 0 to 50 years",
        "no, influenza at 50 to 100 years",
        "no, last seen at 0 to 50 years",
        "no, last seen at 50 to 100 years",
        "no, followed to 100 years",
    ]
    assert part.numbers[0].high is not None
    assert "one patient counts in one cell" in noise_sentences(mechanism)[0]


def test_answers_by_groups_name_each_and_their_errors_are_of_its_own_number() -> None:
    mechanism = Statistics(
        queries=(Query("count"), Query("mean", ("temperature",)), Query("histogram", ("cough",))),
        epsilon=3.0,
        group_by=groupings_from("influenza"),
    )
    tensors = {
        "count": np.array([300.0, 20.0]),
        "mean/temperature": np.array([[37.0, 300.0], [38.0, 20.0]]),
        "histogram/cough": np.array([[200.0, 100.0], [5.0, 15.0]]),
    }
    count, mean, cells = released_parts(tensors, mechanism, FLU, patients=320)
    assert count.title == "Count of patients by influenza"
    assert [value.label for value in count.numbers] == ["no", "yes"]
    many, few = mean.numbers
    assert (many.value, few.value) == (37.0, 38.0)
    assert few.high - few.low > 5 * (many.high - many.low)  # type: ignore[operator]
    assert [value.label for value in cells.numbers] == ["no, no", "no, yes", "yes, no", "yes, yes"]


def test_what_is_missing_and_a_distribution_are_named() -> None:
    queries = Query("missing", ("age",)), Query("describe", ("cough",))
    mechanism = asked(*queries)
    missing, described = released_parts(
        {"missing/age": np.array([390.0, 10.0]), "describe/cough": np.array([300.0, 100.0])},
        mechanism, FLU, patients=400,
    )  # fmt: skip
    assert (missing.title, described.title) == ("Records with and without age", "Distribution of cough")
    assert [value.label for value in missing.numbers] == ["present", "missing"]
