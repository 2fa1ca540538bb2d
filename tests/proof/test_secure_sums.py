"""A sum that exactly `threshold` hospitals open is exact, and one too few at any step opens nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from policies.errors import InvalidRequest, WrongStatus
from tests.attacks.secure_relay import Relay, network
from tests.proof.mechanisms.secure_sums import opened

SIZES = [(2, 2), (3, 2), (5, 3), (10, 6)]


@pytest.mark.parametrize(("hospitals", "threshold"), SIZES)
def test_exactly_the_threshold_opens_the_exact_sum(hospitals: int, threshold: int) -> None:
    relay = network(hospitals, threshold)
    survivors = list(range(1, threshold + 1))
    np.testing.assert_array_equal(opened(relay, survivors), relay.truth(survivors))


def _too_few_share(relay: Relay, few: list[int]) -> None:
    relay.book = {number: keys for number, keys in relay.book.items() if number in few}
    relay.shares(few)


def _too_few_boxes(relay: Relay, few: list[int]) -> None:
    relay.shares()
    relay.hospitals[1].answer("boxes", relay.for_(1, few))


def _too_few_survive(relay: Relay, few: list[int]) -> None:
    relay.shares()
    relay.boxes_out()
    relay.released(relay.hospitals)
    relay.signatures(few)


def _too_few_sign(relay: Relay, few: list[int]) -> None:
    relay.shares()
    relay.boxes_out()
    relay.released(relay.hospitals)
    relay.revealed(relay.signatures(relay.hospitals, few), [1])


def _too_few_reveal(relay: Relay, few: list[int]) -> None:
    relay.shares()
    relay.boxes_out()
    masked = relay.released(relay.hospitals)
    relay.opened(masked, relay.revealed(relay.signatures(relay.hospitals), few))


@pytest.mark.parametrize(
    "step", [_too_few_share, _too_few_boxes, _too_few_survive, _too_few_sign, _too_few_reveal], ids=lambda f: f.__name__
)
@pytest.mark.parametrize(("hospitals", "threshold"), SIZES)
def test_one_too_few_is_refused(step: Callable[[Relay, list[int]], None], hospitals: int, threshold: int) -> None:
    relay = network(hospitals, threshold)
    relay.keys()
    with pytest.raises((InvalidRequest, WrongStatus), match=rf"threshold={threshold}"):
        step(relay, list(range(1, threshold)))
