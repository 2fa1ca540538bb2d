"""A coordinator that runs elsewhere, as a way to the hospitals that have dialled in there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from policies.errors import PermissionRefused, Unavailable
from policies.wire.relayed import (
    AUTHORIZATION,
    CARRY,
    FINGERPRINT,
    HOSPITALS,
    KEEPALIVE,
    SILENCE,
    Frame,
    Kind,
    question,
)
from researcher.sealed_calls import GONE, Gathering, NotCarried
from researcher.transport import silence_left

LIST_SECONDS = 10.0


class StandingCoordinator:
    """As `researcher.sealed_calls.Way` says, over gRPC and TLS. For all threads of a process.

    Args:
      address: as "coordinator.example:9443".
      authority: PEM of the authority behind its certificate; None for those that gRPC knows.
      token: that the coordinator asks for.
    """

    def __init__(self, address: str, *, authority: bytes | None, token: str) -> None:
        self.address, self._token = address, token
        self._channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(authority), options=KEEPALIVE)
        self._carry = self._channel.stream_stream(CARRY)
        self._list = self._channel.unary_unary(HOSPITALS)

    def exchange(self, to: bytes, kind: Kind, content: bytes, *, seconds: float, largest: int) -> bytes:
        """As `researcher.sealed_calls.Way` says."""
        metadata = (*self._shown(), (FINGERPRINT, to.hex()), (SILENCE, f"{silence_left():.1f}"))
        with self._errors(seconds):
            call = self._carry(
                (frame.to_bytes() for frame in question(kind, content)), timeout=seconds, metadata=metadata
            )
            try:
                return _gathered(map(Frame.from_bytes, call), largest)
            finally:
                call.cancel()

    def hospitals(self) -> list[tuple[str, str]]:
        """Words and name of each datasite that has dialled in."""
        with self._errors(LIST_SECONDS):
            listed = json.loads(self._list(b"", timeout=LIST_SECONDS, metadata=self._shown()))
            return [(str(words), str(name)) for words, name in listed]

    def _shown(self) -> tuple[tuple[str, str], ...]:
        return ((AUTHORIZATION, f"Bearer {self._token}"),)

    @contextmanager
    def _errors(self, seconds: float) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise self._error(error, seconds) from None
        except (ValueError, TypeError, RecursionError):
            raise Unavailable(
                f"The coordinator at {self.address} sent what none sends. Is the address right?"
            ) from None

    def _error(self, error: grpc.RpcError, seconds: float) -> Unavailable | PermissionRefused:
        code = error.code() if isinstance(error, grpc.Call) else None
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unavailable(f"The hospital did not answer through the coordinator within {seconds:.0f} s.")
        if code is grpc.StatusCode.PERMISSION_DENIED:
            return PermissionRefused(
                f"The coordinator at {self.address} does not accept this token. Is token_file the one it was given?"
            )
        return Unavailable(
            f"The coordinator at {self.address} does not answer ({code.name if code else 'no answer'}). Does"
            " `researcher coordinate` run there, and is ca_file the authority of its certificate?"
        )


def _gathered(frames: Iterator[Frame], largest: int) -> bytes:
    """An answer from its frames."""
    gathering = Gathering(largest)
    for frame in frames:
        if gathering.takes(frame):
            return gathering.content
    raise NotCarried(GONE)
