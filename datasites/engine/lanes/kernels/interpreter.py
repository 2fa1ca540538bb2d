"""Run a verified program on blocks of sixteen records, one record in each lane.

Every field of an instruction was checked before, so nothing here looks at a bound. Which instruction comes next depends
on no record. Of the fields see `datasites.engine.lanes.instructions`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from datasites.engine.lanes.instructions import CODES, LANES, WORDS
from datasites.engine.lanes.kernels.elementary import (
    ONE,
    SIGN,
    ZERO,
    arctangent,
    cosine,
    error_function,
    exponential,
    exponential_less_one,
    hyperbolic_tangent,
    logarithm,
    logarithm_of_one_and,
    sigmoid,
    sine,
)
from datasites.engine.lanes.kernels.products import (
    WIDE,
    convolve,
    correlate,
    linear,
    linear_of_two,
    product,
    store_four,
)
from datasites.engine.lanes.kernels.vectors import (
    add,
    at_most,
    bits,
    choose,
    cut,
    differ,
    divide,
    every,
    fma,
    from_bits,
    less,
    load,
    load_doubles,
    load_half,
    load_whole,
    load_wide,
    magnitude,
    more,
    multiply,
    root,
    same,
    splat,
    splat_double,
    splat_whole,
    splat_wide,
    store,
    store_doubles,
    store_whole,
    store_wide,
    subtract,
    widen,
    widen_half,
)

compiled = njit(error_model="numpy")

LARGEST_LEFT = 2.0**60  # norm of a left factor: times a factor of at most 2^60 (1 / grid) it stays in float32
LARGEST_SIZE = 2.0**120  # of the sizes of products added up: every partial sum stays in float32

# Instructions by name, as the numbers that the compiler wants.
COPY, RELU, SIGMOID, TANH = CODES["copy"], CODES["relu"], CODES["sigmoid"], CODES["tanh"]
EXP, EXPM1, LOG, LOG1P, SQRT = CODES["exp"], CODES["expm1"], CODES["log"], CODES["log1p"], CODES["sqrt"]
NEGATIVE, ABSOLUTE, ERF, CUT = CODES["negative"], CODES["absolute"], CODES["erf"], CODES["cut"]
SIN, COS, ATAN = CODES["sin"], CODES["cos"], CODES["atan"]
ADD, SUBTRACT, MULTIPLY, DIVIDE = CODES["add"], CODES["subtract"], CODES["multiply"], CODES["divide"]
SIGMOID_BACKWARD, TANH_BACKWARD = CODES["sigmoid_backward"], CODES["tanh_backward"]
LESS, AT_MOST, EQUAL, UNEQUAL = CODES["less"], CODES["at_most"], CODES["equal"], CODES["unequal"]
THRESHOLD_BACKWARD, CLAMP, WHERE = CODES["threshold_backward"], CODES["clamp"], CODES["where"]
LINEAR, PRODUCT, MOVE, LIFT = CODES["linear"], CODES["product"], CODES["move"], CODES["lift"]
CONVOLVE, CORRELATE = CODES["convolve"], CODES["correlate"]
LARGEST, TO_LARGEST = CODES["largest"], CODES["to_largest"]
PLACE, ADD_TO = CODES["place"], CODES["add_to"]
SUM, MAXIMUM, GATHER, SCATTER, FILL = (
    CODES["sum"], CODES["maximum"], CODES["gather"], CODES["scatter"], CODES["fill"],
)  # fmt: skip
NORM_OUTER, NORM_TERMS, NORM_DIRECT = CODES["norm_outer"], CODES["norm_terms"], CODES["norm_direct"]
FINITE = CODES["finite"]


# -- functions of one number and of two


@njit(inline="always")
def _same(x):
    return x


@njit(inline="always")
def _relu(x):
    return choose(at_most(x, splat(ZERO)), splat(ZERO), x)


@njit(inline="always")
def _negative(x):
    return from_bits(differ(bits(x), splat_whole(SIGN)))


@njit(inline="always")
def _sigmoid_backward(x, z):
    return multiply(multiply(x, subtract(splat(ONE), z)), z)


@njit(inline="always")
def _tanh_backward(x, z):
    return multiply(x, subtract(splat(ONE), multiply(z, z)))


@njit(inline="always")
def _less(x, z):
    return choose(less(x, z), splat(ONE), splat(ZERO))


@njit(inline="always")
def _at_most(x, z):
    return choose(at_most(x, z), splat(ONE), splat(ZERO))


@njit(inline="always")
def _equal(x, z):
    return choose(same(x, z), splat(ONE), splat(ZERO))


@njit(inline="always")
def _unequal(x, z):
    return choose(same(x, z), splat(ZERO), splat(ONE))


def _along(function):
    @compiled
    def loop(memory, y, n, x, sx):
        for i in range(n):
            store(memory, y + i * LANES, function(load(memory, x + i * sx)))

    return loop


def _along_both(function):
    @compiled
    def loop(memory, y, n, x, sx, z, sz):
        for i in range(n):
            store(memory, y + i * LANES, function(load(memory, x + i * sx), load(memory, z + i * sz)))

    return loop


copy_along, relu_along, sigmoid_along, tanh_along = (
    _along(each) for each in (_same, _relu, sigmoid, hyperbolic_tangent)
)
exp_along, expm1_along, log_along, log1p_along = (
    _along(each) for each in (exponential, exponential_less_one, logarithm, logarithm_of_one_and)
)
sqrt_along, negative_along, absolute_along, erf_along, cut_along = (
    _along(each) for each in (root, _negative, magnitude, error_function, cut)
)
sin_along, cos_along, atan_along = (_along(each) for each in (sine, cosine, arctangent))
add_along, subtract_along, multiply_along, divide_along = (
    _along_both(each) for each in (add, subtract, multiply, divide)
)
sigmoid_backward_along, tanh_backward_along = (_along_both(each) for each in (_sigmoid_backward, _tanh_backward))
less_along, at_most_along, equal_along, unequal_along = (
    _along_both(each) for each in (_less, _at_most, _equal, _unequal)
)


@compiled
def threshold_backward_along(memory, y, n, x, sx, z, sz, least):
    for i in range(n):
        store(
            memory,
            y + i * LANES,
            choose(at_most(load(memory, z + i * sz), least), splat(ZERO), load(memory, x + i * sx)),
        )


@compiled
def clamp_along(memory, uniform, y, n, x, sx, low, high):
    for i in range(n):
        value = load(memory, x + i * sx)
        if low >= 0:
            value = choose(less(value, every(uniform, low)), every(uniform, low), value)
        if high >= 0:
            value = choose(more(value, every(uniform, high)), every(uniform, high), value)
        store(memory, y + i * LANES, value)


@compiled
def where_along(memory, y, n, x, sx, z, sz, w, sw):
    for i in range(n):
        neither = same(load(memory, w + i * sw), splat(ZERO))
        store(memory, y + i * LANES, choose(neither, load(memory, z + i * sz), load(memory, x + i * sx)))


# -- moving


@compiled
def move(memory, y, d0, d1, d2, d3, x, s0, s1, s2, s3):
    for i0 in range(d0):
        for i1 in range(d1):
            for i2 in range(d2):
                p = x + i0 * s0 + i1 * s1 + i2 * s2
                for _ in range(d3):
                    store(memory, y, load(memory, p))
                    y += LANES
                    p += s3


@compiled
def place(memory, y, d0, d1, d2, d3, t0, t1, t2, t3, x, s0, s1, s2, s3):
    for i0 in range(d0):
        for i1 in range(d1):
            for i2 in range(d2):
                to, of = y + i0 * t0 + i1 * t1 + i2 * t2, x + i0 * s0 + i1 * s1 + i2 * s2
                for _ in range(d3):
                    store(memory, to, load(memory, of))
                    to += t3
                    of += s3


@compiled
def add_to(memory, y, d0, d1, d2, d3, t0, t1, t2, t3, x, s0, s1, s2, s3):
    for i0 in range(d0):
        for i1 in range(d1):
            for i2 in range(d2):
                to, of = y + i0 * t0 + i1 * t1 + i2 * t2, x + i0 * s0 + i1 * s1 + i2 * s2
                for _ in range(d3):
                    store(memory, to, add(load(memory, to), load(memory, of)))
                    to += t3
                    of += s3


@compiled
def lift(memory, uniform, y, d0, d1, d2, d3, x, s0, s1, s2, s3):
    for i0 in range(d0):
        for i1 in range(d1):
            for i2 in range(d2):
                p = x + i0 * s0 + i1 * s1 + i2 * s2
                for _ in range(d3):
                    store(memory, y, every(uniform, p))
                    y += LANES
                    p += s3


@compiled
def sum_over(memory, y, n, x, k, inner, outer):
    i = 0
    while i + 4 <= n:
        p = x + i * outer
        a0, a1, a2, a3 = (
            load(memory, p),
            load(memory, p + outer),
            load(memory, p + 2 * outer),
            load(memory, p + 3 * outer),
        )
        for _ in range(1, k):
            p += inner
            a0, a1 = add(a0, load(memory, p)), add(a1, load(memory, p + outer))
            a2, a3 = add(a2, load(memory, p + 2 * outer)), add(a3, load(memory, p + 3 * outer))
        store_four(memory, y + i * LANES, LANES, a0, a1, a2, a3)
        i += 4
    while i < n:
        total = load(memory, x + i * outer)
        for j in range(1, k):
            total = add(total, load(memory, x + i * outer + j * inner))
        store(memory, y + i * LANES, total)
        i += 1


@compiled
def maximum_over(memory, y, n, x, k, inner, outer):
    """NaN where any is NaN, as torch has it."""
    for i in range(n):
        largest = load(memory, x + i * outer)
        for j in range(1, k):
            value = load(memory, x + i * outer + j * inner)
            largest = choose(more(value, largest), value, largest)
            largest = choose(same(value, value), largest, value)
        store(memory, y + i * LANES, largest)


@njit(inline="always")
def _largest_of(memory, x, k0, k1, x0, x1):
    largest = load(memory, x)
    for i0 in range(k0):
        for i1 in range(k1):
            value = load(memory, x + i0 * x0 + i1 * x1)
            largest = choose(more(value, largest), value, largest)
            largest = choose(same(value, value), largest, value)
    return largest


@compiled
def largest(memory, y, q0, q1, q2, p0, p1, p2, x, k0, k1, x0, x1):
    """The largest number of each window; NaN where any is NaN."""
    for i0 in range(q0):
        for i1 in range(q1):
            for i2 in range(q2):
                store(memory, y, _largest_of(memory, x + i0 * p0 + i1 * p1 + i2 * p2, k0, k1, x0, x1))
                y += LANES


@compiled
def to_largest(memory, y, q0, q1, q2, p0, p1, p2, x, k0, k1, x0, x1, z):
    """A number of z for each window, added in y to where the first of the window's largest numbers lies in x."""
    for i0 in range(q0):
        for i1 in range(q1):
            for i2 in range(q2):
                at = i0 * p0 + i1 * p1 + i2 * p2
                value, left, given = _largest_of(memory, x + at, k0, k1, x0, x1), splat(ONE), load(memory, z)
                for j0 in range(k0):
                    for j1 in range(k1):
                        place = at + j0 * x0 + j1 * x1
                        here = choose(same(load(memory, x + place), value), left, splat(ZERO))
                        left = subtract(left, here)
                        part = choose(same(here, splat(ONE)), given, splat(ZERO))
                        store(memory, y + place, add(load(memory, y + place), part))
                z += LANES


