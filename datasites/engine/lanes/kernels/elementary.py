"""Elementary functions of 16 records at once: polynomials without a branch, so that no value takes longer than another.

Each is within the units in the last place that tests/datasites/engine/lanes/test_elementary.py states, of the exact
value. Denormal arguments of logarithms count as zero, as in the jobs, which flush them. NaN gives NaN.
Coefficients of exp, log, tanh, sin, cos and atan are those of Cephes (Moshier, public domain); erf is a minimax fit in
two parts.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from datasites.engine.lanes.kernels.vectors import (
    add,
    bits,
    both,
    choose,
    divide,
    either,
    fma,
    from_bits,
    less,
    magnitude,
    more,
    multiply,
    narrow,
    nearest,
    same,
    shift_left,
    shift_right,
    splat,
    splat_whole,
    splat_wide,
    subtract,
    to_float,
    to_whole,
    widen,
)

ZERO, ONE, INFINITY, NAN = np.float32(0.0), np.float32(1.0), np.float32(np.inf), np.float32(np.nan)
SIGN = np.int32(-(2**31))
SMALLEST = np.float32(2.0**-126)  # of the ordinary numbers
LARGEST_EXPONENT, SMALLEST_EXPONENT = np.float32(88.72283), np.float32(-87.33654)
LOG2_E = np.float32(1.44269504088896341)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
ROOT_OF_HALF = np.int32(0x3F3504F3)  # its bits


def _coefficients(*values):
    return tuple(np.float32(value) for value in values)


E5, E4, E3, E2, E1, E0 = _coefficients(
    1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1
)
L8, L7, L6, L5, L4, L3, L2, L1, L0 = _coefficients(
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
T4, T3, T2, T1, T0 = _coefficients(
    -5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1
)
TANH_EDGE = np.float32(0.625)
EXPM1_EDGE = np.float32(0.5)
M7, M6, M5, M4, M3, M2 = _coefficients(1 / 40320, 1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6)
HALF = np.float32(0.5)
ERF_EDGE = np.float32(0.927734375)
A6, A5, A4, A3, A2, A1, A0 = _coefficients(
    -1.72853470e-5, 3.83197126e-4, -3.88396438e-3, 2.42546219e-2, -1.06777877e-1, -6.34846687e-1, -1.28717512e-1
)
B5, B4, B3, B2, B1, B0 = _coefficients(
    -5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1
)
HUGE = np.float32(1e30)
QUARTERS_IN_ONE = 0.63661977236758134  # 2 / π
QUARTER_HIGH, QUARTER_LOW = 1.5707963267948966, 6.1232339957367660e-17  # π / 2 in two float64
EIGHTH = np.float32(0.78539819)  # π / 4, rounded up
S3, S2, S1 = _coefficients(-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
C3, C2, C1 = _coefficients(2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
TAN_OF_EIGHTH, TAN_OF_THREE_EIGHTHS = _coefficients(0.41421356, 2.41421356)
HALF_PI, QUARTER_PI = _coefficients(1.57079633, 0.78539816)
N3, N2, N1, N0 = _coefficients(8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1)


@njit(inline="always")
def signed_as(value, x):
    """A value at or above zero, with the sign of `x`."""
    return from_bits(either(bits(value), both(bits(x), splat_whole(SIGN))))


@njit(inline="always")
def negative(x):
    return multiply(x, splat(np.float32(-1.0)))


@njit(inline="always")
def exponential(x):
    is_number = same(x, x)
    within = choose(more(x, splat(LARGEST_EXPONENT)), splat(LARGEST_EXPONENT), x)
    within = choose(less(within, splat(SMALLEST_EXPONENT)), splat(SMALLEST_EXPONENT), within)
    within = choose(is_number, within, splat(ZERO))  # of NaN the conversion below would be undefined
    whole = nearest(multiply(within, splat(LOG2_E)))
    rest = fma(whole, splat(-LN2_HIGH), within)
    rest = fma(whole, splat(-LN2_LOW), rest)
    p = fma(splat(E5), rest, splat(E4))
    p = fma(p, rest, splat(E3))
    p = fma(p, rest, splat(E2))
    p = fma(p, rest, splat(E1))
    p = fma(p, rest, splat(E0))
    value = add(fma(multiply(rest, rest), p, rest), splat(ONE))
    # 2^128 is no number of float32, so the power is applied in two halves.
    power = to_whole(whole)
    half = shift_right(power, 1)
    bias = splat_whole(np.int32(127))
    value = multiply(value, from_bits(shift_left(add(half, bias), 23)))
    value = multiply(value, from_bits(shift_left(add(subtract(power, half), bias), 23)))
    value = choose(more(x, splat(LARGEST_EXPONENT)), splat(INFINITY), value)
    value = choose(less(x, splat(SMALLEST_EXPONENT)), splat(ZERO), value)
    return choose(is_number, value, x)


@njit(inline="always")
def exponential_less_one(x):
    p = fma(splat(M7), x, splat(M6))
    p = fma(p, x, splat(M5))
    p = fma(p, x, splat(M4))
    p = fma(p, x, splat(M3))
    p = fma(p, x, splat(M2))
    p = fma(p, x, splat(HALF))
    near = fma(multiply(x, x), p, x)
    far = subtract(exponential(x), splat(ONE))
    return choose(less(magnitude(x), splat(EXPM1_EDGE)), near, far)


@njit(inline="always")
def logarithm(x):
    ordinary = more(x, splat(SMALLEST))
    value = choose(ordinary, x, splat(ONE))
    word = bits(value)
    power = shift_right(subtract(word, splat_whole(ROOT_OF_HALF)), 23)
    f = subtract(from_bits(subtract(word, shift_left(power, 23))), splat(ONE))
    z = multiply(f, f)
    p = fma(splat(L8), f, splat(L7))
    p = fma(p, f, splat(L6))
    p = fma(p, f, splat(L5))
    p = fma(p, f, splat(L4))
    p = fma(p, f, splat(L3))
    p = fma(p, f, splat(L2))
    p = fma(p, f, splat(L1))
    p = fma(p, f, splat(L0))
    y = multiply(multiply(p, f), z)
    e = to_float(power)
    y = fma(e, splat(LN2_LOW), y)
    y = fma(z, splat(-HALF), y)
    y = fma(e, splat(LN2_HIGH), add(f, y))
    y = choose(same(x, splat(INFINITY)), x, y)
    y = choose(ordinary, y, choose(less(x, splat(-SMALLEST)), splat(NAN), splat(-INFINITY)))
    return choose(same(x, x), y, x)


@njit(inline="always")
def logarithm_of_one_and(x):
    """log(1 + x), as log(u) · x / (u - 1) with u = 1 + x rounded (Kahan)."""
    u = add(splat(ONE), x)
    of_u = logarithm(u)
    d = subtract(u, splat(ONE))
    exact = same(d, splat(ZERO))
    near = choose(exact, x, divide(multiply(of_u, x), choose(exact, splat(ONE), d)))
    near = choose(same(x, splat(-ONE)), splat(-INFINITY), near)
    return choose(less(magnitude(x), splat(HUGE)), near, of_u)


@njit(inline="always")
def sigmoid(x):
    return divide(splat(ONE), add(splat(ONE), exponential(negative(x))))


@njit(inline="always")
def hyperbolic_tangent(x):
    a, z = magnitude(x), multiply(x, x)
    p = fma(splat(T4), z, splat(T3))
    p = fma(p, z, splat(T2))
    p = fma(p, z, splat(T1))
    p = fma(p, z, splat(T0))
    near = fma(multiply(p, z), x, x)
    grown = exponential(add(a, a))
    far = subtract(splat(ONE), divide(splat(np.float32(2.0)), add(grown, splat(ONE))))
    value = choose(less(a, splat(TANH_EDGE)), near, signed_as(far, x))
    return choose(same(x, x), value, x)


@njit(inline="always")
def error_function(x):
    a, z = magnitude(x), multiply(x, x)
    p = fma(splat(A6), a, splat(A5))
    q = fma(splat(A4), a, splat(A3))
    p = fma(p, z, q)
    p = fma(p, a, splat(A2))
    p = fma(p, a, splat(A1))
    p = fma(p, a, splat(A0))
    p = fma(p, a, negative(a))
    far = signed_as(subtract(splat(ONE), exponential(p)), x)
    # The polynomial of a large argument grows without bound: there erf is 1.
    far = choose(less(a, splat(np.float32(5.0))), far, signed_as(splat(ONE), x))
    q = fma(splat(B5), z, splat(B4))
    q = fma(q, z, splat(B3))
    q = fma(q, z, splat(B2))
    q = fma(q, z, splat(B1))
    q = fma(q, z, splat(B0))
    near = fma(q, x, x)
    value = choose(less(a, splat(ERF_EDGE)), near, far)
    return choose(same(x, x), value, x)


@njit(inline="always")
def circular(x, ahead):
    """sin(x + ahead · π/2). Brought near zero in float64: exact to float32 up to 10⁹, and within [-1, 1] beyond."""
    finite = less(magnitude(x), splat(INFINITY))
    wide = widen(choose(finite, x, splat(ZERO)))
    turns = nearest(multiply(wide, splat_wide(QUARTERS_IN_ONE)))
    rest = narrow(fma(turns, splat_wide(-QUARTER_LOW), fma(turns, splat_wide(-QUARTER_HIGH), wide)))
    rest = choose(more(rest, splat(EIGHTH)), splat(EIGHTH), rest)
    rest = choose(less(rest, splat(-EIGHTH)), splat(-EIGHTH), rest)
    whole = multiply(splat_wide(4.0), nearest(multiply(turns, splat_wide(0.25))))
    quarter = add(to_whole(narrow(subtract(turns, whole))), splat_whole(ahead))
    z = multiply(rest, rest)
    p = fma(splat(S3), z, splat(S2))
    p = fma(p, z, splat(S1))
    of_sine = fma(multiply(p, z), rest, rest)
    p = fma(splat(C3), z, splat(C2))
    p = fma(p, z, splat(C1))
    of_cosine = add(fma(multiply(p, z), z, multiply(splat(-HALF), z)), splat(ONE))
    odd = same(both(quarter, splat_whole(np.int32(1))), splat_whole(np.int32(1)))
    value = choose(odd, of_cosine, of_sine)
    turned = same(both(quarter, splat_whole(np.int32(2))), splat_whole(np.int32(2)))
    value = choose(turned, negative(value), value)
    return choose(finite, value, splat(NAN))


@njit(inline="always")
def sine(x):
    return circular(x, np.int32(0))


@njit(inline="always")
def cosine(x):
    return circular(x, np.int32(1))


@njit(inline="always")
def arctangent(x):
    a = magnitude(x)
    far, middle = more(a, splat(TAN_OF_THREE_EIGHTHS)), more(a, splat(TAN_OF_EIGHTH))
    near = choose(middle, divide(subtract(a, splat(ONE)), add(a, splat(ONE))), a)
    near = choose(far, divide(splat(-ONE), a), near)
    start = choose(far, splat(HALF_PI), choose(middle, splat(QUARTER_PI), splat(ZERO)))
    z = multiply(near, near)
    p = fma(splat(N3), z, splat(N2))
    p = fma(p, z, splat(N1))
    p = fma(p, z, splat(N0))
    value = signed_as(add(start, fma(multiply(p, z), near, near)), x)
    return choose(same(x, x), value, x)
