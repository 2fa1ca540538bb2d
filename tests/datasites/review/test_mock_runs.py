"""A mock run in plain words."""

from __future__ import annotations

from typing import Any

import pytest

from datasites.review.mock_runs import KINDS, _checked, sentences

FACTS: dict[str, Any] = {
    "rows": 1000, "seconds": 0.4, "memory": 300_000_000, "finite": True, "answers": None, "steps": 12,
    "steps_of_round": 40, "parameters": 385, "moved": True, "loss_before": 0.7, "loss_after": 0.6,
}  # fmt: skip


@pytest.mark.parametrize(
    ("lanes", "said"),
    [
        (True, "Its rounds train with a lane of the processor for each record."),
        (False, "Its rounds train with a place in the batch for each record, which takes longer"),
    ],
)
def test_a_mock_run_says_which_engine_its_rounds_train_with(lanes: bool, said: str) -> None:
    assert sum(said in line for line in sentences({"facts": FACTS | {"lanes": lanes}})) == 1


@pytest.mark.parametrize("facts", [FACTS, FACTS | {"lanes": None}])
def test_a_mock_run_from_before_there_were_lanes_says_nothing_of_them(facts: dict[str, Any]) -> None:
    assert not any("lane" in line for line in sentences({"facts": facts}))


@pytest.mark.parametrize("said", ["yes", 1, None, {}])
def test_what_a_job_says_of_its_engine_is_a_flag_or_nothing(said: object) -> None:
    assert KINDS["lanes"] is bool
    assert _checked({"lanes": said}, "lanes") is None
    assert _checked({"lanes": True}, "lanes") is True
