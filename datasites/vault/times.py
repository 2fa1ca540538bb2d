"""Read texts of dates and times to matrix units: the units of a column since its declared minimum.

A time is read as a clock shows it. Where the column declares a zone, a text with another offset is moved to that zone's
clock first, so that 23:30Z of New Year's Eve is a new year in Berlin; one without an offset is on that clock already.
Of the hour that a clock shows twice in autumn, both count as the same hour.
"""

from __future__ import annotations

import datetime
import zoneinfo
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.errors import DataRefused
from policies.schema.as_written import format_pattern
from policies.schema.columns import Column, FloatArray

DATE = r"(?P<Y>\d{4})-(?P<m>\d{2})-(?P<d>\d{2})"
CLOCK = r"(?:[T ](?P<H>\d{2}):(?P<M>\d{2})(?::(?P<S>\d{2})(?:[.,]\d{1,9})?)?)?"
OFFSET = r"(?: ?(?P<zulu>Z|z)| ?(?P<sign>[+-])(?P<oh>\d{2}):?(?P<om>\d{2}))?"
MIDNIGHT = r"(?:[T ]00:00(?::00(?:\.0+)?)?)?"

QUARTER = 900
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_EARLIEST, _LATEST = (
    int((datetime.datetime(year, 6, 1, tzinfo=datetime.UTC) - EPOCH).total_seconds()) for year in (1, 9999)
)

Whole = npt.NDArray[np.int64]


def read_times(column: Column, texts: Any) -> FloatArray:
    """Matrix units of each text of a date or datetime column, NaN where it is none.

    Where the column has a format, ISO 8601 is read besides: so are a typed file's dates among texts.

    Raises `DataRefused` where this machine does not know the column's zone.
    """
    offset = OFFSET if column.kind == "datetime" else ""
    usual = _read(column, texts, f"^{DATE}{CLOCK if column.kind == 'datetime' else MIDNIGHT}{offset}$")
    if not column.format:
        return usual
    written = _read(column, texts, format_pattern("format", column.format).removesuffix("$") + offset + "$")
    return np.where(np.isnan(written), usual, written)


def _read(column: Column, texts: Any, pattern: str) -> FloatArray:
    """Matrix units of each text that a pattern with a group per part matches and that is a time, NaN of others."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = pc.extract_regex(texts, pattern)
    found = parts.is_valid().to_numpy(zero_copy_only=False)
    names = {field.name for field in parts.type}

    def number(name: str) -> Whole:
        if name not in names:
            return np.zeros(len(texts), dtype=np.int64)
        digits = pc.struct_field(parts, name)
        digits = pc.if_else(pc.fill_null(pc.equal(digits, ""), True), "0", digits)
        return np.asarray(pc.cast(digits, pa.int64()).to_numpy(zero_copy_only=False), dtype=np.int64)

    def stands(name: str, text: str) -> npt.NDArray[np.bool_]:
        if name not in names:
            return np.zeros(len(texts), dtype=np.bool_)
        there = pc.fill_null(pc.equal(pc.utf8_upper(pc.struct_field(parts, name)), text), False)
        return np.asarray(there.to_numpy(zero_copy_only=False), dtype=np.bool_)

    days, is_date = _days(number("Y"), number("m"), number("d"))
    hours, minutes, seconds = number("H"), number("M"), number("S")
    fine = found & is_date & (hours < 24) & (minutes < 60) & (seconds < 60)
    clock = days * 86_400 + hours * 3_600 + minutes * 60 + seconds
    if column.kind == "datetime":
        east, west, zulu = stands("sign", "+"), stands("sign", "-"), stands("zulu", "Z")
        with_offset = east | west | zulu
        ahead = (number("oh") * 3_600 + number("om") * 60) * np.where(west, -1, 1)
        fine &= (number("oh") < 24) & (number("om") < 60)
        if not column.zone:
            fine &= ~with_offset
        else:
            moved = fine & with_offset
            clock[moved] = _on_clock_of(column, clock[moved] - ahead[moved])
    unit = column.unit_seconds
    begin = int(np.datetime64(column.origin, "s").astype(np.int64)) // unit
    return np.where(fine, (clock // unit - begin).astype(np.float64), np.nan)


def _days(year: Whole, month: Whole, day: Whole) -> tuple[Whole, npt.NDArray[np.bool_]]:
    """Days since 1970 of each date, and whether there is such a date."""
    fine = (month >= 1) & (month <= 12) & (year >= 1)
    months = np.where(fine, (year - 1970) * 12 + month - 1, 0)
    first, after = (
        part.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) for part in (months, months + 1)
    )
    fine &= (day >= 1) & (day <= after - first)
    return first + day - 1, fine


def _on_clock_of(column: Column, instants: Whole) -> Whole:
    """What the clock of the column's zone shows at each instant, both in seconds since 1970.

    A zone is asked once for each quarter of an hour: no zone has changed its clock within one for a century.
    """
    try:
        zone = zoneinfo.ZoneInfo(column.zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise DataRefused(
            f"Column {column.name!r}: there is no time zone {column.zone!r} on this machine. Write it as"
            " 'Europe/Berlin'."
        ) from None
    quarters, places = np.unique(instants // QUARTER, return_inverse=True)
    ahead = np.array([_offset(zone, int(quarter) * QUARTER) for quarter in quarters], dtype=np.int64)
    return np.asarray(instants + ahead[places], dtype=np.int64)


def _offset(zone: zoneinfo.ZoneInfo, instant: int) -> int:
    """Seconds by which a zone's clock is ahead; of years that no calendar has, those of the nearest that has."""
    moment = EPOCH + datetime.timedelta(seconds=min(max(instant, _EARLIEST), _LATEST))
    return round((moment.astimezone(zone).utcoffset() or datetime.timedelta()).total_seconds())
