"""Box and Muller's transform in float64: eight pairs of Gaussians at once, rounded to whole numbers.

Logarithm, sine and cosine are those of fdlibm (Sun Microsystems, 1993), without a branch: within two units in the last
place. An angle is a signed word of 64 bits over a whole turn, so bringing it near zero is exact.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from datasites.engine.lanes.kernels.vectors import (
    add,
    any_of,
    bits_of_double,
    both,
    choose,
    differ,
    divide,
    double_from_bits,
    either,
    fma,
    less,
    load_doubles,
    load_words,
    magnitude,
    multiply,
    nearest,
    root,
    same,
    shift_left,
    shift_right_unsigned,
    splat_double,
    splat_word,
    store_doubles,
    subtract,
)

L1, L2, L3, L4, L5, L6, L7 = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
S1, S2, S3, S4, S5, S6 = (
    -1.66666666666666324348e-01,
    8.33333333332248946124e-03,
    -1.98412698298579493134e-04,
    2.75573137070700676789e-06,
    -2.50507602534068634195e-08,
    1.58969099521155010221e-10,
)
C1, C2, C3, C4, C5, C6 = (
    4.16666666666666019037e-02,
    -1.38888888888741095749e-03,
    2.48015872894767294178e-05,
    -2.75573143513906633035e-07,
    2.08757232129817482790e-09,
    -1.13596475577881948265e-11,
)
HALVES = 2.0**84 + 2.0**63 + 2.0**52
WHOLE = 1.5 * 2.0**52
ROOT_OF_HALF = np.int64(0x3FE6A09E667F3BCD)  # its bits
SMALL = np.int64(2**53)  # words below it, of either sign, are small radii
PER_WORD = math.pi * 2.0**-63
NEAR_ONE = 1.0 - 2.0**-19  # a uniform number above it leaves too little of a radius
TINY = 2.0**-63  # and one below it is of a fraction alone


@njit(inline="always")
def _signed(word):
    """A signed word as float64, rounded once: its halves as exact numbers by their bits."""
    flipped = differ(word, splat_word(np.int64(-(2**63))))
    high = double_from_bits(either(shift_right_unsigned(flipped, 32), splat_word(np.int64(0x4530000000000000))))
    low = double_from_bits(
        either(both(flipped, splat_word(np.int64(0xFFFFFFFF))), splat_word(np.int64(0x4330000000000000)))
    )
    return add(subtract(high, splat_double(HALVES)), low)


@njit(inline="always")
def _logarithm(x):
    """Of an ordinary number above zero."""
    word = bits_of_double(x)
    apart = subtract(word, splat_word(ROOT_OF_HALF))
    # Of 64 bits AVX2 shifts unsigned words alone: hence the bias.
    power = subtract(shift_right_unsigned(add(apart, splat_word(np.int64(1 << 62))), 52), splat_word(np.int64(1 << 10)))
    z = double_from_bits(subtract(word, shift_left(power, 52)))
    magic = add(power, splat_word(np.int64(0x4338000000000000)))
    k = subtract(double_from_bits(magic), splat_double(WHOLE))
    f = subtract(z, splat_double(1.0))
    s = divide(f, add(z, splat_double(1.0)))
    z2 = multiply(s, s)
    w = multiply(z2, z2)
    even = multiply(w, fma(w, fma(w, splat_double(L6), splat_double(L4)), splat_double(L2)))
    odd = fma(w, fma(w, fma(w, splat_double(L7), splat_double(L5)), splat_double(L3)), splat_double(L1))
    half = multiply(splat_double(0.5), multiply(f, f))
    rest = fma(s, add(half, add(even, multiply(z2, odd))), multiply(k, splat_double(LN2_LOW)))
    return add(multiply(k, splat_double(LN2_HIGH)), subtract(f, subtract(half, rest)))


@njit(inline="always")
def _sine_and_cosine(word):
    """Of π · word / 2^63."""
    quarter = shift_right_unsigned(add(word, splat_word(np.int64(1 << 61))), 62)  # the nearest, 0 to 3
    x = multiply(_signed(subtract(word, shift_left(quarter, 62))), splat_double(PER_WORD))
    z = multiply(x, x)
    s = fma(z, splat_double(S6), splat_double(S5))
    s = fma(z, s, splat_double(S4))
    s = fma(z, s, splat_double(S3))
    s = fma(z, s, splat_double(S2))
    s = fma(z, s, splat_double(S1))
    sine = fma(multiply(x, z), s, x)
    c = fma(z, splat_double(C6), splat_double(C5))
    c = fma(z, c, splat_double(C4))
    c = fma(z, c, splat_double(C3))
    c = fma(z, c, splat_double(C2))
    c = fma(z, c, splat_double(C1))
    cosine = fma(multiply(z, z), c, fma(z, splat_double(-0.5), splat_double(1.0)))
    one = splat_word(np.int64(1))
    turned = same(both(quarter, one), one)
    of_sine = shift_left(shift_right_unsigned(quarter, 1), 63)
    of_cosine = shift_left(shift_right_unsigned(add(quarter, one), 1), 63)
    return (
        double_from_bits(differ(bits_of_double(choose(turned, cosine, sine)), of_sine)),
        double_from_bits(differ(bits_of_double(choose(turned, sine, cosine)), of_cosine)),
    )


@njit(inline="always")
def _with_fractions(words, place, radius, fractions, extra, used, spare):
    """Radii of eight words with a fraction of 53 bits for each that is small, and how many fractions are then used."""
    store_doubles(spare, 0, radius)
    for lane in range(8):
        word = words[place + lane]
        if -SMALL < word < SMALL:
            fraction = (fractions[min(used, extra - 1)] >> 11) & (SMALL - 1)
            spare[lane] = np.float64(word ^ (word >> 63)) + np.float64(fraction) * 2.0**-53
            used += 1
    return load_doubles(spare, 0), used


def gaussians(words, fractions, extra, pairs, std, doubt, out, spare, needed):
    """out[:pairs] and out[pairs:]: round(std · √(-2 ln(radius / 2^63)) · cos and sin of the angle), pairs of eight.

    A pair's radius is a word's magnitude, its angle is the word that is `pairs` after that. `needed` says how many
    fractions small radii wanted: where there were fewer, the numbers are not to be used. Then how many eights have a
    pair in doubt, and where they begin: one with a number nearer than `doubt` to the edge between two whole ones, or
    with a radius near 0 or past 9.3 deviations. Of these eights `spare` gets, after the first eight numbers, how far
    each pair is from a whole number, or 1.
    """
    used, doubts, edge = np.int64(0), np.int64(0), 0.5 - doubt
    for i in range(0, pairs, 8):
        radius = magnitude(_signed(load_words(words, i)))
        # Random words alone are asked: one in 1024 is small.
        if any_of(less(radius, splat_double(np.float64(SMALL)))):
            radius, used = _with_fractions(words, i, radius, fractions, extra, used, spare)
        least = splat_double(2.0**-54)
        uniform = multiply(choose(less(radius, least), least, radius), splat_double(2.0**-63))
        radius = multiply(root(multiply(_logarithm(uniform), splat_double(-2.0))), splat_double(std))
        sine, cosine = _sine_and_cosine(load_words(words, pairs + i))
        first, second = multiply(cosine, radius), multiply(sine, radius)
        whole, other = nearest(first), nearest(second)
        store_doubles(out, i, whole)
        store_doubles(out, pairs + i, other)
        far, further = magnitude(subtract(first, whole)), magnitude(subtract(second, other))
        far = choose(less(far, further), further, far)
        far = choose(less(splat_double(NEAR_ONE), uniform), splat_double(1.0), far)
        far = choose(less(uniform, splat_double(TINY)), splat_double(1.0), far)
        # Random words alone are asked: one in 400,000 pairs is in doubt at a deviation of 2^20.
        if any_of(less(splat_double(edge), far)):
            needed[2 + doubts] = i
            doubts += 1
            store_doubles(spare, 8 * doubts, far)
    needed[0], needed[1] = used, doubts
