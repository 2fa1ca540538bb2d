"""Noise that the kernel makes of uniform words, against exact numbers and beside torch's of the same words."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from datasites.engine.lanes import compiled, readiness
from datasites.engine.lanes.compiled import Kernels, KernelsMissing
from datasites.engine.lanes.gaussians import transformed
from datasites.engine.noise import NoiseSource
from policies.errors import DatasiteError
from tests.proof.fit import FALSE_ALARM, gaussian_p_values
from tests.proof.floats import reached_on_grid

Words = npt.NDArray[np.uint64]

PAIRS = 100_000
WORST = 2.0**-50  # of a value: a few units in the last place of float64
PI = np.longdouble("3.14159265358979323846264338327950288")


def source() -> NoiseSource:
    return NoiseSource(hashlib.sha256(b"gaussians").digest())


def exact(words: Words, fractions: Words, std: float) -> npt.NDArray[np.longdouble]:
    """In numbers of 64 significant bits."""
    radii, angles = np.split(words.view(np.int64), 2)
    radius, left = np.abs(radii.astype(np.float64)), iter(fractions.tolist())
    for place in np.flatnonzero(radius < 2.0**53).tolist():
        word = int(radii[place])
        radius[place] = max(2.0**-54, (word if word >= 0 else -1 - word) + (next(left) >> 11) * 2.0**-53)
    uniform = radius.astype(np.longdouble) / np.longdouble(2.0**63)
    radius = np.sqrt(-2 * np.log(uniform)) * np.longdouble(std)
    angle = angles.astype(np.longdouble) * PI / np.longdouble(2.0**63)
    return np.concatenate([np.cos(angle) * radius, np.sin(angle) * radius])


EDGES = np.array(
    [0, 1, -1, 2**61, 2**61 - 1, -(2**61), 2**62, 2**62 + 1, -(2**62), 3 * 2**61, 2**63 - 1, -(2**63), 12345, -(2**40)],
    dtype=np.int64,
)
RADII = np.array(
    [0, -1, 1, 7, -8, 2**53 - 1, 1 - 2**53, 2**53, -(2**53), 2**53 + 1, 2**62, -(2**62), 2**63 - 1, -(2**63), 10**10],
    dtype=np.int64,
)


@pytest.mark.parametrize("std", [1.0, 2.0**20, 2.0**39.5])
def test_noise_is_the_exact_gaussian_rounded_but_for_its_last_places(std: float, kernels: Kernels) -> None:
    drawn = source().words(2 * PAIRS).view(np.int64)
    radii = np.concatenate([np.repeat(RADII, len(EDGES)), drawn[:PAIRS]])
    angles = np.concatenate([np.tile(EDGES, len(RADII)), drawn[PAIRS:]])
    whole = len(radii) // 8 * 8
    words = np.concatenate([radii[:whole], angles[:whole]]).view(np.uint64)
    fractions = source().words(1000)
    fractions[:3] = 0, 2**64 - 1, 2**11  # the first is of the radius 0
    found = np.full(2 * whole, np.nan)
    assert transformed(kernels, words, fractions, std, found) is not None
    wanted = exact(words, fractions, std)
    assert (found == np.rint(found)).all()
    # An exact value and one that is off by a few units in the last place round to the same or to neighbours. Where a
    # cosine is near zero its error is that of the angle, of at most one.
    largest = 12.8 * std
    assert np.abs(found - wanted).max() <= 0.5 + largest * WORST
    assert np.abs(found).max() <= largest + 0.5


def test_a_kernel_says_where_fractions_are_too_few(kernels: Kernels) -> None:
    words = np.full(32, 5, dtype=np.uint64)  # sixteen small radii
    out = np.zeros(32)
    assert transformed(kernels, words, source().words(16), 1.0, out) is not None
    assert transformed(kernels, words, source().words(15), 1.0, out) is None


def test_where_fractions_are_too_few_more_are_drawn(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    class Small(NoiseSource):
        asked = more = 0

        def words(self, count: int) -> Words:
            self.more += 1
            return super().words(count)

        def fill_with_words(self, room: Words, count: int) -> None:
            super().fill_with_words(room, count)
            self.asked += 1
            if self.asked == 1:
                room[:1000] >>= np.uint64(20)  # of radii

    found = []
    for loaded in (None, kernels):
        monkeypatch.setattr(compiled, "_loaded", loaded)
        small = Small(bytes(32))
        found.append(small.gaussian_on_grid(2000, 2.0**20, 1.0))
        assert (small.asked, small.more) == (1, 1)
    assert np.array_equal(*found)  # by torch in both
    assert found[0].std() > 2.0**20


@pytest.mark.parametrize(
    ("words", "fractions", "out"),
    [
        (np.zeros(24, np.uint64), np.zeros(1, np.uint64), np.zeros(24)),
        (np.zeros(17, np.uint64), np.zeros(1, np.uint64), np.zeros(17)),
        (np.zeros(16, np.uint64), np.zeros(0, np.uint64), np.zeros(16)),
        (np.zeros(16, np.uint64), np.zeros(1, np.uint64), np.zeros(8)),
        (np.zeros(16, np.uint64), np.zeros(1, np.uint64), np.zeros(16, np.float32)),
        (np.zeros(32, np.uint64)[::2], np.zeros(1, np.uint64), np.zeros(16)),
    ],
)
def test_arrays_that_the_kernel_would_leave_are_refused(
    words: Words, fractions: Words, out: npt.NDArray[np.float64], kernels: Kernels
) -> None:
    with pytest.raises(DatasiteError, match="Gaussians are made"):
        transformed(kernels, words, fractions, 1.0, out)


def test_noise_in_lanes_is_that_of_torch_of_the_same_words(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (1, 2, 7, 16, 17, 385, 16_384, 16_385, 100_001):
        by_torch = source().gaussian_on_grid(count, 2.0**20, 1.0)
        with monkeypatch.context() as patch:
            patch.setattr(compiled, "_loaded", kernels)
            in_lanes = source().gaussian_on_grid(count, 2.0**20, 1.0)
        assert in_lanes.shape == by_torch.shape
        assert np.array_equal(in_lanes, by_torch)  # each is the exact number, rounded


@pytest.mark.parametrize("std", [2.0**19, 2.0**20, 2.0**23, 2.0**30])
def test_every_pair_within_ten_deviations_can_be_drawn(
    std: float, kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "_loaded", kernels)
    rng = np.random.default_rng(0)
    radii, angles = rng.uniform(0, 10, 400) * std, rng.uniform(0, 2 * np.pi, 400)
    for radius, angle in zip(radii, angles, strict=True):
        assert reached_on_grid((int(radius * np.cos(angle)), int(radius * np.sin(angle))), std)


def test_the_self_test_finds_noise_that_is_not_the_declared(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    readiness.check_noise(kernels)
    for fault in (lambda out: out * 0.99, lambda out: np.abs(out), lambda out: np.zeros_like(out)):

        def spoilt(*given: Any, fault: Any = fault) -> Any:
            doubts = transformed(*given)
            given[-1][:] = fault(given[-1])
            return doubts

        monkeypatch.setattr(readiness, "transformed", spoilt)
        with pytest.raises(KernelsMissing, match="noise"):
            readiness.check_noise(kernels)


def test_noise_in_lanes_fits(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_loaded", kernels)
    for std in (1e-3, 1.0, 1000.0):
        drawn = source().gaussian_on_grid(200_000, std * 2.0**20, 1.0)
        assert min(gaussian_p_values(drawn / std / 2.0**20).values()) > FALSE_ALARM
