"""Mock rows with their tensors: a data frame whose tensor columns hold arrays, shown as pictures in a notebook.

Tensors of a mock are drawn here, from the schema that the hospital published: nothing of them crosses the wire, and
they are the same at every hospital with that schema.
"""

from __future__ import annotations

import base64
import html
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from policies.schema.schemas import Schema
from policies.schema.tensors import Tensor

MOST_DRAWN = 256  # different ones of a hospital; further rows have them again
MOST_VALUES = 1 << 24  # numbers of them: 64 MiB as float32
SHOWN = 8
SHOWN_PIXELS = 96  # of a picture's longer side, at least


class MockRows(pd.DataFrame):
    """Mock rows in natural units. In a notebook, pictures of the first rows' tensors stand below the table."""

    @property
    def _constructor(self) -> type[MockRows]:
        return MockRows

    def _repr_html_(self) -> str:
        tensors = [name for name in self if _is_tensor(self[name])]
        plain = pd.DataFrame(self).assign(**{str(name): [_said(values) for values in self[name]] for name in tensors})
        parts = [str(plain._repr_html_())]  # type: ignore[operator]
        for name in tensors:
            shown = "".join(_figure(values) for values in self[name].iloc[:SHOWN])
            parts.append(f"<p>{html.escape(str(name))}, made up:</p><p>{shown}</p>")
        return "".join(parts)


def with_tensors(schema: Schema, frame: pd.DataFrame) -> MockRows:
    """A hospital's mock rows with a column for each tensor: float32 arrays in the source's units, or texts of codes."""
    columns: dict[str, Any] = {}
    for tensor in schema.tensors:
        drawn = drawn_mock(tensor, len(frame)) if not tensor.is_codes else _drawn_codes(tensor, len(frame))
        column = np.empty(len(frame), dtype=object)
        for row in range(len(frame)):
            column[row] = drawn[row % len(drawn)]
        columns[tensor.name] = pd.Series(column, index=frame.index)
    return MockRows(frame.assign(**columns))


def drawn_mock(tensor: Tensor, rows: int) -> npt.NDArray[np.float32]:
    """Made-up tensors in the source's units, [at most rows, *shape]."""
    count = max(1, min(rows, MOST_DRAWN, MOST_VALUES // tensor.elements))
    return tensor.natural(tensor.draw_mock(count))


def _drawn_codes(tensor: Tensor, rows: int) -> list[str]:
    return [" ".join(tensor.codes(numbers)) for numbers in tensor.draw_mock(max(1, min(rows, MOST_DRAWN)))]


def _is_tensor(column: pd.Series[Any]) -> bool:
    return len(column) > 0 and isinstance(column.iloc[0], np.ndarray)


def _said(values: npt.NDArray[np.float32]) -> str:
    return " × ".join(map(str, values.shape))


def _figure(values: npt.NDArray[np.float32]) -> str:
    """One tensor as a picture: an image's channels as they are, anything else as rows of grey."""
    low, high = float(values.min()), float(values.max())
    grey = np.asarray((values - low) / ((high - low) or 1.0) * 255, dtype=np.uint8)
    if grey.ndim == 3 and grey.shape[0] == 3:
        picture = np.moveaxis(grey, 0, -1)
    else:
        flat = grey.reshape(-1, grey.shape[-1])
        picture = flat if len(flat) > 1 else np.repeat(flat, 16, axis=0)  # a signal of one channel as a stripe
    encoded = base64.b64encode(png(picture)).decode()
    larger = max(1, SHOWN_PIXELS // max(picture.shape[:2]))
    width, height = picture.shape[1] * larger, picture.shape[0] * larger
    return (
        f'<img src="data:image/png;base64,{encoded}" width="{width}" height="{height}" alt="a made-up tensor"'
        ' style="image-rendering:pixelated;margin:2px">'
    )


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A PNG file of grey [height, width] or RGB [height, width, 3] pixels (ISO/IEC 15948)."""
    height, width = pixels.shape[:2]

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack("!I", len(content)) + kind + content + struct.pack("!I", zlib.crc32(kind + content))

    head = struct.pack("!IIBBBBB", width, height, 8, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    lines = b"".join(b"\0" + line.tobytes() for line in np.ascontiguousarray(pixels))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
