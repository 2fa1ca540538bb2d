"""Read one sheet of an Excel workbook as texts, piece by piece, in a confined process (`confined_reading`).

A number is written with the decimal sign that the schema declares, a date in ISO 8601. A cell with a formula is
refused: what it last came to may be old, and nobody sees that in the table.
"""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from policies.errors import DataRefused
from policies.schema.as_written import FileFormat
from policies.text import visible

LARGEST_UNPACKED = 4 << 30  # bytes of all parts together
MOST_PARTS = 10_000
MOST_ROWS, MOST_COLUMNS = 1_048_576, 16_384  # of a sheet, in Excel
MOST_SHEETS_LISTED = 20
ROWS_AT_ONCE = 20_000
MOST_FAULTS = 20


def read_workbook(path: Path, file: FileFormat) -> Iterator[Any]:
    """The rows of a sheet below its header, as pyarrow tables of texts; blank rows at the end are left out.

    Raises:
      DataRefused: it is no workbook, has no such sheet, or has cells with formulas or beyond the header.
    """
    try:
        _check_parts(path)
        yield from _tables(path, file)
    except (DataRefused, MemoryError):
        raise
    except Exception as error:  # openpyxl's, zipfile's and expat's own, of files that are not what they say
        while error.__cause__ is not None and isinstance(error.__cause__, Exception):
            error = error.__cause__
        if type(error).__name__ == "EntitiesForbidden":
            raise DataRefused(
                f"{path.name} declares entities of XML, which no spreadsheet writes and which could fill all memory."
                " Ask whoever sent it."
            ) from None
        reason = visible(f"{type(error).__name__}: {error}")[:200]
        raise DataRefused(
            f"{path.name} cannot be read as an Excel workbook ({reason}). Open it and save it anew as .xlsx."
        ) from None


def _check_parts(path: Path) -> None:
    """Refuse an archive that would unpack to more than a table is; no more is unpacked than its index says."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    unpacked = sum(part.file_size for part in parts)
    if len(parts) > MOST_PARTS or unpacked > LARGEST_UNPACKED:
        raise DataRefused(
            f"{path.name} unpacks to {len(parts)} parts of {unpacked} bytes, above {MOST_PARTS} or {LARGEST_UNPACKED}."
            " Save the sheet as CSV or Parquet."
        )


def _tables(path: Path, file: FileFormat) -> Iterator[Any]:
    import openpyxl

    if not openpyxl.DEFUSEDXML:
        raise DataRefused("defusedxml is not installed, without which no workbook is read. Install this program anew.")
    with path.open("rb") as opened:
        book = openpyxl.load_workbook(opened, read_only=True, data_only=False, keep_links=False)
        sheet = _sheet(path, book, file.sheet)
        names = _header(path, sheet, file.skip + 1)
        faults: list[str] = []
        total = 0
        piece: list[tuple[str, ...]] = []
        blank = 0
        rows = sheet.iter_rows(min_row=file.skip + 2, max_row=MOST_ROWS, max_col=min(len(names) + 1, MOST_COLUMNS))
        yield _table(names, [])
        for number, cells in enumerate(rows, start=file.skip + 2):
            if all(cell.value is None for cell in cells):
                blank += 1
                continue
            for place, cell in enumerate(cells):
                if _is_formula(cell):
                    called = repr(names[place]) if place < len(names) else "beyond the header"
                    what = f"row {number}, column {called}: holds a formula, and what it came to may be old"
                elif place == len(names) and cell.value is not None:
                    what = f"row {number} has a cell beyond the header's {len(names)} columns"
                else:
                    continue
                total += 1
                if len(faults) < MOST_FAULTS:
                    faults.append(what)
            piece.extend([("",) * len(names)] * blank)
            blank = 0
            piece.append(tuple(_text(cell.value, file.decimal) for cell in cells[: len(names)]))
            if len(piece) >= ROWS_AT_ONCE:
                yield _table(names, piece)
                piece = []
        yield _table(names, piece)
    if total:
        listed = "\n".join(faults)
        raise DataRefused(
            f"{path.name} has {total} cell(s) that cannot be published. Paste values in place of formulas, and give"
            f" each column a header.\n{listed}",
            faults=tuple(faults),
            total=total,
        )


def _sheet(path: Path, book: Any, wanted: str) -> Any:
    sheets = {sheet.title: sheet for sheet in book.worksheets}
    if wanted in sheets:
        return sheets[wanted]
    listed = ", ".join(repr(visible(title)) for title in islice(sheets, MOST_SHEETS_LISTED)) or "none"
    if wanted:
        raise DataRefused(f"{path.name} has no sheet {wanted!r}. It has {listed}.")
    if len(sheets) != 1:
        raise DataRefused(
            f"{path.name} has {len(sheets)} sheets: {listed}. Declare one, as sheet = '...' under [file]."
        )
    return next(iter(sheets.values()))


def _header(path: Path, sheet: Any, row: int) -> list[str]:
    """Column names in the header row, up to the last one that is there."""
    cells = next(iter(sheet.iter_rows(min_row=row, max_row=row, max_col=MOST_COLUMNS)), ())
    names = [_text(cell.value, ".").strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise DataRefused(
            f"{path.name} has no header in row {row}. Name the columns there, or declare skip under [file]."
        )
    for place, name in enumerate(names):
        if not name or _is_formula(cells[place]):
            raise DataRefused(
                f"{path.name} has no plain header above column {place + 1}, in row {row}. Write one there."
            )
    return names


def _is_formula(cell: Any) -> bool:
    return bool(cell.data_type == "f")


def _text(value: Any, decimal: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return (str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)).replace(".", decimal)
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ")
    return str(value)


def _table(names: list[str], rows: list[tuple[str, ...]]) -> Any:
    import pyarrow as pa

    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    return pa.Table.from_arrays([pa.array(column, pa.string()) for column in columns], names=names)
