"""Sums under masks are exact, survive every drop-out down to the threshold, and cost what was said."""

from __future__ import annotations

import time

import numpy as np
import pytest

from policies.errors import UnsupportedMechanism
from policies.privacy.secure_aggregation import Party, SecureAggregation, secure_aggregation_from
from policies.secure_sums.encoding import added, counted, decoded, encoded
from policies.secure_sums.masks import expanded
from policies.secure_sums.sharing import PRIME, combine, split
from tests.attacks.secure_relay import Relay, network


def run(relay: Relay, *, keyless: int = 0, silent: int = 0, boxless: int = 0, dead: int = 0, unsigned: int = 0) -> None:
    """A whole round in which the last hospitals drop out: before each of the steps, as many as said."""
    alive = list(relay.hospitals)

    def drop(count: int) -> list[int]:
        del alive[len(alive) - count :]
        return alive

    relay.keys(drop(keyless))
    relay.shares(drop(silent))
    relay.boxes_out(drop(boxless))
    masked = relay.released(drop(dead))
    survivors = list(alive)
    signatures = relay.signatures(survivors, drop(unsigned))
    answers = relay.revealed(signatures, alive)
    np.testing.assert_array_equal(relay.opened(masked, answers), relay.truth(survivors))


@pytest.mark.parametrize(("count", "threshold"), [(2, 2), (3, 2), (3, 3), (5, 3), (10, 6), (10, 7)])
def test_sums_are_exact(count: int, threshold: int) -> None:
    run(network(count, threshold))


@pytest.mark.parametrize("step", ["keyless", "silent", "boxless", "dead", "unsigned"])
@pytest.mark.parametrize(("count", "threshold"), [(3, 2), (5, 3), (10, 6)])
def test_as_many_as_possible_drop_out_at_any_step(step: str, count: int, threshold: int) -> None:
    run(network(count, threshold), **{step: count - threshold})


def test_one_drops_out_at_every_step() -> None:
    run(network(11, 6), keyless=1, silent=1, boxless=1, dead=1, unsigned=1)


def test_fewer_than_the_threshold_shares_say_nothing() -> None:
    """Any value of the missing share fits some secret: with two of three, every secret stays as likely."""
    shares = split(b"\x07" * 32, threshold=3, parties=5)
    assert combine({party: shares[party] for party in (1, 3, 5)}) == b"\x07" * 32
    assert combine({party: shares[party] for party in (2, 4, 5)}) == b"\x07" * 32
    others = {combine({1: shares[1], 3: shares[3], 5: (shares[5] + change) % PRIME}) for change in range(1, 50)}
    assert b"\x07" * 32 not in others
    assert len(others) > 40


def test_a_mask_is_the_stream_of_its_whole_key() -> None:
    """RFC 8439, 2.3.2 has another nonce; with key and nonce 0 the stream begins as in its appendix A.1, vector 1."""
    begin = bytes.fromhex("76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7")
    assert expanded(bytes(32), 8).tobytes() == begin
    last = expanded(bytes(31) + b"\x01", 8)
    assert (expanded(bytes(32), 8) != last).all()  # the last byte of the key counts, which 32-bit seeds drop


def declared(*patients: int, threshold: int = 2, reach: float = 16.0) -> SecureAggregation:
    parties = tuple(Party(f"h{place}", f"{place:064x}", count) for place, count in enumerate(patients))
    return SecureAggregation(threshold=threshold, hospitals=parties, reach=reach)


def test_a_mean_is_weighed_by_patients_and_exact_to_the_grid() -> None:
    """(1000 · 0.5 + 3000 · -0.25) / 4000 = -0.0625, from a start of 1."""
    roster = declared(1000, 3000)
    start = {"b": np.ones((2, 2), np.float32), "a": np.ones(3, np.float32)}
    first = encoded({name: value + 0.5 for name, value in start.items()}, start, roster, 1)
    second = encoded({name: value - 0.25 for name, value in start.items()}, start, roster, 2)
    mean = decoded(first + second, start, roster, [1, 2])
    assert {name: value.shape for name, value in mean.items()} == {"a": (3,), "b": (2, 2)}
    for value in mean.values():
        np.testing.assert_allclose(value, 1 - 0.0625, atol=4 * roster.grid)


def test_no_sum_leaves_its_word() -> None:
    """Everybody at the far end: 3 · 16 is carried, and one unit more would not fit."""
    roster = declared(5, 5, 5)
    start = {"a": np.zeros(4, np.float32)}
    far = {"a": np.array([np.inf, -np.inf, 1e30, -17.0], np.float32)}
    total = sum((encoded(far, start, roster, party) for party in (1, 2, 3)), np.zeros(4, np.uint32))
    mean = decoded(total, start, roster, [1, 2, 3])["a"]
    held = roster.largest * roster.grid
    np.testing.assert_allclose(mean, [held, -held, held, -17.0 if held > 17 else -held])
    assert held >= 16


