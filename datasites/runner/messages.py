"""Frames between the datasite and a job: JSON with an optional payload of bytes and at most one file descriptor.

Nothing is pickled. Every length is bounded by whoever reads, so neither side can make the other hold more than it said.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

from policies.errors import Unavailable

HEADER = struct.Struct("!II")
LARGEST_JSON = 32 * 1024 * 1024


def send_frame(
    connection: socket.socket, message: dict[str, Any], payload: bytes = b"", *, descriptor: int | None = None
) -> None:
    """Send one frame; with `descriptor`, an open file travels along."""
    body = json.dumps(message, allow_nan=False).encode()
    header = HEADER.pack(len(body), len(payload))
    if descriptor is None:
        connection.sendall(header)
    else:
        socket.send_fds(connection, [header], [descriptor])
    connection.sendall(body)
    if payload:
        connection.sendall(payload)


def receive_frame(
    connection: socket.socket, *, largest_payload: int, with_descriptor: bool = False
) -> tuple[dict[str, Any], bytes, int | None]:
    """The next frame: message, payload, descriptor. Raises `Unavailable` where the other side ended or overstepped."""
    descriptors: list[int] = []
    if with_descriptor:
        header, descriptors, _, _ = socket.recv_fds(connection, HEADER.size, 1)
        header += _receive_exactly(connection, HEADER.size - len(header))
    else:
        header = _receive_exactly(connection, HEADER.size)
    length, size = HEADER.unpack(header)
    if length > LARGEST_JSON or size > largest_payload:
        raise Unavailable(f"A job sent a frame of {length} + {size} bytes; at most {LARGEST_JSON} + {largest_payload}.")
    message = json.loads(_receive_exactly(connection, length))
    if not isinstance(message, dict):
        raise Unavailable("A job sent a frame that is not an object.")
    return message, _receive_exactly(connection, size), descriptors[0] if descriptors else None


def _receive_exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(min(count - len(parts), 1 << 20))
        if not part:
            raise Unavailable("The job ended before its answer was complete.")
        parts += part
    return bytes(parts)
