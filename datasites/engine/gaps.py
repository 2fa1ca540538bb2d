"""Gaps between Poisson-sampled patients, exactly as independent flags of one chance would leave them.

A flag for each patient costs as much for those whom a sample leaves out as for those whom it takes. A gap, how many are
left out before the next one is taken, costs the same for any number of them.

The chance. With p = floor(rate · 2^64) / 2^64, which is `rate` to 2^-64 and never above it, and q = 1 - p, let
T_j = 1 - q^j for j = 1 to m, and U uniform in [0, 1). The gap is how many T_j are at most U, so it is at least j with
chance q^j. Where it leaves j patients out, with j below m, the one who comes next is taken with chance
1 - q^(j+1) / q^j = p, whoever came before. A gap of m takes nobody, and another one begins there: the next patient is
again taken with chance 1 - q = p. So every patient is taken with chance exactly p, independently of all others.

That this is exact and not nearly so: a word of 64 bits holds the first binary digits of U. It decides between U and T_j
unless it equals the first 64 digits of T_j, which happens once in 2^64 / m words. Then more words are drawn, and all
digits of T_j, which is a whole number over 2^(64 j), are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

LARGEST_GAP = 2048  # so that the table stays in a processor's nearest memory
WORD = 2**64

_MEANS = 8  # a gap beyond eight times the mean is drawn as two
_PRECISION = 192  # bits of the powers of q; of the first 64 digits none is in doubt but once in 2^100


@dataclass(frozen=True, eq=False)
class Gaps:
    """Tables for one chance. Public: made from the sampling rate alone.

    Args:
      chance: p · 2^64, in 1..2^64 - 1.
      thresholds: the first 64 digits of T_1..T_m, less 2^63, so that signed comparison orders them.
      cells: for the upper bits of a word, how many thresholds are below all words with these.
      shift: how many lower bits a word has beside them.
    """

    chance: int
    thresholds: npt.NDArray[np.int64]
    cells: npt.NDArray[np.uint16]
    shift: int

    @property
    def largest(self) -> int:
        """m: the gap that takes nobody."""
        return len(self.thresholds)

    def words_for(self, patients: int) -> int:
        """Words that are enough for a line of so many patients but once in a few hundred times."""
        p = self.chance / WORD
        expected = patients * p / -math.expm1(self.largest * math.log1p(-p))
        return math.ceil(expected + 3 * math.sqrt(expected)) + 4

    def of(self, words: npt.NDArray[np.uint64], more: Callable[[], int]) -> npt.NDArray[np.int64]:
        """The gap of every word; `more` gives further words of 64 bits where one does not decide."""
        signed = words.view(np.int64) ^ np.int64(-(2**63))
        gaps = np.searchsorted(self.thresholds, signed, side="left")
        ties = np.flatnonzero(np.searchsorted(self.thresholds, signed, side="right") != gaps)
        for place in ties.tolist():
            gaps[place] = self._decided(int(words[place]), more)
        return gaps.astype(np.int64)

    def _decided(self, word: int, more: Callable[[], int]) -> int:
        """The gap of a word that begins as thresholds do, by all of their digits."""
        digits = [word]
        low, high = (int(np.searchsorted(self.thresholds, word - 2**63, side=side)) for side in ("left", "right"))
        for number in range(low + 1, high + 1):
            if not self._reached(number, digits, more):
                return number - 1
        return high

    def _reached(self, number: int, digits: list[int], more: Callable[[], int]) -> bool:
        """Whether U, whose first digits to the base 2^64 are given and grow as they are looked at, is at least T."""
        numerator = WORD**number - (WORD - self.chance) ** number
        for place in range(number):
            if place == len(digits):
                digits.append(more())
            wanted: int = numerator >> 64 * (number - 1 - place) & (WORD - 1)
            if digits[place] != wanted:
                return digits[place] > wanted
        return True


@lru_cache(maxsize=8)
def gaps_for(rate: float) -> Gaps | None:
    """Tables for a sampling rate in (0, 1]; None where all or none are taken, which needs no draw."""
    chance = math.floor(Fraction(rate) * WORD)
    if not 0 < chance < WORD:
        return None
    largest = min(LARGEST_GAP, -(-_MEANS * WORD // chance))
    thresholds = np.array([digits - 2**63 for digits in _first_digits(chance, largest)], dtype=np.int64)
    bits = max(1, (2 * largest - 1).bit_length())
    edges = (np.arange(2**bits, dtype=np.uint64) << np.uint64(64 - bits)).view(np.int64) ^ np.int64(-(2**63))
    cells = np.searchsorted(thresholds, edges, side="left").astype(np.uint16)
    for array in (thresholds, cells):
        array.flags.writeable = False
    return Gaps(chance, thresholds, cells, 64 - bits)


def _first_digits(chance: int, largest: int) -> Iterator[int]:
    """floor(T_j · 2^64) for j = 1 to `largest`, from bounds on the powers of q, and exactly where those do not tell."""
    q, below, above = WORD - chance, 1 << _PRECISION, 1 << _PRECISION
    for number in range(1, largest + 1):
        below, above = below * q >> 64, -(-above * q >> 64)
        left, most = (-(-bound >> _PRECISION - 64) for bound in (below, above))
        yield WORD - (left if left == most else -(-(q**number) >> 64 * (number - 1)))
