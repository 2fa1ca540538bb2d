"""Length-prefixed frames over a socket: JSON, an optional payload of bytes, and over a Unix socket one open file.

Nothing is pickled. Every length is bounded by whoever reads, so neither side can make the other hold more than it said.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any

from policies.errors import Unavailable

HEADER = struct.Struct("!II")
LARGEST_JSON = 32 * 1024 * 1024  # of a job: source, plan and schema
LARGEST_ANSWER = 4 * 1024 * 1024  # of what a job says: a graph, or what it printed; read into memory by the datasite


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
    connection: socket.socket,
    *,
    largest_payload: int,
    largest_json: int = LARGEST_JSON,
    with_descriptor: bool = False,
    deadline: float | None = None,
) -> tuple[dict[str, Any], bytes, int | None]:
    """The next frame: message, payload, descriptor.

    Args:
      deadline: on `time.monotonic`, of the whole frame: a job that sends a byte now and then holds nobody longer.

    Raises:
      Unavailable: the other side ended, overstepped a bound or the deadline, or sent no JSON object.
    """
    descriptors: list[int] = []
    if with_descriptor:
        header, descriptors, _, _ = socket.recv_fds(connection, HEADER.size, 1)
        header += _receive_exactly(connection, HEADER.size - len(header), deadline)
    else:
        header = _receive_exactly(connection, HEADER.size, deadline)
    length, size = HEADER.unpack(header)
    if length > largest_json or size > largest_payload:
        raise Unavailable(f"A job sent a frame of {length} + {size} bytes; at most {largest_json} + {largest_payload}.")
    try:
        message = json.loads(_receive_exactly(connection, length, deadline))
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise Unavailable("A job sent a frame that is not an object.")
    return message, _receive_exactly(connection, size, deadline), descriptors[0] if descriptors else None


def _receive_exactly(connection: socket.socket, count: int, deadline: float | None) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        if deadline is not None:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            part = connection.recv(min(count - len(parts), 1 << 20))
        except TimeoutError:
            raise Unavailable("The job took longer than its deadline and was ended.") from None
        except OSError:
            part = b""
        if not part:
            raise Unavailable("The job ended before its answer was complete.")
        parts += part
    return bytes(parts)
