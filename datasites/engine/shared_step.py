"""A hospital's sum of clipped gradients on the grid of a step that hospitals share, with its part of the noise.

Sensitivity: one patient moves the exact sum by an integer vector no longer than the clipping norm
(`engine.clipping.clipped_sum`, `engine.lanes.sums`). Rounding it to the coarser grid and holding it to a public bound
come before noise, and `policies.privacy.shared_steps` counts both. Nothing after noise depends on how large a number
is: words go around at 2^32, which the sum over hospitals does as well.

Nothing here may leave by itself. The sum does, under masks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from datasites.engine.discrete_gaussians import Source, discrete_gaussians
from datasites.engine.grid import grid_of
from policies.errors import DatasiteError
from policies.privacy.mechanisms import DPSGD
from policies.privacy.shared_steps import SharedStep, check_numbers

IntArray = npt.NDArray[np.int64]


def with_part(total: npt.NDArray[np.integer[Any]], mechanism: DPSGD, source: Source) -> IntArray:
    """A step's numbers as they are masked: whole steps of `mechanism.step_grid`, this hospital's part included.

    Args:
      total: exact, in units of `grid_of(clipping_norm)`; of all numbers that are trained.
      mechanism: resolved, its noise shared.
      source: of this step alone.
    """
    check_numbers(total.size)
    step = step_noise(mechanism)
    return rounded(total, step, mechanism.clipping_norm) + discrete_gaussians(total.size, step.variance, source)


def rounded(total: npt.NDArray[np.integer[Any]], step: SharedStep, clipping_norm: float) -> IntArray:
    """The sum on the step's grid, the nearest whole number each (up from the middle), held to the public bound."""
    finer = round(step.where.grid / grid_of(clipping_norm))  # a power of two, 16 to 128
    largest = step.where.largest
    return np.clip((total.astype(np.int64) + finer // 2) // finer, -largest, largest)


def step_noise(mechanism: DPSGD) -> SharedStep:
    """What of a resolved training's step is shared; it was checked when its plan was made."""
    where, noise = mechanism.step_grid, mechanism.noise_multiplier
    if where is None or noise is None:
        raise DatasiteError("A step without shared noise has no part of one. Nothing is released; please report this.")
    return SharedStep(where=where, noise_multiplier=noise)
