"""Read a SAS table (`.sas7bdat`) with pandas' reader, piece by piece, in a confined process (`confined_reading`).

Dates and times are those that the file's formats say; SAS's special missing values (.A to .Z) are missing cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from policies.errors import DataRefused
from policies.text import visible

MOST_COLUMNS = 10_000
BYTES_AT_ONCE = 64 << 20
ROWS_AT_ONCE = 50_000


def read_sas(path: Path) -> Iterator[Any]:
    """The table's rows as pyarrow tables of numbers, texts and times. Raises `DataRefused`."""
    try:
        yield from _tables(path)
    except (DataRefused, MemoryError):
        raise
    except UnicodeDecodeError:
        raise DataRefused(
            f"{path.name} holds bytes that are no text in the encoding that it names. Export it as CSV in UTF-8."
        ) from None
    except Exception as error:  # the reader's own, of files that are not what they say
        reason = visible(f"{type(error).__name__}: {error}")[:200]
        raise DataRefused(f"{path.name} cannot be read as a SAS table ({reason}). Export it anew.") from None


def _tables(path: Path) -> Iterator[Any]:
    import pandas as pd
    import pyarrow as pa

    opened: Any = pd.read_sas(path, format="sas7bdat", encoding="infer", chunksize=1, compression=None)
    with opened as reader:
        columns, width = int(reader.column_count), int(reader.row_length)
        if columns > MOST_COLUMNS or columns != len(reader.column_names):
            raise DataRefused(
                f"{path.name} has {columns} columns and names {len(reader.column_names)}; at most {MOST_COLUMNS} are"
                " read. Export those that matter."
            )
        names = [str(name) for name in reader.column_names]
        if len(set(names)) != len(names):
            raise DataRefused(f"{path.name} has two columns of one name. Give each its own.")
        rows = max(1, min(ROWS_AT_ONCE, BYTES_AT_ONCE // max(1, width, 8 * columns)))
        schema: Any = None
        while schema is None or reader._current_row_in_file_index < reader.row_count:
            frame = reader.read(rows)
            if frame.empty and schema is not None:
                break
            arrays = [_array(frame, name, kind) for name, kind in zip(names, reader._column_types, strict=True)]
            piece = pa.Table.from_arrays(arrays, names=names)
            schema = schema or piece.schema
            yield piece.cast(schema)


def _array(frame: Any, name: str, kind: bytes) -> Any:
    import pyarrow as pa

    if name not in frame:
        return pa.array([], pa.string())
    if kind == b"s":
        return pa.array(frame[name].tolist(), pa.string(), from_pandas=True)
    return pa.Array.from_pandas(frame[name])
