"""What is said of a plan that was tried on mock rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from datasites.engine.mock_rows import draw_mock
from datasites.jobs.mock_run import MOST_SCORED, mean_loss, peak_memory, starting_weights, training_facts
from policies.privacy.mechanisms import DPSGD
from tests.policies.plan_factories import LINEAR, SCHEMA, training

MECHANISM = training(steps=2)
assert isinstance(MECHANISM, DPSGD)
ROWS = draw_mock(SCHEMA, 50)


def test_starting_weights_are_the_same_each_time_and_bounded_as_torchs_are() -> None:
    weights, again = starting_weights(LINEAR), starting_weights(LINEAR)
    assert [*weights] == [parameter.name for parameter in LINEAR.parameters]
    for parameter in LINEAR.parameters:
        assert torch.equal(weights[parameter.name], again[parameter.name])
        bound = 1 / math.sqrt(math.prod(parameter.shape[1:] or parameter.shape))
        assert weights[parameter.name].abs().max() <= bound
        assert weights[parameter.name].abs().max() > 0


def test_mean_loss_is_the_mean_over_the_first_rows_that_have_one() -> None:
    zeros = {parameter.name: torch.zeros(parameter.shape) for parameter in LINEAR.parameters}
    classes = len(SCHEMA.classes)
    assert mean_loss(LINEAR, MECHANISM, SCHEMA, ROWS, zeros) == pytest.approx(math.log(classes))  # all are as likely
    beyond = np.concatenate([np.repeat(ROWS[:1], MOST_SCORED, 0), ROWS])
    weights = starting_weights(LINEAR)
    assert mean_loss(LINEAR, MECHANISM, SCHEMA, beyond, weights) == pytest.approx(
        mean_loss(LINEAR, MECHANISM, SCHEMA, ROWS[:1], weights)
    )


def test_facts_tell_whether_weights_moved_and_stayed_finite() -> None:
    weights = starting_weights(LINEAR)
    still = training_facts(LINEAR, MECHANISM, SCHEMA, ROWS, weights, weights)
    assert (still["moved"], still["finite"]) == (False, True)
    assert still["loss_before"] == still["loss_after"]
    assert still["parameters"] == LINEAR.parameter_count
    endless = {name: torch.full_like(value, math.inf) for name, value in weights.items()}
    broken = training_facts(LINEAR, MECHANISM, SCHEMA, ROWS, weights, endless)
    assert (broken["moved"], broken["finite"], broken["loss_after"]) == (True, False, None)


def test_memory_is_in_bytes() -> None:
    assert 10e6 < peak_memory() < 1e12  # torch alone is more than the least
