"""Private rows on their way to a job: as open files on this machine, as a stream of bytes to another one.

A stream is as long as public facts say, whatever the table holds: columns and tensors of its schema, for a number of
records that the operator has set. What the rows leave of it is zeros. So neither who watches the wire nor who watches
the clock learns how many rows there are. How many there are is said inside the stream.
"""

from __future__ import annotations

import fcntl
import math
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from datasites.jobs.frames import send_frame
from policies.errors import Unavailable

COUNTS = struct.Struct("!QQQ")  # records, patients in training, patients held out
CHUNK = 1 << 20
MOST_COLUMNS, MOST_RECORDS, MOST_TENSORS = 100_000, 10**9, 64
SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
DTYPES = ("|u1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8", "|i1", "|b1", "<u2", "<u4")


class TensorFile(Protocol):
    """A tensor of those rows: an open file that holds it from `begin` on, entry i of row i."""

    @property
    def name(self) -> str: ...
    @property
    def descriptor(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def begin(self) -> int: ...
    @property
    def size(self) -> int: ...


class SealedRows(Protocol):
    """What is handed to a job of private rows: an open, sealed file, float64 of `shape`, little-endian, by rows.

    After them, where `patients` has two numbers, stands where each patient's rows begin (`engine.matrix.GroupedRows`).
    """

    @property
    def descriptor(self) -> int: ...

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def patients(self) -> tuple[int, ...]: ...
    @property
    def tensors(self) -> Sequence[TensorFile]: ...


def hand_over(connection: socket.socket, rows: SealedRows) -> None:
    """Send rows to a job on this machine, as descriptors. Raises `OSError` where it has ended."""
    tensors = [
        {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape), "begin": tensor.begin}
        for tensor in rows.tensors
    ]
    message = {"shape": list(rows.shape), "patients": list(rows.patients), "tensors": tensors}
    send_frame(connection, message, descriptor=rows.descriptor)
    for tensor in rows.tensors:
        send_frame(connection, {}, descriptor=tensor.descriptor)


@dataclass(frozen=True)
class PublicTime:
    """When what comes of rows may be seen: `first` on this machine's steady clock, then every so many seconds."""

    first: float
    every: float


# -- as a stream -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entries:
    """A tensor as its schema declares it: what one record has of it.

    Args:
      dtype: numpy's, little-endian, as "<f4".
      shape: of one record.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """What one record takes."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """What rows are like, by public facts alone; how long their stream is follows from it.

    Args:
      columns: of the matrix, the patient's code and side included.
      grouped: whether places of patients come with it.
      tensors: those that the job reads.
    """

    columns: int
    grouped: bool = True
    tensors: tuple[Entries, ...] = ()

    @classmethod
    def of(cls, rows: SealedRows) -> Layout:
        """The layout of rows as they are, all of their tensors included."""
        tensors = (Entries(each.name, each.dtype, tuple(each.shape[1:])) for each in rows.tensors)
        return cls(rows.shape[1], bool(rows.patients), tuple(tensors))

    def size(self, records: int) -> int:
        """Bytes of the stream of so many records."""
        matrix = 8 * self.columns * records
        places = _place_bytes(records) * (records + 2) if self.grouped else 0
        return COUNTS.size + matrix + places + sum(each.bytes for each in self.tensors) * records

    def as_dict(self) -> dict[str, Any]:
        """For a frame."""
        tensors = [[each.name, each.dtype, list(each.shape)] for each in self.tensors]
        return {"columns": self.columns, "grouped": self.grouped, "tensors": tensors}

    @classmethod
    def from_dict(cls, value: Any) -> Layout:
        """From a frame. Raises `Unavailable` for what is none."""
        try:
            columns, grouped, tensors = value["columns"], value["grouped"], value["tensors"]
            entries = tuple(Entries(name, dtype, tuple(shape)) for name, dtype, shape in tensors)
            numbers = [columns, *(size for each in entries for size in each.shape)]
            sound = (
                all(type(number) is int and 0 < number <= MOST_COLUMNS for number in numbers)
                and type(grouped) is bool
                and len(entries) <= MOST_TENSORS
                and all(isinstance(each.name, str) and each.dtype in DTYPES for each in entries)
            )
        except (KeyError, TypeError, ValueError):
            sound = False
        if not sound:
            raise Unavailable("A stream of rows was announced that no table has.")
        return cls(columns, grouped, entries)


def _place_bytes(records: int) -> int:
    return 4 if records < 2**31 else 8  # as `engine.matrix.dtype_of_places`


def _sizes(layout: Layout, records: int, patients: Sequence[int]) -> tuple[int, list[int]]:
    """Bytes of the matrix with its places, and of each tensor."""
    places = sum(_place_bytes(records) * (number + 1) for number in patients)
    return 8 * layout.columns * records + places, [each.bytes * records for each in layout.tensors]


def send_stream(
    connection: socket.socket,
    layout: Layout,
    records: int,
    rows: SealedRows | None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Send rows as a stream of `layout.size(records)` bytes, or as many zeros; `check` may end it between two chunks.

    Raises:
      Unavailable: there are more rows than `records`, or their file is shorter than they are; what `check` raises.
      OSError: the other side has ended.
    """
    stream = _Steady(connection, layout.size(records), check)
    if rows is not None:
        if rows.shape[0] > records:
            raise Unavailable("There are more records than are sent to a runner elsewhere. Raise runner_records.")
        patients = rows.patients
        assert bool(patients) == layout.grouped
        stream.write(COUNTS.pack(rows.shape[0], *(patients or (0, 0))))
        files = {tensor.name: tensor for tensor in rows.tensors}
        matrix, sizes = _sizes(layout, rows.shape[0], patients)
        parts = [(rows.descriptor, 0, matrix)]
        for entries, size in zip(layout.tensors, sizes, strict=True):
            parts.append((files[entries.name].descriptor, files[entries.name].begin, size))
        for part in parts:
            for chunk in _chunks(*part):
                stream.write(chunk)
    stream.fill_up()


