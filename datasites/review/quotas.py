"""What one account may take of the datasite within an hour or a day, by a window that moves on.

Counted in this process alone: a start forgets it, and only the owner starts a datasite.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

HOUR, DAY = 3600.0, 86_400.0
MOST_ACCOUNTS = 10_000


class Quota:
    """So much of something by account within `window` seconds. For all threads of a process.

    What is taken is noted in `PARTS` parts of the window: an account's notes stay few, and come back part by part.
    """

    PARTS = 60

    def __init__(self, most: float, window: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.most, self.window, self.clock = most, window, clock
        self._taken: OrderedDict[str, deque[tuple[int, float]]] = OrderedDict()
        self._lock = threading.Lock()

    def left(self, account: str) -> float:
        """What an account may still take; below 0 where it took more than it had."""
        with self._lock:
            return self.most - sum(amount for _, amount in self._notes(account))

    def take(self, account: str, amount: float) -> None:
        """Note what an account took."""
        with self._lock:
            notes, part = self._notes(account), self._part()
            if notes and notes[-1][0] == part:
                amount += notes.pop()[1]
            notes.append((part, amount))
            self._taken[account] = notes
            self._taken.move_to_end(account)
            while len(self._taken) > MOST_ACCOUNTS:
                self._taken.popitem(last=False)

    def minutes(self, account: str) -> int:
        """After how many minutes an account that has nothing left has something again."""
        with self._lock:
            over = sum(amount for _, amount in self._notes(account)) - self.most
            for part, amount in self._notes(account):
                over -= amount
                if over < 0:
                    until = (part + self.PARTS + 1) * self.window / self.PARTS
                    return max(1, math.ceil((until - self.clock()) / 60))
            return 1

    def _part(self) -> int:
        return int(self.clock() * self.PARTS / self.window)

    def _notes(self, account: str) -> deque[tuple[int, float]]:
        notes = self._taken.get(account, deque())
        while notes and notes[0][0] < self._part() - self.PARTS:
            notes.popleft()
        return notes
