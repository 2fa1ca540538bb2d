"""A committee is as large as chance needs it, and what a team's sum promises follows from its declaration."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy import stats

from policies.errors import DatasiteError, UnsupportedMechanism
from policies.privacy.device_reports import Column, DeviceQuestion, question_from
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.privacy.team_sums import (
    LOST,
    SECURITY,
    TeamSum,
    chance_of_more,
    committee_for,
    team_sum_from,
)

ROOT = "ab" * 32
MOST_NEIGHBOURS = 500


def team(devices: int = 1000, **changes: Any) -> TeamSum:
    return TeamSum(
        **{"root": ROOT, "devices": devices, "threshold": devices * 2 // 3 + 1, "colluding": devices // 5} | changes
    )


@pytest.mark.parametrize("marked", [0, 200, 333])
@pytest.mark.parametrize("least", [0, 1, 30, 60])
def test_a_chance_is_the_hypergeometric_one_and_never_less(marked: int, least: int) -> None:
    exact = sum(
        Fraction(math.comb(marked, count) * math.comb(1000 - marked, 78 - count), math.comb(1000, 78))
        for count in range(least, 79)
    )
    said = chance_of_more(1000, marked, 78, least)
    assert Fraction(said) >= exact
    assert said <= float(exact) * 1.000001 + 1e-300
    assert said == pytest.approx(stats.hypergeom.sf(least - 1, 1000, marked, 78), rel=1e-6, abs=1e-290)


@pytest.mark.parametrize("devices", [101, 300, 1000, 10_000, 20_000])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 1 / 3])
def test_a_committee_is_the_smallest_that_is_safe(devices: int, share: float) -> None:
    colluding = math.floor(share * devices)
    committee = committee_for(devices, colluding)
    most = 2 * committee.needed - committee.size  # with so many two sums could be opened
    assert most <= committee.needed  # before which shares could be read
    assert chance_of_more(devices, colluding, committee.size, most) <= 2.0**-SECURITY
    assert committee.size - committee.needed == math.floor(LOST * committee.size)
    for size in range(3, committee.size):
        needed = size - math.floor(LOST * size)
        assert chance_of_more(devices, colluding, size, 2 * needed - size) > 2.0**-SECURITY


def test_a_committee_of_a_large_team_is_hardly_larger_and_one_of_a_small_team_certain() -> None:
    assert [committee_for(devices, devices // 5).size for devices in (1000, 10_000, 20_000)] == [78, 85, 85]
    small = committee_for(12, 2)
    assert chance_of_more(12, 2, small.size, 2 * small.needed - small.size) == 0.0


@pytest.mark.parametrize(("lost", "chance"), [(0.02, 2.0**-26), (0.05, 2.0**-10), (0.1, 0.12)])
def test_a_sum_opens_though_some_of_the_committee_fall_silent(lost: float, chance: float) -> None:
    """Of 10,000 devices, so many of whom are switched off in the middle: what docs/decisions/0044 says of it."""
    committee = committee_for(10_000, 2_000)
    spare = committee.size - committee.needed
    assert chance_of_more(10_000, round(lost * 10_000), committee.size, spare + 1) <= chance


def neighbours_of_bell(devices: int, colluding: float, lost: float) -> int | None:
    """Neighbours that each device needs with masks between pairs of neighbours, against a relay that lies.

    Bell et al. 2020 (doi:10.1145/3372297.3417885), σ = 40, η = 30: with k neighbours a threshold t such that no
    device's both secrets are opened, 2t > k + a for its a neighbours that work together, but with a chance of
    2^-41 / n, and such that t of its neighbours stay, but with a chance of 2^-30 / n.
    """
    bad, gone = round(colluding * devices), round(lost * devices)
    for k in range(10, MOST_NEIGHBOURS + 1, 2):
        counts = np.arange(k + 1)
        too_many = stats.hypergeom.sf(counts, devices, bad, k) <= 2.0**-41 / devices
        too_few = stats.hypergeom.sf(counts, devices, gone, k) <= 2.0**-30 / devices
        most, lost_most = int(counts[too_many][0]), int(counts[too_few][0])
        if 2 * (k - lost_most) > k + most:
            return k
    return None


@pytest.mark.parametrize(
    ("devices", "colluding", "lost", "neighbours"),
    [(1000, 0.05, 0.05, 62), (10_000, 0.05, 0.05, 74), (1000, 0.2, 0.1, 162), (10_000, 0.2, 0.1, 216),
     (1000, 0.2, 1 / 3, None), (10_000, 0.2, 1 / 3, None), (10_000, 1 / 3, 1 / 3, None)],
)  # fmt: skip
def test_a_graph_of_neighbours_would_need_more_and_not_stand_a_third_of_drop_outs(
    devices: int, colluding: float, lost: float, neighbours: int | None
) -> None:
    """Why there is a committee: numbers of docs/decisions/0044."""
    assert neighbours_of_bell(devices, colluding, lost) == neighbours


def test_the_smallest_sum_with_most_colluders_in_it_still_has_a_whole_noise() -> None:
    for devices in (3, 12, 101, 1000, 10_000):
        asked = question(team=team(devices, colluding=min(devices // 5, devices * 2 // 3 - 1)))
        assert asked.team is not None
        honest = asked.team.threshold - asked.team.colluding
        assert asked.parts == honest
        assert asked.epsilon_if(honest) == 1.0
        if honest > 1:
            assert asked.epsilon_if(honest - 1) > 1.0
        assert asked.sharing == devices


def question(**changes: Any) -> DeviceQuestion:
    column = Column(name="heart_rate", low=40, high=200)
    return DeviceQuestion(**{"name": "week 12", "columns": (column,), "epsilon": 1.0} | changes)


def test_a_question_to_a_team_is_read_back_as_it_was() -> None:
    asked = question(team=team())
    again = question_from(asked.as_dict())
    assert again == asked
    assert again.digest == asked.digest
    assert asked.digest != question(team=team(threshold=700)).digest != question().digest
    assert team_sum_from(None) is None


def test_questions_without_a_team_have_the_digests_that_they_had() -> None:
    """By which devices know answers that they gave before there were teams."""
    assert question().digest == "2991d67e6694f53503a400fbec41c33cafdaadcf4a2abc3c9b42cd775390480c"


@pytest.mark.parametrize(
    "changes",
    [
        {"devices": 2}, {"devices": 20_001}, {"threshold": 500}, {"threshold": 1001}, {"colluding": 334},
        {"colluding": -1}, {"colluding": 1.5}, {"root": "ab"}, {"root": 7}, {"devices": True},
    ],
)  # fmt: skip
def test_a_team_outside_its_ranges_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DatasiteError):
        team(**changes)


@pytest.mark.parametrize("data", [7, {}, {"root": ROOT}, team().as_dict() | {"committee": 3}])
def test_a_declaration_that_is_none_is_refused(data: object) -> None:
    with pytest.raises(UnsupportedMechanism, match="root, devices, threshold, colluding"):
        team_sum_from(data)


def test_a_question_shares_its_noise_once() -> None:
    parties = tuple(Party(f"device {number}", f"{number:064x}", 1) for number in range(3))
    with pytest.raises(UnsupportedMechanism, match="circle or in a team"):
        question(team=team(), shared=SecureAggregation(threshold=2, hospitals=parties))
