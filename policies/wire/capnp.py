"""Reads and writes the three Cap'n Proto messages that PySyft's calls are made of, in Python, every index checked.

The library's own reader frees a message while a failed read still points into it, and the process ends: a call that is
nested too deeply was enough. Here a message becomes plain lists and bytes, and wrong bytes raise `ValueError`. What is
written is one segment, which the library's reader takes.

The format: capnproto.org/encoding.html. Not read here: packed messages, capabilities, lists of structs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

STRUCT, LIST, FAR = 0, 1, 2
BYTES, POINTERS = 2, 6  # sizes of a list's elements
PIECE = 512_000_000  # bytes at most in one of the pieces that PySyft cuts large contents into


class TooMany(ValueError):
    """A list says that it has more elements than its reader takes; none of them was made."""


@dataclass(frozen=True)
class Named:
    """An object of PySyft's: a class's name and version, and either fields or one blob. Names are PySyft's."""

    canonicalName: str  # noqa: N815
    version: int
    fieldsName: list[str]  # noqa: N815
    fieldsData: list[list[bytes]]  # noqa: N815
    nonrecursiveBlob: list[bytes]  # noqa: N815


@dataclass(frozen=True)
class Values:
    """The elements of a list, each in pieces."""

    values: list[list[bytes]]


@dataclass(frozen=True)
class Pairs:
    """Keys, and values in pieces."""

    keys: list[bytes]
    values: list[list[bytes]]


def read_named(blob: bytes) -> Named:
    """An object's parts. Raises `ValueError`."""
    message = _Message(blob)
    names, data, blobs, name = (message.root_pointer(index) for index in range(4))
    return Named(
        canonicalName=message.text(name),
        version=message.root_int32(),
        fieldsName=[message.text(pointer) for pointer in message.pointers(names)],
        fieldsData=[message.pieces(pointer) for pointer in message.pointers(data)],
        nonrecursiveBlob=message.pieces(blobs),
    )


def read_values(blob: bytes, most: int | None = None) -> Values:
    """A list's elements. Raises `ValueError`, `TooMany` for more than `most` of them."""
    message = _Message(blob)
    return Values([message.pieces(pointer) for pointer in message.pointers(message.root_pointer(0), most)])


def read_pairs(blob: bytes, most: int | None = None) -> Pairs:
    """A mapping's keys and values. Raises `ValueError`, `TooMany` for more than `most` of either."""
    message = _Message(blob)
    keys, values = (message.pointers(message.root_pointer(index), most) for index in (0, 1))
    return Pairs([message.data(pointer) for pointer in keys], [message.pieces(pointer) for pointer in values])


def write_named(name: str, *, fields: Sequence[tuple[str, bytes]] = (), blob: bytes | None = None) -> bytes:
    """An object of version 1 as `read_named` reads it: fields in that order, or one blob."""
    parts = [
        _pointers([_text(field) for field, _ in fields]),
        _pointers([_pieces(content) for _, content in fields]),
        _pieces(blob) if blob is not None else _NOTHING,
        _text(name),
    ]
    return _message(parts, number=1)


def write_values(values: Sequence[bytes]) -> bytes:
    """A list's elements as `read_values` reads them."""
    return _message([_pointers([_pieces(value) for value in values])])


