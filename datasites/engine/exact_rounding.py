"""Which whole numbers a pair of Gaussians rounds to, decided with as many random bits as it takes.

A float64 of Box and Muller's transform tells the rounded number of almost every draw: the random bits that it does not
hold, and the errors of its arithmetic, cannot carry it over an edge between two whole numbers. Here are the others. As
in Karney (2016, "Sampling exactly from the normal distribution", arXiv:1303.6257), a uniform number is a sequence of
bits without an end, of which one draws more until they decide. So what comes out has the distribution of the
real-valued Gaussian, rounded, and no other.

All arithmetic is in whole numbers, of units of 2^-160, with bounds on what is cut off.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt

MORE_BITS = 64  # drawn at a time

_PLACES = 160
_ONE = 1 << _PLACES
_LN2 = int("1013035739299659071135698605846798551586536899366")  # ln 2 and π, cut off at 160 places
_PI = int("4591442807048218921384805199743311128454155024418")
_ROOT_OF_HALF = isqrt(1 << (2 * _PLACES - 1))
# In units: fewer than 40 terms of a series, off by 3 each; of a logarithm up to 2^10 times ln 2 beside them.
_LOGARITHM_OFF, _SINE_OFF = 1 << 12, 1 << 8


def rounded_pair(radius: int, fraction: int | None, angle: int, std: float, more: Callable[[], int]) -> tuple[int, int]:
    """Both numbers of a pair: std · √(-2 ln U) · cos(πA), and the same with the sine, rounded to whole numbers.

    U is uniform in (0, 1) and A in [-1, 1); their first bits are given and all others are drawn as they are needed.

    Args:
      radius: the first 63 bits of U, a number in [0, 2^63).
      fraction: the 53 bits after them, where they have been drawn already.
      angle: A · 2^63 rounded down, in [-2^63, 2^63).
      std: at least 0.
      more: draws `MORE_BITS` random bits.
    """
    place, bits = (radius, 63) if fraction is None else (radius << 53 | fraction, 63 + 53)
    turn, turned = angle, 63
    while True:
        place, bits = place << MORE_BITS | more(), bits + MORE_BITS
        turn, turned = (turn << MORE_BITS) + more(), turned + MORE_BITS
        if place and (decided := _decided(place, bits, turn, turned, std)):
            return decided


def _decided(place: int, bits: int, turn: int, turned: int, std: float) -> tuple[int, int] | None:
    """Both numbers where all that the bits to come could make of them rounds alike, else None."""
    # U is between place and place + 1: -2 ln U falls by at most 2 / place in between.
    square = minus_two_logarithms(place, bits)
    largest = isqrt(square + _LOGARITHM_OFF << _PLACES) + 1
    smallest = isqrt(max(square - _LOGARITHM_OFF - 1 - 2 * _ONE // place, 0) << _PLACES)
    # A is less than half of 2^-turned from the middle of its place, and the angle less than twice that.
    unknown = (_ONE >> turned - 1) + 1 + _SINE_OFF
    reach = (largest - smallest) * _ONE + largest * unknown
    over, under = std.as_integer_ratio()
    whole = under << 2 * _PLACES
    numbers = []
    for part in cosine_and_sine(2 * turn + 1, turned + 1):
        least, most = ((2 * over * (largest * part + end) + whole) // (2 * whole) for end in (-reach, reach))
        if least != most:
            return None
        numbers.append(least)
    return numbers[0], numbers[1]


def minus_two_logarithms(place: int, bits: int) -> int:
    """-2 ln(place / 2^bits) in units, off by fewer than 2^12; `place` from 1 to 2^bits, `bits` below 1000."""
    power = place.bit_length()
    mantissa = place << _PLACES >> power
    if mantissa < _ROOT_OF_HALF:
        mantissa, power = place << _PLACES >> power - 1, power - 1
    ratio = (mantissa - _ONE << _PLACES) // (mantissa + _ONE)  # ln m = 2 artanh((m - 1) / (m + 1))
    squared = ratio * ratio >> _PLACES
    total, term, odd = 0, ratio, 1
    while term not in (0, -1):
        total, term, odd = total + term // odd, term * squared >> _PLACES, odd + 2
    return -4 * total - 2 * (power - bits) * _LN2


def cosine_and_sine(turn: int, turned: int) -> tuple[int, int]:
    """Of π · turn / 2^turned in units, off by fewer than 2^8, by their series within an eighth of a turn."""
    quarters = (turn >> turned - 2) + 1 >> 1
    x = _PI * (turn - (quarters << turned - 1)) >> turned
    square = -(x * x >> _PLACES)
    cosine, sine = _series(_ONE, square, 1), _series(x, square, 2)
    return ((cosine, sine), (-sine, cosine), (-cosine, -sine), (sine, -cosine))[quarters % 4]


def _series(term: int, square: int, first: int) -> int:
    """term · (1 + s / (f (f+1)) + s² / (f (f+1) (f+2) (f+3)) + ...): a cosine with f = 1, a sine with f = 2."""
    total = term
    while term not in (0, -1):
        term = (term * square >> _PLACES) // (first * (first + 1))
        total, first = total + term, first + 2
    return total
