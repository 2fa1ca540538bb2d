"""When rounds under way may show: public times, told to whoever asks.

A round shows at a whole multiple of a public time from its beginning on, and at no other moment. What is told here is
how long it is until the next one: a figure of the plan, the published size and the clock, whether its job is done or
not. So a client asks twice, once to begin and once when the release is there.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

BEGINS_WITHIN = 1.0  # seconds that an answer waits to be able to tell a time: for a rehearsal, or for rounds before it
LATE = 0.1  # seconds after a public time within which its round may still be about to show: clocks and threads are late
WRITTEN_WITHIN = 2.0  # seconds that an answer waits for a release that is being written


@dataclass
class _Time:
    """When a round began, by the wall and by the steady clock, and the public time of which it shows at a multiple."""

    began: float
    started: float
    seconds: float
    has_come: bool = False


class PublicTimes:
    """The public times of rounds under way, by run. Safe to use from many threads."""

    def __init__(self) -> None:
        self._times: dict[str, _Time] = {}
        self._changed = threading.Condition()

    def begin(self, run: str, seconds: float) -> None:
        """A run begins now and shows at a multiple of `seconds`; 0 where it shows as soon as it is done."""
        with self._changed:
            self._times[run] = _Time(time.time(), time.monotonic(), seconds)
            self._changed.notify_all()

    def come(self, run: str) -> None:
        """The time of a run has come: it is written and shows."""
        with self._changed:
            if run in self._times:
                self._times[run].has_come = True
            self._changed.notify_all()

    def end(self, run: str) -> None:
        """A run is over."""
        with self._changed:
            self._times.pop(run, None)
            self._changed.notify_all()

    def progress(self, run: str) -> dict[str, float] | None:
        """When a run under way began and after how many seconds it most likely shows: for the owner."""
        with self._changed:
            known = self._times.get(run)
            return {"began": known.began, "seconds": known.seconds} if known and known.seconds else None

    def shows_in(self, run: str) -> float | None:
        """Seconds until a run may show; None where that is not known yet, or no public time is kept.

        Waits a little for a run that is about to begin.
        """
        with self._changed:
            self._changed.wait_for(lambda: run in self._times, BEGINS_WITHIN)
            known = self._times.get(run)
            if known is None or not known.seconds:
                return None
            elapsed = time.monotonic() - known.started
            return known.seconds - elapsed % known.seconds

    def wait_where_due(self, run: str) -> None:
        """Where a public time of a run has just come, wait until its release is written, if this is its time."""
        with self._changed:
            known = self._times.get(run)
            if known is None or not (known.has_come or _is_late(known)):
                return
            self._changed.wait_for(lambda: run not in self._times or known.has_come, LATE)
            if known.has_come:
                self._changed.wait_for(lambda: run not in self._times, WRITTEN_WITHIN)


def _is_late(known: _Time) -> bool:
    elapsed = time.monotonic() - known.started
    return elapsed >= known.seconds > 0 and elapsed % known.seconds < LATE
