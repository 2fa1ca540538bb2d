"""Simulated devices: all in one process, each with its own ledger and noise, by the code of real ones.

What is the same for all of them is computed once: that a committee is the drawn one, that a text was signed, and the
secret of two devices, which either side would compute for itself. The answers are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from policies.privacy.team_sums import TeamSum
from policies.secure_sums.committee import Member, Work


class SharedWork(Work):
    """Of the devices of one process, for one report after the other. A pair's secret is kept until both had it."""

    def __init__(self) -> None:
        self._secrets: dict[str, dict[str, bytes]] = {}
        self._public: dict[str, X25519PublicKey] = {}
        self._signed: dict[str, tuple[str, bytes]] = {}
        self._joined: tuple[Any, tuple[Member, ...]] = ((), ())
        self._keys: tuple[Any, list[str]] = ((), [])

    def secret(self, private: X25519PrivateKey, own: str, other: str) -> bytes:
        """Of a pair, by the side that asks first; the other one takes it."""
        if (known := self._secrets.get(own, {}).pop(other, None)) is not None:
            return known
        if (public := self._public.get(other)) is None:
            public = self._public[other] = X25519PublicKey.from_public_bytes(bytes.fromhex(other))
        secret = private.exchange(public)
        self._secrets.setdefault(other, {})[own] = secret
        return secret

    def is_signed(self, key: str, text: bytes, signature: str) -> bool:
        """As it was found the first time, where it was."""
        if self._signed.get(signature) == (key, text):
            return True
        if sound := super().is_signed(key, text, signature):
            self._signed[signature] = key, text
        return sound

    def joined(self, team: TeamSum, context: str, message: Mapping[str, Any]) -> tuple[Member, ...]:
        """Of the same message, the same members."""
        asked = team, context, message
        if self._joined[0] != asked:
            self._joined = asked, super().joined(team, context, message)
        return self._joined[1]

    def team_keys(self, team: TeamSum, keys: object) -> list[str]:
        """Of the same message, the same keys."""
        if self._keys[0] != (team, keys):
            self._keys = (team, keys), super().team_keys(team, keys)
        return self._keys[1]
