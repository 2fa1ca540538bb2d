"""Products: of parameters with a record's numbers, and of a record's numbers with each other.

Each makes a tile of sums at a time, as many as the processor's registers hold beside what they are made of; a sum is
made by multiply-adds in an order that its instruction alone decides. With AVX2 sixteen lanes are two registers, of
sixteen; with AVX-512 one, of thirty-two.
"""

from __future__ import annotations

from numba import config, njit

from datasites.engine.lanes.instructions import LANES
from datasites.engine.lanes.kernels.elementary import ZERO
from datasites.engine.lanes.kernels.vectors import (
    add,
    every,
    fma,
    load,
    load_half,
    splat,
    splat_half,
    store,
    store_half,
)

compiled = njit(error_model="numpy")

WIDE = config.CPU_NAME == "x86-64-v4"  # sixteen lanes are one register
PART = LANES if WIDE else LANES // 2  # lanes of a register
NEAR_NUMBERS = 400  # of a window that all parameters are multiplied by before the next: 25 KiB of sixteen lanes
NEAR_PLACES = 72  # of a picture whose products are added up before the next, of five rows of numbers: about as much
FAR_PARAMETERS = 512  # apart from each other, those of one sum are in almost as many pages of memory
NEAR_PAGES = 48  # that a processor finds at once
MORE = -2  # in place of where a bias is: sums go on from what is there

load_part, store_part, splat_part = (load, store, splat) if WIDE else (load_half, store_half, splat_half)


@njit(inline="always")
def four_of(uniform, place, apart):
    return (
        every(uniform, place),
        every(uniform, place + apart),
        every(uniform, place + 2 * apart),
        every(uniform, place + 3 * apart),
    )


@njit(inline="always")
def store_four(memory, place, apart, a0, a1, a2, a3):
    store(memory, place, a0)
    store(memory, place + apart, a1)
    store(memory, place + 2 * apart, a2)
    store(memory, place + 3 * apart, a3)


@njit(inline="always")
def _four_begun(memory, uniform, y, yO, b, bO):
    """Where four sums begin: at zero, at their bias, or at what y has."""
    a0 = splat(ZERO)
    a1, a2, a3 = a0, a0, a0
    if b >= 0:
        a0, a1, a2, a3 = four_of(uniform, b, bO)
    elif b == MORE:
        a0, a1 = load(memory, y), load(memory, y + yO)
        a2, a3 = load(memory, y + 2 * yO), load(memory, y + 3 * yO)
    return a0, a1, a2, a3


# -- of parameters with what lies at one stride


@compiled
def linear(memory, uniform, y, yO, O, x, xK, K, w, wO, wK, b, bO):
    """y[o] = b[o] + Σ w[o, k] x[k], each sum in the order of k, of which as much is taken at a time as stays near."""
    near = NEAR_NUMBERS if wK < FAR_PARAMETERS else NEAR_PAGES
    for begin in range(0, K, near):
        _linear(
            memory, uniform, y, yO, O, x + begin * xK, xK, min(near, K - begin), w + begin * wK, wO, wK,
            b if begin == 0 else MORE, bO,
        )  # fmt: skip


@compiled
def _linear(memory, uniform, y, yO, O, x, xK, K, w, wO, wK, b, bO):
    """The same of a part of k; `b` is where the bias is, or -1, or `MORE` to add to y."""
    o = 0
    while o + 4 <= O:
        left = O - o
        t, q, c = y + o * yO, w + o * wO, b if b < 0 else b + o * bO
        if WIDE and left >= 8:
            _eight(memory, uniform, t, yO, x, xK, K, q, wO, wK, c, bO)
            o += 8
        elif not WIDE and _six_next(left):
            _six(memory, uniform, t, yO, x, xK, K, q, wO, wK, c, bO)
            o += 6
        else:
            _four(memory, uniform, t, yO, x, xK, K, q, wO, wK, c, bO)
            o += 4
    while o < O:
        q = w + o * wO
        a0 = splat(ZERO)
        if b >= 0:
            a0 = every(uniform, b + o * bO)
        elif b == MORE:
            a0 = load(memory, y + o * yO)
        p = x
        for _ in range(K):
            a0 = fma(every(uniform, q), load(memory, p), a0)
            p += xK
            q += wK
        store(memory, y + o * yO, a0)
        o += 1


