"""Cryptographically secure sampling and noise: a keystream that nobody outside this process can know.

A `NoiseSource` is AES-256 in counter mode over a key that its constructor is given; `NoiseSource.from_os` takes the key
from the operating system. No setting, variable or global chooses a key. A source works in the process that made it and
nowhere else, because a forked copy would repeat its noise; it cannot be pickled or copied for the same reason.

What each method promises:

* `bernoulli`: 64-bit integers against an integer threshold, so the chance is exact to 2^-64, and never above the one
  asked for: more sampling costs more privacy, so that is the side that we round to.
* `integers`: exactly uniform, by rejection.
* `discrete_laplace`: exact, by the sampler of Canonne, Kamath and Steinke (2020, arXiv:2004.00010, algorithms 1 and 2)
  in integers alone. ε is lowered to 20 significant bits, so there is at least as much noise as asked for.
* `gaussian_on_grid`: Box and Muller's transform in float64, rounded to a multiple of the grid; by a kernel of ours
  where this process has it (`engine.lanes`), else by torch.

Why rounding the Gaussian is safe. Mironov (2012) and Holohan and Braghin (2021, arXiv:2112.05307) read a secret from
the low bits of value + noise: noise takes only some of the floating-point numbers, and which ones a sum can reach tells
the value apart. Here the value is an integer number of grid units, and round(value + z) = value + round(z): what is
released is the ideal real-valued mechanism's output, rounded, and rounding is post-processing. What is left is that z
is a float64 and not a real number.

* Holes: a radius comes from a uniform number of 53 significant bits however small it is, an angle from 64 bits. So
  circles of possible radii lie closer than the grid, from 2^-22 deviations out to 12, at any deviation below 2^31
  units: no pair of integers in reach is missing, and a pair gives nothing away. The radius ends at 12.7 deviations,
  which a real Gaussian pair passes once in 2^116 draws. (tests/proof/test_floats.py tries both ends.)
* Errors: log, sqrt, cos and sin are off by a few units in the last place, so each edge between two integers lies within
  2^-26 units of its place, and a probability is off by a factor of at most 1 ± e with e about 2^-25. A Rényi divergence
  of order α sees α·e²/2: below α·10^-7 in total after 10^8 draws, which is 1000 steps of 100,000 parameters.
"""

from __future__ import annotations

import math
import os
from fractions import Fraction
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import torch
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from datasites.engine.lanes import compiled
from datasites.engine.lanes.gaussians import TOGETHER, transformed
from policies.errors import DatasiteError, IsolationMissing, UnsupportedMechanism

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
WordArray = npt.NDArray[np.uint64]

KEY_BYTES = 32
SMALLEST_EPSILON = 2.0**-23  # below it the exact sampler would leave 64-bit integers

_LARGEST_WORD = 2**64 - 1
_ZEROS = bytes(2**16)  # enciphered to give the keystream; small enough to stay in cache
_BLOCK_BYTES = 16
_PAIRS_TOGETHER = 2**13  # of Gaussians: their words and they themselves are 256 kB
_LEAST_FRACTIONS = 32  # drawn beside them: one pair in 1024 needs one

_forks = 0  # of Python's own making; beside the process id, which repeats between PID namespaces
_counting_forks = False


