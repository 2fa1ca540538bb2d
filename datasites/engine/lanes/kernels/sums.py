"""Put records into lanes, and add up their clipped gradients as whole numbers.

A number of a record's gradient times its factor is rounded to the nearest whole number by the multiply-add that makes
it: beside 1.5 · 2^23 a float32 has no room for fractions, and its bits count up in whole numbers there. Whole numbers
of 32 bits add up to the same in any order; `back` takes the bits of 1.5 · 2^23 off again, once for every record.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from datasites.engine.lanes.instructions import LANES
from datasites.engine.lanes.kernels.elementary import ONE, ZERO
from datasites.engine.lanes.kernels.products import WIDE
from datasites.engine.lanes.kernels.vectors import (
    add,
    bits,
    both,
    choose,
    divide,
    every,
    fma,
    less,
    load,
    load_whole,
    load_wide,
    more,
    root,
    same,
    splat,
    splat_whole,
    splat_wide,
    store,
    store_whole,
    subtract,
    transposed,
)
from datasites.engine.lanes.kernels.vectors import (
    narrow as rounded,
)
from datasites.engine.lanes.programs import DIRECT

compiled = njit(error_model="numpy")

MAGIC = np.float32(1.5 * 2**23)
MAGIC_BITS = int(MAGIC.view(np.int32))
FEW = 8  # rows or columns, too few for panels of sixteen
SMALLEST_FACTOR = 2.0**-126  # of a factor with the full precision of float32


def place_records(memory, record, own, features, label, inputs, labels, rows, count, blocks, zeros):
    """Records number `rows` of `inputs` [any, features] and `labels` into lanes; lanes that are left are zero."""
    first = (blocks - 1) * own
    for feature in range(features):
        store(memory, record + first + feature * LANES, load(zeros, 0))  # else the compiler would call memset
    store(memory, label + first, load(zeros, 0))
    for number in range(count):
        place = (number // LANES) * own + number % LANES
        row = rows[number]
        for feature in range(features):
            memory[record + place + feature * LANES] = inputs[row * features + feature]
        memory[label + place] = labels[row]


@compiled
def factors(norms, sound, present, blocks, clip, unit, stability, scales, counted):
    """Factors that clip and bring to grid units, and -1 for who counts; 0 and 0 for who does not.

    A factor is clip / (norm + stability), and `unit` at most, which is infinite where clipping is automatic.
    """
    for block in range(blocks):
        at = block * LANES
        norm = root(load_wide(norms, at))
        scale = divide(splat_wide(clip), add(norm, splat_wide(stability)))  # infinite where that is 0
        scale = choose(less(scale, splat_wide(unit)), scale, splat_wide(unit))
        finite = subtract(norm, norm)
        none = splat_whole(np.int32(0))
        here = both(load_whole(sound, at), load_whole(present, at))
        here = choose(same(finite, finite), here, none)
        here = choose(more(scale, splat_wide(SMALLEST_FACTOR)), here, none)
        store(scales, at, choose(less(here, none), rounded(scale), splat(ZERO)))
        store_whole(counted, at, here)


@compiled
def pack(memory, base, own, apart, n, blocks, counted, scales, scaled, spare, target, begin, by_panel, by_record):
    """One factor of every record, sixteen numbers of a record side by side; zero of a record that does not count.

    Panels of sixteen numbers are `by_panel` floats from each other, records `by_record`.
    """
    for panel in range((n + LANES - 1) // LANES):
        left = n - panel * LANES
        for block in range(blocks):
            here = less(load_whole(counted, block * LANES), splat_whole(np.int32(0)))
            factor = load(scales, block * LANES) if scaled else splat(ONE)
            source = base + block * own + panel * LANES * apart
            place = begin + panel * by_panel + block * LANES * by_record
            if left >= LANES:
                transposed(memory, source, apart, here, factor, target, place, by_record)
            else:
                for i in range(LANES):
                    store(spare, i * LANES, load(memory, source + i * apart) if i < left else splat(ZERO))
                transposed(spare, 0, LANES, here, factor, target, place, by_record)


@compiled
def outer_of_terms(total, place, d, a, scales, R, O, K, T, dT, aT, dR, aR, wide, more):
    """total[i, k] = Σ over R records of round(factor · Σ over T terms of d[r, t, i] a[r, t, k]); with `more`, +=.

    A record's factors lie in one piece, `dR` and `aR` floats from the next record's. They stay in the processor's
    nearest memory while all of its products are made. Rows are taken by eights or fours, columns by panels; `wide`
    holds the sums with room for what is beyond the last of both.
    """
    back = splat_whole(np.int32(-(R * MAGIC_BITS)))
    panels = (K + LANES - 1) // LANES
    width = panels * LANES
    for i in range((O + 7) // 8 * 8 * panels):
        store_whole(wide, i * LANES, back)
    for r in range(R):
        factor = every(scales, r)
        left, row = r * dR, 0
        while WIDE and row + 4 < O:
            panel = 0
            while panel + 2 <= panels:
                _eight_rows(
                    wide, row * width + panel * LANES, width, d, left, a, r * aR + panel * LANES, T, dT, aT, factor
                )
                panel += 2
            if panel < panels:
                right = r * aR + panel * LANES
                _four_rows(wide, row * width + panel * LANES, width, d, left, a, right, T, dT, aT, factor)
                _four_rows(wide, (row + 4) * width + panel * LANES, width, d, left + 4, a, right, T, dT, aT, factor)
            left += 8
            row += 8
        while row < O:
            panel = 0
            while WIDE and panel + 2 <= panels:
                _four_rows_of_two(
                    wide, row * width + panel * LANES, width, d, left, a, r * aR + panel * LANES, T, dT, aT, factor
                )
                panel += 2
            while panel < panels:
                right = r * aR + panel * LANES
                _four_rows(wide, row * width + panel * LANES, width, d, left, a, right, T, dT, aT, factor)
                panel += 1
            left += 4
            row += 4
    for i in range(O):
        for k in range(K):
            total[place + i * K + k] = np.int32(wide[i * width + k] + (total[place + i * K + k] if more else 0))


@compiled
def _four_rows(wide, at, width, d, left, a, right, T, dT, aT, factor):
    """One record's part of four rows and one panel."""
    g0 = splat(ZERO)
    g1, g2, g3 = g0, g0, g0
    for _ in range(T):
        v = load(a, right)
        g0, g1 = fma(every(d, left), v, g0), fma(every(d, left + 1), v, g1)
        g2, g3 = fma(every(d, left + 2), v, g2), fma(every(d, left + 3), v, g3)
        left += dT
        right += aT
    magic = splat(MAGIC)
    _count(wide, at, g0, factor, magic)
    _count(wide, at + width, g1, factor, magic)
    _count(wide, at + 2 * width, g2, factor, magic)
    _count(wide, at + 3 * width, g3, factor, magic)