@njit(inline="always")
def _six_next(left):
    """Whether six sums are next of those that are left: else fours divide them better."""
    return left >= 6 and left != 8 and left != 9


@compiled
def _four(memory, uniform, y, yO, x, xK, K, w, wO, wK, b, bO):
    a0, a1, a2, a3 = _four_begun(memory, uniform, y, yO, b, bO)
    for _ in range(K):
        v = load(memory, x)
        a0 = fma(every(uniform, w), v, a0)
        a1 = fma(every(uniform, w + wO), v, a1)
        a2 = fma(every(uniform, w + 2 * wO), v, a2)
        a3 = fma(every(uniform, w + 3 * wO), v, a3)
        x += xK
        w += wK
    store_four(memory, y, yO, a0, a1, a2, a3)


@compiled
def _six(memory, uniform, y, yO, x, xK, K, w, wO, wK, b, bO):
    a0, a1, a2, a3 = _four_begun(memory, uniform, y, yO, b, bO)
    a4 = splat(ZERO)
    a5 = a4
    if b >= 0:
        a4, a5 = every(uniform, b + 4 * bO), every(uniform, b + 5 * bO)
    elif b == MORE:
        a4, a5 = load(memory, y + 4 * yO), load(memory, y + 5 * yO)
    for _ in range(K):
        v = load(memory, x)
        a0 = fma(every(uniform, w), v, a0)
        a1 = fma(every(uniform, w + wO), v, a1)
        a2 = fma(every(uniform, w + 2 * wO), v, a2)
        a3 = fma(every(uniform, w + 3 * wO), v, a3)
        a4 = fma(every(uniform, w + 4 * wO), v, a4)
        a5 = fma(every(uniform, w + 5 * wO), v, a5)
        x += xK
        w += wK
    store_four(memory, y, yO, a0, a1, a2, a3)
    store(memory, y + 4 * yO, a4)
    store(memory, y + 5 * yO, a5)


@compiled
def _eight(memory, uniform, y, yO, x, xK, K, w, wO, wK, b, bO):
    a0, a1, a2, a3 = _four_begun(memory, uniform, y, yO, b, bO)
    a4, a5, a6, a7 = _four_begun(memory, uniform, y + 4 * yO, yO, b if b < 0 else b + 4 * bO, bO)
    for _ in range(K):
        v = load(memory, x)
        a0 = fma(every(uniform, w), v, a0)
        a1 = fma(every(uniform, w + wO), v, a1)
        a2 = fma(every(uniform, w + 2 * wO), v, a2)
        a3 = fma(every(uniform, w + 3 * wO), v, a3)
        a4 = fma(every(uniform, w + 4 * wO), v, a4)
        a5 = fma(every(uniform, w + 5 * wO), v, a5)
        a6 = fma(every(uniform, w + 6 * wO), v, a6)
        a7 = fma(every(uniform, w + 7 * wO), v, a7)
        x += xK
        w += wK
    store_four(memory, y, yO, a0, a1, a2, a3)
    store_four(memory, y + 4 * yO, yO, a4, a5, a6, a7)