class NoiseSource:
    """A secure stream of random numbers, for one process.

    Args:
      key: 32 secret bytes. Equal keys give equal numbers, which only tests want.

    Raises:
      DatasiteError: the key has another length.
      IsolationMissing: from every method, in another process than the one that made the source.
    """

    __slots__ = ("__key", "__place", "__stream")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise DatasiteError(f"A noise key has {KEY_BYTES} bytes, not {len(key)}. Use NoiseSource.from_os().")
        _count_forks()
        self.__key = bytes(key)
        self.__place = (os.getpid(), _forks)
        self.__stream = Cipher(algorithms.AES256(self.__key), modes.CTR(bytes(_BLOCK_BYTES))).encryptor()

    @classmethod
    def from_os(cls) -> NoiseSource:
        """A source with a fresh key from the operating system."""
        return cls(os.urandom(KEY_BYTES))

    def child(self, label: str) -> NoiseSource:
        """A source of its own for one purpose, with HMAC-SHA256(key, label) as key; the same label, the same numbers.

        How much one purpose draws then never shifts what another one gets. Use each label once.
        """
        self.__check_process()
        derived = hmac.HMAC(self.__key, hashes.SHA256())
        derived.update(b"datasites.engine.noise/" + label.encode())
        return NoiseSource(derived.finalize())

    def words(self, count: int) -> WordArray:
        """`count` words of 64 random bits."""
        return self.__bytes(8 * count).view(np.uint64)

    def uniforms(self, count: int) -> FloatArray:
        """`count` numbers of 53 random bits, uniform in [0, 1)."""
        return _uniforms(self.words(count))

    def bernoulli(self, count: int, chance: float) -> BoolArray:
        """`count` independent flags, each true with floor(chance · 2^64) / 2^64.

        Each stands for a 64-bit integer below a threshold. Its upper 16 bits are drawn first, and the lower 48 only
        where the upper ones are a tie: the same comparison for a quarter of the keystream.
        """
        if not 0 <= chance <= 1:
            raise UnsupportedMechanism(f"chance={chance} is outside [0, 1].")
        threshold = math.floor(Fraction(chance) * 2**64)
        if threshold > _LARGEST_WORD:
            return np.ones(count, dtype=np.bool_)
        upper, lower = divmod(threshold, 2**48)
        drawn = self.__bytes(2 * count).view(np.uint16)
        flags = drawn < np.uint16(upper)
        ties = np.flatnonzero(drawn == np.uint16(upper))
        flags[ties] = (self.words(len(ties)) >> np.uint64(16)) < np.uint64(lower)
        return flags

    def integers(self, count: int, high: int | IntArray) -> IntArray:
        """`count` integers, exactly uniform in [0, high); `high` in [1, 2^63), one for all or one for each."""
        bounds = np.broadcast_to(np.asarray(high, dtype=np.int64), (count,))
        if count and bounds.min() < 1:
            raise UnsupportedMechanism("Integers are drawn below a bound of at least 1.")
        bounds = bounds.astype(np.uint64)
        # 2^64 mod bound of the largest words are in excess: without them every residue is equally likely.
        last = np.uint64(_LARGEST_WORD)
        accepted = last - (last % bounds + np.uint64(1)) % bounds
        drawn = self.words(count)
        while len(again := np.flatnonzero(drawn > accepted)):
            drawn[again] = self.words(len(again))
        return (drawn % bounds).astype(np.int64)

    def gaussian_on_grid(self, shape: int | tuple[int, ...], std: float, grid: float) -> FloatArray:
        """Gaussian noise of standard deviation `std`, rounded to the nearest multiple of `grid`.

        Args:
          shape: of the array, float64.
          std: at least 0; below 2^40 · grid, so that every multiple is exact.
          grid: above 0; a power of two makes the products exact too.
        """
        if not 0 <= std < 2.0**40 * grid or not grid > 0:
            raise UnsupportedMechanism(f"std={std} is outside [0, 2^40 · grid) at grid={grid}.")
        size = math.prod(shape) if isinstance(shape, tuple) else shape
        noise = np.empty(size)
        self.fill_with_gaussians(noise, std / grid)
        if grid != 1.0:
            noise *= grid
        return noise.reshape(shape)

    def fill_with_gaussians(self, out: FloatArray, std: float) -> None:
        """Write Gaussians of deviation `std`, rounded to whole numbers, all over `out`, float64 in one piece.

        By Box and Muller's transform, in parts that stay in a processor's nearer memory. In lanes where a process has
        the kernels, else in torch, of the same words: what differs is the last place of a logarithm, a sine or a
        cosine.
        """
        if not 0 <= std < 2.0**40:
            raise UnsupportedMechanism(f"std={std} is outside [0, 2^40) units of the grid.")
        kernels = compiled.loaded()
        for begin in range(0, len(out), 2 * _PAIRS_TOGETHER):
            part = out[begin : begin + 2 * _PAIRS_TOGETHER]
            pairs = (len(part) + 1) // 2
            room = -(-pairs // TOGETHER) * TOGETHER
            words, fractions = self.words(2 * room), self.words(_LEAST_FRACTIONS + room // 128)
            whole = part if 2 * room == len(part) else np.empty(2 * room)
            if kernels is None or not transformed(kernels, words, fractions, std, whole):
                self.__transform(words.view(np.int64), fractions, std, whole)
            if whole is not part:
                part[:pairs], part[pairs:] = whole[:pairs], whole[room : room + len(part) - pairs]

    def __transform(self, words: npt.NDArray[np.int64], fractions: WordArray, std: float, out: FloatArray) -> None:
        """What the kernel does, by torch; and where there are too few fractions."""
        pairs = len(words) // 2
        radius = self.__radii(words[:pairs], fractions)
        radius.mul_(2.0**-63).log_().mul_(-2.0).sqrt_().mul_(std)
        angle = torch.from_numpy(words[pairs:]).to(torch.float64).mul_(math.pi * 2.0**-63)
        result = torch.from_numpy(out)
        torch.mul(torch.cos(angle), radius, out=result[:pairs])
        torch.mul(angle.sin_(), radius, out=result[pairs:])
        result.round_()

    def __radii(self, words: npt.NDArray[np.int64], fractions: WordArray) -> torch.Tensor:
        """Numbers uniform in (0, 2^63], for radii, with all small ones kept apart: the tail needs it."""
        radius = torch.from_numpy(words).to(torch.float64).abs_()
        # One in 1024 words is below 2^53 and gets a fraction of 53 bits more: without it, the circles that the largest
        # radii leave free are wider than the grid.
        small = np.flatnonzero(radius.numpy() < 2.0**53)
        if len(small):
            if len(small) > len(fractions):
                fractions = np.concatenate([fractions, self.words(len(small) - len(fractions))])
            whole = np.where(words[small] < 0, -1 - words[small], words[small])
            radius[torch.from_numpy(small)] = torch.from_numpy(whole + _uniforms(fractions[: len(small)]))
        return radius.clamp_(min=2.0**-54)

    def discrete_laplace(self, count: int, epsilon: float) -> IntArray:
        """`count` integers k, exactly with probability proportional to exp(-ε |k|): noise for counts of sensitivity 1.

        Args:
          epsilon: in [2^-23, 2^20]; used as s / t with integers s < 2^20 and t, at most ε and at least ε (1 - 2^-19).
        """
        if not SMALLEST_EPSILON <= epsilon <= 2.0**20:
            raise UnsupportedMechanism(f"epsilon={epsilon} is outside [2^-23, 2^20]. Choose one between 0.01 and 10.")
        mantissa, exponent = math.frexp(epsilon)
        s, t = math.floor(mantissa * 2**20), 2 ** (20 - min(exponent, 20))
        if exponent > 20:  # 2^20 itself
            s *= 2 ** (exponent - 20)
        result = np.zeros(count, dtype=np.int64)
        waiting = np.arange(count)
        while len(waiting):
            fraction = self.integers(len(waiting), t)
            kept = np.flatnonzero(self.__exponential_flags(fraction, t))
            whole = self.__geometric(len(kept))
            size = (fraction[kept] + t * whole) // s
            negative = self.bernoulli(len(kept), 0.5)
            settled = ~(negative & (size == 0))  # 0 must not count twice, as +0 and -0
            places = waiting[kept[settled]]
            result[places] = np.where(negative, -size, size)[settled]
            waiting = np.delete(waiting, kept[settled])
        return result

    def __exponential_flags(self, numerators: IntArray, denominator: int) -> BoolArray:
        """Flags true with exactly exp(-numerator / denominator), numerators in [0, denominator] (algorithm 1)."""
        flags = np.zeros(len(numerators), dtype=np.bool_)
        going = np.arange(len(numerators))
        turn = 1
        while len(going):
            on = self.integers(len(going), denominator * turn) < numerators[going]
            flags[going[~on]] = turn % 2 == 1
            going = going[on]
            turn += 1
        return flags

    def __geometric(self, count: int) -> IntArray:
        """How many flags of chance exp(-1) come true before the first that does not."""
        counts = np.zeros(count, dtype=np.int64)
        going = np.arange(count)
        while len(going):
            going = going[self.__exponential_flags(np.ones(len(going), dtype=np.int64), 1)]
            counts[going] += 1
        return counts

    def __bytes(self, count: int) -> npt.NDArray[np.uint8]:
        self.__check_process()
        # A block cipher may ask for up to a block of room beyond what it writes.
        room = np.empty(count + _BLOCK_BYTES, dtype=np.uint8)
        view = memoryview(room.data)
        zeros = memoryview(_ZEROS)
        for begin in range(0, count, len(_ZEROS)):
            self.__stream.update_into(zeros[: min(len(_ZEROS), count - begin)], view[begin:])
        return room[:count]

    def __check_process(self) -> None:
        if (os.getpid(), _forks) != self.__place:
            raise IsolationMissing(
                "A noise source was made before this process was forked, so its noise would repeat. "
                "Make a NoiseSource after the fork."
            )

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise IsolationMissing("A noise source cannot be copied or pickled: its noise would repeat. Make another.")


def _uniforms(words: WordArray) -> FloatArray:
    """The upper 53 bits of words as numbers in [0, 1)."""
    return (words >> np.uint64(11)).view(np.int64).astype(np.float64) * 2.0**-53  # signed ones convert twice as fast


def _count_forks() -> None:
    """From the first source on, tell a forked process apart even where it has its parent's process id."""
    global _counting_forks
    if not _counting_forks:
        _counting_forks = True
        os.register_at_fork(after_in_child=_forked)


def _forked() -> None:
    global _forks
    _forks += 1
