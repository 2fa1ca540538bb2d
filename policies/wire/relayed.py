"""Frames on the stream between a hospital's dial-out and a coordinator, and between that one and a researcher.

One gRPC method each, of bytes: a kind, the number of the call, and what the kind carries. The dial-out opens its
stream; the coordinator sends `CHALLENGE`, and after `PROOF`, a datasite's statement for that nonce and the
coordinator's address, `WELCOME` and calls. A call is `ASK` (a nonce, for a statement) or `PIECE`s and a `LAST` piece of
sealed bytes; its answer is `PIECE`s and `LAST`, or `FAILED` with a status of HTTP. `CANCEL` ends a call that nobody
waits for.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import IntEnum

ATTACH = "/private.datasites.Coordinator/Attach"  # of a hospital's dial-out
CARRY = "/private.datasites.Coordinator/Carry"  # of a researcher; the metadata have FINGERPRINT, AUTHORIZATION, SILENCE
HOSPITALS = "/private.datasites.Coordinator/Hospitals"  # of a researcher: who has dialled in
FINGERPRINT, AUTHORIZATION, ADDRESS = "datasite", "authorization", "address"
SILENCE = "silence"  # seconds that a call may go without a frame, as text; left out, as long as it may take
PIECE_BYTES = 256 << 10
LARGEST_FRAME = PIECE_BYTES + 1024
MOST_CALLS = 16  # at once over one stream
# Who is gone without a word is noticed within 30 seconds.
KEEPALIVE = [
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", LARGEST_FRAME),
]


def quiet() -> None:
    """Keep gRPC's own lines off standard error; before it is imported. What matters is said by us, in words."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


class Kind(IntEnum):
    CHALLENGE = 1
    PROOF = 2
    ASK = 3
    PIECE = 4
    LAST = 5
    FAILED = 6
    CANCEL = 7
    WELCOME = 8


@dataclass(frozen=True)
class Frame:
    """One message of a stream."""

    kind: Kind
    call: int = 0
    content: bytes = b""

    def to_bytes(self) -> bytes:
        """As it travels."""
        return bytes((self.kind,)) + self.call.to_bytes(8, "big") + self.content

    @classmethod
    def from_bytes(cls, data: bytes) -> Frame:
        """What came. Raises `ValueError` where it is no frame."""
        if not 9 <= len(data) <= LARGEST_FRAME:
            raise ValueError("no frame")
        return cls(Kind(data[0]), int.from_bytes(data[1:9], "big"), data[9:])


def question(kind: Kind, content: bytes) -> list[Frame]:
    """The frames of a nonce (`ASK`), which is one, or of a sealed call (`PIECE`)."""
    return [Frame(kind, 0, content)] if kind is Kind.ASK else pieces(content)


def pieces(content: bytes) -> list[Frame]:
    """Content in frames of bounded size, the last one marked."""
    parts = [content[at : at + PIECE_BYTES] for at in range(0, len(content) or 1, PIECE_BYTES)]
    return [Frame(Kind.PIECE, 0, part) for part in parts[:-1]] + [Frame(Kind.LAST, 0, parts[-1])]
