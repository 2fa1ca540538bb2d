"""Back-off after wrong passwords, counted per account and address over every door of a datasite."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable


class LockOut:
    """Failures with an account from an address: after `free` of them each further try from there waits, twice as long
    each time, up to `longest`.

    An account itself is never locked: whoever guesses at it from elsewhere keeps its owner from nothing. Behind a
    gateway all come from one address, unless the settings name the gateway. A try that is begun counts as failed, so
    that many at once gain nothing. `clock` gives seconds.
    """

    def __init__(self, *, free: int = 5, longest: float = 900.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.free, self.longest, self.clock = free, longest, clock
        self._failures: dict[bytes, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def begin(self, account: str, address: str = "") -> float:
        """0 where this account may be tried from an address, and then the try counts as failed until it succeeds.

        Else the wait in seconds.
        """
        key = _key(account, address)
        with self._lock:
            left = self._left(key)
            if not left:
                self._count(key)
            return left

    def succeeded(self, account: str, address: str = "") -> None:
        """Forget what failed with an account from an address."""
        with self._lock:
            self._failures.pop(_key(account, address), None)

    def _left(self, key: bytes) -> float:
        count, last = self._failures.get(key, (0, 0.0))
        if count < self.free:
            return 0.0
        wait = min(self.longest, 2.0 ** min(60, count - self.free))
        return max(0.0, last + wait - self.clock())

    def _count(self, key: bytes) -> None:
        self._failures[key] = (self._failures.get(key, (0, 0.0))[0] + 1, self.clock())
        if len(self._failures) > 10_000:  # strangers may make up accounts
            for name in sorted(self._failures, key=lambda account: self._failures[account][1])[:5_000]:
                del self._failures[name]


def _key(account: str, address: str) -> bytes:
    return hashlib.sha256(b"\0".join(text.encode("utf-8", "replace") for text in (address, account))).digest()
