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
    error_function,
    exponential,
    exponential_less_one,
    hyperbolic_tangent,
    logarithm,
    logarithm_of_one_and,
    sigmoid,
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
    magnitude,
    more,
    multiply,
    root,
    same,
    splat,
    splat_whole,
    splat_wide,
    store,
    store_whole,
    store_wide,
    subtract,
    widen,
)

compiled = njit(error_model="numpy")

# Instructions by name, as the numbers that the compiler wants.
COPY, RELU, SIGMOID, TANH = CODES["copy"], CODES["relu"], CODES["sigmoid"], CODES["tanh"]
EXP, EXPM1, LOG, LOG1P, SQRT = CODES["exp"], CODES["expm1"], CODES["log"], CODES["log1p"], CODES["sqrt"]
NEGATIVE, ABSOLUTE, ERF, CUT = CODES["negative"], CODES["absolute"], CODES["erf"], CODES["cut"]
ADD, SUBTRACT, MULTIPLY, DIVIDE = CODES["add"], CODES["subtract"], CODES["multiply"], CODES["divide"]
SIGMOID_BACKWARD, TANH_BACKWARD = CODES["sigmoid_backward"], CODES["tanh_backward"]
LESS, AT_MOST, EQUAL, UNEQUAL = CODES["less"], CODES["at_most"], CODES["equal"], CODES["unequal"]
THRESHOLD_BACKWARD, CLAMP, WHERE = CODES["threshold_backward"], CODES["clamp"], CODES["where"]
LINEAR, PRODUCT, MOVE, LIFT, ADD_TO = CODES["linear"], CODES["product"], CODES["move"], CODES["lift"], CODES["add_to"]
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


# -- products


@compiled
def linear(memory, uniform, y, yO, O, x, xK, K, w, wO, wK, b, bO):
    """y[o] = b[o] + Σ w[o, k] x[k], each sum by multiply-adds in the order of k, eight of them beside each other."""
    o = 0
    while o + 8 <= O:
        q = w + o * wO
        a0 = splat(ZERO)
        a1, a2, a3, a4, a5, a6, a7 = a0, a0, a0, a0, a0, a0, a0
        if b >= 0:
            c = b + o * bO
            a0, a1, a2, a3 = (
                every(uniform, c),
                every(uniform, c + bO),
                every(uniform, c + 2 * bO),
                every(uniform, c + 3 * bO),
            )
            c += 4 * bO
            a4, a5, a6, a7 = (
                every(uniform, c),
                every(uniform, c + bO),
                every(uniform, c + 2 * bO),
                every(uniform, c + 3 * bO),
            )
        p = x
        for _ in range(K):
            v = load(memory, p)
            a0 = fma(every(uniform, q), v, a0)
            a1 = fma(every(uniform, q + wO), v, a1)
            a2 = fma(every(uniform, q + 2 * wO), v, a2)
            a3 = fma(every(uniform, q + 3 * wO), v, a3)
            a4 = fma(every(uniform, q + 4 * wO), v, a4)
            a5 = fma(every(uniform, q + 5 * wO), v, a5)
            a6 = fma(every(uniform, q + 6 * wO), v, a6)
            a7 = fma(every(uniform, q + 7 * wO), v, a7)
            p += xK
            q += wK
        t = y + o * yO
        store(memory, t, a0)
        store(memory, t + yO, a1)
        store(memory, t + 2 * yO, a2)
        store(memory, t + 3 * yO, a3)
        store(memory, t + 4 * yO, a4)
        store(memory, t + 5 * yO, a5)
        store(memory, t + 6 * yO, a6)
        store(memory, t + 7 * yO, a7)
        o += 8
    while o < O:
        q = w + o * wO
        a0 = splat(ZERO)
        if b >= 0:
            a0 = every(uniform, b + o * bO)
        p = x
        for _ in range(K):
            a0 = fma(every(uniform, q), load(memory, p), a0)
            p += xK
            q += wK
        store(memory, y + o * yO, a0)
        o += 1


