"""Wrong passwords: a few are free, then each waits longer, and a right one forgets them."""

from __future__ import annotations

from types import SimpleNamespace

from datasites.people.lock_out import LockOut

ADA = "ada@university.example"


def test_tries_wait_twice_as_long_each_time_up_to_a_bound() -> None:
    clock = SimpleNamespace(now=0.0)
    lock_out = LockOut(free=3, longest=10.0, clock=lambda: float(clock.now))
    assert [lock_out.begin(ADA) for _ in range(3)] == [0.0] * 3
    waits = []
    for _ in range(6):
        wait = lock_out.begin(ADA)
        waits.append(wait)
        clock.now += wait
        assert lock_out.begin(ADA) == 0.0
    assert waits == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_a_right_password_forgets_and_others_are_not_held_up() -> None:
    lock_out = LockOut(free=1, clock=lambda: 0.0)
    assert lock_out.begin(ADA) == 0.0
    assert lock_out.begin(ADA) > 0
    assert lock_out.begin("other@university.example") == 0.0
    lock_out.succeeded(ADA)
    assert lock_out.begin(ADA) == 0.0
