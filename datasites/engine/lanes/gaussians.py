"""Call the kernel that turns uniform words into Gaussians in whole numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from datasites.engine.lanes.compiled import Kernels
from policies.errors import DatasiteError

TOGETHER = 8  # pairs that the kernel makes at once

Words = npt.NDArray[np.uint64]


def transformed(
    kernels: Kernels, words: Words, fractions: Words, std: float, out: npt.NDArray[np.float64], *, doubt: float = 0.0
) -> npt.NDArray[np.int64] | None:
    """round(std · √(-2 ln(radius / 2^63)) · cos(π · angle / 2^63)) of every pair, then the same with the sine.

    Args:
      words: those of radii, then as many of angles, read as signed; a whole number of eights. A radius is its word's
        magnitude; one below 2^53 is a whole number to which the upper 53 bits of the next of `fractions` are added.
      fractions: at least one.
      std: at least 0.
      out: float64, as long as `words`; gets whole numbers.
      doubt: how near to the edge between two whole numbers a number may be that is in doubt.

    Returns:
      Which pairs have a number in doubt, and all whose radius is near 0 or past 9.3 deviations. None where there were
      too few fractions: `out` holds nothing of use.
    """
    pairs = len(words) // 2
    if pairs % TOGETHER or 2 * pairs != len(words) or out.shape != words.shape or not len(fractions):
        raise DatasiteError("Gaussians are made in pairs, eight pairs at once.")
    if out.dtype != np.float64 or not (out.flags.c_contiguous and words.flags.c_contiguous):
        raise DatasiteError("Gaussians are made of words in one piece, as float64 in one piece.")
    # Eight numbers and as many of each pair, then what the call itself answers, and what the kernel does.
    spare = np.empty(TOGETHER + pairs + 4 + pairs // TOGETHER)
    place: int = spare.ctypes.data
    answer = place + 8 * (TOGETHER + pairs)
    status = kernels.entries["gaussians"](
        answer, answer + 8, words.ctypes.data, fractions.ctypes.data, len(fractions), pairs, std, doubt,
        out.ctypes.data, place, answer + 16,
    )  # fmt: skip
    if status:
        raise DatasiteError("A kernel reported an error, which none of them can: please report this.")
    found: npt.NDArray[np.int64] = spare.view(np.int64)[TOGETHER + pairs + 2 :]
    used, doubts = found[:2].tolist()
    if used > len(fractions):
        return None
    if not doubts:
        return found[:0]
    far = spare[TOGETHER : TOGETHER * (1 + doubts)].reshape(doubts, TOGETHER)
    eights, lanes = np.nonzero(far > 0.5 - doubt)
    return np.asarray(found[2 + eights] + lanes)
