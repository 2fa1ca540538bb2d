"""One memory budget of the serving process: what bodies, and what is unpacked of them, may take at once.

A message is small beside what it unpacks to, so each call pays for it while it is read, and gives it back when it is
answered. Of the whole, one owner (an account, or an address whose body is being read) has a share, and one kind
(`"bodies"`, `"calls"`) has another: what one holds is never all that there is. The first bytes of everything are free,
and so a sign-in or a small call always has room: how many there can be is bounded by connections and threads.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

NO_ROOM = "Too much is being sent at once. Try again in a moment."
BODIES, CALLS = "bodies", "calls"
FREE = {BODIES: 64 << 10, CALLS: 1 << 20}  # bytes of one body or call that are not counted


class NoRoom(Exception):
    """The memory that this would take is in use; the text is for the client."""

    def __init__(self) -> None:
        super().__init__(NO_ROOM)


class Held:
    """What one body or call holds. Not for more than one thread at once."""

    def __init__(self, memory: Memory, kind: str, owner: str) -> None:
        self.memory, self.kind, self.owner = memory, kind, owner
        self.size = -memory.free[kind]

    def take(self, size: int) -> None:
        """Hold `size` more bytes. Raises `NoRoom`."""
        more = max(0, self.size + size) - max(0, self.size)
        self.memory.take(self.kind, self.owner, more)
        self.size += size


class Memory:
    """Counts bytes that are held; for all threads of a process.

    Args:
      most: bytes of all together. Bodies may hold half of it; of one address a quarter. Calls, which unpack what is in
        them, may hold all of it; of one account half.
      free: bytes of one body or call, by kind, that are not counted.
    """

    def __init__(self, most: int, *, free: dict[str, int] | None = None) -> None:
        self.most = most
        self.free = FREE if free is None else free
        self._kinds = {BODIES: most // 2, CALLS: most}
        self._shares = {BODIES: most // 4, CALLS: most // 2}
        self._all = 0
        self._by_kind: Counter[str] = Counter()
        self._by_owner: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def held(self, kind: str, owner: str) -> Iterator[Held]:
        """Room for one body or call of an owner; all that it takes is given back at the end."""
        held = Held(self, kind, owner)
        try:
            yield held
        finally:
            self._give(kind, owner, max(0, held.size))

    @property
    def in_use(self) -> int:
        """Bytes that are held now."""
        return self._all

    def take(self, kind: str, owner: str, size: int) -> None:
        """Count `size` more bytes. Raises `NoRoom`."""
        with self._lock:
            if size and (
                self._all + size > self.most
                or self._by_kind[kind] + size > self._kinds[kind]
                or self._by_owner[kind, owner] + size > self._shares[kind]
            ):
                raise NoRoom
            self._count(kind, owner, size)

    def _give(self, kind: str, owner: str, size: int) -> None:
        with self._lock:
            self._count(kind, owner, -size)
            if not self._by_owner[kind, owner]:
                del self._by_owner[kind, owner]

    def _count(self, kind: str, owner: str, size: int) -> None:
        self._all += size
        self._by_kind[kind] += size
        self._by_owner[kind, owner] += size
