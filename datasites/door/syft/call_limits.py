"""Turns at the datasite: how many calls of one account are answered at once, so that nobody takes all the places.

A call holds a thread while it is answered, and a quote or a submission holds it for as long as its model takes to be
exported, which is its author's to choose. Threads and the exporter's places are few and are everybody's, the console's
pages and its health among them. What goes beyond an account's own is refused at once and never waits.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

MOST_CALLS = 8  # of one account at once, of some 40 threads
MOST_EXPORTS = 2  # quotes and submissions among them, of the exporter's 8 places


class NoTurn(Exception):
    """An account has as many calls under way as it may; the text is for the client."""


class Turns:
    """Counts calls under way by account; for all threads of a process."""

    def __init__(self, *, most: int = MOST_CALLS, exports: int = MOST_EXPORTS) -> None:
        self._most = {False: most, True: exports}
        self._under_way: Counter[tuple[str, bool]] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, account: str, *, export: bool = False) -> Iterator[None]:
        """Hold one of an account's turns while something is done. Raises `NoTurn` where all are taken."""
        key = (account, export)
        with self._lock:
            if self._under_way[key] >= self._most[export]:
                what = "quotes and submissions" if export else "calls"
                raise NoTurn(f"You have {self._most[export]} {what} under way. Wait until one of them is answered.")
            self._under_way[key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way[key] -= 1
                if not self._under_way[key]:
                    del self._under_way[key]
