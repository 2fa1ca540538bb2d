"""One optimizer step over all parameters: sum and noise in whole numbers become float32 weights.

The same arithmetic, in the same order, as torch's optimizers of one tensor with PyTorch's vectors: a product that is
added is one multiply-add. Nothing here is private any more but the sum, and that only until its noise is added.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from datasites.engine.lanes.instructions import LANES
from datasites.engine.lanes.kernels.vectors import (
    add,
    divide,
    fma,
    load,
    load_whole,
    load_wide,
    multiply,
    narrow,
    root,
    splat,
    splat_wide,
    store,
    subtract,
    widen_whole,
)

GRID, DIVISOR, PULL, DECAY, RATE, MOMENTUM, TAKEN, KEPT, SQUARED, CORRECTION, EPSILON = range(11)
SETTINGS = 11
WITH_MOMENTUM, WITH_ADAM, WITH_PULL, WITH_DECAY = 1, 2, 4, 8


@njit(inline="always")
def _sixteen(how, total, noise, at, start, first, second, weights, place, s):
    """Sixteen parameters from `at` on, whose weights begin at `place`."""
    exact = add(load_wide(noise, at), widen_whole(load_whole(total, at)))
    # Only from here on, where privacy is settled, does float32 round anything.
    g = narrow(multiply(exact, splat_wide(s[GRID])))
    g = divide(g, splat(np.float32(s[DIVISOR])))
    w = load(weights, place)
    if how & WITH_PULL:
        g = fma(splat(np.float32(s[PULL])), subtract(w, load(start, at)), g)
    if how & WITH_DECAY:
        g = fma(splat(np.float32(s[DECAY])), w, g)
    rate = splat(np.float32(-s[RATE]))
    if how & WITH_ADAM:
        mean = load(first, at)
        mean = fma(splat(np.float32(s[TAKEN])), subtract(g, mean), mean)
        store(first, at, mean)
        square = multiply(load(second, at), splat(np.float32(s[KEPT])))
        square = fma(multiply(splat(np.float32(s[SQUARED])), g), g, square)
        store(second, at, square)
        below = divide(root(square), splat(np.float32(s[CORRECTION])))
        below = add(below, splat(np.float32(s[EPSILON])))
        w = add(w, divide(multiply(rate, mean), below))
    elif how & WITH_MOMENTUM:
        g = add(multiply(load(first, at), splat(np.float32(s[MOMENTUM]))), g)
        store(first, at, g)
        w = fma(rate, g, w)
    else:
        w = fma(rate, g, w)
    store(weights, place, w)


def step(how, total, noise, start, first, second, weights, parameters, s, spare):
    """Weights, and what the optimizer keeps of every parameter in `first` and `second`, after one step.

    Arrays but the weights have room for whole vectors; `spare` has it for the weights beside whole ones.
    """
    whole = parameters // LANES * LANES
    for at in range(0, whole, LANES):
        _sixteen(how, total, noise, at, start, first, second, weights, at, s)
    if whole < parameters:
        for i in range(parameters - whole):
            spare[i] = weights[whole + i]
        _sixteen(how, total, noise, whole, start, first, second, spare, 0, s)
        for i in range(parameters - whole):
            weights[whole + i] = spare[i]
