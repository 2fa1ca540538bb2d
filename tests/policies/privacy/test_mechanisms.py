"""Fields of a training that came later: what they say, and that what was declared before stays as it was."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from policies.errors import UnsupportedMechanism
from policies.privacy.mechanisms import DPSGD, as_dict, mechanism_from
from researcher.sources import request_source

pytestmark = pytest.mark.quick

BEFORE = DPSGD(
    loss="binary_cross_entropy",
    rounds=4,
    steps=5,
    sampling_rate=0.1,
    clipping_norm=1.0,
    learning_rate=0.4,
    epsilon=2.0,
)
AS_EVER = {
    "kind": "dp_sgd",
    "loss": "binary_cross_entropy",
    "rounds": 4,
    "steps": 5,
    "sampling_rate": 0.1,
    "clipping_norm": 1.0,
    "learning_rate": 0.4,
    "epsilon": 2.0,
    "noise_multiplier": None,
    "delta": 1e-5,
    "optimizer": "sgd",
    "momentum": 0.0,
    "weight_decay": 0.0,
    "proximal_mu": 0.0,
    "inputs": "features",
}


def test_a_training_without_later_fields_is_written_as_it_was_before_them() -> None:
    assert as_dict(BEFORE) == AS_EVER
    assert list(as_dict(BEFORE)) == list(AS_EVER)
    assert mechanism_from(AS_EVER) == BEFORE
    assert "schedule" not in request_source("flu", BEFORE)
    assert "clipping=" not in request_source("flu", BEFORE)


@pytest.mark.parametrize("changes", [{"schedule": "cosine"}, {"clipping": "automatic"}])
def test_a_later_field_is_written_where_it_says_something(changes: dict[str, Any]) -> None:
    declared = replace(BEFORE, **changes)
    assert as_dict(declared) == AS_EVER | changes
    assert mechanism_from(as_dict(declared)) == declared != BEFORE
    ((name, value),) = changes.items()
    assert f'{name}="{value}"' in request_source("flu", declared)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "steps"}, "schedule='steps' is not known. Use one of constant, linear, cosine"),
        ({"schedule": None}, "schedule=None is not known"),
        ({"clipping": "none"}, "clipping='none' is not known. Use one of norm, automatic"),
        ({"clipping": ["norm"]}, r"clipping=\['norm'\] is not known"),
    ],
)
def test_a_later_field_with_another_value_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedMechanism, match=message):
        replace(BEFORE, **changes)


def test_rates_are_those_of_their_closed_forms() -> None:
    # 20 steps in all; the first of the third round comes after 10 of them.
    assert BEFORE.rate(3, 1) == 0.4
    assert replace(BEFORE, schedule="linear").rate(3, 1) == pytest.approx(0.4 * 0.5)
    assert replace(BEFORE, schedule="cosine").rate(3, 1) == pytest.approx(0.4 * 0.5)
    assert replace(BEFORE, schedule="cosine").rate(1, 5) == pytest.approx(0.4 * (1 + math.cos(math.pi / 5)) / 2)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_rate_never_rises_and_is_never_nothing(schedule: str) -> None:
    declared = replace(BEFORE, schedule=schedule)
    rates = [declared.rate(round, step) for round in range(1, 5) for step in range(1, 6)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 0.4
    assert rates[-1] > 0
