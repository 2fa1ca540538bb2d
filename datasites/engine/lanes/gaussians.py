"""Call the kernel that turns uniform words into Gaussians in whole numbers."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt

from datasites.engine.lanes.compiled import Kernels
from policies.errors import DatasiteError

TOGETHER = 8  # pairs that the kernel makes at once


def transformed(
    kernels: Kernels, radii: npt.NDArray[np.float64], angles: npt.NDArray[np.int64], std: float
) -> npt.NDArray[np.float64]:
    """round(std · √(-2 ln(radius / 2^63)) · cos(π · angle / 2^63)) of every pair, then the same with the sine.

    Args:
      radii: in [2^-54, 2^63].
      angles: any words, as many.
      std: at least 0.

    Returns:
      float64 whole numbers, twice as many.
    """
    pairs = len(radii)
    room = -(-pairs // TOGETHER) * TOGETHER
    padded, turned = np.ones(room), np.zeros(room, dtype=np.int64)
    padded[:pairs], turned[:pairs] = radii, angles
    out = np.empty(2 * room)
    unused = (ctypes.c_int64 * 4)()
    place = ctypes.addressof(unused)
    status = kernels.entries["gaussians"](
        place, place + 8, padded.ctypes.data, turned.ctypes.data, room, std, out.ctypes.data
    )
    if status:
        raise DatasiteError("A kernel reported an error, which none of them can: please report this.")
    return out if room == pairs else np.concatenate([out[:pairs], out[room : room + pairs]])
