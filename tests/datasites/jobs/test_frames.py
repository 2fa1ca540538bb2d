"""Frames between a datasite and a job: whole, bounded, in time, with at most one open file."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from datasites.jobs.frames import HEADER, receive_frame, send_frame
from policies.errors import Unavailable

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


@pytest.mark.parametrize("message", [{}, {"event": "ready", "text": "ε \n\0"}, {"nested": [{"a": None}, 1.5, True]}])
@pytest.mark.parametrize("payload", [b"", b"\0" * 10, os.urandom(100_000)], ids=len)
def test_a_frame_arrives_as_it_was_sent(pair: Pair, message: dict[str, Any], payload: bytes) -> None:
    sending = threading.Thread(target=send_frame, args=(pair[0], message, payload))
    sending.start()
    assert receive_frame(pair[1], largest_payload=len(payload)) == (message, payload, None)
    sending.join()


def test_frames_that_follow_each_other_are_told_apart(pair: Pair) -> None:
    for number in range(3):
        send_frame(pair[0], {"number": number}, bytes([number]) * number)
    for number in range(3):
        assert receive_frame(pair[1], largest_payload=10) == ({"number": number}, bytes([number]) * number, None)


def test_an_open_file_travels_along_where_it_is_awaited(pair: Pair) -> None:
    file = os.memfd_create("test")
    os.write(file, b"rows")
    send_frame(pair[0], {"shape": [1, 1]}, descriptor=file)
    message, _, received = receive_frame(pair[1], largest_payload=0, with_descriptor=True)
    assert message == {"shape": [1, 1]}
    assert received is not None
    assert received != file
    assert os.pread(received, 10, 0) == b"rows"
    os.close(file)
    os.close(received)


def test_a_frame_without_a_file_says_so(pair: Pair) -> None:
    send_frame(pair[0], {})
    assert receive_frame(pair[1], largest_payload=0, with_descriptor=True)[2] is None


@pytest.mark.parametrize(
    ("length", "size", "bounds"),
    [
        (101, 0, {"largest_payload": 0, "largest_json": 100}),
        (2, 1, {"largest_payload": 0}),
        (2**32 - 1, 0, {"largest_payload": 0}),
        (2, 2**32 - 1, {"largest_payload": 1 << 20}),
    ],
)
def test_a_frame_above_a_bound_is_refused_by_its_header(
    pair: Pair, length: int, size: int, bounds: dict[str, int]
) -> None:
    pair[0].sendall(HEADER.pack(length, size))  # and nothing after it: the bound is looked at first
    with pytest.raises(Unavailable, match=f"{length} \\+ {size} bytes; at most"):
        receive_frame(pair[1], **bounds)  # type: ignore[arg-type]


def test_a_frame_at_its_bounds_is_taken(pair: Pair) -> None:
    body = b'{"a":1}'
    pair[0].sendall(HEADER.pack(len(body), 3) + body + b"abc")
    assert receive_frame(pair[1], largest_payload=3, largest_json=len(body)) == ({"a": 1}, b"abc", None)


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b'"text"', b"null", b"{", b"\xff", b"[" * 100_000, b"{} {}"])
def test_what_is_no_object_is_refused(pair: Pair, body: bytes) -> None:
    pair[0].sendall(HEADER.pack(len(body), 0) + body)
    with pytest.raises(Unavailable, match="not an object"):
        receive_frame(pair[1], largest_payload=0)


@pytest.mark.parametrize("sent", [b"", HEADER.pack(2, 0)[:5], HEADER.pack(2, 0) + b"{", HEADER.pack(2, 2) + b"{}x"])
@pytest.mark.parametrize("with_descriptor", [False, True])
def test_a_frame_that_is_cut_off_is_refused(pair: Pair, sent: bytes, with_descriptor: bool) -> None:
    pair[0].sendall(sent)
    pair[0].close()
    with pytest.raises(Unavailable, match="ended before"):
        receive_frame(pair[1], largest_payload=10, with_descriptor=with_descriptor)


def test_the_deadline_is_of_the_whole_frame_however_often_a_byte_comes(pair: Pair) -> None:
    over = threading.Event()

    def dribble() -> None:
        pair[0].sendall(HEADER.pack(1000, 0))
        while not over.wait(0.05):
            pair[0].sendall(b" ")

    sending = threading.Thread(target=dribble)
    sending.start()
    begin = time.monotonic()
    with pytest.raises(Unavailable, match="deadline"):
        receive_frame(pair[1], largest_payload=0, deadline=begin + 0.5)
    assert 0.4 < time.monotonic() - begin < 5
    over.set()
    sending.join()


def test_numbers_that_json_does_not_have_are_not_sent(pair: Pair) -> None:
    with pytest.raises(ValueError, match="JSON"):
        send_frame(pair[0], {"loss": float("nan")})