@compiled
def linear_of_two(memory, uniform, y, yO, O, x, xK, K, w, wO, wK, b, bO, far_y, far_x):
    """The same of two blocks, which share what they read of the parameters. The second is `far` from the first."""
    o = 0
    while o + 8 <= O:
        q = w + o * wO
        a0 = splat(ZERO)
        a1, a2, a3, a4, a5, a6, a7 = a0, a0, a0, a0, a0, a0, a0
        if b >= 0:
            c = b + o * bO
            a0, a1, a2, a3 = four_of(uniform, c, bO)
            a4, a5, a6, a7 = four_of(uniform, c + 4 * bO, bO)
        b0, b1, b2, b3, b4, b5, b6, b7 = a0, a1, a2, a3, a4, a5, a6, a7
        p = x
        for _ in range(K):
            v, u = load(memory, p), load(memory, p + far_x)
            e = every(uniform, q)
            a0, b0 = fma(e, v, a0), fma(e, u, b0)
            e = every(uniform, q + wO)
            a1, b1 = fma(e, v, a1), fma(e, u, b1)
            e = every(uniform, q + 2 * wO)
            a2, b2 = fma(e, v, a2), fma(e, u, b2)
            e = every(uniform, q + 3 * wO)
            a3, b3 = fma(e, v, a3), fma(e, u, b3)
            e = every(uniform, q + 4 * wO)
            a4, b4 = fma(e, v, a4), fma(e, u, b4)
            e = every(uniform, q + 5 * wO)
            a5, b5 = fma(e, v, a5), fma(e, u, b5)
            e = every(uniform, q + 6 * wO)
            a6, b6 = fma(e, v, a6), fma(e, u, b6)
            e = every(uniform, q + 7 * wO)
            a7, b7 = fma(e, v, a7), fma(e, u, b7)
            p += xK
            q += wK
        t = y + o * yO
        store_four(memory, t, yO, a0, a1, a2, a3)
        store_four(memory, t + 4 * yO, yO, a4, a5, a6, a7)
        store_four(memory, t + far_y, yO, b0, b1, b2, b3)
        store_four(memory, t + far_y + 4 * yO, yO, b4, b5, b6, b7)
        o += 8
    if o < O:
        rest = b if b < 0 else b + o * bO
        linear(memory, uniform, y + o * yO, yO, O - o, x, xK, K, w + o * wO, wO, wK, rest, bO)
        linear(memory, uniform, y + far_y + o * yO, yO, O - o, x + far_x, xK, K, w + o * wO, wO, wK, rest, bO)


# -- of parameters with windows of a picture