@compiled
def _four_rows_of_two(wide, at, width, d, left, a, right, T, dT, aT, factor):
    """One record's part of four rows and two panels."""
    g0 = splat(ZERO)
    g1, g2, g3, h0, h1, h2, h3 = g0, g0, g0, g0, g0, g0, g0
    for _ in range(T):
        v, w = load(a, right), load(a, right + LANES)
        e = every(d, left)
        g0, h0 = fma(e, v, g0), fma(e, w, h0)
        e = every(d, left + 1)
        g1, h1 = fma(e, v, g1), fma(e, w, h1)
        e = every(d, left + 2)
        g2, h2 = fma(e, v, g2), fma(e, w, h2)
        e = every(d, left + 3)
        g3, h3 = fma(e, v, g3), fma(e, w, h3)
        left += dT
        right += aT
    magic = splat(MAGIC)
    _count_two(wide, at, g0, h0, factor, magic)
    _count_two(wide, at + width, g1, h1, factor, magic)
    _count_two(wide, at + 2 * width, g2, h2, factor, magic)
    _count_two(wide, at + 3 * width, g3, h3, factor, magic)


@compiled
def _eight_rows(wide, at, width, d, left, a, right, T, dT, aT, factor):
    """One record's part of eight rows and two panels: sixteen sums, as many as hide how long a multiply-add takes."""
    g0 = splat(ZERO)
    g1, g2, g3, g4, g5, g6, g7 = g0, g0, g0, g0, g0, g0, g0
    h0, h1, h2, h3, h4, h5, h6, h7 = g0, g0, g0, g0, g0, g0, g0, g0
    for _ in range(T):
        v, w = load(a, right), load(a, right + LANES)
        e = every(d, left)
        g0, h0 = fma(e, v, g0), fma(e, w, h0)
        e = every(d, left + 1)
        g1, h1 = fma(e, v, g1), fma(e, w, h1)
        e = every(d, left + 2)
        g2, h2 = fma(e, v, g2), fma(e, w, h2)
        e = every(d, left + 3)
        g3, h3 = fma(e, v, g3), fma(e, w, h3)
        e = every(d, left + 4)
        g4, h4 = fma(e, v, g4), fma(e, w, h4)
        e = every(d, left + 5)
        g5, h5 = fma(e, v, g5), fma(e, w, h5)
        e = every(d, left + 6)
        g6, h6 = fma(e, v, g6), fma(e, w, h6)
        e = every(d, left + 7)
        g7, h7 = fma(e, v, g7), fma(e, w, h7)
        left += dT
        right += aT
    magic = splat(MAGIC)
    _count_two(wide, at, g0, h0, factor, magic)
    _count_two(wide, at + width, g1, h1, factor, magic)
    _count_two(wide, at + 2 * width, g2, h2, factor, magic)
    _count_two(wide, at + 3 * width, g3, h3, factor, magic)
    _count_two(wide, at + 4 * width, g4, h4, factor, magic)
    _count_two(wide, at + 5 * width, g5, h5, factor, magic)
    _count_two(wide, at + 6 * width, g6, h6, factor, magic)
    _count_two(wide, at + 7 * width, g7, h7, factor, magic)


