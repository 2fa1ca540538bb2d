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
* `gaussian_on_grid`: exactly a real-valued Gaussian, rounded to the nearest multiple of the grid.

Theorem. Let the keystream be uniform bits. What `fill_with_gaussians` writes are independent numbers round(Z), with Z a
real number of the distribution N(0, std²), for every deviation below 2^40 units. So value + round(Z) = round(value + Z)
for a value that is whole, as clipped sums are: what is released is the Gaussian mechanism on real numbers, rounded,
and rounding is post-processing (Dwork and Roth 2014, proposition 2.1). Its Rényi divergence is that of two Gaussians
(Mironov 2017, arXiv:1702.07476, proposition 7), which the accountant charges, at the least multiplier, 0.05, as at the
largest, 1000, and after any number of draws: there is no error that would add up. The discrete Gaussian of Canonne,
Kamath and Steinke has the same divergence (theorem 4), and is an order of magnitude slower.

It also answers Mironov (2012) and Holohan and Braghin (2021, arXiv:2112.05307), who read a secret from the low bits of
value + noise in floating point, as noise takes only some of those numbers: here every whole number can come.

Proof. Z = std √(-2 ln U) cos(πA), and the same with the sine, are independent Gaussians for U uniform in (0, 1) and A
in [-1, 1) (Box and Muller 1958, doi:10.1214/aoms/1177706645). A word of 64 bits gives U's first 63, another one A's
first 64; below 2^53 of 2^63, 53 more of U are drawn. Float64 computes Z from those, and differs from the Z of all bits
by at most `DOUBT` deviations, if 1 - U is at least 2^-19 and U at least 2^-63. For then U is known to 2^-52 of itself,
which moves the radius r = √(-2 ln U), from 2^-9 to 9.4, by at most 2^-52 / r ≤ 2^-43; and a logarithm within two units
in the last place, a root and a product, sine and cosine of an angle that is known to 2^-51, and another product are
off by less than 2^-49 r < 2^-45. Together that is below 2^-42. So where Z is further from the edge between two whole
numbers than that, round(Z) is decided; and where it is not, or U is beyond those bounds, once in a million draws at a
multiplier of 1, more bits of U and A are drawn until they decide it, in whole numbers (`exact_rounding`). No bit is
used twice.

That is by a kernel of ours where this process has it (`engine.lanes`), else by torch; both then give the same numbers.
tests/datasites/engine/test_exact_rounding.py holds each float's distance to its bound, and finds where none is kept.
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

from datasites.engine.exact_rounding import rounded_pair
from datasites.engine.lanes import compiled
from datasites.engine.lanes.gaussians import TOGETHER, transformed
from policies.errors import DatasiteError, IsolationMissing, UnsupportedMechanism

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
WordArray = npt.NDArray[np.uint64]

KEY_BYTES = 32
SMALLEST_EPSILON = 2.0**-23  # below it the exact sampler would leave 64-bit integers

DOUBT = 2.0**-42
"""Of a deviation: no further from its place is a Gaussian in float64. See the proof above."""