@compiled
def gather(memory, y, n, x, sx, z):
    place = load(memory, z)
    value = splat(ZERO)
    for k in range(n):
        value = choose(same(place, splat(np.float32(k))), load(memory, x + k * sx), value)
    store(memory, y, value)


@compiled
def scatter(memory, y, n, x, z):
    place, value = load(memory, z), load(memory, x)
    for k in range(n):
        here = choose(same(place, splat(np.float32(k))), value, splat(ZERO))
        store(memory, y + k * LANES, add(load(memory, y + k * LANES), here))


# -- norms, in float64


@compiled
def squares(memory, x, n, s):
    total = splat_wide(0.0)
    for i in range(n):
        wide = widen(load(memory, x + i * s))
        total = fma(wide, wide, total)
    return total


@njit(inline="always")
def _square(total, value):
    wide = widen(value)
    return fma(wide, wide, total)


@compiled
def squares_of_terms(memory, terms, shift, first, T, O, K):
    """Squares of sums of T products, each sum in the order and with the rounding that the sums over records have.

    By tiles of four rows and four columns, which share what they read. Beyond the last row or column the last one is
    computed again and not added.
    """
    total = splat_wide(0.0)
    for i in range(0, O, 4):
        below = O - 1 - i
        i1, i2, i3 = min(1, below), min(2, below), min(3, below)
        for k in range(0, K, 4):
            beyond = K - 1 - k
            k1, k2, k3 = min(1, beyond), min(2, beyond), min(3, beyond)
            g00 = splat(ZERO)
            g01, g02, g03, g10, g11, g12, g13 = g00, g00, g00, g00, g00, g00, g00
            g20, g21, g22, g23, g30, g31, g32, g33 = g00, g00, g00, g00, g00, g00, g00, g00
            for t in range(first, first + T):
                row, column = terms[4 * t + 1], terms[4 * t + 3]
                left = terms[4 * t] + shift + i * row
                right = terms[4 * t + 2] + shift + k * column
                a0, a1 = load(memory, left), load(memory, left + i1 * row)
                a2, a3 = load(memory, left + i2 * row), load(memory, left + i3 * row)
                b = load(memory, right)
                g00, g10, g20, g30 = fma(a0, b, g00), fma(a1, b, g10), fma(a2, b, g20), fma(a3, b, g30)
                b = load(memory, right + k1 * column)
                g01, g11, g21, g31 = fma(a0, b, g01), fma(a1, b, g11), fma(a2, b, g21), fma(a3, b, g31)
                b = load(memory, right + k2 * column)
                g02, g12, g22, g32 = fma(a0, b, g02), fma(a1, b, g12), fma(a2, b, g22), fma(a3, b, g32)
                b = load(memory, right + k3 * column)
                g03, g13, g23, g33 = fma(a0, b, g03), fma(a1, b, g13), fma(a2, b, g23), fma(a3, b, g33)
            total = _squares_of_row(total, g00, g01, g02, g03, beyond)
            if below > 0:
                total = _squares_of_row(total, g10, g11, g12, g13, beyond)
            if below > 1:
                total = _squares_of_row(total, g20, g21, g22, g23, beyond)
            if below > 2:
                total = _squares_of_row(total, g30, g31, g32, g33, beyond)
    return total


