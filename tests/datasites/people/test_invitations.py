"""Links that work once and for some days."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from datasites.people.invitations import Invitations
from datasites.people.places import ConsolePlace
from tests.datasites.people.stored import all_text

ADA = "ada@university.example"


@pytest.fixture
def clock() -> Any:
    return SimpleNamespace(now=1_000_000.0)


@pytest.fixture
def invitations(place: ConsolePlace, clock: Any) -> Iterator[Invitations]:
    invitations = Invitations(place, clock=lambda: float(clock.now))
    yield invitations
    invitations.close()


def make(invitations: Invitations, *, days: float = 7) -> str:
    return invitations.make(ADA, "Ada", "University", days=days)


def test_of_many_at_once_one_gets_it(invitations: Invitations) -> None:
    token = make(invitations)
    assert invitations.find(token) is not None
    with ThreadPoolExecutor(8) as pool:
        taken = [answer for answer in pool.map(lambda _: invitations.take(token), range(16)) if answer]
    assert [answer["email"] for answer in taken] == [ADA]
    assert invitations.find(token) is None


def test_a_link_ends(invitations: Invitations, clock: Any) -> None:
    token = make(invitations, days=1)
    clock.now += 86_399
    assert invitations.find(token) is not None
    clock.now += 2
    assert (invitations.find(token), invitations.take(token), invitations.open()) == (None, None, [])


def test_a_new_invitation_takes_the_place_of_the_one_before(invitations: Invitations) -> None:
    before, after = make(invitations), make(invitations)
    assert invitations.take(before) is None
    assert invitations.take(after) is not None


def test_one_that_is_withdrawn_works_no_more(invitations: Invitations) -> None:
    token = make(invitations)
    assert invitations.withdraw(ADA)
    assert not invitations.withdraw(ADA)
    assert invitations.take(token) is None


def test_one_that_is_given_back_works_again_but_for_a_newer_one(invitations: Invitations) -> None:
    token = make(invitations)
    taken = invitations.take(token)
    assert taken is not None
    invitations.give_back(taken)
    again = invitations.take(token)
    assert again is not None
    newer = make(invitations)
    invitations.give_back(again)
    assert invitations.take(token) is None
    assert invitations.take(newer) is not None


def test_what_is_kept_opens_nothing(invitations: Invitations, place: ConsolePlace) -> None:
    token = make(invitations)
    if isinstance(place, Path):
        assert place.stat().st_mode & 0o777 == 0o600
    text = all_text(place)
    assert ADA in text
    assert token not in text
    assert "token_sha256" not in invitations.open()[0]
