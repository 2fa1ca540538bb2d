"""The keystream of AES-256 in counter mode, by the kernel that the processor's own instructions make of it."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt

from datasites.engine.lanes.compiled import Kernels
from policies.errors import DatasiteError

Words = npt.NDArray[np.uint64]

KEY_BYTES = 32
TOGETHER = 32  # blocks that the kernel makes at once
WORDS_OF_BLOCK = 2

_KEY_WORDS, _ROUND_WORDS = 8, 60  # of 32 bits: of a key, and of what is made of it for 15 rounds
_SHAPE = np.array([0, 0, 0, 1, 0, 2, 0, 3, 0, -1, 0, -1, 0, -1, 0, -1], dtype=np.int64)


def _boxes() -> list[int]:
    """S-box of FIPS 197: of every byte the inverse in GF(2^8), by powers of the generator 3, and an affine map."""
    power, inverse, boxes = 1, 1, [0x63] * 256
    while True:
        power ^= power << 1 ^ (0x11B if power & 0x80 else 0)
        # Divided by 3.
        inverse ^= inverse << 1
        inverse ^= inverse << 2
        inverse ^= inverse << 4
        inverse = (inverse & 0xFF) ^ (0x09 if inverse & 0x80 else 0)
        rotated = [(inverse << by | inverse >> 8 - by) & 0xFF for by in range(5)]
        boxes[power] = 0x63 ^ rotated[0] ^ rotated[1] ^ rotated[2] ^ rotated[3] ^ rotated[4]
        if power == 1:
            return boxes


_BOXES = bytes(_boxes())


def expanded(key: bytes) -> npt.NDArray[np.int64]:
    """The keys of all rounds (FIPS 197, 5.2), each four times beside itself, as the kernel takes them."""
    if len(key) != KEY_BYTES:
        raise DatasiteError(f"A key of AES-256 has {KEY_BYTES} bytes, not {len(key)}.")
    words = [key[place : place + 4] for place in range(0, KEY_BYTES, 4)]
    constant = 1
    for number in range(_KEY_WORDS, _ROUND_WORDS):
        last = words[-1]
        if number % _KEY_WORDS == 0:
            last = (last[1:] + last[:1]).translate(_BOXES)
            last = bytes([last[0] ^ constant]) + last[1:]
            constant <<= 1
        elif number % _KEY_WORDS == 4:
            last = last.translate(_BOXES)
        words.append(bytes(a ^ b for a, b in zip(words[-_KEY_WORDS], last, strict=True)))
    rounds = np.frombuffer(b"".join(words), dtype=np.int64).reshape(-1, 1, WORDS_OF_BLOCK)
    return np.ascontiguousarray(np.broadcast_to(rounds, (len(rounds), 4, WORDS_OF_BLOCK))).reshape(-1)


class Keystream:
    """The keystream of one key, whose counter begins at 0, on any kernels that have it.

    Args:
      key: 32 secret bytes. They and what is made of them are in no `repr`.

    Raises:
      DatasiteError: the key has another length.
    """

    __slots__ = ("_answer", "_answer_at", "_blocks", "_first", "_keys", "_keys_at", "_shape_at")

    def __init__(self, key: bytes) -> None:
        self._keys, self._answer = expanded(key), np.zeros(2, dtype=np.int64)
        self._keys_at, self._shape_at = (ctypes.c_void_p(array.ctypes.data) for array in (self._keys, _SHAPE))
        self._answer_at = [ctypes.c_void_p(self._answer.ctypes.data + 8 * place) for place in range(2)]
        self._first, self._blocks = ctypes.c_int64(), ctypes.c_int64()

    def fill(self, kernels: Kernels, first: int, blocks: int, out: Words) -> None:
        """Write blocks number `first` and following over the beginning of `out`, two words each.

        Args:
          out: with `room_for(blocks)` words or more, in one piece; what is there behind the blocks is undefined then.
        """
        if not (0 <= first < 2**62 and 0 <= blocks < 2**62):
            raise DatasiteError("A keystream is of fewer than 2^62 blocks.")
        if out.dtype != np.uint64 or not out.flags.c_contiguous or len(out) < room_for(blocks):
            raise DatasiteError(f"{blocks} blocks take room for {room_for(blocks)} words of 64 bits.")
        self._first.value, self._blocks.value = first, -(-blocks // TOGETHER) * TOGETHER
        status = kernels.entries["keystream"](
            *self._answer_at, self._keys_at, self._shape_at, self._first, self._blocks, out.ctypes.data
        )
        if status:
            raise DatasiteError("A kernel reported an error, which none of them can: please report this.")


def room_for(blocks: int) -> int:
    """Words that `Keystream.fill` writes over for so many blocks."""
    return -(-blocks // TOGETHER) * TOGETHER * WORDS_OF_BLOCK
