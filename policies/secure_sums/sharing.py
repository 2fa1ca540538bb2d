"""Shamir's secret sharing (1979) of 256-bit secrets: any `threshold` of the shares give it, fewer say nothing of it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

PRIME = 2**256 + 297  # the smallest above every secret
SHARE_BYTES = 33


def split(secret: bytes, *, threshold: int, parties: int) -> dict[int, int]:
    """A share for each party 1 to `parties`: a random polynomial of degree `threshold` - 1 whose value at 0 is secret.

    Args:
      secret: 32 bytes.
    """
    coefficients = [int.from_bytes(secret, "big"), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return {party: _value_at(party, coefficients) for party in range(1, parties + 1)}


def combine(shares: Mapping[int, int]) -> bytes | None:
    """The secret that exactly as many shares as its threshold give; None where they are of no secret."""
    total = sum(share * weight for share, weight in zip(shares.values(), _weights(tuple(shares)), strict=True)) % PRIME
    return total.to_bytes(32, "big") if total < 2**256 else None


def _value_at(place: int, coefficients: list[int]) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * place + coefficient) % PRIME
    return value


def _weights(places: tuple[int, ...]) -> list[int]:
    """Lagrange's, at 0."""
    weights = []
    for place in places:
        above, below = 1, 1
        for other in places:
            if other != place:
                above, below = above * other % PRIME, below * (other - place) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return weights
