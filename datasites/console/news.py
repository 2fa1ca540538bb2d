"""What is new, told to open pages as server-sent events: few at a time, and they keep no session alive.

A page that is open hears when something changed and then fetches it itself: all that travels here is a stamp and how
many requests wait. A stream ends with its session, as when somebody signs out or does nothing for too long, and after
`LONGEST` in any case; the browser then asks again, which is no act of a person's either.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool

from datasites.datasite import Datasite
from datasites.people.accounts import Session
from policies.source.statuses import RequestStatus

MOST = 64  # streams in all; other pages ask every few seconds instead
MOST_OF_ONE = 4  # of one session; with one more its oldest ends
LOOK_SECONDS = 1.0
BEAT_SECONDS = 15.0  # a gateway closes what is silent
LONGEST = 600.0

OVER = "event: over\ndata: 1\n\n"
ENOUGH = "event: enough\ndata: 1\n\n"


def stamp(datasite: Datasite) -> str:
    """Changes whenever a page may have something new. Votes that are sealed do not change it."""
    stopped = int(datasite.rounds.stopped.is_set())
    return f"{datasite.ledger.entries.head().seq}.{datasite.audit_log.head().seq}.{stopped}.{datasite.mock_runs.ended}"


def news(datasite: Datasite) -> dict[str, Any]:
    """What the script is told: the stamp, and how many requests wait."""
    return {"stamp": stamp(datasite), "waiting": datasite.ledger.requests.count(RequestStatus.CHECKED)}


@dataclass(eq=False)
class _Stream:
    session: str
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class News:
    """The streams that are open now.

    Args:
      look_seconds: how often the ledger is looked at, once for all streams.
      longest: seconds after which a stream ends.
    """

    def __init__(self, datasite: Datasite, *, look_seconds: float = LOOK_SECONDS, longest: float = LONGEST) -> None:
        self.datasite, self.look_seconds, self.longest = datasite, look_seconds, longest
        self._streams: list[_Stream] = []  # oldest first; touched by the server's loop alone
        self._looked, self._found = -1e9, ""
        self._closed = False

    @property
    def is_full(self) -> bool:
        """Whether no further stream is opened now."""
        return self._closed or len(self._streams) >= MOST

    async def listen(self, session: Session) -> AsyncIterator[str]:
        """The events of one stream, until it ends."""
        if self.is_full:
            yield ENOUGH
            return
        stream = _Stream(session.id_sha256)
        own = [other for other in self._streams if other.session == stream.session]
        if len(own) >= MOST_OF_ONE:
            own[0].ended.set()
            self._streams.remove(own[0])
        self._streams.append(stream)
        try:
            async for event in self._events(stream, session):
                yield event
        finally:
            if stream in self._streams:
                self._streams.remove(stream)

    async def _events(self, stream: _Stream, session: Session) -> AsyncIterator[str]:
        began = said = time.monotonic()
        told = ""
        while True:
            if not await run_in_threadpool(self.datasite.accounts.is_alive, session):
                yield OVER
                return
            newest, now = await self._look(), time.monotonic()
            if newest != told or now - said >= BEAT_SECONDS:
                yield f"data: {newest}\n\n" if newest != told else ":\n\n"
                told, said = newest, now
            if now - began >= self.longest:
                return  # the browser opens another
            try:
                await asyncio.wait_for(stream.ended.wait(), self.look_seconds)
            except TimeoutError:
                continue
            yield ENOUGH
            return

    async def _look(self) -> str:
        """What is new, found out at most once in `look_seconds` for all streams together."""
        if time.monotonic() - self._looked >= 0.9 * self.look_seconds:
            self._looked = time.monotonic()
            self._found = json.dumps(await run_in_threadpool(news, self.datasite))
        return self._found

    def close(self) -> None:
        """End every stream and open no more: the datasite ends. For the server's loop."""
        self._closed = True
        for stream in self._streams:
            stream.ended.set()
