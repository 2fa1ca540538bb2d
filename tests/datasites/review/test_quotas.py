"""Quotas by account, in a window that moves on."""

from __future__ import annotations

from datasites.review.quotas import HOUR, Quota


class Clock:
    now = 12_345.0

    def __call__(self) -> float:
        return self.now


def test_an_account_takes_so_much_of_an_hour_and_another_as_much() -> None:
    quota = Quota(100, HOUR, clock=Clock())
    quota.take("a", 60)
    quota.take("a", 50)
    assert quota.left("a") == -10
    assert quota.left("b") == 100


def test_what_was_taken_comes_back_after_the_window_and_not_before() -> None:
    clock = Clock()
    quota = Quota(100, HOUR, clock=clock)
    quota.take("a", 100)
    clock.now += HOUR
    assert quota.left("a") == 0
    assert 1 <= quota.minutes("a") <= 2
    clock.now += HOUR / Quota.PARTS
    assert quota.left("a") == 100


def test_it_says_when_to_come_back() -> None:
    """Thirty minutes after the first half was taken, the second: the first half comes back after another thirty."""
    clock = Clock()
    quota = Quota(100, HOUR, clock=clock)
    quota.take("a", 50)
    clock.now += 1800
    quota.take("a", 50)
    assert quota.left("a") == 0
    wait = quota.minutes("a")
    assert 30 <= wait <= 31
    clock.now += wait * 60
    assert quota.left("a") == 50


def test_notes_of_an_account_stay_few() -> None:
    clock = Clock()
    quota = Quota(100, HOUR, clock=clock)
    for _ in range(10_000):
        quota.take("a", 0.001)
        clock.now += 1
    assert len(quota._taken["a"]) <= Quota.PARTS + 2
