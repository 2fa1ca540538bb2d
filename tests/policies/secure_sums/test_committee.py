"""Shares say nothing until enough of them are there, proofs prove places, and a pad is of two devices alone."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections import Counter

import pytest
from scipy import stats

from policies.errors import CertificateRefused, InvalidRequest
from policies.privacy.team_sums import TeamSum
from policies.secure_sums import committee
from policies.secure_sums.committee import SLOW, committee_places, context_of
from policies.secure_sums.merkle import proof_of, proved_root, root_of
from policies.secure_sums.polynomials import HALF, PRIME, opened, split

KEYS = [bytes([number % 256, number // 256]) * 16 for number in range(300)]


@pytest.mark.parametrize(("needed", "size"), [(1, 1), (3, 3), (3, 5), (17, 20), (73, 85)])
@pytest.mark.parametrize("number", [0, 1, -1, HALF, -HALF, 123_456_789])
def test_any_shares_that_are_enough_give_the_number(needed: int, size: int, number: int) -> None:
    shares = dict(enumerate(split(number, needed=needed, size=size), 1))
    assert len(shares) == size
    for _ in range(3):
        some = random.Random(size).sample(sorted(shares), needed)
        assert opened({place: shares[place] for place in some}, needed=needed) == number
    assert opened(shares, needed=needed) == number


@pytest.mark.parametrize("number", [0, 12_345])
def test_fewer_shares_are_evenly_random_whatever_the_number(number: int) -> None:
    """The drawn ones, those that follow from them, and what two of three together come to."""
    drawn = [split(number, needed=3, size=5) for _ in range(2000)]
    for one, other in itertools.combinations(range(5), 2):
        cells = Counter((shares[one] * 4 // PRIME, shares[other] * 4 // PRIME) for shares in drawn)
        assert len(cells) == 16
        assert stats.chisquare([cells[cell] for cell in sorted(cells)]).pvalue > 1e-6


def test_shares_add_up_to_shares_of_the_sum() -> None:
    numbers = [random.Random(place).randrange(-(2**40), 2**40) for place in range(50)]
    columns = zip(*(split(number, needed=17, size=20) for number in numbers), strict=True)
    sums = {place: sum(column) % PRIME for place, column in enumerate(columns, 1)}
    assert opened(sums, needed=17) == sum(numbers)


@pytest.mark.parametrize(("needed", "size"), [(3, 5), (17, 20), (73, 85)])
def test_wrong_shares_are_left_out_while_they_are_few_and_refused_when_they_are_not(needed: int, size: int) -> None:
    shares = dict(enumerate(split(-77, needed=needed, size=size), 1))
    rng = random.Random(1)
    for wrong in range(1, (size - needed) // 2 + 2):
        bad = dict(shares)
        for place in rng.sample(sorted(bad), wrong):
            bad[place] = rng.randrange(PRIME)
        if 2 * wrong <= size - needed:
            assert opened(bad, needed=needed) == -77
        else:
            with pytest.raises(CertificateRefused, match="too many are wrong"):
                opened(bad, needed=needed)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16, 17, 300])
def test_a_proof_proves_its_keys_at_its_places_alone(count: int) -> None:
    keys = KEYS[:count]
    places = sorted(random.Random(count).sample(range(count), max(1, count // 5)))
    proof, proved = proof_of(keys, places), {place: keys[place] for place in places}
    assert proved_root(count, proved, proof) == root_of(keys)
    assert proved_root(count, proved | {places[0]: b"x" * 32}, proof) != root_of(keys)
    if count > 5:
        moved = {place for place in range(count) if place not in places}
        other = {**{place: keys[place] for place in places[1:]}, min(moved): keys[places[0]]}
        with contextlib.suppress(InvalidRequest):  # it takes a proof of another length
            assert proved_root(count, other, proof) != root_of(keys)
        with pytest.raises(InvalidRequest, match="too short"):
            proved_root(count, proved, proof[:-1])
    with pytest.raises(InvalidRequest, match="too long"):
        proved_root(count, proved, [*proof, "00" * 32])


def test_no_two_lists_of_keys_have_one_root() -> None:
    roots = {root_of(keys) for keys in (KEYS[:3], KEYS[:4], KEYS[:2], [*KEYS[:2], KEYS[3]], KEYS[2::-1])}
    assert len(roots) == 5
    with pytest.raises(InvalidRequest, match="no places"):
        proved_root(3, {3: KEYS[0]}, [])
    with pytest.raises(InvalidRequest, match="hex"):
        proved_root(3, {0: KEYS[0]}, ["zz" * 32, "00" * 32])


def team(root: str = "ab" * 32, devices: int = 500) -> TeamSum:
    return TeamSum(root=root, devices=devices, threshold=devices * 2 // 3 + 1, colluding=devices // 5)


def test_a_committee_is_drawn_evenly_and_by_everything_that_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    one = committee_places(team(), context_of("a", team()))
    assert len(set(one)) == len(one) == team().committee.size
    assert one == committee_places(team(), context_of("a", team()))
    assert one != committee_places(team(), context_of("b", team()))
    other = team(root="cd" * 32)
    assert one != committee_places(other, context_of("a", other))
    monkeypatch.setattr(committee, "SLOW", 1)  # 300 draws
    committee_places.cache_clear()
    small = team(devices=20)
    drawn = Counter(place for turn in range(300) for place in committee_places(small, context_of(f"{turn}", small)))
    committee_places.cache_clear()
    assert len(drawn) == 20
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-6


def test_drawing_a_committee_takes_time_on_purpose() -> None:
    assert SLOW >= 2**18


def test_pads_are_of_both_devices_their_round_keys_and_the_question() -> None:
    told = ("aa" * 32, ("01" * 32, "02" * 32), ("03" * 32, "04" * 32))
    pads = {
        tuple(committee._pads(b"s" * 32, context, device, member, 2))
        for context, device, member in (
            told,
            ("bb" * 32, *told[1:]),
            (told[0], ("05" * 32, "02" * 32), told[2]),
            (told[0], ("01" * 32, "05" * 32), told[2]),
            (told[0], told[1], ("05" * 32, "04" * 32)),
            (told[0], told[1], ("03" * 32, "05" * 32)),
        )
    }
    assert len(pads) == 6
    assert len({number for pad in pads for number in pad}) == 12