@compiled
def product(memory, y, M, K, J, x, yM, yJ, xM, xK, z, zK, zJ):
    for m in range(M):
        for j in range(J):
            total = splat(ZERO)
            for k in range(K):
                total = fma(load(memory, x + m * xM + k * xK), load(memory, z + k * zK + j * zJ), total)
            store(memory, y + m * yM + j * yJ, total)


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
    for i in range(n):
        total = load(memory, x + i * outer)
        for j in range(1, k):
            total = add(total, load(memory, x + i * outer + j * inner))
        store(memory, y + i * LANES, total)


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


# -- the loop over instructions


def run(code, instructions, terms, memory, uniform, scratch, own, blocks, norms, sound):
    """The program on `blocks` blocks: each record's squared norm in `norms`, and -1 in `sound` where all is finite."""
    for block in range(blocks):
        shift = block * own
        norm = splat_wide(0.0)
        fine = splat_whole(np.int32(-1))
        for number in range(instructions):
            at = number * WORDS
            op = code[at]
            f1, f2, f3, f4, f5 = code[at + 1], code[at + 2], code[at + 3], code[at + 4], code[at + 5]
            f6, f7, f8, f9, f10 = code[at + 6], code[at + 7], code[at + 8], code[at + 9], code[at + 10]
            y = f1 if f1 < scratch else f1 + shift
            x = f3 if f3 < scratch else f3 + shift
            z = f5 if f5 < scratch else f5 + shift
            if op == LINEAR:  # y O K Q x yO yQ xK xQ w wO wK b bO
                for q in range(f4):
                    linear(
                        memory, uniform, y + q * f7, f6, f2, z + q * f9, f8, f3, f10, code[at + 11], code[at + 12],
                        code[at + 13], code[at + 14],
                    )  # fmt: skip
            elif op == PRODUCT:  # y M K J x yM yJ xM xK z zK zJ
                right = f10 if f10 < scratch else f10 + shift
                product(memory, y, f2, f3, f4, z, f6, f7, f8, f9, right, code[at + 11], code[at + 12])
            elif op == MOVE:  # y d0 d1 d2 d3 x s0 s1 s2 s3
                source = f6 if f6 < scratch else f6 + shift
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
                where_along(memory, y, f2, x, f4, z, f6, f7 if f7 < scratch else f7 + shift, f8)
            elif op == ADD_TO:  # y n x sy sx
                for i in range(f2):
                    store(memory, y + i * f4, add(load(memory, y + i * f4), load(memory, x + i * f5)))
            elif op == SUM:  # y n x k inner outer
                sum_over(memory, y, f2, x, f4, f5, f6)
            elif op == MAXIMUM:
                maximum_over(memory, y, f2, x, f4, f5, f6)
            elif op == GATHER:  # y n x sx z
                gather(memory, y, f2, x, f4, z)
            elif op == SCATTER:  # y n x z
                scatter(memory, y, f2, x, f4 if f4 < scratch else f4 + shift)
            elif op == FILL:  # y n k
                value = every(uniform, f3)
                for i in range(f2):
                    store(memory, y + i * LANES, value)
            elif op == NORM_OUTER:  # x n sx z k sz
                left = squares(memory, y, f2, f3)
                right = squares(memory, f4 if f4 < scratch else f4 + shift, f5, f6)
                norm = fma(left, right, norm)
            elif op == NORM_TERMS:  # first T O K
                norm = add(norm, squares_of_terms(memory, terms, shift, f1, f2, f3, f4))
            elif op == NORM_DIRECT:  # x n sx
                norm = add(norm, squares(memory, y, f2, f3))
            elif op == FINITE:  # x n sx
                for i in range(f2):
                    value = load(memory, y + i * f3)
                    value = subtract(value, value)  # zero, but NaN of what is not finite
                    fine = choose(same(value, value), fine, splat_whole(np.int32(0)))
        store_wide(norms, block * LANES, norm)
        store_whole(sound, block * LANES, fine)