@njit(inline="always")
def _squares_of_row(total, g0, g1, g2, g3, beyond):
    total = _square(total, g0)
    if beyond > 0:
        total = _square(total, g1)
    if beyond > 1:
        total = _square(total, g2)
    if beyond > 2:
        total = _square(total, g3)
    return total


@njit(inline="always")
def _half(memory, place):
    return widen_half(load_half(memory, place))


@njit(inline="always")
def products_of_terms(memory, terms, shift, side, s, t, last, n):
    """Inner products in float64 of four factors from term `s` on with four from term `t` on, of half a block.

    `side` is 0 for left factors and 2 for right ones. Beyond the last term the last one is taken again.
    """
    s0, s1, s2, s3 = 4 * s + side, 4 * min(s + 1, last) + side, 4 * min(s + 2, last) + side, 4 * min(s + 3, last) + side
    t0, t1, t2, t3 = 4 * t + side, 4 * min(t + 1, last) + side, 4 * min(t + 2, last) + side, 4 * min(t + 3, last) + side
    p0, p1, p2, p3 = terms[s0] + shift, terms[s1] + shift, terms[s2] + shift, terms[s3] + shift
    q0, q1, q2, q3 = terms[t0] + shift, terms[t1] + shift, terms[t2] + shift, terms[t3] + shift
    s0, s1, s2, s3 = terms[s0 + 1], terms[s1 + 1], terms[s2 + 1], terms[s3 + 1]
    t0, t1, t2, t3 = terms[t0 + 1], terms[t1 + 1], terms[t2 + 1], terms[t3 + 1]
    g00 = splat_double(0.0)
    g01, g02, g03, g10, g11, g12, g13 = g00, g00, g00, g00, g00, g00, g00
    g20, g21, g22, g23, g30, g31, g32, g33 = g00, g00, g00, g00, g00, g00, g00, g00
    for _ in range(n):
        a0, a1, a2, a3 = _half(memory, p0), _half(memory, p1), _half(memory, p2), _half(memory, p3)
        b = _half(memory, q0)
        g00, g10, g20, g30 = fma(a0, b, g00), fma(a1, b, g10), fma(a2, b, g20), fma(a3, b, g30)
        b = _half(memory, q1)
        g01, g11, g21, g31 = fma(a0, b, g01), fma(a1, b, g11), fma(a2, b, g21), fma(a3, b, g31)
        b = _half(memory, q2)
        g02, g12, g22, g32 = fma(a0, b, g02), fma(a1, b, g12), fma(a2, b, g22), fma(a3, b, g32)
        b = _half(memory, q3)
        g03, g13, g23, g33 = fma(a0, b, g03), fma(a1, b, g13), fma(a2, b, g23), fma(a3, b, g33)
        p0, p1, p2, p3 = p0 + s0, p1 + s1, p2 + s2, p3 + s3
        q0, q1, q2, q3 = q0 + t0, q1 + t1, q2 + t2, q3 + t3
    return g00, g01, g02, g03, g10, g11, g12, g13, g20, g21, g22, g23, g30, g31, g32, g33