def test_what_the_round_began_with_besides_is_in_no_sum() -> None:
    """Constants and what stays at the hospital come with the weights of a round, and do not leave."""
    roster, start = declared(5, 5), {"a": np.zeros(2, np.float32), "head": np.ones(3, np.float32)}
    assert len(encoded({"a": np.ones(2, np.float32)}, start, roster, 1)) == 2


def test_numbers_that_are_none_count_as_not_moved() -> None:
    roster, start = declared(5, 5), {"a": np.array([2.0], np.float32)}
    words = encoded({"a": np.array([np.nan], np.float32)}, start, roster, 1)
    assert words.tolist() == [0]


@pytest.mark.parametrize("count", [2, 3, 10, 50, 100])
def test_the_grid_holds_what_is_declared(count: int) -> None:
    roster = declared(*[7] * count, threshold=count)
    assert roster.largest * roster.grid >= roster.reach
    assert roster.largest * count < 2**31
    assert roster.grid <= 2**-19


@pytest.mark.parametrize(
    ("count", "threshold", "colluding"), [(2, 2, 0), (3, 2, 0), (3, 3, 1), (10, 6, 1), (10, 7, 3), (50, 34, 17)]
)
def test_how_many_may_collude(count: int, threshold: int, colluding: int) -> None:
    """2 t > n + k, and a sum of t without the k colluding ones is still of two."""
    assert declared(*[1] * count, threshold=threshold).colluding == colluding


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"threshold": 1}, "threshold=1 is outside"),
        ({"threshold": 4}, "threshold=4 is outside"),
        ({"mode": "trust"}, "Use masks"),
        ({"reach": 0}, "reach=0 is outside"),
        ({"hospitals": [["a", "00" * 32, 5]]}, "names 1 hospitals"),
        ({"hospitals": [["a", "00" * 32, 5], ["a", "11" * 32, 5]]}, "name twice"),
        ({"hospitals": [["a", "00" * 32, 5], ["b", "00" * 32, 5]]}, "key twice"),
        ({"hospitals": [["a", "00", 5], ["b", "11" * 32, 5]]}, "64 digits"),
        ({"hospitals": [["a\u202e", "00" * 32, 5], ["b", "11" * 32, 5]]}, "no plain name"),
        ({"hospitals": [["a", "00" * 32, 0], ["b", "11" * 32, 5]]}, "patients=0"),
        ({"hospitals": "ab"}, "written as"),
        ({"roster": []}, "is not written as"),
    ],
)
def test_declarations_out_of_bounds_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(UnsupportedMechanism, match=words):
        secure_aggregation_from({**declared(5, 5, 5).as_dict(), **change})


def test_tables_add_up_exactly_whatever_their_steps_are() -> None:
    roster, steps = declared(5, 7, 9), {"scores": 1.0, "errors": 1 / 64}
    tables = [
        {"errors": np.array([[-3 + n / 64, 5.25]]), "scores": np.array([10.0**6 * n, -7.0, 0.0])} for n in range(3)
    ]
    total = np.sum([counted(table, steps, roster) for table in tables], axis=0, dtype=np.uint32)
    found = added(total, {name: np.zeros(cells.shape, np.uint32) for name, cells in tables[0].items()}, steps)
    for name in steps:
        np.testing.assert_array_equal(found[name], sum(table[name] for table in tables))


def test_counts_that_no_word_holds_are_held_to_what_it_holds() -> None:
    roster = declared(5, 7, 9)
    words = counted({"scores": np.array([1e300, -1e300, np.nan])}, {"scores": 1.0}, roster)
    assert list(words.astype(np.int32)) == [roster.largest, -roster.largest, 0]


def test_a_declaration_is_read_back_as_it_was() -> None:
    roster = declared(5, 7, 9)
    assert secure_aggregation_from(roster.as_dict()) == roster


@pytest.mark.slow
def test_ten_hospitals_cost_a_party_little() -> None:
    """Processor time of one party at 100,000 numbers, and what it sends: under 50 ms, and 1.1 times its vector."""
    relay = network(10, 6, numbers=100_000)
    relay.keys()
    relay.shares()
    begin = time.process_time()
    relay.hospitals[1].answer("boxes", relay.for_(1))
    sent = relay.hospitals[1].release()
    took = time.process_time() - begin
    told = sum(len(str(answer)) for answer in relay.hospitals[1].state["answers"].values())
    assert took < 0.05
    assert sent.nbytes + told < 1.1 * 4 * 100_000
