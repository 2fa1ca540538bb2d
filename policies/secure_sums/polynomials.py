"""Shares of whole numbers that add up: Shamir's sharing over a field of 61 bits, and sums that are opened from shares.

Shares of several people at one place add up to a share of their sum. Any `needed` shares give it; of n shares up to
(n - needed) / 2 wrong ones are found and left out (Gao 2003).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import mul

from policies.errors import CertificateRefused

PRIME = 2**61 - 1
HALF = PRIME // 2
"""Whole numbers in [-HALF, HALF] are themselves modulo PRIME."""
WIDE = 16  # bytes of a random number that is taken modulo PRIME: it is off evenness by 2^-67


def split(number: int, *, needed: int, size: int) -> list[int]:
    """Shares of a number for places 1 to `size`: fewer than `needed` of them are evenly random, whatever it is.

    The first needed - 1 shares are drawn, and the others are those of the polynomial through them and the number.
    """
    drawn = evenly(secrets.token_bytes(WIDE * (needed - 1)))
    known = [number % PRIME, *drawn]
    return drawn + [sum(map(mul, weights, known)) % PRIME for weights in _others(needed, size)]


def evenly(stream: bytes) -> list[int]:
    """Elements of the field from random bytes, `WIDE` for each."""
    return [int.from_bytes(stream[begin : begin + WIDE], "little") % PRIME for begin in range(0, len(stream), WIDE)]


def opened(shares: Mapping[int, int], *, needed: int) -> int:
    """The number, from at least `needed` shares by place. Raises `CertificateRefused` where too many are wrong."""
    places, values = tuple(shares), tuple(shares.values())
    first = dict(zip(places[:needed], values, strict=False))
    if all(_at(first, place) == value for place, value in zip(places[needed:], values[needed:], strict=True)):
        total = _at(first, 0)
    else:
        total = _decoded(places, values, needed)
    return total if total <= HALF else total - PRIME


@lru_cache(maxsize=64)
def _others(needed: int, size: int) -> tuple[tuple[int, ...], ...]:
    """What the values at 0 to needed - 1 weigh in the value at each place from `needed` to `size`."""
    below = [(-1) ** (needed - 1 - j) * math.factorial(j) * math.factorial(needed - 1 - j) for j in range(needed)]
    return tuple(
        tuple(
            math.perm(place, needed) * pow((place - j) * part, -1, PRIME) % PRIME for j, part in enumerate(below)
        )
        for place in range(needed, size + 1)
    )  # fmt: skip


def _at(points: Mapping[int, int], place: int) -> int:
    """The value at a place of the polynomial through points, by Lagrange."""
    if place in points:
        return points[place]
    weights = _lagrange(tuple(points), place)
    return int(sum(map(mul, weights, points.values())) % PRIME)


@lru_cache(maxsize=256)
def _lagrange(points: tuple[int, ...], place: int) -> tuple[int, ...]:
    weights = []
    for point in points:
        above, below = 1, 1
        for other in points:
            if other != point:
                above, below = above * (place - other) % PRIME, below * (point - other) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(weights)


# -- leaving out wrong shares: polynomials are lists of coefficients, the lowest first ---------------------------------


def _decoded(places: Sequence[int], values: Sequence[int], needed: int) -> int:
    """The value at 0 of the one polynomial of degree below `needed` that most points lie on (Gao's algorithm)."""
    product, through = [1], [0]
    for place, value in zip(places, values, strict=True):
        gap = (value - _value(through, place)) * pow(_value(product, place), -1, PRIME) % PRIME
        through = _sum(through, [gap * one % PRIME for one in product])
        product = _sum([0, *product], [-place * one % PRIME for one in product])
    one, other = product, _trimmed(through)
    before, factor = [0], [1]
    while 2 * len(other) > len(places) + needed + 1:
        quotient, rest = _divided(one, other)
        one, other = other, rest
        before, factor = factor, _sum(before, [-value % PRIME for value in _product(quotient, factor)])
    answer, rest = _divided(other, factor)
    wrong = sum(_value(answer, place) != value for place, value in zip(places, values, strict=True))
    if any(rest) or len(_trimmed(answer)) > needed or 2 * wrong > len(places) - needed:
        raise CertificateRefused(
            f"Shares of {len(places)} members of the committee are of no one sum, and too many are wrong to leave them"
            " out. Nothing was opened. Ask again under another name."
        )
    return answer[0]


def _value(polynomial: Sequence[int], place: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = (value * place + coefficient) % PRIME
    return value


def _sum(one: Sequence[int], other: Sequence[int]) -> list[int]:
    size = max(len(one), len(other))
    padded = ([*polynomial, *[0] * (size - len(polynomial))] for polynomial in (one, other))
    return [(first + second) % PRIME for first, second in zip(*padded, strict=True)]


def _product(one: Sequence[int], other: Sequence[int]) -> list[int]:
    total = [0] * (len(one) + len(other) - 1)
    for place, first in enumerate(one):
        for shift, second in enumerate(other):
            total[place + shift] = (total[place + shift] + first * second) % PRIME
    return total


def _divided(one: Sequence[int], other: Sequence[int]) -> tuple[list[int], list[int]]:
    rest, divisor = _trimmed(one), _trimmed(other)
    quotient = [0] * max(1, len(rest) - len(divisor) + 1)
    lead = pow(divisor[-1], -1, PRIME)
    while len(rest) >= len(divisor) and any(rest):
        shift, factor = len(rest) - len(divisor), rest[-1] * lead % PRIME
        quotient[shift] = factor
        for place, coefficient in enumerate(divisor):
            rest[shift + place] = (rest[shift + place] - factor * coefficient) % PRIME
        rest = _trimmed(rest)
    return quotient, rest


def _trimmed(polynomial: Sequence[int]) -> list[int]:
    kept = list(polynomial)
    while len(kept) > 1 and not kept[-1]:
        kept.pop()
    return kept
