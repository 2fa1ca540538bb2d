"""Call the kernel that turns uniform words into Gaussians in whole numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from datasites.engine.lanes.compiled import Kernels
from policies.errors import DatasiteError

TOGETHER = 8  # pairs that the kernel makes at once

Words = npt.NDArray[np.uint64]


def transformed(kernels: Kernels, words: Words, fractions: Words, std: float, out: npt.NDArray[np.float64]) -> bool:
    """round(std · √(-2 ln(radius / 2^63)) · cos(π · angle / 2^63)) of every pair, then the same with the sine.

    Args:
      words: those of radii, then as many of angles, read as signed; a whole number of eights. A radius is its word's
        magnitude; one below 2^53 is a whole number to which the upper 53 bits of the next of `fractions` are added.
      fractions: at least one.
      std: at least 0.
      out: float64, as long as `words`; gets whole numbers.

    Returns:
      Whether there were fractions enough; if not, `out` holds nothing of use.
    """
    pairs = len(words) // 2
    if pairs % TOGETHER or 2 * pairs != len(words) or out.shape != words.shape or not len(fractions):
        raise DatasiteError("Gaussians are made in pairs, eight pairs at once.")
    if out.dtype != np.float64 or not (out.flags.c_contiguous and words.flags.c_contiguous):
        raise DatasiteError("Gaussians are made of words in one piece, as float64 in one piece.")
    spare, rest = np.empty(TOGETHER), np.empty(3, dtype=np.int64)
    place = rest.ctypes.data
    status = kernels.entries["gaussians"](
        place, place + 8, words.ctypes.data, fractions.ctypes.data, len(fractions), pairs, std, out.ctypes.data,
        spare.ctypes.data, place + 16,
    )  # fmt: skip
    if status:
        raise DatasiteError("A kernel reported an error, which none of them can: please report this.")
    return int(rest[2]) <= len(fractions)
