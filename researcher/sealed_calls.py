"""Calls to a hospital that dials out: sealed here, carried by a coordinator, opened in the datasite's own process.

`SealedSession` is to `researcher.client.Datasite` what `researcher.transport.Session` is: one HTTP request and its
answer, bounded in time and size. The key that calls are sealed to is the datasite's own statement, for a nonce that was
drawn here, signed with the key whose words the network file has. So a coordinator can keep calls back, and that is all.
"""

from __future__ import annotations

import json as json_text
import os
from dataclasses import dataclass
from typing import Any, Protocol

from policies.errors import PermissionRefused, Unavailable
from policies.text import visible
from policies.wire.relayed import Frame, Kind
from policies.wire.sealing import (
    FOR_CALLS,
    LARGEST_STATEMENT,
    METHODS,
    NONCE,
    OVERHEAD,
    Answer,
    Call,
    NotOpened,
    check_statement,
    new_answer_key,
    open_answer,
    seal_call,
)
from researcher.transport import LARGEST_ANSWER, seconds_left

SCHEME = "sealed://"
# Why a call was not carried; else a status of HTTP.
ABSENT, GONE, BUSY, SILENT, ANOTHER_KEY = "absent", "gone", "busy", "silent", "409"


class NotCarried(Exception):
    """A coordinator has no answer for a call; `why` is one of the words above, or a status of HTTP."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Gathering:
    """An answer that comes in frames.

    Args:
      largest: bytes that it may have.
    """

    def __init__(self, largest: int) -> None:
        self._largest, self._size, self._parts = largest, 0, list[bytes]()

    def takes(self, frame: Frame) -> bool:
        """Whether this frame was the last. Raises `NotCarried`, or `PermissionRefused` where there are too many."""
        if frame.kind is Kind.FAILED:
            raise NotCarried(visible(frame.content[:20].decode("ascii", "replace")))
        self._parts.append(frame.content)
        self._size += len(frame.content)
        if self._size > self._largest:
            raise PermissionRefused(
                f"More came through the coordinator than the {self._largest:,} bytes that the answer may have. Tell the"
                " hospital."
            )
        return frame.kind is Kind.LAST

    @property
    def content(self) -> bytes:
        return b"".join(self._parts)


class Way(Protocol):
    """What carries frames to a hospital's dial-out and back: a coordinator in this process, or one that stands."""

    def exchange(self, to: bytes, kind: Kind, content: bytes, *, seconds: float, largest: int) -> bytes:
        """The answer to a nonce (`Kind.ASK`) or a sealed call (`Kind.PIECE`).

        Args:
          to: fingerprint of the datasite's key.

        Raises:
          NotCarried: there is no answer.
          Unavailable: not within `seconds`, or the coordinator itself does not answer.
          PermissionRefused: the answer is larger than `largest` bytes.
        """
        ...


@dataclass(frozen=True)
class Reply:
    """An HTTP answer, as `Datasite` reads one."""

    status_code: int
    content: bytes


class SealedSession:
    """A session of one datasite whose calls are sealed. One call at a time.

    Args:
      to: fingerprint of the datasite's key.
      name: what the researcher calls the datasite.
    """

    def __init__(self, way: Way, to: bytes, name: str) -> None:
        self._way, self._to, self._name = way, to, name
        self._call_key: bytes | None = None

    def request(
        self, method: str, url: str, *, data: bytes = b"", json: Any = None, largest: int = LARGEST_ANSWER
    ) -> Reply:
        """One request, its answer read whole.

        Args:
          url: whose path and query are asked for.
          largest: bytes of the answer.

        Raises:
          Unavailable: the hospital has not dialled in, or a fault of the datasite.
          PermissionRefused: an answer that the datasite did not seal, or one that is too large.
        """
        assert method in METHODS
        target = "/" + url.removeprefix(SCHEME).partition("/")[2]
        kind = "application/octet-stream" if json is None else "application/json"
        body = data if json is None else json_text.dumps(json).encode()
        try:
            answer = self._answer(method, target, body, kind, largest)
        except NotOpened as error:
            raise PermissionRefused(
                f"{self._name}: what came through the coordinator was not sealed by the datasite whose words"
                f" network.toml has; it was not used. {error} Tell the hospital, and whoever runs the coordinator."
            ) from None
        except NotCarried as error:
            raise Unavailable(self._why(error.why)) from None
        if answer.status >= 500:
            raise Unavailable(
                f"{self._name} answered with status {answer.status}: something failed there that only its owner can"
                " see. Try again, or tell the owner when it happened."
            )
        return Reply(answer.status, answer.body)

    def _answer(self, method: str, target: str, body: bytes, kind: str, largest: int) -> Answer:
        """Seal and send; once more where the datasite has another key by now, as after a restart.

        That it has may be a relay's lie, and the datasite gets the call twice: it does what a signed call says once.
        """
        for last in (False, True):
            try:
                return self._sent(Call(method, target, body, kind, new_answer_key()), largest)
            except NotCarried as error:
                self._call_key = None
                if last or error.why != ANOTHER_KEY:
                    raise
        raise AssertionError

    def _sent(self, call: Call, largest: int) -> Answer:
        if self._call_key is None:
            self._call_key = self._asked()
        sealed = seal_call(call, self._call_key)
        answer = self._way.exchange(self._to, Kind.PIECE, sealed, seconds=seconds_left(), largest=largest + OVERHEAD)
        return open_answer(answer, call.answer_key)

    def _asked(self) -> bytes:
        """The key that calls are sealed to now."""
        nonce = os.urandom(NONCE)
        content = self._way.exchange(self._to, Kind.ASK, nonce, seconds=seconds_left(), largest=LARGEST_STATEMENT)
        return check_statement(content, purpose=FOR_CALLS, nonce=nonce, of=self._to).call_key

    def _why(self, why: str) -> str:
        known = {
            ABSENT: "has not dialled in to the coordinator. Does `datasite dial-out` run there, and to this address?",
            GONE: "was cut off from the coordinator while it was asked. Try again; nothing is paid for twice.",
            BUSY: "answers as many calls through the coordinator as it takes at once. Try again.",
            SILENT: "has dialled in to the coordinator, and took and sent nothing for as long as a round waits for it.",
        }
        return f"{self._name} {known.get(why, f'was reached, and its datasite answered with status {why}. Try again.')}"
