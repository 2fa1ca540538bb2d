"""Targets of every kind: how a schema declares them, and how they are read again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from policies.errors import DataRefused, UnsupportedMechanism
from policies.privacy.mechanisms import DPSGD, Evaluation, as_dict
from policies.privacy.outcomes import Outcome
from policies.schema.schemas import Schema
from policies.schema.targets import TimeToEvent, interval_ends, natural, said, scaled

HEAD = 'name = "t"\npopulation = "p"\npatient = "id"\n'
COLUMNS = """
[columns.x]
kind = "real"
minimum = 0
maximum = 1

[columns.days]
kind = "integer"
minimum = 0
maximum = 1000
unit = "days"

[columns.died]
kind = "boolean"

[columns.stroke]
kind = "boolean"

[columns.admitted]
kind = "date"
minimum = 2020-01-01
maximum = 2021-01-01

[columns.filled]
kind = "integer"
minimum = 0
maximum = 9
missing = {constant = 0}
"""
TIME = '[target]\ntime = "days"\nevent = "died"\nhorizon = 730\n'


def training(loss: str, **changes: object) -> DPSGD:
    fields = {
        "loss": loss, "rounds": 1, "steps": 1, "sampling_rate": 0.1, "clipping_norm": 1.0, "learning_rate": 0.1,
        "epsilon": 1.0,
    }  # fmt: skip
    return DPSGD(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ['target = "days"\n', 'target = ["died", "stroke"]\n', 'target = "died"\n', ""])
def test_a_target_is_read_again_as_it_was_written(target: str) -> None:
    schema = Schema.from_toml(HEAD + target + COLUMNS)
    assert Schema.from_toml(schema.to_toml()) == schema
    assert Schema.from_dict(json.loads(json.dumps(schema.as_dict()))) == schema


def test_a_time_with_an_event_is_a_table_of_its_own() -> None:
    schema = Schema.from_toml(HEAD + COLUMNS + TIME)
    assert schema.target == TimeToEvent(time="days", event="died", horizon=730)
    assert schema.target_columns == ("days", "died")
    assert Schema.from_toml(schema.to_toml()) == schema
    assert Schema.from_dict(json.loads(json.dumps(schema.as_dict()))) == schema
    assert schema.feature_names == ("x", "stroke", "admitted", "filled")
    assert said(schema.target, schema.column) == "died by 730 days (days, censored)"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ('target = ["died"]\n', "should name 2 to 64"),
        ('target = ["died", "days"]\n', "target='days' is integer. Each of several labels is a boolean"),
        ('target = "admitted"\n', "target='admitted' is date"),
        ('target = "filled"\n', "cannot be filled where missing"),
        ("target = 3\n", "target='3' is not a target"),
        ('target = {time = "days", event = "died"}\n', "is not a target"),
        ('target = {time = "died", event = "stroke", horizon = 3}\n', "A time is real or integer"),
        ('target = {time = "days", event = "x", horizon = 3}\n', "An event is a boolean"),
        ('target = {time = "days", event = "died", horizon = 2000}\n', r"horizon=2000 is outside \(0, 1000\]"),
        ('target = {time = "days", event = "died", horizon = 0}\n', "is not a time above 0"),
    ],
)
def test_a_target_that_is_none_is_refused_with_what_and_why(target: str, words: str) -> None:
    with pytest.raises(DataRefused, match=words):
        Schema.from_toml(HEAD + target + COLUMNS)


def test_a_mechanism_may_name_another_declared_column_and_the_former_target_is_no_feature() -> None:
    schema = Schema.from_toml(HEAD + 'target = "died"\n' + COLUMNS)
    other = schema.predicting(training("mean_squared_error", target="days"))
    assert other.target == "days"
    assert other.feature_names == ("x", "stroke", "admitted", "filled")
    assert other.predicting(training("mean_squared_error", target="days")) == other
    assert schema.predicting(training("binary_cross_entropy")) is schema
    shorter = Schema.from_toml(HEAD + COLUMNS + TIME).predicting(training("discrete_hazards", horizon=365.0))
    assert shorter.target == TimeToEvent(time="days", event="died", horizon=365)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss": "poisson", "target": "x"}, "predicts an integer column whose minimum is 0"),
        ({"loss": "mean_squared_error", "target": "died"}, "boolean: use loss='binary_cross_entropy_with_logits'"),
        ({"loss": "mean_squared_error", "target": "filled"}, "cannot be filled where missing"),
        ({"loss": "discrete_hazards", "target": ("days", "x"), "horizon": 9.0}, "An event is a boolean"),
        ({"loss": "mean_squared_error"}, "no target to train"),
    ],
)
def test_a_target_that_does_not_fit_the_loss_is_refused_with_one_that_does(
    changes: dict[str, object], words: str
) -> None:
    schema = Schema.from_toml(HEAD + COLUMNS)
    with pytest.raises(UnsupportedMechanism, match=words):
        schema.predicting(training(**changes))  # type: ignore[arg-type]


def test_values_are_finite_and_within_public_bounds_whatever_stands_in_the_matrix() -> None:
    schema = Schema.from_toml(HEAD + COLUMNS + TIME)
    rows = np.full((6, 8), 0.0)
    rows[:, 3] = [np.nan, np.inf, -np.inf, 1e300, 500.0, -5.0]
    rows[:, 4] = [np.nan, np.inf, 1.0, -1e300, 0.0, 0.4]
    values = schema.target_values(rows, Outcome.TIME)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert set(values[:, 1]) <= {0.0, 1.0}
    assert values[4].tolist() == [0.0, 0.0]  # 500 of [0, 1000], and alive


def test_a_number_comes_back_in_its_own_units() -> None:
    column = Schema.from_toml(HEAD + COLUMNS).column("days")
    assert natural(column, scaled(column, 250.0)) == 250.0
    ends = interval_ends(TimeToEvent(time="days", event="died", horizon=800.0), column, 4)
    assert natural(column, ends).tolist() == pytest.approx([200, 400, 600, 800])


def test_mechanisms_without_the_new_fields_are_written_as_before() -> None:
    written = as_dict(training("binary_cross_entropy"))
    assert not {"target", "horizon", "class_weights", "huber_delta"} & set(written)
    assert set(as_dict(Evaluation(loss="binary_cross_entropy", epsilon=1.0))) == {
        "kind", "loss", "epsilon", "bins", "rounds", "inputs",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss": "cox_partial_likelihood"}, "divides each patient's risk by the sum.*Use loss='discrete_hazards'"),
        ({"loss": "mse"}, "is not known. Use one of"),
        ({"loss": "huber"}, "huber, and no other loss, needs one"),
        ({"loss": "poisson", "huber_delta": 1.0}, "huber, and no other loss"),
        ({"loss": "huber", "huber_delta": -1.0}, "is not a number above 0"),
        ({"loss": "poisson", "class_weights": (1.0,)}, "which poisson has none of"),
        ({"loss": "cross_entropy", "class_weights": (1.0, 0.0)}, r"outside \(0, 1000\]"),
        ({"loss": "cross_entropy", "class_weights": 3.0}, "is not a tuple of numbers"),
    ],
)
def test_losses_and_their_constants_are_refused_with_what_to_write(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UnsupportedMechanism, match=words):
        training(**changes)  # type: ignore[arg-type]
