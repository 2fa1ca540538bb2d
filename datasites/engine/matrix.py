"""Layout of the private matrix: its first two columns, and the secret codes and order of its rows.

Float64 [N, 2 + C]: the patient's code, the hold-out flag, and the schema's columns in their order. Rows lie in the
order of codes, so that a patient's are together. What is drawn here comes from the operating system's randomness.
"""

from __future__ import annotations

import secrets

import numpy as np

from policies.schema.columns import FloatArray, IntArray

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


def grouped(codes: IntArray, most: int) -> IntArray:
    """Rows in the order of their patients' codes, at most `most` of each: every such subset, in every order, as likely.

    Codes are secret random numbers, so the order tells nothing that they do not.

    Args:
      codes: of each row.
      most: at least 1.
    """
    order = secure_permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]
    if len(order) <= most:
        return order
    ordered = codes[order]
    # Whoever stands `most` rows further up is the same patient: then this row is one too many.
    kept = np.ones(len(order), dtype=np.bool_)
    np.not_equal(ordered[most:], ordered[:-most], out=kept[most:])
    return order[kept]


def in_groups(records: FloatArray, most: int) -> FloatArray:
    """A private matrix [N, 2 + C] as `grouped` leaves it: itself where it is, else a copy in a new secret order.

    For tables that were published before there was an order.
    """
    codes = records[:, PATIENT]
    if not np.any(codes[1:] < codes[:-1]) and not np.any(codes[most:] == codes[:-most]):
        return records
    return records[grouped(codes.astype(np.int64), most)]