@compiled
def convolve(
    memory, uniform, y, O, yO, q0, q1, q2, y0, y1, y2, p0, p1, p2, x, k0, k1, k2, k3, x0, x1, x2, x3, w, wO, w0, w1, w2,
    w3, turned, b, bO,
):  # fmt: skip
    """y[o, q] = b[o] + Σ w[o, k] x[k, q] over k of four dimensions, for places q of three.

    Bits of `turned` say which dimensions of the parameters run from their end. Of the first dimension of k as much is
    taken at a time as stays near while all parameters of a place are read; the rest is added to what y then has.
    """
    if turned & 1:
        w, w0 = w + (k0 - 1) * w0, -w0
    if turned & 2:
        w, w1 = w + (k1 - 1) * w1, -w1
    if turned & 4:
        w, w2 = w + (k2 - 1) * w2, -w2
    if turned & 8:
        w, w3 = w + (k3 - 1) * w3, -w3
    near = max(1, NEAR_NUMBERS // (k1 * k2 * k3))
    for begin in range(0, k0, near):
        count = min(near, k0 - begin)
        for i0 in range(q0):
            for i1 in range(q1):
                _row(
                    memory, uniform, y + i0 * y0 + i1 * y1, O, yO, q2, y2, p2, x + i0 * p0 + i1 * p1 + begin * x0,
                    count, k1, k2, k3, x0, x1, x2, x3, w + begin * w0, wO, w0, w1, w2, w3, b if begin == 0 else MORE,
                    bO,
                )  # fmt: skip


@compiled
def _row(
    memory, uniform, y, O, yO, Q, yQ, xQ, x, k0, k1, k2, k3, x0, x1, x2, x3, w, wO, w0, w1, w2, w3, b, bO
):  # fmt: skip
    """One row of places; `b` is where the bias is, or -1, or `MORE` to add to y."""
    t, p, o = y, x, 0
    for _ in range(Q):
        o = 0
        while o + 4 <= O:
            left = O - o
            u, q, c = t + o * yO, w + o * wO, b if b < 0 else b + o * bO
            if WIDE and left >= 8:
                _eight_of_window(
                    memory, uniform, u, yO, p, k0, k1, k2, k3, x0, x1, x2, x3, q, wO, w0, w1, w2, w3, c, bO
                )
                o += 8
            elif not WIDE and _six_next(left):
                _six_of_window(memory, uniform, u, yO, p, k0, k1, k2, k3, x0, x1, x2, x3, q, wO, w0, w1, w2, w3, c, bO)
                o += 6
            else:
                _four_of_window(memory, uniform, u, yO, p, k0, k1, k2, k3, x0, x1, x2, x3, q, wO, w0, w1, w2, w3, c, bO)
                o += 4
        t += yQ
        p += xQ
    while o < O:
        q, c = w + o * wO, b if b < 0 else b + o * bO
        for i in range(0, Q, 4):
            _four_windows(
                memory, uniform, y + o * yO + i * yQ, yQ, Q - i, x + i * xQ, xQ, k0, k1, k2, k3, x0, x1, x2, x3, q, w0,
                w1, w2, w3, c,
            )  # fmt: skip
        o += 1


@compiled
def _eight_of_window(memory, uniform, y, yO, x, k0, k1, k2, k3, x0, x1, x2, x3, w, wO, w0, w1, w2, w3, b, bO):
    a0, a1, a2, a3 = _four_begun(memory, uniform, y, yO, b, bO)
    a4, a5, a6, a7 = _four_begun(memory, uniform, y + 4 * yO, yO, b if b < 0 else b + 4 * bO, bO)
    for i0 in range(k0):
        for i1 in range(k1):
            for i2 in range(k2):
                p, q = x + i0 * x0 + i1 * x1 + i2 * x2, w + i0 * w0 + i1 * w1 + i2 * w2
                for _ in range(k3):
                    v = load(memory, p)
                    a0 = fma(every(uniform, q), v, a0)
                    a1 = fma(every(uniform, q + wO), v, a1)
                    a2 = fma(every(uniform, q + 2 * wO), v, a2)
                    a3 = fma(every(uniform, q + 3 * wO), v, a3)
                    a4 = fma(every(uniform, q + 4 * wO), v, a4)
                    a5 = fma(every(uniform, q + 5 * wO), v, a5)
                    a6 = fma(every(uniform, q + 6 * wO), v, a6)
                    a7 = fma(every(uniform, q + 7 * wO), v, a7)
                    p += x3
                    q += w3
    store_four(memory, y, yO, a0, a1, a2, a3)
    store_four(memory, y + 4 * yO, yO, a4, a5, a6, a7)


@compiled
def _six_of_window(memory, uniform, y, yO, x, k0, k1, k2, k3, x0, x1, x2, x3, w, wO, w0, w1, w2, w3, b, bO):
    a0, a1, a2, a3 = _four_begun(memory, uniform, y, yO, b, bO)
    a4 = splat(ZERO)
    a5 = a4
    if b >= 0:
        a4, a5 = every(uniform, b + 4 * bO), every(uniform, b + 5 * bO)
    elif b == MORE:
        a4, a5 = load(memory, y + 4 * yO), load(memory, y + 5 * yO)
    for i0 in range(k0):
        for i1 in range(k1):
            for i2 in range(k2):
                p, q = x + i0 * x0 + i1 * x1 + i2 * x2, w + i0 * w0 + i1 * w1 + i2 * w2
                for _ in range(k3):
                    v = load(memory, p)
                    a0 = fma(every(uniform, q), v, a0)
                    a1 = fma(every(uniform, q + wO), v, a1)
                    a2 = fma(every(uniform, q + 2 * wO), v, a2)
                    a3 = fma(every(uniform, q + 3 * wO), v, a3)
                    a4 = fma(every(uniform, q + 4 * wO), v, a4)
                    a5 = fma(every(uniform, q + 5 * wO), v, a5)
                    p += x3
                    q += w3
    store_four(memory, y, yO, a0, a1, a2, a3)
    store(memory, y + 4 * yO, a4)
    store(memory, y + 5 * yO, a5)


@compiled
def _four_of_window(memory, uniform, y, yO, x, k0, k1, k2, k3, x0, x1, x2, x3, w, wO, w0, w1, w2, w3, b, bO):
    a0, a1, a2, a3 = _four_begun(memory, uniform, y, yO, b, bO)
    for i0 in range(k0):
        for i1 in range(k1):
            for i2 in range(k2):
                p, q = x + i0 * x0 + i1 * x1 + i2 * x2, w + i0 * w0 + i1 * w1 + i2 * w2
                for _ in range(k3):
                    v = load(memory, p)
                    a0 = fma(every(uniform, q), v, a0)
                    a1 = fma(every(uniform, q + wO), v, a1)
                    a2 = fma(every(uniform, q + 2 * wO), v, a2)
                    a3 = fma(every(uniform, q + 3 * wO), v, a3)
                    p += x3
                    q += w3
    store_four(memory, y, yO, a0, a1, a2, a3)


@compiled
def _four_windows(memory, uniform, y, yQ, left, x, xQ, k0, k1, k2, k3, x0, x1, x2, x3, w, w0, w1, w2, w3, b):
    """One output at four places, or at as many as are left: beyond the last one it is made again and not kept."""
    j1, j2, j3 = min(1, left - 1) * xQ, min(2, left - 1) * xQ, min(3, left - 1) * xQ
    a0 = splat(ZERO)
    if b >= 0:
        a0 = every(uniform, b)
    a1, a2, a3 = a0, a0, a0
    if b == MORE:
        a0, a1 = load(memory, y), load(memory, y + min(1, left - 1) * yQ)
        a2, a3 = load(memory, y + min(2, left - 1) * yQ), load(memory, y + min(3, left - 1) * yQ)
    for i0 in range(k0):
        for i1 in range(k1):
            for i2 in range(k2):
                p, q = x + i0 * x0 + i1 * x1 + i2 * x2, w + i0 * w0 + i1 * w1 + i2 * w2
                for _ in range(k3):
                    e = every(uniform, q)
                    a0, a1 = fma(e, load(memory, p), a0), fma(e, load(memory, p + j1), a1)
                    a2, a3 = fma(e, load(memory, p + j2), a2), fma(e, load(memory, p + j3), a3)
                    p += x3
                    q += w3
    store(memory, y, a0)
    if left > 1:
        store(memory, y + yQ, a1)
    if left > 2:
        store(memory, y + 2 * yQ, a2)
    if left > 3:
        store(memory, y + 3 * yQ, a3)


# -- of a record's numbers with each other


@compiled
def product(memory, y, M, K, J, x, yM, yJ, xM, xK, z, zK, zJ):
    """y[m, j] = Σ x[m, k] z[k, j], each sum in the order of k."""
    if M < 3 or J < 2:
        for m in range(M):
            for j in range(J):
                total = splat(ZERO)
                p, q = x + m * xM, z + j * zJ
                for _ in range(K):
                    total = fma(load(memory, p), load(memory, q), total)
                    p += xK
                    q += zK
                store(memory, y + m * yM + j * yJ, total)
        return
    for m in range(0, M, 4):
        for j in range(0, J, 3):
            c0 = z + j * zJ
            c1, c2 = c0 + min(1, J - 1 - j) * zJ, c0 + min(2, J - 1 - j) * zJ
            _tile(
                memory, y + m * yM + j * yJ, yM, yJ, M - m, J - j, x + m * xM, xM, 0, xK, c0, c1, c2, 0, zK, 1, K, False
            )  # fmt: skip


@compiled
def correlate(
    memory, y, M, yM, k0, k1, k2, k3, x0, x1, x2, x3, q0, q1, q2, z, zM, z0, z1, z2, x, p0, p1, p2,
):  # fmt: skip
    """y[m, k] = Σ z[m, q] x[k, q] over places q of three dimensions, for k of four, which y has in one piece.

    Places are taken by rows of them, and each row's part is added to what those before gave.
    """
    K = k0 * k1 * k2 * k3
    rows = max(1, NEAR_PLACES // q2)
    for i0 in range(q0):
        for i1 in range(0, q1, rows):
            more = i0 + i1 > 0
            left, right = z + i0 * z0 + i1 * z1, x + i0 * p0 + i1 * p1
            count = min(rows, q1 - i1)
            for m in range(0, M, 4):
                for k in range(0, K, 3):
                    c0 = right + _offset(k, k1, k2, k3, x0, x1, x2, x3)
                    c1 = right + _offset(min(k + 1, K - 1), k1, k2, k3, x0, x1, x2, x3)
                    c2 = right + _offset(min(k + 2, K - 1), k1, k2, k3, x0, x1, x2, x3)
                    _tile(
                        memory, y + m * yM + k * LANES, yM, LANES, M - m, K - k, left + m * zM, zM, z1, z2, c0, c1, c2,
                        p1, p2, count, q2, more,
                    )  # fmt: skip


@njit(inline="always")
def _offset(k, k1, k2, k3, x0, x1, x2, x3):
    """Where number `k` of those in four dimensions lies."""
    rest, i3 = k // k3, k % k3
    rest, i2 = rest // k2, rest % k2
    return (rest // k1) * x0 + (rest % k1) * x1 + i2 * x2 + i3 * x3


@compiled
def _tile(memory, y, yM, yJ, M, J, z, zM, z1, z2, c0, c1, c2, p1, p2, rows, columns, more):
    """Four rows by three columns of sums over rows of places, or as many as there are; with `more`, added to y.

    Beyond the last row the last one is read again, as the caller does with columns, and its sums are not kept.
    """
    m1, m2, m3 = min(1, M - 1) * zM, min(2, M - 1) * zM, min(3, M - 1) * zM
    for half in range(0, LANES, PART):
        g00 = splat_part(ZERO)
        g01, g02, g10, g11, g12 = g00, g00, g00, g00, g00
        g20, g21, g22, g30, g31, g32 = g00, g00, g00, g00, g00, g00
        for row in range(rows):
            p, d = z + half + row * z1, half + row * p1
            for _ in range(columns):
                a0, a1, a2 = load_part(memory, c0 + d), load_part(memory, c1 + d), load_part(memory, c2 + d)
                b = load_part(memory, p)
                g00, g01, g02 = fma(a0, b, g00), fma(a1, b, g01), fma(a2, b, g02)
                b = load_part(memory, p + m1)
                g10, g11, g12 = fma(a0, b, g10), fma(a1, b, g11), fma(a2, b, g12)
                b = load_part(memory, p + m2)
                g20, g21, g22 = fma(a0, b, g20), fma(a1, b, g21), fma(a2, b, g22)
                b = load_part(memory, p + m3)
                g30, g31, g32 = fma(a0, b, g30), fma(a1, b, g31), fma(a2, b, g32)
                p += z2
                d += p2
        _keep(memory, y + half, yJ, J, more, g00, g01, g02)
        if M > 1:
            _keep(memory, y + half + yM, yJ, J, more, g10, g11, g12)
        if M > 2:
            _keep(memory, y + half + 2 * yM, yJ, J, more, g20, g21, g22)
        if M > 3:
            _keep(memory, y + half + 3 * yM, yJ, J, more, g30, g31, g32)


@njit(inline="always")
def _keep(memory, y, yJ, J, more, g0, g1, g2):
    store_part(memory, y, _with(memory, y, more, g0))
    if J > 1:
        store_part(memory, y + yJ, _with(memory, y + yJ, more, g1))
    if J > 2:
        store_part(memory, y + 2 * yJ, _with(memory, y + 2 * yJ, more, g2))


@njit(inline="always")
def _with(memory, y, more, g):
    return add(load_part(memory, y), g) if more else g
