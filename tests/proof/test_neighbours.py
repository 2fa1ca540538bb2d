"""The pairs are what they say they are: what the one patient's gradient is, and that nobody else's shows."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from datasites.engine.interpreter import forward
from datasites.engine.training import record_gradients
from tests.proof.mechanisms.dp_sgd import LOSS, MIDDLE, NARROW
from tests.proof.neighbours import SCHEMA, Matrix, Weights, crowd, graph_of, loud, overflowing, patient, quiet


def gradient(table: Matrix, weights: Weights, hidden: int) -> torch.Tensor:
    """[records, parameters] of a table."""
    given = {name: torch.from_numpy(value) for name, value in weights.items()}
    inputs, labels = torch.from_numpy(SCHEMA.inputs(table)), torch.from_numpy(SCHEMA.targets(table))
    found, _ = record_gradients(forward(graph_of(hidden)), LOSS)(given, inputs, labels)
    return torch.cat([each.flatten(1) for each in found.values()], dim=1)


@pytest.mark.parametrize("weights", [loud, quiet, overflowing])
@pytest.mark.parametrize("hidden", [NARROW, MIDDLE])
def test_nobody_of_the_crowd_has_a_gradient(weights: Callable[[int], Weights], hidden: int) -> None:
    assert not gradient(crowd(50), weights(hidden), hidden).any()


def test_the_one_patients_gradient_is_loud_quiet_or_not_finite() -> None:
    one = patient(50)
    assert gradient(one, loud(NARROW), NARROW).norm() == pytest.approx(2.0)
    assert not gradient(one, quiet(NARROW), NARROW).any()
    assert gradient(one, overflowing(NARROW), NARROW).isnan().any()
    assert all(np.isfinite(each).all() for each in overflowing(NARROW).values())
