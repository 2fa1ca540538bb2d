"""Layout of the private matrix: its first two columns, and the secret codes and order of its rows.

Float64 [N, 2 + C]: the patient's code, the hold-out flag, and the schema's columns in their order. What is drawn here
comes from the operating system's randomness.
"""

from __future__ import annotations

import secrets

import numpy as np

from policies.schema.columns import IntArray

PATIENT, HELD_OUT = 0, 1  # columns of the private matrix


def secure_permutation(size: int) -> IntArray:
    """A permutation of 0..size-1 from the operating system's randomness.

    It is the order of 64-bit random keys; two of them are equal with probability below size² / 2⁶⁵.
    """
    return np.argsort(np.frombuffer(secrets.token_bytes(8 * size), dtype=np.uint64), kind="stable").astype(np.int64)


def secure_codes(size: int) -> IntArray:
    """Different whole numbers below 2^53, which float64 holds exactly, each a draw of its own.

    All are drawn again where two are equal: with probability below size² / 2⁵⁴.
    """
    while True:
        drawn = np.frombuffer(secrets.token_bytes(8 * size), dtype=np.uint64) >> np.uint64(11)
        if len(np.unique(drawn)) == size:
            return drawn.astype(np.int64)
