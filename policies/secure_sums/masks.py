"""Masks: the words that a key expands to, and what they hide while they are there."""

from __future__ import annotations

import numpy as np

from policies.secure_sums.agreement import key_stream
from policies.secure_sums.encoding import Words


def expanded(key: bytes, count: int) -> Words:
    """`count` words of the stream of a 32-byte key."""
    return np.frombuffer(key_stream(key, 4 * count), dtype="<u4").astype(np.uint32, copy=False)


def add_mask(words: Words, seed: bytes, plus: bool) -> None:
    """Add the words of a mask, or take them away: of two parties the first adds what the second takes."""
    mask = expanded(seed, len(words))
    (np.add if plus else np.subtract)(words, mask, out=words)
