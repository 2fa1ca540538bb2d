"""Memory between two pages that nothing may touch: a kernel that reads or writes beyond an array ends its process."""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

PAGE, NO_ACCESS = mmap.PAGESIZE, 0
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_kept: list[mmap.mmap] = []


def guarded(count: int, dtype: npt.DTypeLike, *, at_end: bool) -> npt.NDArray:  # type: ignore[type-arg]
    """Zeros that begin right after, or end right before, a page of no access."""
    size = count * np.dtype(dtype).itemsize
    pages = max(1, -(-size // PAGE))
    room = mmap.mmap(-1, (pages + 2) * PAGE)
    _kept.append(room)
    whole = np.frombuffer(room, dtype=np.uint8)
    address = whole.ctypes.data
    for page in (0, pages + 1):
        assert _libc.mprotect(address + page * PAGE, PAGE, NO_ACCESS) == 0
    begin = PAGE + (pages * PAGE - size if at_end else 0)
    return whole[begin : begin + size].view(dtype)


def survives(work: Callable[[], None]) -> bool:
    """Whether a forked process that does this ends by itself."""
    child = os.fork()
    if child == 0:
        faulthandler.disable()  # what is meant to happen needs no report
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFEXITED(status)
