"""The attack on low bits: which true values can have led to the very floats that were released?

Floating-point noise takes only some of the numbers, so adding it to one value or to another leads to different sets of
floats (Mironov 2012, doi:10.1145/2382196.2382264, for Laplace; Holohan and Braghin 2021, arXiv:2112.05307, for
Gaussians). Each attack below inverts a sampler: it looks for the random bits that lead from a candidate value to what
was released, exactly. A candidate without any such bits is ruled out for certain, which no ε allows.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt

from datasites.engine.noise import NoiseSource, WordArray

BITS = 53
NEAR = 4  # candidates tried on each side of where the inverse lands; rounding moves it by fewer


class NaiveLaplace:
    """value + b · sign · ln(u), with u a uniform float64: the textbook, and many libraries."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def released(self, value: float, rng: np.random.Generator) -> float:
        uniform = int(rng.integers(1, 2**BITS)) * 2.0**-BITS
        return self._from(value, uniform, bool(rng.integers(2)))

    def reaches(self, value: float, seen: float) -> bool:
        """Whether some bits lead from `value` to `seen`."""
        distance = abs(seen - value) / self.scale
        centre = round(math.exp(-distance) * 2**BITS)
        # Where ln is flat, many uniforms give one float: look as far as one step of the result moves the uniform.
        step = math.ulp(max(abs(seen), abs(value), 1e-300)) / self.scale * centre
        reach = NEAR + min(math.ceil(step) * 2, 64)
        whole = range(max(1, centre - reach), min(2**BITS, centre + reach + 1))
        return any(self._from(value, each * 2.0**-BITS, sign) == seen for each in whole for sign in (False, True))

    def _from(self, value: float, uniform: float, negative: bool) -> float:
        noise = -self.scale * math.log(uniform)
        return value + (-noise if negative else noise)


class NaiveGaussian:
    """Two values + σ · Box and Muller's two numbers in float64, released as they are."""

    def __init__(self, std: float) -> None:
        self.std = std

    def released(self, values: tuple[float, float], rng: np.random.Generator) -> tuple[float, float]:
        return self._from(values, int(rng.integers(1, 2**BITS)), int(rng.integers(2**BITS)))

    def reaches(self, values: tuple[float, float], seen: tuple[float, float]) -> bool:
        one, other = ((y - v) / self.std for y, v in zip(seen, values, strict=True))
        radius = round(math.exp(-(one * one + other * other) / 2) * 2**BITS)
        angle = round(math.atan2(other, one) / (2 * math.pi) % 1.0 * 2**BITS)
        near = range(-NEAR, NEAR + 1)
        return any(
            self._from(values, radius + a, (angle + b) % 2**BITS) == seen
            for a, b in itertools.product(near, near)
            if 0 < radius + a < 2**BITS
        )

    def _from(self, values: tuple[float, float], radius: int, angle: int) -> tuple[float, float]:
        length = math.sqrt(-2 * math.log(radius * 2.0**-BITS))
        turn = 2 * math.pi * (angle * 2.0**-BITS)
        return values[0] + self.std * (length * math.cos(turn)), values[1] + self.std * (length * math.sin(turn))


class ChosenWords(NoiseSource):
    """Our source over words that the attacker chooses: the real sampler, run on the bits that are tried."""

    def __init__(self, *chosen: WordArray) -> None:
        super().__init__(bytes(32))
        self.left = list(chosen)

    def words(self, count: int) -> WordArray:
        first = self.left.pop(0)
        assert count >= len(first)
        return np.concatenate([first, np.zeros(count - len(first), dtype=np.uint64)])


def reached_on_grid(difference: tuple[int, int], std: float) -> bool:
    """Whether bits exist with which our `gaussian_on_grid` draws these two whole numbers, at `std` units."""
    one, other = (each / std for each in difference)
    radius = math.exp(-(one * one + other * other) / 2) * 2.0**63
    angle = math.atan2(other, one) / math.pi  # the sampler takes a signed word for an angle in [-π, π)
    whole = max(0, min(2**63 - 1, int(radius)))
    second = max(-(2**63), min(2**63 - 1, int(angle * 2.0**63)))
    # Pairs are made by eights, radii before angles; the first pair is the one that is tried.
    words: npt.NDArray[np.int64] = np.zeros(16, dtype=np.int64)
    words[0], words[8] = whole, second
    # Small radii take a fraction from another word, of which the sampler uses the upper 53 bits.
    fraction = np.array([min(2**53 - 1, int((radius - whole) * 2.0**53)) << 11], dtype=np.uint64)
    drawn = ChosenWords(words.view(np.uint64), fraction).gaussian_on_grid(2, std, 1.0)
    return tuple(int(each) for each in drawn) == difference
