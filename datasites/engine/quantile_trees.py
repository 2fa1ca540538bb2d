"""Quantiles from a tree of noisy counts over [-1, 1].

Every level of the tree counts the same values, in cells `TREE_BRANCHING` times narrower than those of the level above.
Each level has an equal share of ε. A rank is followed from the top: among the cells below the one that was reached, to
that in which it falls; then it lies on a straight line within the last. A noisy count is drawn once for each cell that
is looked at and kept, so that all ranks read one and the same tree. Cells that hold little of what lies beside them
are taken for empty, else the noise of empty ones would draw a rank away. This is how Google's library has it (its
`QuantileTree`), which counts a value at a time; here whole columns are counted at once.

Which cells are looked at follows from noisy counts alone, so that the path tells no more than the answer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from policies.privacy.draws import TREE_BRANCHING, TREE_HEIGHT

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Noise = Callable[[IntArray, float], FloatArray]

LEAVES = TREE_BRANCHING**TREE_HEIGHT
LEAST_RANK, MOST_RANK = 0.005, 0.995
LEAST_SHARE = 0.0075  # of the counts beside it, below which a cell is taken for empty


def leaf_index(values: FloatArray) -> IntArray:
    """The leaf of each value in [-1, 1]."""
    return np.asarray(np.clip(np.floor((values + 1) / 2 * LEAVES), 0, LEAVES - 1), dtype=np.int64)


def quantiles_of(
    leaves: IntArray, ranks: tuple[float, ...], *, epsilon: float, noise: Noise
) -> tuple[list[float], float]:
    """The value at each rank, in [-1, 1], and the noisy number of all values, from the tree's first level.

    Args:
      leaves: exact counts [LEAVES].
      epsilon: for the whole tree; each level gets `epsilon / TREE_HEIGHT`.
      noise: gives counts with noise at an ε.
    """
    levels = [leaves.reshape(TREE_BRANCHING**level, -1).sum(axis=1) for level in range(1, TREE_HEIGHT + 1)]
    drawn: dict[tuple[int, int], FloatArray] = {}

    def beside(level: int, parent: int) -> FloatArray:
        """Noisy counts of the cells below `parent`, drawn when they are first asked for."""
        if (level, parent) not in drawn:
            first = parent * TREE_BRANCHING
            exact = levels[level][first : first + TREE_BRANCHING]
            drawn[level, parent] = np.asarray(noise(exact, epsilon / TREE_HEIGHT), dtype=np.float64)
        return drawn[level, parent]

    number = float(beside(0, 0).sum())
    return [_followed(min(max(rank, LEAST_RANK), MOST_RANK), beside) for rank in ranks], number


def _followed(rank: float, beside: Callable[[int, int], FloatArray]) -> float:
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
