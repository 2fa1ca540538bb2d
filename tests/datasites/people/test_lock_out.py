"""Wrong passwords cost whoever typed them, and nobody else."""

from __future__ import annotations

from datasites.people.lock_out import LockOut
from policies.addresses import owner_of

OWNER, HOME, AWAY = "owner@hospital.example", "192.0.2.1", "198.51.100.7"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_strangers_wrong_passwords_keep_the_owner_from_nothing() -> None:
    lock_out = LockOut(clock=Clock())
    for _ in range(50):
        lock_out.begin(OWNER, AWAY)
    assert lock_out.begin(OWNER, AWAY) > 0
    assert lock_out.begin(OWNER, HOME) == 0


def test_waits_grow_at_one_address_and_end_with_a_right_password() -> None:
    clock = Clock()
    lock_out = LockOut(clock=clock, longest=900)
    assert [lock_out.begin(OWNER, HOME) for _ in range(5)] == [0] * 5
    waits = []
    for _ in range(12):
        waits.append(lock_out.begin(OWNER, HOME))
        clock.now += waits[-1]
        assert lock_out.begin(OWNER, HOME) == 0
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]
    lock_out.succeeded(OWNER, HOME)
    assert lock_out.begin(OWNER, HOME) == 0


def test_one_customer_of_ipv6_is_one_address() -> None:
    assert owner_of("2001:db8::1") == owner_of("2001:db8::ffff:1") != owner_of("2001:db8:0:1::1")
    assert owner_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert owner_of("192.0.2.1") == "192.0.2.1"