@njit(inline="always")
def _weigh(total, s, t, last, x, z):
    """A pair of terms counts twice, a term with itself once, and what was taken again or before not at all."""
    weight = 0.0 if s > last or t > last or t < s else 1.0 if s == t else 2.0
    return fma(splat_double(weight), multiply(x, z), total)


@compiled
def square_by_pairs(memory, terms, shift, first, T, O, K):
    """Of half a block at least the square of the length of Σ_t l_t ⊗ r_t as float32 rounds it, from pairs of terms.

    The exact square is G = Σ_st (l_s · l_t)(r_s · r_t). With S = Σ_t |l_t| |r_t|, the sum that multiply-adds make in
    float32 is off by at most T · 2^-24 · S in length, and G in float64 by at most (O + K + T² + 8) · 2^-53 · S². So
    √G + c · S is at least that length, for any c not below T · 2^-24 + √(O + K + T² + 8) · 2^-26.5: cancellation makes
    the length too large and never too small. A quarter more covers second orders and the rounding of S itself.
    Infinite where S is so large that a partial sum could leave float32.
    """
    last = first + T - 1
    total = splat_double(0.0)
    sizes = total
    for s in range(first, first + T, 4):
        for t in range(s, first + T, 4):
            x00, x01, x02, x03, x10, x11, x12, x13, x20, x21, x22, x23, x30, x31, x32, x33 = products_of_terms(
                memory, terms, shift, 0, s, t, last, O
            )
            z00, z01, z02, z03, z10, z11, z12, z13, z20, z21, z22, z23, z30, z31, z32, z33 = products_of_terms(
                memory, terms, shift, 2, s, t, last, K
            )
            total = _weigh(total, s, t, last, x00, z00)
            total = _weigh(total, s, t + 1, last, x01, z01)
            total = _weigh(total, s, t + 2, last, x02, z02)
            total = _weigh(total, s, t + 3, last, x03, z03)
            total = _weigh(total, s + 1, t, last, x10, z10)
            total = _weigh(total, s + 1, t + 1, last, x11, z11)
            total = _weigh(total, s + 1, t + 2, last, x12, z12)
            total = _weigh(total, s + 1, t + 3, last, x13, z13)
            total = _weigh(total, s + 2, t, last, x20, z20)
            total = _weigh(total, s + 2, t + 1, last, x21, z21)
            total = _weigh(total, s + 2, t + 2, last, x22, z22)
            total = _weigh(total, s + 2, t + 3, last, x23, z23)
            total = _weigh(total, s + 3, t, last, x30, z30)
            total = _weigh(total, s + 3, t + 1, last, x31, z31)
            total = _weigh(total, s + 3, t + 2, last, x32, z32)
            total = _weigh(total, s + 3, t + 3, last, x33, z33)
            if s == t:
                sizes = add(sizes, root(multiply(x00, z00)))
                if s + 1 <= last:
                    sizes = add(sizes, root(multiply(x11, z11)))
                if s + 2 <= last:
                    sizes = add(sizes, root(multiply(x22, z22)))
                if s + 3 <= last:
                    sizes = add(sizes, root(multiply(x33, z33)))
    count = root(splat_double(float(O + K + T * T + 8)))
    above = fma(count, splat_double(1.25 * 2.0**-26), splat_double(1.25 * T * 2.0**-24))
    none = splat_double(0.0)
    length = fma(above, sizes, root(choose(less(total, none), none, total)))
    length = choose(more(sizes, splat_double(LARGEST_SIZE)), splat_double(np.inf), length)
    return multiply(length, length)


