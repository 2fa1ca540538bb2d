"""A Merkle tree over devices' keys (Merkle 1987): one digest for a whole team, and proof of some places in it.

Leaves and nodes are hashed apart, and empty places are of neither kind, so that no two lists of one length have one
root.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from policies.secure_sums.messages import unreadable

DIGEST_BYTES = 32
_EMPTY = bytes(DIGEST_BYTES)
_LEAF, _NODE = b"\0", b"\1"


def root_of(keys: Sequence[bytes]) -> str:
    """Of keys in their order, in hex."""
    return _levels(keys)[-1][0].hex()


def proof_of(keys: Sequence[bytes], places: Iterable[int]) -> list[str]:
    """The digests that `proved_root` needs beside the keys at these places, in hex."""
    levels, taken = _levels(keys), []

    def missing(level: int, place: int) -> bytes:
        taken.append(levels[level][place])
        return taken[-1]

    _climbed({place: levels[0][place] for place in places}, len(levels) - 1, missing)
    return [digest.hex() for digest in taken]


def proved_root(count: int, keys: Mapping[int, bytes], proof: Iterable[str]) -> str:
    """The root of a tree over `count` keys that has these keys at these places. Raises `InvalidRequest` on no proof."""
    if not keys or not all(0 <= place < count for place in keys):
        raise unreadable("it proves no places of the team")
    left = iter(proof)

    def missing(_: int, __: int) -> bytes:
        digest = next(left, None)
        if not isinstance(digest, str) or len(digest) != 2 * DIGEST_BYTES:
            raise unreadable("the proof of a committee is too short")
        return bytes.fromhex(digest)

    try:
        root = _climbed({place: _leaf(key) for place, key in keys.items()}, (count - 1).bit_length(), missing)
    except ValueError:
        raise unreadable("the proof of a committee is not in hex") from None
    if next(left, None) is not None:
        raise unreadable("the proof of a committee is too long")
    return root.hex()


def _levels(keys: Sequence[bytes]) -> list[list[bytes]]:
    level = [_leaf(key) for key in keys]
    level += [_EMPTY] * ((1 << (len(keys) - 1).bit_length()) - len(keys))
    levels = [level]
    while len(level) > 1:
        level = [_node(one, other) for one, other in zip(level[::2], level[1::2], strict=True)]
        levels.append(level)
    return levels


def _climbed(level: dict[int, bytes], depth: int, missing: Callable[[int, int], bytes]) -> bytes:
    """From digests at some places up to the root; siblings that are not there come from `missing(level, place)`."""
    for height in range(depth):
        above: dict[int, bytes] = {}
        for place in sorted(level):
            if place // 2 not in above:
                pair = [level[side] if side in level else missing(height, side) for side in (place & ~1, place | 1)]
                above[place // 2] = _node(*pair)
        level = above
    return level[0]


def _leaf(key: bytes) -> bytes:
    return hashlib.sha256(_LEAF + key).digest()


def _node(one: bytes, other: bytes) -> bytes:
    return hashlib.sha256(_NODE + one + other).digest()
