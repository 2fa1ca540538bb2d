"""Private rows to model inputs in lanes: the arithmetic of `policies.schema.columns`, sixteen records at once."""

from __future__ import annotations

import numpy as np
from numba import njit

from datasites.engine.lanes.instructions import LANES
from datasites.engine.lanes.kernels.elementary import ZERO
from datasites.engine.lanes.kernels.vectors import (
    choose,
    divide,
    less,
    load_whole,
    load_wide,
    more,
    multiply,
    narrow,
    nearest,
    same,
    splat,
    splat_whole,
    splat_wide,
    store,
    subtract,
)

COLUMN, KIND, CATEGORY = range(3)  # of an input's line of whole numbers
FILL, LOW, HIGH = range(3)  # of its line of bounds
FIELDS = 3  # of both
REAL, WHOLE, LABEL, ONE_HOT, MISSING = range(5)


@njit(inline="always")
def _clipped(x, low, high):
    x = choose(more(x, low), x, low)
    return choose(less(x, high), x, high)


@njit(inline="always")
def _input(raw, kinds, bounds, at):
    """One input of sixteen records from their cells: always finite."""
    kind, one, none = kinds[at + KIND], splat_wide(1.0), splat_wide(0.0)
    low, high = splat_wide(bounds[at + LOW]), splat_wide(bounds[at + HIGH])
    finite = same(subtract(raw, raw), none)
    if kind == MISSING:
        return choose(finite, none, one)
    value = choose(finite, raw, splat_wide(bounds[at + FILL]))
    if kind != REAL:
        value = nearest(value)
    value = _clipped(value, low, high)
    if kind == LABEL:
        return value
    if kind == ONE_HOT:
        return choose(same(value, splat_wide(np.float64(kinds[at + CATEGORY]))), one, none)
    scaled = subtract(multiply(divide(subtract(value, low), subtract(high, low)), splat_wide(2.0)), one)
    return _clipped(scaled, splat_wide(-1.0), one)


def take_records(
    matrix, width, table, rows, count, kinds, bounds, features, memory, record, own, label, present, spare, outside
):
    """Records `rows` of a private matrix [table, width] into lanes: `features` inputs, then their label.

    `present` is below zero for as many lanes as there are records, and zero for the rest of the last block, which get
    zeros. A row outside of the table is taken for row 0, and `outside` says so.
    """
    for block in range((count + LANES - 1) // LANES):
        first, place = block * LANES, block * own
        here = less(load_whole(present, first), splat_whole(np.int32(0)))
        taken = min(LANES, count - first)
        for feature in range(features + 1):
            at = feature * FIELDS
            column = kinds[at + COLUMN]
            for lane in range(taken):
                row = rows[first + lane]
                inside = (row >= 0) & (row < table)
                if not inside:
                    outside[0], row = 1, 0
                spare[lane] = matrix[row * width + column]
            target = label + place if feature == features else record + place + feature * LANES
            value = narrow(_input(load_wide(spare, 0), kinds, bounds, at))
            store(memory, target, choose(here, value, splat(ZERO)))