_LARGEST_WORD = 2**64 - 1
_ZEROS = bytes(2**16)  # enciphered to give the keystream; small enough to stay in cache
_BLOCK_BYTES = 16
_WORDS_BEYOND = 2  # a block cipher may ask for up to a block of room beyond what it writes
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

    __slots__ = ("__further", "__key", "__place", "__room", "__stream")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise DatasiteError(f"A noise key has {KEY_BYTES} bytes, not {len(key)}. Use NoiseSource.from_os().")
        _count_forks()
        self.__key = bytes(key)
        self.__place = (os.getpid(), _forks)
        self.__stream = Cipher(algorithms.AES256(self.__key), modes.CTR(bytes(_BLOCK_BYTES))).encryptor()
        self.__further: NoiseSource | None = None
        self.__room = np.empty(0, dtype=np.uint64)  # of words that become Gaussians, kept: new memory costs as much

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
        bounds = np.asarray(high, dtype=np.int64)
        if bounds.shape not in ((), (count,)):
            raise UnsupportedMechanism(f"Bounds of shape {bounds.shape} are not one for each of {count} integers.")
        if count and bounds.min() < 1:
            raise UnsupportedMechanism("Integers are drawn below a bound of at least 1.")
        bounds = bounds.astype(np.uint64)
        # 2^64 mod bound of the largest words are in excess: without them every residue is equally likely.
        last = np.uint64(_LARGEST_WORD)
        accepted = last - (last % bounds + np.uint64(1)) % bounds
        drawn = self.words(count)
        while len(again := (drawn > accepted).nonzero()[0]):
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

        By Box and Muller's transform, in parts that stay in a processor's nearer memory: in lanes where a process has
        the kernels, else in torch, of the same words and with the same result.
        """
        if not 0 <= std < 2.0**40:
            raise UnsupportedMechanism(f"std={std} is outside [0, 2^40) units of the grid.")
        kernels = compiled.loaded()
        for begin in range(0, len(out), 2 * _PAIRS_TOGETHER):
            part = out[begin : begin + 2 * _PAIRS_TOGETHER]
            pairs = (len(part) + 1) // 2
            room = -(-pairs // TOGETHER) * TOGETHER
            wanted = 2 * room + _LEAST_FRACTIONS + room // 128
            if len(self.__room) < wanted + _WORDS_BEYOND:
                self.__room = np.empty(wanted + _WORDS_BEYOND, dtype=np.uint64)
            self.fill_with_words(self.__room, wanted)
            drawn, fractions = self.__room[: 2 * room], self.__room[2 * room : wanted]
            whole = part if 2 * room == len(part) else np.empty(2 * room)
            doubts = None if kernels is None else transformed(kernels, drawn, fractions, std, whole, doubt=std * DOUBT)
            if doubts is None:
                short = len(_small(drawn[:room].view(np.int64))) - len(fractions)
                fractions = np.concatenate([fractions, self.words(short)]) if short > 0 else fractions
                doubts = self.__transform(drawn.view(np.int64), fractions, std, whole)
            if len(doubts):
                self.__decide(doubts, drawn.view(np.int64), fractions, std, whole)
            if whole is not part:
                part[:pairs], part[pairs:] = whole[:pairs], whole[room : room + len(part) - pairs]

    def __transform(self, words: npt.NDArray[np.int64], fractions: WordArray, std: float, out: FloatArray) -> IntArray:
        """What the kernel does, by torch; and where there are too few fractions."""
        pairs = len(words) // 2
        uniform = self.__radii(words[:pairs], fractions).mul_(2.0**-63)
        radius = uniform.log().mul_(-2.0).sqrt_().mul_(std)
        angle = torch.from_numpy(words[pairs:]).to(torch.float64).mul_(math.pi * 2.0**-63)
        result = torch.from_numpy(out)
        torch.mul(torch.cos(angle), radius, out=result[:pairs])
        torch.mul(angle.sin_(), radius, out=result[pairs:])
        far = result - result.round()
        result.sub_(far)
        far = torch.maximum(far[:pairs].abs(), far[pairs:].abs())
        doubtful = (far > 0.5 - std * DOUBT) | (uniform > 1 - 2.0**-19) | (uniform < 2.0**-63)
        return np.flatnonzero(doubtful.numpy())

    def __decide(
        self, doubts: IntArray, words: npt.NDArray[np.int64], fractions: WordArray, std: float, out: FloatArray
    ) -> None:
        """Round the pairs that float64 leaves in doubt, by bits of a source of their own that nothing else draws on."""
        pairs = len(words) // 2
        small = _small(words[:pairs])
        if self.__further is None:
            self.__further = self.child("bits that decide")
        bits = self.__further
        for pair in doubts.tolist():
            word, fraction = int(words[pair]), None
            if (nth := int(np.searchsorted(small, pair))) < len(small) and small[nth] == pair:
                fraction = int(fractions[nth]) >> 11
            out[[pair, pairs + pair]] = rounded_pair(
                word if word >= 0 else -1 - word, fraction, int(words[pairs + pair]), std, lambda: int(bits.words(1)[0])
            )

    def __radii(self, words: npt.NDArray[np.int64], fractions: WordArray) -> torch.Tensor:
        """Numbers uniform in (0, 2^63], for radii, with all small ones kept apart: the tail needs it."""
        radius = torch.from_numpy(words).to(torch.float64).abs_()
        # One in 1024 words is below 2^53 and gets a fraction of 53 bits more: float64 holds them.
        small = _small(words)
        if len(small):
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
        # A block cipher may ask for up to a block of room beyond what it writes.
        room = np.empty(count + _BLOCK_BYTES, dtype=np.uint8)
        self.__fill(room, count)
        return room[:count]

    def fill_with_words(self, room: WordArray, count: int) -> None:
        """Write `count` words of 64 random bits over the beginning of `room`, which has room for two more."""
        self.__fill(room.view(np.uint8), 8 * count)

    def __fill(self, room: npt.NDArray[np.uint8], count: int) -> None:
        self.__check_process()
        view, zeros = memoryview(room.data), memoryview(_ZEROS)
        for begin in range(0, count, len(_ZEROS)):
            self.__stream.update_into(zeros[: min(len(_ZEROS), count - begin)], view[begin:])

    def __check_process(self) -> None:
        if (os.getpid(), _forks) != self.__place:
            raise IsolationMissing(
                "A noise source was made before this process was forked, so its noise would repeat. "
                "Make a NoiseSource after the fork."
            )

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise IsolationMissing("A noise source cannot be copied or pickled: its noise would repeat. Make another.")


def _small(words: IntArray) -> IntArray:
    """Where words stand for a radius below 2^53."""
    return np.flatnonzero((words > -(2**53)) & (words < 2**53))


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
