"""One memory budget for the process: shares, kinds and what comes back."""

from __future__ import annotations

import contextlib

import pytest

from datasites.door.memory import BODIES, CALLS, Memory, NoRoom


def test_one_account_never_holds_all_that_there_is() -> None:
    memory = Memory(100, free={BODIES: 0, CALLS: 0})
    with memory.held(CALLS, "a") as one, memory.held(CALLS, "a") as other, memory.held(CALLS, "b") as another:
        one.take(30)
        other.take(20)
        with pytest.raises(NoRoom):
            other.take(1)
        another.take(50)
        with pytest.raises(NoRoom):
            another.take(1)
    assert memory.in_use == 0


def test_slow_bodies_leave_half_of_it_to_calls() -> None:
    memory = Memory(100, free={BODIES: 0, CALLS: 0})
    with memory.held(BODIES, "a") as one, memory.held(BODIES, "b") as other, memory.held(BODIES, "c") as third:
        one.take(25)
        with pytest.raises(NoRoom):
            one.take(1)
        other.take(25)
        with pytest.raises(NoRoom):
            third.take(1)
        with memory.held(CALLS, "a") as call:
            call.take(50)


def test_what_is_small_always_has_room() -> None:
    memory = Memory(100, free={BODIES: 64, CALLS: 64})
    with memory.held(CALLS, "a") as all_of_a, memory.held(CALLS, "b") as all_of_b:
        all_of_a.take(64 + 50)
        all_of_b.take(64 + 50)
        with memory.held(BODIES, "c") as small:
            small.take(40)
            small.take(24)
            with pytest.raises(NoRoom):
                small.take(1)
    assert memory.in_use == 0


def test_what_an_error_leaves_is_given_back() -> None:
    memory = Memory(100, free={BODIES: 0, CALLS: 0})
    with contextlib.suppress(ZeroDivisionError), memory.held(CALLS, "a") as held:
        held.take(50)
        raise ZeroDivisionError
    assert memory.in_use == 0
