"""Rounds that close before the slowest has answered: nothing late is lost, and nothing is paid twice."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy import testing

from policies.errors import InvalidRequest, Unavailable
from researcher.late_releases import check_buffer, moved_late
from tests.researcher.fake_datasites import FakeDatasite

Hospitals = dict[str, FakeDatasite]


def when_asked(hospital: FakeDatasite, round: int, act: Callable[[], Any]) -> None:
    """Do something as soon as a hospital is asked for a round."""
    run = hospital.run

    def asked(code: str, asset: str, weights: Any, number: int) -> dict[str, Any]:
        if number == round:
            act()
        return run(code, asset, weights, number)

    hospital.run = asked  # type: ignore[method-assign]


@pytest.fixture
def one_is_late(hospitals: Hospitals) -> Hospitals:
    """Rural answers its first round while the others are in the second, and general never answers its second."""
    hospitals["rural"].slow_in_rounds, hospitals["general"].slow_in_rounds = {1}, {2}
    when_asked(hospitals["paediatric"], 2, hospitals["rural"].slow_in_rounds.clear)
    return hospitals


def test_a_late_release_enters_the_next_aggregate_by_how_far_it_moved(make_study: Any, one_is_late: Hospitals) -> None:
    study = make_study()
    result = study.run(buffer=2)
    assert [sorted(each.answered) for each in result.rounds] == [
        ["general", "paediatric"],
        ["paediatric", "rural"],
        ["paediatric", "rural"],
    ]
    assert [each.late for each in result.rounds] == [{}, {"rural": 1}, {}]
    assert [each.running for each in result.rounds] == [{"rural": 1}, {"general": 2}, {"general": 2}]
    assert "2/3, 1 late" in str(result.table)
    assert "still running round 1: its release enters a later aggregate" in result.missing["rural"][1]
    # A hospital answers w/2 + its place (0, 1, 2); general and rural weigh half of what paediatric weighs.
    for name, begun in study._initial().items():
        first = begun / 2 + 2 / 3
        late = first + (begun / 2 + 2 - begun) / math.sqrt(2)
        second = (2 * (first / 2 + 1) + late) / 3
        testing.assert_allclose(result.weights[name], second / 2 + 4 / 3, rtol=1e-5, atol=1e-6)


def test_who_is_late_is_not_asked_anew_and_pays_each_round_once(make_study: Any, one_is_late: Hospitals) -> None:
    make_study().run(buffer=2)
    charged = {name: [round for _, round in hospital.charged] for name, hospital in one_is_late.items()}
    assert charged == {"general": [1], "paediatric": [1, 2, 3], "rural": [1, 3]}


def test_an_interrupted_study_goes_on_with_what_was_late(
    make_study: Any, one_is_late: Hospitals, tmp_path: Any
) -> None:
    one_is_late["paediatric"].down_in_rounds = one_is_late["rural"].down_in_rounds = {3}
    with pytest.raises(Unavailable, match="Round 3 of 3 has 0 of the 2 hospitals"):
        make_study().run(buffer=2, deadline=0.3, grace=0.05)
    for hospital in one_is_late.values():
        hospital.down_in_rounds = set()
    result = make_study(submit=False).resume()  # as another process would make it, with the buffer that it began with
    assert [each.late for each in result.rounds] == [{}, {"rural": 1}, {}]
    assert result.rounds[2].running == {"general": 2}
    charged = {name: [round for _, round in hospital.charged] for name, hospital in one_is_late.items()}
    assert charged == {"general": [1], "paediatric": [1, 2, 3], "rural": [1, 3]}

    for hospital in one_is_late.values():
        hospital.releases, hospital.charged, hospital.sources, hospital.slow_in_rounds = {}, [], {}, set()
    one_is_late["rural"].slow_in_rounds, one_is_late["general"].slow_in_rounds = {1}, {2}
    when_asked(one_is_late["paediatric"], 2, one_is_late["rural"].slow_in_rounds.clear)
    whole = make_study(state=tmp_path / "other", submit=False)
    whole.submit()
    for name, expected in whole.run(buffer=2).weights.items():
        testing.assert_array_equal(result.weights[name], expected)


def test_a_late_run_that_fails_is_over_and_its_hospital_is_asked_again(make_study: Any, hospitals: Hospitals) -> None:
    rural = hospitals["rural"]
    rural.slow_in_rounds = {1}

    def fail() -> None:
        rural.slow_in_rounds, rural.failing_rounds = set(), {1}

    when_asked(hospitals["paediatric"], 2, fail)
    result = make_study().run(buffer=3, deadline=0.5)
    assert "the charge stays" in result.missing["rural"][2]
    assert sorted(result.rounds[2].answered) == ["general", "paediatric", "rural"]
    assert [each.running for each in result.rounds] == [{"rural": 1}, {}, {}]


def test_a_hospital_that_is_cut_off_in_a_round_is_asked_for_that_round_when_it_is_back(
    make_study: Any, hospitals: Hospitals
) -> None:
    rural, run = hospitals["rural"], hospitals["rural"].run
    rural.slow_in_rounds = {1}

    def cut_off_once_it_has_begun(*asked: Any) -> dict[str, Any]:
        answer = run(*asked)
        if answer["status"] == "running":
            rural.slow_in_rounds, rural.down_in_rounds = set(), {1}
        return answer

    rural.run = cut_off_once_it_has_begun  # type: ignore[method-assign]
    when_asked(hospitals["paediatric"], 2, lambda: setattr(rural, "down_in_rounds", set()))
    result = make_study().run(buffer=3, deadline=5, grace=0.1)
    assert [each.running for each in result.rounds] == [{"rural": 1}, {}, {}]
    assert [each.late for each in result.rounds] == [{}, {"rural": 1}, {}]
    assert "had begun round 1, and was cut off. rural does not answer" in result.missing["rural"][1]
    assert [round for _, round in rural.charged] == [1, 3]


def test_a_hospital_that_never_comes_back_is_missing_by_name_and_holds_nobody_up(
    make_study: Any, hospitals: Hospitals
) -> None:
    when_asked(hospitals["paediatric"], 2, lambda: setattr(hospitals["rural"], "down", True))
    hospitals["rural"].down_in_rounds = {2, 3}
    begun = time.monotonic()
    result = make_study().run(buffer=2, deadline=60, grace=30)
    assert time.monotonic() - begun < 10
    assert [sorted(each.answered) for each in result.rounds][1:] == [["general", "paediatric"]] * 2
    assert "not reached" in result.missing["rural"][3]


def test_a_quorum_that_cannot_be_met_ends_the_study_and_names_who_is_missing_and_what_to_do(
    make_study: Any, hospitals: Hospitals
) -> None:
    for name in ("rural", "general"):
        hospitals[name].down_in_rounds = {2, 3}
        when_asked(hospitals["paediatric"], 2, functools.partial(setattr, hospitals[name], "down", True))
    with pytest.raises(Unavailable, match=r"(?s)Round 2 of 3 has 1 of the 2.*general.*rural.*study\.resume\("):
        make_study().run(buffer=2, deadline=1, grace=0.1)
    for hospital in hospitals.values():
        hospital.down, hospital.down_in_rounds = False, set()
    result = make_study(submit=False).resume(grace=0.1)
    assert [round for _, round in hospitals["paediatric"].charged] == [1, 2, 3]
    assert len(result.rounds) == 3


def test_without_a_buffer_a_round_waits_for_everybody(make_study: Any, hospitals: Hospitals) -> None:
    hospitals["rural"].slow_in_rounds = {1}
    result = make_study().run(deadline=0.2)
    assert [each.running for each in result.rounds] == [{}, {}, {}]
    assert "rural" in result.rounds[1].answered  # asked anew, as it always was


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"buffer": 1},
            r"buffer=1 closes a round with fewer hospitals than the strategy's quorum of 2\. Give at least 2",
        ),
        ({"buffer": 4}, r"buffer.*4.*3"),
        ({"buffer": 2.5}, "buffer.*2.5"),
    ],
)
def test_a_buffer_that_cannot_be_is_refused_before_anybody_is_asked(
    make_study: Any, hospitals: Hospitals, options: dict[str, Any], said: str
) -> None:
    study = make_study()
    with pytest.raises(InvalidRequest, match=said):
        study.run(**options)
    assert not any(hospital.charged for hospital in hospitals.values())


def test_a_buffer_and_masks_are_refused_together() -> None:
    with pytest.raises(InvalidRequest, match="belongs to one round"):
        check_buffer(2, quorum=2, hospitals=3, in_sums=True)


@pytest.mark.parametrize("late", [1, 3, 8])
def test_what_is_later_counts_less(late: int) -> None:
    begun, release = {"w": np.zeros(3, np.float32)}, {"w": np.ones(3, np.float32)}
    weights = {"w": np.full(3, 5, np.float32)}
    moved = moved_late(release, begun, weights, late)
    testing.assert_allclose(moved["w"], 5 + 1 / math.sqrt(1 + late), rtol=1e-6)
    assert moved["w"].dtype == np.float32
