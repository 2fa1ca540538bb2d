"""Poisson sampling by gaps: from one sampled patient to the next, and one record of each.

What is branched on are random words and how many records were sampled, never what a record holds.
"""

from __future__ import annotations

import numpy as np
from numba import njit

LOWEST = np.int64(-(2**63))  # added, it puts signed words in the order of unsigned ones
HALF = np.int64(0xFFFFFFFF)

PLACE, STEP, COUNT, UNDECIDED = range(4)  # of `state`


@njit(inline="always")
def _below(word, bound):
    """floor(word · bound / 2^64) and the product's lower half, of an unsigned word; the bound is below 2^31."""
    low = (word & HALF) * bound
    high = ((word >> 32) & HALF) * bound + ((low >> 32) & HALF)
    return high >> 32, word * bound


def sample(gaps, choices, words, thresholds, most, cells, shift, size, steps, order, begins, rows, ends, state):
    """Go on with a line of `steps` · `size` patients; `state` says where it was left and comes back changed.

    `rows` gets one row of every sampled patient, by a word each of `choices`; `ends`, how many there are up to the end
    of each step.
    """
    place, step, first, undecided = state[PLACE], state[STEP], state[COUNT], np.int64(0)
    count, mask = first, (np.int64(1) << (64 - shift)) - 1
    for i in range(words):
        word = gaps[i]
        gap = np.int64(cells[(word >> shift) & mask])
        word ^= LOWEST
        while gap < most and thresholds[gap] < word:
            gap += 1
        undecided |= gap < most and thresholds[gap] == word
        place += gap
        while place >= size and step < steps:
            place -= size
            ends[step] = count
            step += 1
        if step == steps:
            break
        if gap < most:
            rows[count] = place
            count += 1
            place += 1
    # By itself, so that a processor waits for many rows of a large table at once.
    for i in range(first, count):
        begin = np.int64(begins[rows[i]])
        records = np.int64(begins[rows[i] + 1]) - begin
        which, rest = _below(choices[i - first], records)
        undecided |= (rest ^ LOWEST) < (records ^ LOWEST)
        rows[i] = order[begin + which]
    state[PLACE], state[STEP], state[COUNT], state[UNDECIDED] = place, step, count, undecided