@compiled
def pairs_are_fewer(T, O, K):
    """Whether pairs of terms cost less than making the sum: in multiply-adds of sixteen lanes of float32."""
    fours = (T + 3) // 4
    return 24 * fours * (fours + 1) * (O + K) < (T + 4) * O * K


# -- the loop over instructions


@compiled
def one(code, at, terms, memory, uniform, scratch, near, shift, norms, sound, at_lane):
    """One instruction on one block: its scratch is at `near`, its own memory `shift` beyond the first block's."""
    op = code[at]
    f1, f2, f3, f4, f5 = code[at + 1], code[at + 2], code[at + 3], code[at + 4], code[at + 5]
    f6, f7, f8, f9, f10 = code[at + 6], code[at + 7], code[at + 8], code[at + 9], code[at + 10]
    y = f1 + (near if f1 < scratch else shift)
    x = f3 + (near if f3 < scratch else shift)
    z = f5 + (near if f5 < scratch else shift)
    if op == LINEAR:  # y O K Q x yO yQ xK xQ w wO wK b bO
        for q in range(f4):
            linear(
                memory, uniform, y + q * f7, f6, f2, z + q * f9, f8, f3, f10, code[at + 11], code[at + 12],
                code[at + 13], code[at + 14],
            )  # fmt: skip
    elif op == PRODUCT:  # y M K J x yM yJ xM xK z zK zJ
        right = f10 + (near if f10 < scratch else shift)
        product(memory, y, f2, f3, f4, z, f6, f7, f8, f9, right, code[at + 11], code[at + 12])
    elif op == CONVOLVE:  # y O yO q0 q1 q2 y0 y1 y2 p0 p1 p2 x k0 k1 k2 k3 x0 x1 x2 x3 w wO w0 w1 w2 w3 turned b bO
        source = code[at + 13] + (near if code[at + 13] < scratch else shift)
        convolve(
            memory, uniform, y, f2, f3, f4, f5, f6, f7, f8, f9, f10, code[at + 11], code[at + 12], source,
            code[at + 14], code[at + 15], code[at + 16], code[at + 17], code[at + 18], code[at + 19], code[at + 20],
            code[at + 21], code[at + 22], code[at + 23], code[at + 24], code[at + 25], code[at + 26], code[at + 27],
            code[at + 28], code[at + 29], code[at + 30],
        )  # fmt: skip
    elif op == CORRELATE:  # y M yM k0 k1 k2 k3 x0 x1 x2 x3 q0 q1 q2 z zM z0 z1 z2 x p0 p1 p2
        left = code[at + 15] + (near if code[at + 15] < scratch else shift)
        source = code[at + 20] + (near if code[at + 20] < scratch else shift)
        correlate(
            memory, y, f2, f3, f4, f5, f6, f7, f8, f9, f10, code[at + 11], code[at + 12], code[at + 13], code[at + 14],
            left, code[at + 16], code[at + 17], code[at + 18], code[at + 19], source, code[at + 21], code[at + 22],
            code[at + 23],
        )  # fmt: skip
    elif op == MOVE:  # y d0 d1 d2 d3 x s0 s1 s2 s3
        source = f6 + (near if f6 < scratch else shift)
        move(memory, y, f2, f3, f4, f5, source, f7, f8, f9, f10)
    elif op == LIFT:
        lift(memory, uniform, y, f2, f3, f4, f5, f6, f7, f8, f9, f10)
    elif op == COPY:
        copy_along(memory, y, f2, x, f4)
    elif op == RELU:
        relu_along(memory, y, f2, x, f4)
    elif op == SIGMOID:
        sigmoid_along(memory, y, f2, x, f4)
    elif op == TANH:
        tanh_along(memory, y, f2, x, f4)
    elif op == EXP:
        exp_along(memory, y, f2, x, f4)
    elif op == EXPM1:
        expm1_along(memory, y, f2, x, f4)
    elif op == LOG:
        log_along(memory, y, f2, x, f4)
    elif op == LOG1P:
        log1p_along(memory, y, f2, x, f4)
    elif op == SQRT:
        sqrt_along(memory, y, f2, x, f4)
    elif op == NEGATIVE:
        negative_along(memory, y, f2, x, f4)
    elif op == ABSOLUTE:
        absolute_along(memory, y, f2, x, f4)
    elif op == ERF:
        erf_along(memory, y, f2, x, f4)
    elif op == CUT:
        cut_along(memory, y, f2, x, f4)
    elif op == SIN:
        sin_along(memory, y, f2, x, f4)
    elif op == COS:
        cos_along(memory, y, f2, x, f4)
    elif op == ATAN:
        atan_along(memory, y, f2, x, f4)
    elif op == ADD:
        add_along(memory, y, f2, x, f4, z, f6)
    elif op == SUBTRACT:
        subtract_along(memory, y, f2, x, f4, z, f6)
    elif op == MULTIPLY:
        multiply_along(memory, y, f2, x, f4, z, f6)
    elif op == DIVIDE:
        divide_along(memory, y, f2, x, f4, z, f6)
    elif op == SIGMOID_BACKWARD:
        sigmoid_backward_along(memory, y, f2, x, f4, z, f6)
    elif op == TANH_BACKWARD:
        tanh_backward_along(memory, y, f2, x, f4, z, f6)
    elif op == LESS:
        less_along(memory, y, f2, x, f4, z, f6)
    elif op == AT_MOST:
        at_most_along(memory, y, f2, x, f4, z, f6)
    elif op == EQUAL:
        equal_along(memory, y, f2, x, f4, z, f6)
    elif op == UNEQUAL:
        unequal_along(memory, y, f2, x, f4, z, f6)
    elif op == THRESHOLD_BACKWARD:  # y n x sx z sz k
        threshold_backward_along(memory, y, f2, x, f4, z, f6, every(uniform, f7))
    elif op == CLAMP:  # y n x sx low high
        clamp_along(memory, uniform, y, f2, x, f4, f5, f6)
    elif op == WHERE:  # y n x sx z sz w sw
        where_along(memory, y, f2, x, f4, z, f6, f7 + (near if f7 < scratch else shift), f8)
    elif op == PLACE:  # y d0 d1 d2 d3 t0 t1 t2 t3 x s0 s1 s2 s3
        source = f10 + (near if f10 < scratch else shift)
        place(
            memory, y, f2, f3, f4, f5, f6, f7, f8, f9, source, code[at + 11], code[at + 12], code[at + 13],
            code[at + 14],
        )  # fmt: skip
    elif op == ADD_TO:
        source = f10 + (near if f10 < scratch else shift)
        add_to(
            memory, y, f2, f3, f4, f5, f6, f7, f8, f9, source, code[at + 11], code[at + 12], code[at + 13],
            code[at + 14],
        )  # fmt: skip
    elif op == SUM:  # y n x k inner outer
        sum_over(memory, y, f2, x, f4, f5, f6)
    elif op == MAXIMUM:
        maximum_over(memory, y, f2, x, f4, f5, f6)
    elif op == LARGEST:  # y q0 q1 q2 p0 p1 p2 x k0 k1 x0 x1
        source = f8 + (near if f8 < scratch else shift)
        largest(memory, y, f2, f3, f4, f5, f6, f7, source, f9, f10, code[at + 11], code[at + 12])
    elif op == TO_LARGEST:  # y q0 q1 q2 p0 p1 p2 x k0 k1 x0 x1 z
        source = f8 + (near if f8 < scratch else shift)
        given = code[at + 13] + (near if code[at + 13] < scratch else shift)
        to_largest(memory, y, f2, f3, f4, f5, f6, f7, source, f9, f10, code[at + 11], code[at + 12], given)
    elif op == GATHER:  # y n x sx z
        gather(memory, y, f2, x, f4, z)
    elif op == SCATTER:  # y n x z
        scatter(memory, y, f2, x, f4 + (near if f4 < scratch else shift))
    elif op == FILL:  # y n k
        value = every(uniform, f3)
        for i in range(f2):
            store(memory, y + i * LANES, value)
    elif op == NORM_OUTER:  # x n sx z k sz
        left = squares(memory, y, f2, f3)
        right = squares(memory, f4 + (near if f4 < scratch else shift), f5, f6)
        # Else what the sums multiply by the factor first, the left side, could become infinite.
        left = choose(more(left, splat_wide(LARGEST_LEFT**2)), splat_wide(np.inf), left)
        store_wide(norms, at_lane, fma(left, right, load_wide(norms, at_lane)))
    elif op == NORM_TERMS:  # first T O K
        if pairs_are_fewer(f2, f3, f4):
            for half in range(0, LANES, 8):
                at_half = at_lane + half
                square = square_by_pairs(memory, terms, shift + half, f1, f2, f3, f4)
                store_doubles(norms, at_half, add(load_doubles(norms, at_half), square))
        else:
            terms_of = squares_of_terms(memory, terms, shift, f1, f2, f3, f4)
            store_wide(norms, at_lane, add(load_wide(norms, at_lane), terms_of))
    elif op == NORM_DIRECT:  # x n sx
        store_wide(norms, at_lane, add(load_wide(norms, at_lane), squares(memory, y, f2, f3)))
    elif op == FINITE:  # x n sx
        fine = load_whole(sound, at_lane)
        for i in range(f2):
            value = load(memory, y + i * f3)
            value = subtract(value, value)  # zero, but NaN of what is not finite
            fine = choose(same(value, value), fine, splat_whole(np.int32(0)))
        store_whole(sound, at_lane, fine)


