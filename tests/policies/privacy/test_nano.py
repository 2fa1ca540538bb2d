"""Whole nano-nats: up for what is used, down for what is left, and decimals as people wrote them."""

from __future__ import annotations

import pytest

from policies.privacy.nano import NANO, epsilon_up, exact, nano_down, nano_up


@pytest.mark.parametrize("value", [0.1, 0.3, 1.1, 2.0, 6])
def test_a_decimal_is_read_as_it_was_written(value: float) -> None:
    assert nano_up(value) == nano_down(value) == round(value * 10) * NANO // 10


@pytest.mark.parametrize("value", [1 / 3, 2 / 3, 1e-10, 5.0000000001])
def test_used_is_rounded_up_and_left_is_rounded_down(value: float) -> None:
    assert nano_down(value) < exact(value) * NANO < nano_up(value)
    assert nano_up(value) - nano_down(value) == 1


def test_a_stated_epsilon_is_never_zero() -> None:
    assert epsilon_up(0.0) == epsilon_up(-1.0) == 1e-9
    assert epsilon_up(0.1234567891) == 0.12345679
