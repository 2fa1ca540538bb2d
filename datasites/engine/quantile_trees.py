"""Quantiles from a tree of noisy counts over [-1, 1].

Every level of the tree counts the same values, in cells `TREE_BRANCHING` times narrower than those of the level above.
Each level has an equal share of ε. A rank is followed from the top: among the cells below the one that was reached, to
that in which it falls; then it lies on a straight line within the last. A noisy count is drawn once for each cell that
is looked at and kept, so that all ranks read one and the same tree. Cells that hold little of what lies beside them
are taken for empty, else the noise of empty ones would draw a rank away. This is how Google's library has it (its
`QuantileTree`), which counts a value at a time; here whole columns are counted at once.

Which cells are looked at follows from noisy counts alone, so that the path tells no more than the answer. Trees that
leave in a sum over hospitals leave whole, at the same ε: a level's cells are disjoint.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from policies.privacy.draws import TREE_BRANCHING, TREE_HEIGHT
from policies.schema.quantile_trees import LEAVES, read_tree

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Noise = Callable[[IntArray, float], FloatArray]


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
    levels = _levels(leaves)
    drawn: dict[tuple[int, int], FloatArray] = {}

    def beside(level: int, parent: int) -> FloatArray:
        """Noisy counts of the cells below `parent`, drawn when they are first asked for."""
        if (level, parent) not in drawn:
            first = parent * TREE_BRANCHING
            exact = levels[level][first : first + TREE_BRANCHING]
            drawn[level, parent] = np.asarray(noise(exact, epsilon / TREE_HEIGHT), dtype=np.float64)
        return drawn[level, parent]

    return read_tree(ranks, beside)


def whole_tree_of(leaves: IntArray, *, epsilon: float, noise: Noise) -> FloatArray:
    """Noisy counts of every cell of the tree, level by level from the top: [NODES]. Arguments as in `quantiles_of`."""
    return np.asarray(noise(np.concatenate(_levels(leaves)), epsilon / TREE_HEIGHT), dtype=np.float64)


def _levels(leaves: IntArray) -> list[IntArray]:
    return [leaves.reshape(TREE_BRANCHING**level, -1).sum(axis=1) for level in range(1, TREE_HEIGHT + 1)]
