"""Quantiles read from a tree of noisy counts over public bounds; what makes the counts is not here.

A tree has `TREE_HEIGHT` levels, each of which parts every cell of the one above in `TREE_BRANCHING` equal ones. Trees
of the same bounds add up cell by cell, so that the tree of several hospitals is one like any other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from policies.privacy.draws import TREE_BRANCHING, TREE_HEIGHT

FloatArray = npt.NDArray[np.float64]
Beside = Callable[[int, int], FloatArray]
"""Noisy counts of the cells below a parent, by the parent's level (0 for the root) and place."""

LEAVES = TREE_BRANCHING**TREE_HEIGHT
NODES = sum(TREE_BRANCHING**level for level in range(1, TREE_HEIGHT + 1))
"""Cells of all levels together, the root left out."""
LEAST_RANK, MOST_RANK = 0.005, 0.995
LEAST_SHARE = 0.0075  # of the counts beside it, below which a cell is taken for empty


def read_tree(ranks: tuple[float, ...], beside: Beside) -> tuple[list[float], float]:
    """The value at each rank, in [-1, 1], and the noisy number of all values, from the tree's first level."""
    number = float(beside(0, 0).sum())
    return [_followed(min(max(rank, LEAST_RANK), MOST_RANK), beside) for rank in ranks], number


def whole_tree(nodes: FloatArray) -> Beside:
    """Counts of a tree whose cells are all there: [NODES], level by level from the top."""
    ends = np.cumsum([TREE_BRANCHING**level for level in range(1, TREE_HEIGHT + 1)])[:-1]
    levels = np.split(np.asarray(nodes, dtype=np.float64), ends)

    def beside(level: int, parent: int) -> FloatArray:
        return levels[level][parent * TREE_BRANCHING : (parent + 1) * TREE_BRANCHING]

    return beside


def _followed(rank: float, beside: Beside) -> float:
    parent, level = 0, 0
    while level < TREE_HEIGHT:
        counts = np.maximum(beside(level, parent), 0.0)
        counts[counts < LEAST_SHARE * counts.sum()] = 0.0
        total = counts.sum()
        if total <= 0:
            break
        shares = counts / total
        below = np.cumsum(shares)
        cell = int(np.flatnonzero((below >= rank - 1e-12) & (shares > 0))[0])  # the last share ends at 1
        rank = min(max(float((rank - (below[cell] - shares[cell])) / shares[cell]), 0.0), 1.0)
        parent, level = parent * TREE_BRANCHING + cell, level + 1
    width = 2.0 / TREE_BRANCHING**level
    return float(-1.0 + width * (parent + rank))