def run(code, instructions, terms, memory, uniform, scratch, own, second, blocks, norms, sound):
    """The program on `blocks` blocks: each record's squared norm in `norms`, and -1 in `sound` where all is finite.

    With wide registers blocks are taken by twos, and the second one's scratch is at `second`, after the memory of all
    blocks. Else one after the other: they would share nothing, and one's scratch is nearer.
    """
    together = 2 if WIDE else 1
    for block in range(blocks):
        store_wide(norms, block * LANES, splat_wide(0.0))
        store_whole(sound, block * LANES, splat_whole(np.int32(-1)))
    for block in range(0, blocks, together):
        two = WIDE and block + 2 <= blocks
        shift = block * own
        for number in range(instructions):
            at = number * WORDS
            if two and code[at] == LINEAR:  # y O K Q x yO yQ xK xQ w wO wK b bO
                y, x = code[at + 1], code[at + 5]
                far_y, far_x = second if y < scratch else own, second if x < scratch else own
                y += 0 if y < scratch else shift
                x += 0 if x < scratch else shift
                for q in range(code[at + 4]):
                    linear_of_two(
                        memory, uniform, y + q * code[at + 7], code[at + 6], code[at + 2], x + q * code[at + 9],
                        code[at + 8], code[at + 3], code[at + 10], code[at + 11], code[at + 12], code[at + 13],
                        code[at + 14], far_y, far_x,
                    )  # fmt: skip
            else:
                one(code, at, terms, memory, uniform, scratch, 0, shift, norms, sound, block * LANES)
                if two:
                    one(
                        code, at, terms, memory, uniform, scratch, second, shift + own, norms, sound,
                        (block + 1) * LANES,
                    )  # fmt: skip
