"""Texts of dates and times: what each means on a column's clock, and what is none."""

from __future__ import annotations

import datetime
import math
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasites.vault.cells import FINE, MALFORMED, fault_text, read_cells
from datasites.vault.times import read_times
from policies.errors import DataRefused
from policies.schema.as_written import UNITS
from policies.schema.columns import Column

DATE = Column(name="x", kind="date", minimum=0, maximum=366, origin="2020-01-01")


def time(truncate: str = "hour", zone: str = "", form: str = "", origin: str = "2020-01-01T00:00:00") -> Column:
    many = 500 * 366 * 86_400 // UNITS[truncate]
    return Column(
        name="x", kind="datetime", minimum=0, maximum=many, origin=origin, truncate=truncate, zone=zone, format=form
    )


def read(column: Column, *texts: str) -> list[float | None]:
    return [None if math.isnan(value) else value for value in read_times(column, pa.array(texts, pa.string()))]


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("2020-01-01T01:00", 1),
        ("2020-01-01 01:59:59", 1),  # truncated, not rounded
        ("2020-01-01 01:59:59.999999", 1),
        ("2020-01-02", 24),
        ("2019-12-31T23:30", -1),
        ("2020-01-01T24:00", None),
        ("2020-01-01T01:60", None),
        ("2020-02-30T01:00", None),
        ("2020-13-01T01:00", None),
        ("2020-00-10T01:00", None),
        ("2020-01-01T01:00Z", None),  # without a zone, an offset says more than the schema does
        ("2020-01-01T01:00+01:00", None),
        ("1.1.2020 01:00", None),
        ("2020-01-01T1:00", None),
        ("2020-01-01T01:00 h", None),
        ("", None),
    ],
)
def test_a_time_is_truncated_to_the_unit_or_is_none(text: str, hours: float | None) -> None:
    assert read(time(), text) == [hours]


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("2019-12-31T23:30Z", 0),  # half past midnight in Berlin
        ("2019-12-31T23:30+00:00", 0),
        ("2019-12-31T18:30-0500", 0),
        ("2020-01-01T00:30", 0),  # on Berlin's clock already
        ("2020-07-01T00:00:00Z", 24 * 182 + 2),  # summer time: two hours ahead
        ("2020-07-01T00:00:00+25:00", None),
        ("2038-07-01T00:00:00Z", 24 * 6756 + 2),  # beyond 2037, where some libraries forget summer time
        ("9999-12-31T23:59:59-12:00", 24 * 2914635 + 11 + 2),
    ],
)
def test_a_time_with_an_offset_is_moved_to_the_zone_of_the_column(text: str, hours: float | None) -> None:
    assert read(time(zone="Europe/Berlin"), text) == [hours]


@given(
    st.datetimes(datetime.datetime(1950, 1, 1), datetime.datetime(2200, 1, 1)),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC"]),
    st.sampled_from(["day", "hour", "minute", "second"]),
)
def test_any_instant_is_read_as_the_standard_library_shows_it(
    instant: datetime.datetime, zone: str, truncate: str
) -> None:
    column = time(truncate, zone, origin="1800-01-01T00:00:00")
    (value,) = read(column, instant.replace(tzinfo=datetime.UTC).isoformat())
    shown = instant.replace(tzinfo=datetime.UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    assert value == (shown - datetime.datetime(1800, 1, 1)) // datetime.timedelta(seconds=column.unit_seconds)


@given(st.dates(datetime.date(1900, 1, 1), datetime.date(2200, 1, 1)))
def test_any_date_is_read_in_iso_and_as_a_format_says(day: datetime.date) -> None:
    wide = Column(name="x", kind="date", minimum=0, maximum=200_000, origin="1800-01-01")
    german = Column(name="x", kind="date", minimum=0, maximum=200_000, origin="1800-01-01", format="%d.%m.%Y")
    days = float((day - datetime.date(1800, 1, 1)).days)
    assert read(wide, day.isoformat()) == [days]
    assert read(german, f"{day.day}.{day.month}.{day.year}", f"{day:%d.%m.%Y}") == [days, days]


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_none(text: str) -> None:
    for column in (time(), time(zone="Europe/Berlin"), time(form="%d/%m/%Y %H:%M"), DATE):
        assert len(read(column, text)) == 1


def test_a_format_with_an_offset_and_without_a_time() -> None:
    assert read(time("day", form="%d/%m/%Y"), "2/1/2020", "2/1/2020 10:00") == [1, None]
    assert read(time("hour", "UTC", "%d/%m/%Y %H:%M"), "1/1/2020 03:00", "1/1/2020 03:00+01:00") == [3, 2]


def test_typed_times_are_read_as_their_texts_are() -> None:
    naive = pa.array([datetime.datetime(2020, 1, 1, 5, 30)], pa.timestamp("us"))
    aware = pa.array(pd.to_datetime(["2019-12-31T23:30Z"]))
    for column, array, hour in ((time(), naive, 5), (time(zone="Europe/Berlin"), aware, 0)):
        values, flags = read_cells(column, array)
        assert (values.tolist(), flags.tolist()) == ([hour], [FINE])
    assert read_cells(time(), aware)[1].tolist() == [MALFORMED]


def test_a_zone_that_no_machine_knows_is_refused() -> None:
    with pytest.raises(DataRefused, match="no time zone 'Mars/Olympus' on this machine"):
        read(time(zone="Mars/Olympus"), "2020-01-01T00:00Z")


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (time(), "is not a time as 2020-01-31 12:00, without an offset (or declare the column's zone)"),
        (time(zone="UTC", form="%d.%m.%Y"), "is not a time as %d.%m.%Y, with or without an offset"),
        (DATE, "is not a date as 2020-01-31"),
    ],
)
def test_a_fault_says_what_is_expected(column: Column, said: Any) -> None:
    assert said in fault_text(column, 2, MALFORMED, "x")
