"""Warm parents for tests: an exporter in which the researcher's Python has got past everything, a runner that drew.

python -m tests.attacks.runner.hostile_parent {exporter|runner} SOCKET
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import random
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

from datasites.jobs import child, parent, warming
from datasites.jobs.frames import HEADER


def _own_socket() -> int:
    return next(each for each in range(64) if _kind(each) == "socket")


def _kind(descriptor: int) -> str:
    """What an open file is, by calls that a job may make."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_GETFD)
    except OSError:
        return ""
    peek, not_a_socket = socket.MSG_PEEK | socket.MSG_DONTWAIT, 88
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.recv(descriptor, ctypes.create_string_buffer(1), 1, peek) >= 0 or ctypes.get_errno() != not_a_socket:
        return "socket"
    try:
        return "null" if os.read(descriptor, 1) == b"" and os.write(descriptor, b"x") == 1 else "other"
    except OSError:
        return "other"


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(_own_socket(), data) :]


def _send(length: int, size: int, data: bytes) -> None:
    _write(HEADER.pack(length, size) + data)
    os._exit(0)


def _descriptors() -> dict[str, Any]:
    return {"kinds": [_kind(each) for each in range(1024) if _kind(each)]}


def _dribble() -> None:
    _write(HEADER.pack(1000, 0))
    while True:
        time.sleep(0.1)
        _write(b" ")


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


def _gifts() -> None:
    """Open files sent along, as many as a message takes: Python's own sendmsg needs a socket object, so by hand."""
    text = b'{"event":"done"}'
    data = HEADER.pack(len(text), 0) + text
    buffer = ctypes.create_string_buffer(data, len(data))
    vector = _Vector(ctypes.addressof(buffer), len(data))
    files = struct.pack("=QII", 16 + 4 * 200, socket.SOL_SOCKET, socket.SCM_RIGHTS) + struct.pack("=200i", *[0] * 200)
    control = ctypes.create_string_buffer(files, len(files))
    message = _Message(None, 0, ctypes.addressof(vector), 1, ctypes.addressof(control), len(files), 0)
    sent = ctypes.CDLL(None).sendmsg(_own_socket(), ctypes.byref(message), 0)
    os._exit(0 if sent == len(data) else 1)


def _lies() -> None:
    message = {"event": "done", "graph": [1], "public": {"a": 1}, "output": 7, "protections": "all"}
    text = json.dumps(message).encode()
    _send(len(text), 0, text)


def _shout() -> None:
    text = json.dumps({"event": "failed", "public": "\x1b[2J\n\u202eapproved" + "x" * 10**6}).encode()
    _send(len(text), 0, text)


ATTACKS: dict[str, Callable[[], Any]] = {
    "nothing": dict,
    "descriptors": _descriptors,
    "hang": lambda: time.sleep(1000),
    "exit": lambda: os._exit(3),
    "crash": lambda: ctypes.string_at(0),
    "dribble": _dribble,
    "half": lambda: _send(100, 0, b"{"),
    "endless": lambda: _send(2**32 - 1, 0, b"x" * 100_000),
    "large": lambda: _send(2, 2**32 - 1, b"{}" + b"x" * 100_000),
    "brackets": lambda: _send(3_000_000, 0, b"[" * 3_000_000),
    "digits": lambda: _send(20_008, 0, b'{"a":' + b"9" * 20_002 + b"}"),
    "no text": lambda: _send(4, 0, b"\xff\xfe\xfd\xfc"),
    "no object": lambda: _send(2, 0, b"[]"),
    "lies": _lies,
    "shout": _shout,
    "print": lambda: print("x" * 10**7) or {},
    "gifts": _gifts,
}


def attack(job: dict[str, Any], payload: bytes) -> child.Answer:
    """The attack that the job names."""
    return ATTACKS[job["what"]]() or {}, b""


def draw_everything() -> None:
    """Randomness from every generator that a job might use, and of ours."""
    import numpy as np
    import torch
    from pydp.algorithms.laplacian import Count

    from datasites.engine.noise import NoiseSource

    random.random()
    np.random.default_rng().random()
    np.random.random()
    torch.randn(10)
    NoiseSource.from_os().gaussian_on_grid(10, 1.0, 1.0)
    count = Count(epsilon=1.0, l0_sensitivity=1, linf_sensitivity=1, dtype="int64")
    count.add_entries([1, 2])
    count.result()


def main(kind: str, path: str) -> None:
    """Serve as the real parent does."""
    if kind == "exporter":
        warming.warm_up = lambda kind: None  # type: ignore[assignment]
        child.JOBS["exporter"]["attack"] = (attack, False)
    else:
        warm = warming.warm_up
        warming.warm_up = lambda kind: (warm(kind), draw_everything())[0]  # type: ignore[assignment, func-returns-value]
    parent.main([kind, path])


if __name__ == "__main__":
    main(*sys.argv[1:])
