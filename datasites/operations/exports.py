"""Export the whole ledger and the whole audit log, row by row and as CSV, for console and command line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

AT_ONCE = 2000
ENTRY_COLUMNS = (
    "seq",
    "at",
    "kind",
    "actor",
    "population",
    "request",
    "run",
    "divergence",
    "epsilon",
    "details",
    "hash",
)
LOG_COLUMNS = ("seq", "at", "who", "what", "object", "details", "hash")
Act = Callable[..., Any]


def every_entry(act: Act) -> Iterator[dict[str, Any]]:
    """Every entry of the ledger, oldest first, asked for page by page through `act(action, **arguments)`."""
    return _every(act, "entries")


def every_log_row(act: Act) -> Iterator[dict[str, Any]]:
    """Every row of the audit log, oldest first."""
    return _every(act, "search_log")


def _every(act: Act, action: str) -> Iterator[dict[str, Any]]:
    after = 0
    while rows := act(action, after=after, limit=AT_ONCE, newest_first=False):
        yield from rows
        after = rows[-1]["seq"]


def as_csv(rows: Iterator[dict[str, Any]], columns: tuple[str, ...]) -> Iterator[str]:
    """Lines of CSV, with nothing in them that a spreadsheet would run."""
    yield ",".join(columns) + "\r\n"
    for row in rows:
        line = io.StringIO()
        csv.writer(line).writerow([_cell(row[name]) for name in columns])
        yield line.getvalue()


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    text = json.dumps(value, ensure_ascii=False, sort_keys=True) if isinstance(value, dict) else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