@njit(inline="always")
def _count(wide, at, g, factor, magic):
    store_whole(wide, at, add(load_whole(wide, at), bits(fma(g, factor, magic))))


@njit(inline="always")
def _count_two(wide, at, g, h, factor, magic):
    _count(wide, at, g, factor, magic)
    _count(wide, at + LANES, h, factor, magic)


@njit(inline="always")
def _begun(total, place, back, more):
    """Where a sum begins: at zero, or with `more` at what is there."""
    return add(back, load_whole(total, place)) if more else back


@compiled
def rank_one_panel(total, begin, width, d, a, S, R, O, panel, more):
    """total[begin + i · width ...] = Σ over R records of round(d[r, i] a[r, 16 · panel ...]). S: records of a panel.

    `d` has been multiplied by the records' factors. With `more` the sum is added to what is there. Rows are written by
    fours: up to three beyond O, where `d` is zero, get zero, which the next parameter overwrites, or stay as they are.
    """
    magic = splat(MAGIC)
    back = splat_whole(np.int32(-(R * MAGIC_BITS)))
    for four in range((O + 3) // 4):
        place = begin + four * 4 * width
        s0 = _begun(total, place, back, more)
        s1 = _begun(total, place + width, back, more)
        s2 = _begun(total, place + 2 * width, back, more)
        s3 = _begun(total, place + 3 * width, back, more)
        right, left = panel * S * LANES, (four // 4) * S * LANES + (four % 4) * 4
        for _ in range(R):
            v = load(a, right)
            s0 = add(s0, bits(fma(every(d, left), v, magic)))
            s1 = add(s1, bits(fma(every(d, left + 1), v, magic)))
            s2 = add(s2, bits(fma(every(d, left + 2), v, magic)))
            s3 = add(s3, bits(fma(every(d, left + 3), v, magic)))
            right += LANES
            left += LANES
        store_whole(total, place, s0)
        store_whole(total, place + width, s1)
        store_whole(total, place + 2 * width, s2)
        store_whole(total, place + 3 * width, s3)


@compiled
def rank_one_panels(total, begin, width, d, a, S, R, O, panel, more):
    """The same of two panels beside each other, which share what they read of `d`."""
    magic = splat(MAGIC)
    back = splat_whole(np.int32(-(R * MAGIC_BITS)))
    apart = S * LANES
    for four in range((O + 3) // 4):
        place = begin + four * 4 * width
        s0, s4 = _begun(total, place, back, more), _begun(total, place + LANES, back, more)
        s1, s5 = _begun(total, place + width, back, more), _begun(total, place + width + LANES, back, more)
        s2, s6 = _begun(total, place + 2 * width, back, more), _begun(total, place + 2 * width + LANES, back, more)
        s3, s7 = _begun(total, place + 3 * width, back, more), _begun(total, place + 3 * width + LANES, back, more)
        right, left = panel * S * LANES, (four // 4) * S * LANES + (four % 4) * 4
        for _ in range(R):
            v, w = load(a, right), load(a, right + apart)
            e = every(d, left)
            s0 = add(s0, bits(fma(e, v, magic)))
            s4 = add(s4, bits(fma(e, w, magic)))
            e = every(d, left + 1)
            s1 = add(s1, bits(fma(e, v, magic)))
            s5 = add(s5, bits(fma(e, w, magic)))
            e = every(d, left + 2)
            s2 = add(s2, bits(fma(e, v, magic)))
            s6 = add(s6, bits(fma(e, w, magic)))
            e = every(d, left + 3)
            s3 = add(s3, bits(fma(e, v, magic)))
            s7 = add(s7, bits(fma(e, w, magic)))
            right += LANES
            left += LANES
        store_whole(total, place, s0)
        store_whole(total, place + LANES, s4)
        store_whole(total, place + width, s1)
        store_whole(total, place + width + LANES, s5)
        store_whole(total, place + 2 * width, s2)
        store_whole(total, place + 2 * width + LANES, s6)
        store_whole(total, place + 3 * width, s3)
        store_whole(total, place + 3 * width + LANES, s7)


@compiled
def rank_one(total, place, d, a, S, R, O, K, tail, more):
    """The sum of a parameter with one term by panels of sixteen columns; columns that are left by themselves."""
    whole, panel = K // LANES, 0
    while WIDE and panel + 2 <= whole:
        rank_one_panels(total, place + panel * LANES, K, d, a, S, R, O, panel, more)
        panel += 2
    while panel < whole:
        rank_one_panel(total, place + panel * LANES, K, d, a, S, R, O, panel, more)
        panel += 1
    if K % LANES:
        rank_one_panel(tail, 0, LANES, d, a, S, R, O, whole, 0)
        for i in range(O):
            for j in range(K % LANES):
                at = place + i * K + whole * LANES + j
                total[at] = np.int32(tail[i * LANES + j] + (total[at] if more else 0))


@compiled
def narrow(total, place, d, a, S, R, O, K, spare, more):
    """The same of one term with rows of the parameter in the lanes, for a parameter of few columns."""
    magic = splat(MAGIC)
    back = splat_whole(np.int32(-(R * MAGIC_BITS)))
    for k in range(K):
        for panel in range((O + LANES - 1) // LANES):
            s = back
            left, right = panel * S * LANES, k
            for _ in range(R):
                s = add(s, bits(fma(load(d, left), every(a, right), magic)))
                left += LANES
                right += LANES
            store_whole(spare, 0, s)
            for j in range(min(LANES, O - panel * LANES)):
                at = place + (panel * LANES + j) * K + k
                total[at] = np.int32(spare[j] + (total[at] if more else 0))


@compiled
def few_of_terms(total, place, memory, terms, own, first, T, O, K, blocks, scales, counted, spare, more):
    """The sum of a parameter of several terms and few rows or columns, records in lanes as the program left them."""
    magic, none, back = splat(MAGIC), splat_whole(np.int32(0)), splat_whole(np.int32(MAGIC_BITS))
    for i in range(O):
        for k in range(K):
            s = none
            for block in range(blocks):
                g = splat(ZERO)
                for e in range(4 * first, 4 * (first + T), 4):
                    left = terms[e] + block * own + i * terms[e + 1]
                    right = terms[e + 2] + block * own + k * terms[e + 3]
                    g = fma(load(memory, left), load(memory, right), g)
                g = choose(less(load_whole(counted, block * LANES), none), g, splat(ZERO))
                s = add(s, subtract(bits(fma(g, load(scales, block * LANES), magic)), back))
            _add_lanes(total, place + i * K + k, s, spare, more)


@njit(inline="always")
def _add_lanes(total, at, s, spare, more):
    store_whole(spare, 0, s)
    whole = total[at] if more else np.int32(0)
    for lane in range(LANES):
        whole = np.int32(whole + spare[lane])
    total[at] = whole


@compiled
def direct(total, place, memory, base, own, n, blocks, scales, counted, spare, more):
    """Gradients that lie there as they are; the lanes are added in the end, as whole numbers."""
    magic, none, back = splat(MAGIC), splat_whole(np.int32(0)), splat_whole(np.int32(MAGIC_BITS))
    for i in range(n):
        s = none
        for block in range(blocks):
            g = load(memory, base + block * own + i * LANES)
            g = choose(less(load_whole(counted, block * LANES), none), g, splat(ZERO))
            s = add(s, subtract(bits(fma(g, load(scales, block * LANES), magic)), back))
        _add_lanes(total, place + i, s, spare, more)


def add_up(
    groups, parameters, terms, memory, own, blocks, records, norms, sound, present, clip, unit, stability, scales,
    counted, d, a, total, tail, spare, more,
):  # fmt: skip
    """The clipped sum of every parameter over these records, in grid units: int32 in `total`, added where `more`."""
    factors(norms, sound, present, blocks, clip, unit, stability, scales, counted)
    S = blocks * LANES
    for number in range(parameters):
        at = number * 6
        kind, place, O, K = groups[at], groups[at + 1], groups[at + 2], groups[at + 3]
        first, T = groups[at + 4], groups[at + 5]
        if kind == DIRECT:
            direct(total, place, memory, terms[4 * first], own, O, blocks, scales, counted, tail, more)
            continue
        if T > 1 and min(O, K) < FEW:
            few_of_terms(total, place, memory, terms, own, first, T, O, K, blocks, scales, counted, tail, more)
            continue
        dT, aT = (O + LANES - 1) // LANES * LANES, (K + LANES - 1) // LANES * LANES
        # One term: panels of all records. Several: the factors of a record side by side, and records not a power of
        # two from each other, which would be in each other's way in the processor's nearest memory.
        by_panel, d_record, a_record = S * LANES, LANES, LANES
        if T > 1:
            by_panel, d_record, a_record = LANES, T * dT + LANES, T * aT + LANES
        for t in range(T):
            e = 4 * (first + t)
            pack(
                memory, terms[e], own, terms[e + 1], O, blocks, counted, scales, T == 1, spare, d, t * dT, by_panel,
                d_record,
            )  # fmt: skip
            pack(
                memory, terms[e + 2], own, terms[e + 3], K, blocks, counted, scales, False, spare, a, t * aT, by_panel,
                a_record,
            )  # fmt: skip
        if T > 1:
            outer_of_terms(
                total, place, d, a, scales, records, O, K, T, dT, aT, d_record, a_record, tail, more
            )  # fmt: skip
        elif K < FEW and O > K:
            narrow(total, place, d, a, S, records, O, K, tail, more)
        else:
            rank_one(total, place, d, a, S, records, O, K, tail, more)
