"""Noise that the kernel makes of uniform words, against exact numbers and beside torch's of the same words."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pytest

from datasites.engine.lanes import compiled, readiness
from datasites.engine.lanes.compiled import Kernels, KernelsMissing
from datasites.engine.lanes.gaussians import transformed
from datasites.engine.noise import NoiseSource
from tests.proof.fit import FALSE_ALARM, gaussian_p_values
from tests.proof.floats import reached_on_grid

PAIRS = 100_000
WORST = 2.0**-50  # of a value: a few units in the last place of float64
PI = np.longdouble("3.14159265358979323846264338327950288")


def source() -> NoiseSource:
    return NoiseSource(hashlib.sha256(b"gaussians").digest())


def exact(radii: npt.NDArray[np.float64], angles: npt.NDArray[np.int64], std: float) -> npt.NDArray[np.longdouble]:
    """In numbers of 64 significant bits."""
    uniform = radii.astype(np.longdouble) / np.longdouble(2.0**63)
    radius = np.sqrt(-2 * np.log(uniform)) * np.longdouble(std)
    angle = angles.astype(np.longdouble) * PI / np.longdouble(2.0**63)
    return np.concatenate([np.cos(angle) * radius, np.sin(angle) * radius])


EDGES = np.array(
    [0, 1, -1, 2**61, 2**61 - 1, -(2**61), 2**62, 2**62 + 1, -(2**62), 3 * 2**61, 2**63 - 1, -(2**63), 12345, -(2**40)],
    dtype=np.int64,
)
RADII = np.array([2.0**-54, 1.0, 0.75, 2.0**53, 2.0**62, 2.0**63, 2.0**63 - 1024, 2.0**62.5, 3.0e18, 1e10])


@pytest.mark.parametrize("std", [1.0, 2.0**20, 2.0**39.5])
def test_noise_is_the_exact_gaussian_rounded_but_for_its_last_places(std: float, kernels: Kernels) -> None:
    words = source().words(2 * PAIRS).view(np.int64)
    radii = np.concatenate([np.repeat(RADII, len(EDGES)), np.abs(words[:PAIRS].astype(np.float64))])
    angles = np.concatenate([np.tile(EDGES, len(RADII)), words[PAIRS:]])
    radii = np.maximum(radii, 2.0**-54)
    found, wanted = transformed(kernels, radii, angles, std), exact(radii, angles, std)
    assert (found == np.rint(found)).all()
    # An exact value and one that is off by a few units in the last place round to the same or to neighbours. Where a
    # cosine is near zero its error is that of the angle, of at most one.
    largest = 12.8 * std
    assert np.abs(found - wanted).max() <= 0.5 + largest * WORST
    assert np.abs(found).max() <= largest + 0.5


def test_noise_in_lanes_is_that_of_torch_of_the_same_words(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (1, 2, 7, 16, 385, 100_001):
        by_torch = source().gaussian_on_grid(count, 2.0**20, 1.0)
        with monkeypatch.context() as patch:
            patch.setattr(compiled, "_loaded", kernels)
            in_lanes = source().gaussian_on_grid(count, 2.0**20, 1.0)
        assert in_lanes.shape == by_torch.shape
        assert np.abs(in_lanes - by_torch).max() <= 1
        assert (in_lanes != by_torch).mean() < 1e-3


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
        monkeypatch.setattr(readiness, "transformed", lambda *given, fault=fault: fault(transformed(*given)))
        with pytest.raises(KernelsMissing, match="noise"):
            readiness.check_noise(kernels)


def test_noise_in_lanes_fits(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_loaded", kernels)
    for std in (1e-3, 1.0, 1000.0):
        drawn = source().gaussian_on_grid(200_000, std * 2.0**20, 1.0)
        assert min(gaussian_p_values(drawn / std / 2.0**20).values()) > FALSE_ALARM
