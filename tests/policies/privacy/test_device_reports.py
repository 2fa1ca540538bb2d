"""A question to devices: what one person moves costs no more than it says, and what is malformed is refused."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest

from policies.errors import DatasiteError, InvalidRequest
from policies.privacy.device_reports import (
    LEAST_STEPS,
    Column,
    DeviceQuestion,
    question_from,
    roster_digest,
    units,
)
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.privacy.shared_noise import rate_of

HEART = Column(name="heart_rate", low=40, high=200)


def question(**changes: Any) -> DeviceQuestion:
    return DeviceQuestion(**{"name": "week 12", "columns": (HEART,), "epsilon": 1.0} | changes)


def roster(count: int, threshold: int) -> SecureAggregation:
    parties = tuple(Party(f"device {number}", f"{number:064x}", 1) for number in range(count))
    return SecureAggregation(threshold=threshold, hospitals=parties)


@pytest.mark.parametrize("epsilon", [0.001, 0.1, 1.0, 3.0, 20.0])
def test_no_two_numbers_of_a_person_are_told_apart_by_more_than_epsilon(epsilon: float) -> None:
    asked = question(epsilon=epsilon)
    steps = asked.steps
    values = [*range(-steps, steps + 1, max(1, steps // 97)), -steps, steps, steps // 2, -steps // 2]
    most = max(
        abs(one - other) + abs((one * one + steps // 2) // steps - (other * other + steps // 2) // steps)
        for one, other in itertools.combinations(values, 2)
    )
    assert rate_of(asked.halvings) * most <= epsilon
    assert rate_of(asked.halvings) * most > 0.98 * epsilon  # and hardly any of it is left lying
    assert steps >= LEAST_STEPS


def test_every_pair_of_a_small_grid_is_within_the_bound() -> None:
    for steps in (1, 2, 7, 40):
        squares = {y: (y * y + steps // 2) // steps for y in range(-steps, steps + 1)}
        for y, z in itertools.combinations(squares, 2):
            assert abs(y - z) + abs(squares[y] - squares[z]) <= 9 * steps / 4 + 1


def test_numbers_beyond_the_bounds_count_as_the_bounds() -> None:
    asked = question()
    assert asked.exact({"heart_rate": 1e9}) == asked.exact({"heart_rate": 200}) == [asked.steps, asked.steps]
    assert asked.exact({"heart_rate": -1e9}) == asked.exact({"heart_rate": 40}) == [-asked.steps, asked.steps]
    assert asked.exact({"heart_rate": 120}) == [0, 0]


def test_columns_share_epsilon_and_noise_is_as_wide_as_that_needs() -> None:
    two = question(columns=(HEART, Column(name="age", low=0, high=120)), epsilon=2.0)
    assert two.halvings == question().halvings
    assert two.steps == question().steps
    assert len(two.answered({"heart_rate": 70, "age": 40}, random.Random(1))) == 4


def test_both_epsilons_of_a_roster_follow_from_it() -> None:
    asked = question(shared=roster(100, 67))
    assert asked.parts == 34  # of 67 in a sum, 33 may be of those who work together
    assert asked.epsilon_if(34) == asked.epsilon_if(99) == 1.0
    losses = [asked.epsilon_if(honest) for honest in (1, 10, 25, 33)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 20
    assert losses[-1] > 1.0
    assert question().epsilon_if(1) == question().epsilon_if(0) == 1.0


def test_sums_of_a_full_roster_stay_in_a_word_at_the_least_epsilon() -> None:
    asked = question(epsilon=0.001, shared=roster(100, 51))
    deviation = math.sqrt(2 * 100 / 51) / rate_of(asked.halvings)
    assert 100 * asked.steps + 100 * deviation < 2**31


@pytest.mark.parametrize(("count", "threshold"), [(2, 2), (3, 2), (3, 3), (10, 7), (25, 17), (100, 51), (100, 67)])
def test_the_smallest_sum_with_most_colluders_in_it_still_has_a_whole_noise(count: int, threshold: int) -> None:
    """A relay that drops honest devices until the threshold is just met, and knows the parts of all who collude."""
    asked = question(shared=roster(count, threshold))
    assert asked.shared is not None
    colluding = asked.shared.colluding
    secret_parts = threshold - colluding
    assert asked.epsilon_if(secret_parts) == 1.0
    assert asked.epsilon_if(secret_parts - 1) > 1.0
    # And with so many it cannot have both secrets of anybody: each of the others answers once.
    assert 2 * (threshold - colluding) > count - colluding


def test_a_question_is_read_back_as_it_was_and_known_again_by_its_digest() -> None:
    for asked in (question(), question(shared=roster(3, 2))):
        again = question_from(asked.as_dict())
        assert again == asked
        assert again.digest == asked.digest
    assert question(name="week 13").digest != question().digest
    assert question(shared=roster(3, 2)).digest != question(shared=roster(3, 3)).digest
    assert roster_digest(roster(3, 2)) != roster_digest(roster(3, 3))


@pytest.mark.parametrize(
    "changes",
    [
        {"epsilon": 0.0}, {"epsilon": 21.0}, {"epsilon": math.nan}, {"epsilon": "1"}, {"epsilon": True},
        {"name": ""}, {"name": "a\x1bb"}, {"name": 7}, {"columns": ()}, {"columns": (HEART, HEART)},
    ],
)  # fmt: skip
def test_a_question_outside_its_ranges_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DatasiteError):
        question(**changes)


@pytest.mark.parametrize(("low", "high"), [(200, 40), (40, 40), (0, math.inf), (math.nan, 1), ("0", 1), (0, 1e13)])
def test_bounds_that_are_none_are_refused(low: Any, high: Any) -> None:
    with pytest.raises(InvalidRequest):
        Column(name="x", low=low, high=high)


@pytest.mark.parametrize(
    "data",
    [None, [], {}, {"kind": "other"}, question().as_dict() | {"more": 1}, question().as_dict() | {"columns": [[1, 2]]},
     question().as_dict() | {"columns": "abc"}, question().as_dict() | {"shared": []}],
)  # fmt: skip
def test_what_is_no_question_is_refused(data: object) -> None:
    with pytest.raises(InvalidRequest):
        question_from(data)


def test_a_charge_is_never_below_what_is_spent() -> None:
    assert units(0.1) == 100_001  # 0.1 in binary is a little more than a tenth
    assert units(1) == 1_000_000