def write_pairs(pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A mapping's keys and values as `read_pairs` reads them."""
    keys, values = [_data(key) for key, _ in pairs], [_pieces(value) for _, value in pairs]
    return _message([_pointers(keys), _pointers(values)])


@dataclass(frozen=True)
class _Block:
    """A list: its pointer without the offset, and its whole words, in which pointers count from where they stand."""

    pointer: int
    content: bytes


_NOTHING = _Block(0, b"")  # a pointer that is left out


def _message(parts: list[_Block], number: int | None = None) -> bytes:
    """One segment with one struct, which has at most one number of 32 bits, and these lists."""
    data = b"" if number is None else number.to_bytes(8, "little")
    root = (STRUCT | (len(data) // 8) << 32 | len(parts) << 48).to_bytes(8, "little")
    segment = b"".join((root, data, _placed(parts)))
    return b"".join((bytes(4), (len(segment) // 8).to_bytes(4, "little"), segment))


def _placed(blocks: list[_Block]) -> bytes:
    """Pointers to blocks, and the blocks after them, in order."""
    pointers, at = [], len(blocks)
    for index, block in enumerate(blocks):
        offset = at - index - 1
        if offset >> 29:
            raise ValueError("A message is larger than 4 GiB.")
        pointers.append((block.pointer | (offset << 2 if block.pointer else 0)).to_bytes(8, "little"))
        at += len(block.content) // 8
    return b"".join((*pointers, *(block.content for block in blocks)))


def _pointers(blocks: list[_Block]) -> _Block:
    return _Block(_list(POINTERS, len(blocks)), _placed(blocks))


def _pieces(content: bytes) -> _Block:
    return _pointers([_data(content[at : at + PIECE]) for at in range(0, len(content) or 1, PIECE)])


def _data(content: bytes) -> _Block:
    return _Block(_list(BYTES, len(content)), content + bytes(-len(content) % 8))


def _text(text: str) -> _Block:
    return _data(text.encode() + b"\0")


def _list(element: int, size: int) -> int:
    return LIST | element << 32 | size << 35


Place = tuple[int, int]  # segment, word


class _Message:
    """One message in its segments. What is read is counted, so that parts shared by pointers cannot grow it."""

    def __init__(self, blob: bytes) -> None:
        count = int.from_bytes(blob[:4], "little") + 1
        start = (4 + 4 * count + 7) // 8 * 8
        if len(blob) < 16 or count > 512 or start > len(blob):
            raise ValueError("no message")
        self._segments: list[memoryview] = []
        view = memoryview(blob)
        for index in range(count):
            size = 8 * int.from_bytes(blob[4 + 4 * index : 8 + 4 * index], "little")
            if start + size > len(blob):
                raise ValueError("a segment is cut")
            self._segments.append(view[start : start + size])
            start += size
        self._left = 2 * len(blob) + 1024
        kind, segment, word, pointer = self._follow((0, 0))
        if kind != STRUCT:
            raise ValueError("no struct")
        self._data_words, self._pointer_words = (pointer >> 32) & 0xFFFF, pointer >> 48
        self._root = (segment, word)
        self._bytes(segment, word, 8 * (self._data_words + self._pointer_words))

    def root_pointer(self, index: int) -> Place | None:
        """Where a pointer of the root lies; None for one that is left out."""
        if index >= self._pointer_words:
            return None
        return self._root[0], self._root[1] + self._data_words + index

    def root_int32(self) -> int:
        """The root's one number."""
        if not self._data_words:
            return 0
        return int.from_bytes(self._bytes(*self._root, 8)[:4], "little", signed=True)

    def pointers(self, place: Place | None, most: int | None = None) -> list[Place]:
        """Where the pointers of a list lie, which may be no more than `most`."""
        segment, word, size = self._list(place, POINTERS)
        if most is not None and size > most:
            raise TooMany(f"{size} elements")
        self._bytes(segment, word, 8 * size)
        return [(segment, word + index) for index in range(size)]

    def pieces(self, place: Place | None) -> list[bytes]:
        """A list of bytes."""
        return [self.data(pointer) for pointer in self.pointers(place)]

    def text(self, place: Place | None) -> str:
        """A text, which ends with a zero."""
        return self.data(place).removesuffix(b"\0").decode("utf-8")

    def data(self, place: Place | None) -> bytes:
        """An element of a list of bytes."""
        segment, word, size = self._list(place, BYTES)
        return bytes(self._bytes(segment, word, size))

    def _list(self, place: Place | None, element: int) -> tuple[int, int, int]:
        if place is None or not self._word(*place):
            return 0, 0, 0
        kind, segment, word, pointer = self._follow(place)
        if kind != LIST or (pointer >> 32) & 7 != element:
            raise ValueError("another kind of list")
        return segment, word, pointer >> 35

    def _follow(self, place: Place) -> tuple[int, int, int, int]:
        """What a pointer points at: its kind, segment and word, and the pointer that tells its size."""
        segment, word = place
        pointer = self._word(segment, word)
        if pointer & 3 != FAR:
            return pointer & 3, segment, word + 1 + _offset(pointer), pointer
        landing_segment, landing = pointer >> 32, (pointer >> 3) & 0x1FFFFFFF
        target = self._word(landing_segment, landing)
        if not pointer & 4:
            if target & 3 == FAR:
                raise ValueError("a far pointer to a far pointer")
            return target & 3, landing_segment, landing + 1 + _offset(target), target
        if target & 7 != FAR:
            raise ValueError("a wrong landing")
        tag = self._word(landing_segment, landing + 1)
        return tag & 3, target >> 32, (target >> 3) & 0x1FFFFFFF, tag

    def _word(self, segment: int, word: int) -> int:
        return int.from_bytes(self._bytes(segment, word, 8), "little")

    def _bytes(self, segment: int, word: int, size: int) -> memoryview:
        self._left -= size + 1
        if self._left < 0:
            raise ValueError("parts are shared")
        if segment >= len(self._segments) or word < 0 or 8 * word + size > len(self._segments[segment]):
            raise ValueError("outside of the message")
        return self._segments[segment][8 * word : 8 * word + size]


def _offset(pointer: int) -> int:
    """The signed 30 bits of a near pointer."""
    offset = (pointer >> 2) & 0x3FFFFFFF
    return offset - (1 << 30) if offset >> 29 else offset