class _Steady:
    """Sends `size` bytes in pieces of one length, however they come: TLS shows on the wire where a piece ends."""

    def __init__(self, connection: socket.socket, size: int, check: Callable[[], None]) -> None:
        self._connection, self._left, self._check = connection, size, check
        self._held = bytearray()

    def write(self, content: bytes) -> None:
        self._held += content
        while len(self._held) >= CHUNK:
            self._send(bytes(self._held[:CHUNK]))
            del self._held[:CHUNK]

    def fill_up(self) -> None:
        """Send what is left, and zeros after it."""
        while self._left:
            size = min(CHUNK, self._left)
            self._send(bytes(self._held).ljust(size, b"\0"))
            self._held.clear()

    def _send(self, piece: bytes) -> None:
        self._check()
        self._connection.sendall(piece)
        self._left -= len(piece)


def _chunks(descriptor: int, begin: int, size: int) -> Iterator[bytes]:
    done = 0
    while done < size:
        chunk = os.pread(descriptor, min(CHUNK, size - done), begin + done)
        if not chunk:
            raise Unavailable("A file of private rows is shorter than they are. Publish the table again.")
        done += len(chunk)
        yield chunk


@dataclass
class ReceivedTensor:
    """A tensor that came as a stream, in a sealed file in memory."""

    name: str
    descriptor: int
    dtype: str
    shape: tuple[int, ...]
    size: int
    begin: int = 0


@dataclass
class ReceivedRows:
    """Rows that came as a stream, in sealed files in memory. They have no telling `repr`."""

    descriptor: int
    shape: tuple[int, int]
    patients: tuple[int, ...]
    tensors: list[ReceivedTensor] = field(default_factory=list)

    def __repr__(self) -> str:
        return "ReceivedRows(…)"


@contextmanager
def received_stream(connection: socket.socket, layout: Layout, records: int) -> Iterator[ReceivedRows]:
    """The rows of a stream, which live as long as the `with` and, in a job that was handed them, as that job.

    They are written to memory as they come, and what fills the stream up is thrown away.

    Raises `Unavailable` where the stream ends early or says of itself what does not fit.
    """
    buffer = memoryview(bytearray(CHUNK))
    _fill(connection, buffer[: COUNTS.size])
    count, *sides = COUNTS.unpack(buffer[: COUNTS.size])
    patients = tuple(sides) if layout.grouped else ()
    if count > records or sum(sides) > count or (any(sides) and not layout.grouped):
        raise Unavailable("A stream of rows says of itself what does not fit.")
    opened: list[int] = []
    try:
        matrix, sizes = _sizes(layout, count, patients)
        for size in (matrix, *sizes):
            opened.append(os.memfd_create("rows", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
            _write_from(connection, buffer, size, opened[-1])
            fcntl.fcntl(opened[-1], fcntl.F_ADD_SEALS, SEALS)
        _write_from(connection, buffer, layout.size(records) - COUNTS.size - matrix - sum(sizes), None)
        tensors = [
            ReceivedTensor(each.name, descriptor, each.dtype, (count, *each.shape), size)
            for each, descriptor, size in zip(layout.tensors, opened[1:], sizes, strict=True)
        ]
        yield ReceivedRows(opened[0], (count, layout.columns), patients, tensors)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def discard_stream(connection: socket.socket, layout: Layout, records: int) -> None:
    """Take a stream and keep nothing. Raises `Unavailable` where it ends early."""
    _write_from(connection, memoryview(bytearray(CHUNK)), layout.size(records), None)


def _write_from(connection: socket.socket, buffer: memoryview, size: int, descriptor: int | None) -> None:
    while size:
        part = buffer[: min(size, len(buffer))]
        _fill(connection, part)
        if descriptor is not None:
            written = 0
            while written < len(part):
                written += os.write(descriptor, part[written:])
        size -= len(part)


def _fill(connection: socket.socket, part: memoryview) -> None:
    done = 0
    while done < len(part):
        try:
            count = connection.recv_into(part[done:])
        except OSError:
            count = 0
        if not count:
            raise Unavailable("A stream of rows ended early.")
        done += count
