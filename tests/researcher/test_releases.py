"""Asking for a release: twice where a hospital says when it shows, patiently where it cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from policies.errors import Unavailable, WrongStatus
from policies.source.statuses import RunStatus
from researcher import releases
from researcher.releases import LONGEST, SHORTEST_PAUSE, Asked, ask_release, shows_in

WEIGHTS = {"bias": np.zeros(1, np.float32)}
RELEASED = {"status": "released", "round": 1, "release": WEIGHTS, "certificate": "{}"}


class Scripted:
    """A hospital that answers what it is told to, one call after the other."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.answers, self.calls = list(answers), 0

    def run(self, *_: object) -> dict[str, Any]:
        self.calls += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def running(seconds: float | None) -> dict[str, Any]:
    return {"status": "running", "round": 1, "release": None, "certificate": None, "shows_in": seconds}


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited between two looks; the waits themselves are left out."""
    waits: list[float] = []
    monkeypatch.setattr(releases.time, "sleep", waits.append)
    return waits


def asked(hospital: Scripted) -> Asked:
    return Asked("general", hospital, "code", "asset", "key")  # type: ignore[arg-type]


def test_a_round_is_two_calls_and_the_wait_that_was_told(slept: list[float]) -> None:
    hospital, told = Scripted(running(0.17), RELEASED), list[str]()
    assert ask_release(asked(hospital), WEIGHTS, 1, tell=told.append) == (WEIGHTS, "{}")
    assert (hospital.calls, slept, told) == (2, [0.17], [])


def test_who_waits_long_is_told_how_long(slept: list[float]) -> None:
    told: list[str] = []
    ask_release(asked(Scripted(running(12.4), RELEASED)), WEIGHTS, 1, tell=told.append)
    assert told == ["running, shows in 12 s"]


def test_where_no_time_is_told_pauses_grow(slept: list[float]) -> None:
    ask_release(asked(Scripted(*[running(None)] * 3, running(2.0), RELEASED)), WEIGHTS, 1)
    assert slept[0] < slept[1] < slept[2] < releases.LONGEST_PAUSE
    assert slept[3] == 2.0


def test_a_hospital_that_goes_away_is_asked_again_as_before(slept: list[float]) -> None:
    away = Unavailable("It does not answer.")
    hospital = Scripted(running(0.2), away, away, RELEASED)
    assert ask_release(asked(hospital), WEIGHTS, 1)[1] == "{}"
    assert hospital.calls == 4


def test_a_round_that_shows_after_the_deadline_is_not_waited_for(slept: list[float]) -> None:
    with pytest.raises(Unavailable, match=r"round 1 after 600 s\. It shows in 7,200\.0 s\. Give a longer deadline"):
        ask_release(asked(Scripted(running(7200.0))), WEIGHTS, 1)
    assert slept == []


def test_a_void_round_is_asked_for_anew_and_a_failed_one_is_not(slept: list[float]) -> None:
    void = {**RELEASED, "status": "void", "release": None}
    assert ask_release(asked(Scripted(running(0.1), void, running(0.1), RELEASED)), WEIGHTS, 1)[1] == "{}"
    with pytest.raises(WrongStatus, match="failed"):
        ask_release(asked(Scripted(running(0.1), {**void, "status": RunStatus.FAILED})), WEIGHTS, 1)


@pytest.mark.parametrize("told", [None, float("nan"), float("inf"), 0.0, -1.0])
def test_what_is_no_time_is_none(told: float | None) -> None:
    assert shows_in({"shows_in": told}) is None
    assert shows_in({}) is None


def test_a_time_has_bounds() -> None:
    assert shows_in({"shows_in": 1e-300}) == SHORTEST_PAUSE
    assert shows_in({"shows_in": 1e300}) == LONGEST
