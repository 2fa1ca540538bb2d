"""Writes small SAS tables (`.sas7bdat`, 32 bits, little-endian, not compressed), as far as readers look at them.

The layout is the one that BioStatMatt described (https://cran.r-project.org/package=sas7bdat/vignettes/sas7bdat.pdf).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

MAGIC = bytes.fromhex("000000000000000000000000c2ea8160b31411cfbd92080009c7318c181f1011")
HEADER, PAGE = 1024, 8192
META, DATA = 0x0000, 0x0100
WIDTH = 16  # bytes of a text

Cell = float | str | None


def write_sas(
    path: Path,
    names: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    formats: Sequence[str] | None = None,
    encoding: int = 20,
    row_count: int | None = None,
    page_length: int = PAGE,
) -> Path:
    """A table whose columns are texts where the first row has one, and numbers else.

    Args:
      formats: of each column, such as "DATE" or "DATETIME".
      encoding: SAS's number; 20 is UTF-8.
      row_count: what the file says that it holds.
      page_length: what it says of its pages.
    """
    texts = [isinstance(cell, str) for cell in rows[0]] if rows else [False] * len(names)
    widths = [WIDTH if text else 8 for text in texts]
    offsets = [sum(widths[:place]) for place in range(len(names))]
    packed = [b"".join(_cell(cell, text) for cell, text in zip(row, texts, strict=True)) for row in rows]
    formats = formats or [""] * len(names)
    words = [*names, *formats]
    text = b"\0\0" + b"\0" * 26 + "".join(words).encode()
    starts = [28 + len("".join(words[:place]).encode()) for place in range(len(words))]
    lengths = [len(word.encode()) for word in words]

    row_size = bytearray(500)
    struct.pack_into("<4sIIIIII", row_size, 0, b"\xf7" * 4, 0, 0, 0, 0, sum(widths), row_count or len(rows))
    struct.pack_into("<II", row_size, 36, len(names), 0)
    column_size = struct.pack("<4sII", b"\xf6" * 4, len(names), 0)
    column_text = b"\xfd\xff\xff\xff" + struct.pack("<H", len(text)) + text[2:] + b"\0" * 8
    column_name = bytearray(20 + 8 * len(names))
    attributes = bytearray(20 + 12 * len(names))
    column_name[:4], attributes[:4] = b"\xff\xff\xff\xff", b"\xfc\xff\xff\xff"
    labels = []
    for place in range(len(names)):
        struct.pack_into("<HHH", column_name, 12 + 8 * place, 0, starts[place], lengths[place])
        struct.pack_into("<II", attributes, 12 + 12 * place, offsets[place], widths[place])
        attributes[22 + 12 * place] = 2 if texts[place] else 1
        label = bytearray(64)
        label[:4] = b"\xfe\xfb\xff\xff"
        struct.pack_into("<HHH", label, 34, 0, starts[len(names) + place], lengths[len(names) + place])
        labels.append(bytes(label))
    parts = [bytes(row_size), column_size, column_text, bytes(column_name), bytes(attributes), *labels]
    at_once = (PAGE - 24) // max(1, sum(widths))
    pages = [_meta(parts)]
    pages += [_data(packed[begin : begin + at_once]) for begin in range(0, len(packed), at_once)]
    path.write_bytes(_header(len(pages), encoding, page_length) + b"".join(pages))
    return path


def _cell(cell: Cell, text: bool) -> bytes:
    if text:
        return str(cell or "").encode().ljust(WIDTH)[:WIDTH]
    # A missing number is one of SAS's NaNs; this one is "."
    return struct.pack("<d", cell) if isinstance(cell, int | float) else struct.pack("<Q", 0xFFFF_FE00_0000_0000)


def _header(pages: int, encoding: int, page_length: int) -> bytes:
    header = bytearray(HEADER)
    header[: len(MAGIC)] = MAGIC
    header[32] = header[35] = 0x22
    header[37], header[39], header[70] = 1, ord("1"), encoding
    header[84:92] = b"SAS FILE"
    struct.pack_into("<III", header, 196, HEADER, page_length, pages)
    return bytes(header)


def _meta(parts: Sequence[bytes]) -> bytes:
    page = bytearray(PAGE)
    struct.pack_into("<HHH", page, 16, META, len(parts), len(parts))
    end = PAGE
    for place, part in enumerate(parts):
        end -= -(-len(part) // 8) * 8
        page[end : end + len(part)] = part
        struct.pack_into("<II", page, 24 + 12 * place, end, len(part))
    assert end > 24 + 12 * len(parts), "too many columns for one page"
    return bytes(page)


def _data(rows: Sequence[bytes]) -> bytes:
    page = bytearray(PAGE)
    struct.pack_into("<HHH", page, 16, DATA, len(rows), 0)
    content = b"".join(rows)
    page[24 : 24 + len(content)] = content
    return bytes(page)
