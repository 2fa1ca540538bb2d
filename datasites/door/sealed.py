"""Sealed calls: opened here, in the datasite's own process, so that whoever carries them sees bytes alone.

`/api/v2/sealing` says, signed for the asker's nonce, which key calls are sealed to now; `/api/v2/sealed` takes a sealed
call and answers sealed. What was sealed is then an HTTP request like any other: it passes the gate again, on which only
PySyft's four routes are open to it.

A key for calls lives in memory for an hour or so many calls, and once more as long beside its successor. Each call is
taken once: what was recorded on the way is refused as long as its key lives, and cannot be opened afterwards.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from starlette.types import ASGIApp, Message, Scope

from policies.wire.sealing import ENCAPSULATED, Answer, Call, NotOpened, open_call, state

KEY_SECONDS, KEY_CALLS = 3600.0, 50_000  # after which a key has a successor
REFUSED = "This call is not sealed to a key in use, or came before. Ask for the key and seal it anew."


@dataclass
class _CallKey:
    private: X25519PrivateKey
    made: float
    seen: set[bytes] = field(default_factory=set)  # the encapsulated keys of its calls, which no two share

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes_raw()


class SealedCalls:
    """The keys that calls are sealed to. For all threads of a process.

    Args:
      identity: the datasite's lasting key.
      name: of the hospital, as statements show it.
      clock: gives seconds.
    """

    def __init__(self, identity: Ed25519PrivateKey, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._identity, self._name, self._clock = identity, name, clock
        self._keys: list[_CallKey] = []  # the newest first, two at most
        self._lock = threading.Lock()

    def statement(self, purpose: str, nonce: bytes) -> bytes:
        """A signed statement of the key that calls are sealed to now; for `policies.wire.sealing.check_statement`."""
        with self._lock:
            key = self._newest()
        return state(self._identity, purpose=purpose, nonce=nonce, call_key=key.public, name=self._name)

    def open(self, sealed: bytes) -> Call:
        """The call in sealed bytes, once. Raises `NotOpened`, with the same text for every reason."""
        with self._lock:
            self._forget_old()
            keys = list(self._keys)
        for key in keys:
            try:
                call = open_call(sealed, key.private)
            except NotOpened:
                continue
            if self._is_new(key, sealed[:ENCAPSULATED]):
                return call
            break
        raise NotOpened(REFUSED)

    def _is_new(self, key: _CallKey, encapsulated: bytes) -> bool:
        """Whether a call was not opened before; from now on it was."""
        with self._lock:
            if encapsulated in key.seen or len(key.seen) >= 2 * KEY_CALLS:
                return False
            key.seen.add(encapsulated)
            return True

    def _forget_old(self) -> None:
        before = self._clock() - 2 * KEY_SECONDS
        self._keys = [key for key in self._keys if key.made > before]

    def _newest(self) -> _CallKey:
        self._forget_old()
        now = self._clock()
        newest = self._keys[0] if self._keys else None
        if newest is None or now - newest.made >= KEY_SECONDS or len(newest.seen) >= KEY_CALLS:
            newest = _CallKey(X25519PrivateKey.generate(), now)
            self._keys = [newest, *self._keys[:1]]
        return newest


async def answered(app: ASGIApp, call: Call, outer: Scope) -> Answer:
    """What an app answers to a call that came sealed in the request of `outer`, whose address it has."""
    path, _, query = call.target.partition("?")
    length = str(len(call.body)).encode()
    scope: dict[str, Any] = {
        **{name: outer[name] for name in ("asgi", "http_version", "scheme", "client", "server") if name in outer},
        "type": "http",
        "method": call.method,
        "path": path,
        "raw_path": path.encode("ascii", "replace"),
        "query_string": query.encode("ascii", "replace"),
        "root_path": "",
        "headers": [(b"content-length", length), (b"content-type", call.content_type.encode("ascii", "replace"))],
    }
    status, parts, given = 500, list[bytes](), False

    async def receive() -> Message:
        nonlocal given
        if given:
            return {"type": "http.disconnect"}
        given = True
        return {"type": "http.request", "body": call.body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            parts.append(message.get("body", b""))

    await app(scope, receive, send)
    return Answer(status, b"".join(parts))
