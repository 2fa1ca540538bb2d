"""Noise is the real-valued Gaussian, rounded: at every multiplier, by kernel and by torch, whatever bits come after."""

from __future__ import annotations

import hashlib
import itertools
import random

import numpy as np
import numpy.typing as npt
import pytest
from mpmath import mp, mpf
from scipy.stats import chisquare, norm

from datasites.engine import noise
from datasites.engine.exact_rounding import _PLACES, cosine_and_sine, minus_two_logarithms, rounded_pair
from datasites.engine.lanes import compiled
from datasites.engine.lanes.compiled import KernelsMissing
from datasites.engine.noise import DOUBT, NoiseSource

PAIRS = 20_000
# Noise multipliers 0.05, 1, 48 and 1000 over a clipping norm of 2^20.5 units of the grid.
STDS = [multiplier * 2**20.5 for multiplier in (0.05, 1.0, 48.0, 1000.0)]


@pytest.fixture(autouse=True)
def digits() -> None:
    mp.dps = 120


@pytest.fixture(params=["kernel", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Draw by the kernel, then by torch."""
    loaded = None
    if request.param == "kernel":
        try:
            loaded = compiled._load(compiled.directory(), compiled.level_of_this_processor())
        except KernelsMissing as error:
            pytest.skip(str(error))
    monkeypatch.setattr(compiled, "_loaded", loaded)
    return str(request.param)


class Watched(NoiseSource):
    """A source that keeps the words of its pairs, and whose further bits are chosen."""

    def __init__(self, name: str) -> None:
        super().__init__(hashlib.sha256(name.encode()).digest())
        self.drawn: npt.NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
        self.decided: list[tuple[int, int | None, int]] = []

    def fill_with_words(self, room: npt.NDArray[np.uint64], count: int) -> None:
        super().fill_with_words(room, count)
        self.spoil(room)
        self.drawn = room[:count].copy()

    def spoil(self, room: npt.NDArray[np.uint64]) -> None:
        """Put chosen words in the place of drawn ones."""


def further(bit: int) -> int:
    return (2**64 - 1) * bit


def decided_of(words: npt.NDArray[np.uint64], pairs: int, std: float, bits: int) -> npt.NDArray[np.float64]:
    """Every pair by the exact way, with all further bits zeros or ones, whatever float64 says of it."""
    signed, fractions = words[: 2 * pairs].view(np.int64).tolist(), iter(words[2 * pairs :].tolist())
    found = np.empty(2 * pairs)
    for pair in range(pairs):
        word = signed[pair]
        fraction = next(fractions) >> 11 if abs(word) < 2**53 else None
        radius = word if word >= 0 else -1 - word
        # A pair may want more bits than one time: zeros without an end would be U = 0 for a radius of 0.
        chosen = itertools.chain([bits] * 4, itertools.repeat(2**63))
        found[[pair, pairs + pair]] = rounded_pair(
            radius, fraction, signed[pairs + pair], std, lambda chosen=chosen: next(chosen)
        )
    return found


def kept(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The pairs that were in doubt: their number is written down, and float64's answer is left as it is."""
    doubted: list[int] = []
    monkeypatch.setattr(
        NoiseSource, "_NoiseSource__decide", lambda self, doubts, *rest: doubted.extend(np.unique(doubts).tolist())
    )
    return doubted


@pytest.mark.parametrize("std", STDS)
def test_what_float64_decides_no_further_bits_undo(std: float, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = 8192
    doubted = kept(monkeypatch)
    source, out = Watched(f"decides {std}"), np.empty(2 * pairs)
    source.fill_with_gaussians(out, std)
    sure = np.setdiff1d(np.arange(pairs), doubted)
    assert len(sure) > 0.99 * pairs
    for bits in (0, 2**64 - 1):
        exact = decided_of(source.drawn, pairs, std, bits)
        assert np.array_equal(exact[sure], out[sure])
        assert np.array_equal(exact[pairs + sure], out[pairs + sure])


@pytest.mark.parametrize("std", STDS)
def test_radii_near_both_ends_are_decided_rightly(std: float, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # U from 2^-63 up, and 1 - U from 2^-63 up, at every power of two, of both signs.
    powers = [2**power - less for power in range(63) for less in (0, 1)]
    words = [*powers, *(2**63 - 1 - power for power in powers)]
    radii = np.array([*words, *(-1 - word for word in words)], dtype=np.int64)

    class Ends(Watched):
        def spoil(self, room: npt.NDArray[np.uint64]) -> None:
            room[: len(radii)] = radii.view(np.uint64)

    pairs = len(radii)
    assert pairs % 8 == 0
    doubted = kept(monkeypatch)
    source, out = Ends(f"ends {std}"), np.empty(2 * pairs)
    monkeypatch.setattr(noise, "_LEAST_FRACTIONS", pairs)
    source.fill_with_gaussians(out, std)
    sure = np.setdiff1d(np.arange(pairs), doubted)
    assert len(sure) > pairs / 2
    for bits in (0, 2**64 - 1):
        exact = decided_of(source.drawn, pairs, std, bits)
        assert np.array_equal(exact[sure], out[sure])
        assert np.array_equal(exact[pairs + sure], out[pairs + sure])


def test_without_the_doubt_float64_is_seen_to_be_wrong(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "DOUBT", 0.0)
    std, pairs, wrong = 2.0**39, 8192, 0
    kept(monkeypatch)
    for name in range(4):
        source, out = Watched(f"wrong {name}"), np.empty(2 * pairs)
        source.fill_with_gaussians(out, std)
        wrong += int((decided_of(source.drawn, pairs, std, 2**63) != out).sum())
    assert wrong > 0


def test_the_bound_on_float64_has_room_and_is_not_idle(way: str) -> None:
    # Twice the largest distance that words of every size come to, and less than a thousand times it.
    rng = np.random.default_rng(0)
    radii = (2.0 ** rng.uniform(53, 63, PAIRS)).astype(np.int64)
    near_one = 2**63 - 1 - (2.0 ** rng.uniform(44.01, 62, PAIRS)).astype(np.int64)
    angles = rng.integers(-(2**63), 2**63 - 1, PAIRS)
    worst = 0.0
    for chosen in (radii, near_one):

        class Chosen(Watched):
            def spoil(self, room: npt.NDArray[np.uint64], chosen: npt.NDArray[np.int64] = chosen) -> None:
                room[:1000], room[1000:2000] = chosen[:1000].view(np.uint64), angles[:1000].view(np.uint64)

        std = 2.0**39.9  # so large that units are 2^-40 of a deviation
        source, out = Chosen("bound"), np.empty(2000)
        source.fill_with_gaussians(out, std)
        for pair in range(1000):
            uniform, turn = (mpf(int(chosen[pair])) + 0.5) / 2**63, (mpf(int(angles[pair])) + 0.5) / 2**63
            radius = mpf(std) * mp.sqrt(-2 * mp.log(uniform))
            for place, part in ((pair, mp.cos(mp.pi * turn)), (1000 + pair, mp.sin(mp.pi * turn))):
                worst = max(worst, float(abs(radius * part - mpf(out[place]))) / std)
    assert worst < 2.0**-40  # a unit of rounding alone is 2^-40.9


@pytest.mark.parametrize("bits", [63, 116, 127, 300])
def test_logarithm_sine_and_cosine_are_within_their_bounds(bits: int) -> None:
    rng = random.Random(bits)
    for size in (1, 2, 20, bits - 1, bits):
        for _ in range(60):
            place = max(1, rng.getrandbits(size))
            exact = -2 * mp.log(mpf(place) / 2**bits) * 2**_PLACES
            assert abs(minus_two_logarithms(place, bits) - exact) < 2**12
            turn = rng.choice((-1, 1)) * rng.getrandbits(size)
            angle = mp.pi * mpf(turn) / 2**bits
            cosine, sine = cosine_and_sine(turn, bits)
            assert abs(cosine - mp.cos(angle) * 2**_PLACES) < 2**8
            assert abs(sine - mp.sin(angle) * 2**_PLACES) < 2**8
    assert abs(minus_two_logarithms(2**bits, bits)) < 2**12  # ln 1


@pytest.mark.parametrize("std", [0.0, 1e-3, 1.0, *STDS, 2.0**39])
def test_a_pair_is_the_rounded_gaussian_of_its_bits(std: float) -> None:
    rng = random.Random(str(std))
    for _ in range(200):
        radius, angle = rng.getrandbits(rng.choice((63, 63, 40, 3))), rng.randrange(-(2**63), 2**63)
        more = [rng.getrandbits(64) for _ in range(6)]
        bits = iter(more)
        found = rounded_pair(radius, None, angle, std, lambda bits=bits: next(bits))
        uniform = (mpf(radius) + mpf(more[0] << 128 | more[2] << 64 | more[4]) / 2**192) / 2**63
        turn = (mpf(angle) + mpf(more[1] << 128 | more[3] << 64 | more[5]) / 2**192) / 2**63
        length = std * mp.sqrt(-2 * mp.log(uniform))
        assert found == tuple(
            int(mp.floor(length * part + 0.5)) for part in (mp.cos(mp.pi * turn), mp.sin(mp.pi * turn))
        )


def test_more_bits_are_drawn_until_they_decide() -> None:
    # With std = 1 and U at exp(-1/8), a radius of 1/2 is an edge: 63 bits and 64 more are all those of the edge itself.
    edge = int(mp.floor(mp.exp(mpf(-1) / 8) * 2**127))
    drawn: list[int] = []
    for last in (0, 2**64 - 1):
        bits = iter([edge % 2**64, 0, last, 0])
        found = rounded_pair(edge >> 64, None, 0, 1.0, lambda bits=bits: drawn.append(0) or next(bits))
        assert found[0] == (1 if last == 0 else 0)
    assert len(drawn) == 8


@pytest.mark.parametrize("std", [0.3, 1.0, 5.0])
def test_every_whole_number_has_the_chance_of_its_cell(std: float, way: str) -> None:
    # P[round(Z) = k] is the Gaussian's mass between k - 1/2 and k + 1/2.
    drawn = NoiseSource(hashlib.sha256(f"cells {std}".encode()).digest()).gaussian_on_grid(400_000, std, 1.0)
    reach = int(3 * std) + 1
    edges = np.r_[-np.inf, np.arange(-reach, reach) + 0.5, np.inf]
    expected = np.diff(norm.cdf(edges / std)) * len(drawn)
    seen = np.histogram(drawn, np.r_[-np.inf, np.arange(-reach, reach) + 0.5, np.inf])[0]
    assert chisquare(seen, expected).pvalue > 1e-6


def test_kernel_and_torch_give_the_same_numbers_at_every_multiplier(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        kernels = compiled._load(compiled.directory(), compiled.level_of_this_processor())
    except KernelsMissing as error:
        pytest.skip(str(error))
    for std in STDS:
        both = []
        for loaded in (kernels, None):
            monkeypatch.setattr(compiled, "_loaded", loaded)
            both.append(NoiseSource(bytes(32)).gaussian_on_grid(100_000, std, 1.0))
        # Of a pair that one of them has in doubt and the other has not, bits for later pairs move on: seldom.
        assert (both[0] != both[1]).mean() < 1e-5


def test_further_bits_are_of_a_source_that_nothing_else_draws_on() -> None:
    first, second = NoiseSource(bytes(32)), NoiseSource(bytes(32))
    first.gaussian_on_grid(100_000, 2.0**31, 1.0)  # some are in doubt
    second.gaussian_on_grid(100_000, 1.0, 1.0)  # hardly any
    assert (first.words(100) == second.words(100)).all()
    assert DOUBT == 2.0**-42
