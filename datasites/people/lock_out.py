"""Back-off after wrong passwords, counted per account over every door of a datasite."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable


class LockOut:
    """Failures per account: after `free` of them each further try waits, twice as long each time, up to `longest`.

    The account alone is counted: behind a gateway all addresses look alike. A try that is begun counts as
    failed, so that many at once gain nothing. `clock` gives seconds.
    """

    def __init__(self, *, free: int = 5, longest: float = 900.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.free, self.longest, self.clock = free, longest, clock
        self._failures: dict[bytes, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def begin(self, account: str) -> float:
        """0 where this account may try, and then the try counts as failed until it succeeds; else the wait."""
        key = _key(account)
        with self._lock:
            left = self._left(key)
            if not left:
                self._count(key)
            return left

    def succeeded(self, account: str) -> None:
        """Forget an account's failures."""
        with self._lock:
            self._failures.pop(_key(account), None)

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


def _key(account: str) -> bytes:
    return hashlib.sha256(account.encode("utf-8", "replace")).digest()
