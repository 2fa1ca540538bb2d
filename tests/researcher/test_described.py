"""Columns described from one histogram: true figures, errors that hold, dates and units as people read them."""

from __future__ import annotations

import datetime
import re

import numpy as np
import pandas as pd
import pytest

from datasites.engine import statistics
from datasites.engine.noise import NoiseSource
from policies.errors import InvalidRequest
from policies.privacy.mechanisms import Query
from policies.schema.columns import Column
from researcher.described import Described, described
from researcher.estimates import read_statistics
from researcher.figures import Cells, Estimate
from researcher.groups import Grouped
from tests.researcher.statistic_samples import DESCRIBED, EVERYTHING, SCHEMA, asked, result, rows


def test_every_column_is_a_row_with_its_unit_and_dates_are_dates() -> None:
    frame = result(asked(epsilon=50.0, bins=50), sizes=(6000, 2000)).describe()
    assert frame.index.tolist() == [
        "age (years)",
        "lactate (mmol/l)",
        "ward",
        "admitted (date)",
        "died",
        "seen (datetime)",
    ]
    truth = np.vstack([rows(6000, 0), rows(2000, 1)])
    age, lactate, admitted = truth[:, 2], truth[:, 3], truth[:, 5]
    assert frame.loc["age (years)", "mean"] == pytest.approx(age.mean(), abs=0.3)
    assert frame.loc["age (years)", "sd"] == pytest.approx(age.std(), rel=0.05)
    assert frame.loc["age (years)", "50%"] == pytest.approx(np.median(age), abs=1)
    assert frame.loc["lactate (mmol/l)", "missing"] == pytest.approx(np.isnan(lactate).sum(), abs=10)
    assert frame.loc["lactate (mmol/l)", "records"] == pytest.approx(np.isfinite(lactate).sum(), abs=60)
    assert frame.loc["lactate (mmol/l)", "mean"] == pytest.approx(np.nanmean(lactate), abs=0.2)
    middle = datetime.date(2025, 10, 1) + datetime.timedelta(days=float(np.nanmean(admitted)))
    assert abs((frame.loc["admitted (date)", "mean"] - middle).days) <= 3
    assert frame.loc["admitted (date)", "25%"] < frame.loc["admitted (date)", "50%"]
    assert frame.loc["ward", "most common"].startswith("emergency ")
    assert pd.isna(frame.loc["ward", "mean"])
    assert pd.isna(frame.loc["age (years)", "missing"])  # none is allowed


def test_by_groups_there_is_a_row_for_each() -> None:
    found = result(asked(group_by={"ward": [], "age": [65]}, bins=20))
    frame = found.describe()
    assert frame.index.names == ["ward", "age", "column"]
    assert len(frame) == 6 * len(DESCRIBED)
    assert ("intensive", "from 65 years", "died") in frame.index
    assert found.describe("rural").index.equals(frame.index)
    with pytest.raises(InvalidRequest, match="No answer of 'urban'"):
        found.describe("urban")
    with pytest.raises(InvalidRequest, match="describes a column"):
        result(asked((Query("count"),))).describe()


@pytest.mark.parametrize(("patients", "epsilon"), [(400, 4.0), (3000, 1.0)])
def test_intervals_of_what_is_described_cover(patients: int, epsilon: float) -> None:
    mechanism = asked(DESCRIBED[:4], epsilon=epsilon, bins=20)
    hits: dict[str, list[bool]] = {"mean": [], "quartile": [], "missing": [], "records": [], "share": []}
    large = rows(400_000, 99)
    for run in range(60):
        table = rows(patients, run)
        release = statistics.answer(mechanism, SCHEMA, table, NoiseSource.from_os())
        read = read_statistics(release, mechanism, SCHEMA, patients=patients)
        for place, name in ((2, "age"), (3, "lactate"), (5, "admitted")):
            cells, truth = read[f"describe/{name}"], large[:, place]
            assert isinstance(cells, Cells)
            found = described(cells, SCHEMA.column(name), mechanism.bins)
            assert found.mean is not None
            low, high = found.mean.interval
            hits["mean"].append(low <= np.nanmean(truth) <= high)
            for (_, first, last), true in zip(found.quantiles, np.nanquantile(truth, [0.25, 0.5, 0.75]), strict=True):
                width = (SCHEMA.column(name).high - SCHEMA.column(name).low) / mechanism.bins
                hits["quartile"].append(first - width / 2 <= true <= last + width / 2)
            own = np.isfinite(table[:, place]).sum()
            hits["records"].append(found.records.interval[0] <= own <= found.records.interval[1])
            if found.missing is not None:
                hits["missing"].append(found.missing.interval[0] <= patients - own <= found.missing.interval[1])
        ward = described(read["describe/ward"], SCHEMA.column("ward"), mechanism.bins)  # type: ignore[arg-type]
        shares = dict(zip(("emergency", "general", "intensive"), (0.5, 0.3, 0.2), strict=True))
        hits["share"] += [one.interval[0] <= shares[label] <= one.interval[1] for label, one in ward.common]
    for name, inside in hits.items():
        assert np.mean(inside) >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / len(inside)), name


def test_nothing_but_noise_is_described_without_falling_over() -> None:
    cells = Cells(("lactate",), ((*SCHEMA.column("lactate").cells(10)[0], "missing"),), np.full(11, -3.0), 4.0)
    found = described(cells, SCHEMA.column("lactate"), 10)
    assert found.mean is not None
    assert 0 <= found.mean.value <= 20
    assert np.isfinite(found.mean.interval).all()
    assert all(0 <= low <= value <= high <= 20 for value, low, high in found.quantiles)


def test_a_mean_of_what_may_be_missing_says_of_how_many_it_is_and_intervals_cover() -> None:
    mechanism = asked((Query("mean", ("lactate",)), Query("quantiles", ("lactate",), (0.25, 0.5, 0.75))), epsilon=2.0)
    inside, large = [], float(np.nanmean(rows(400_000, 99)[:, 3]))
    for run in range(60):
        table = rows(500, run, missing=0.6)
        release = statistics.answer(mechanism, SCHEMA, table, NoiseSource.from_os())
        mean = read_statistics(release, mechanism, SCHEMA, patients=500)["mean/lactate"]
        assert isinstance(mean, Estimate)
        assert mean.records is not None
        assert mean.records.value == pytest.approx(np.isfinite(table[:, 3]).sum(), abs=40)
        inside.append(mean.interval[0] <= large <= mean.interval[1])
    assert np.mean(inside) >= 0.95 - 4 * 0.028


def test_hospitals_weigh_by_the_records_that_they_have_and_not_by_their_size() -> None:
    # Two hospitals of one size: in one nine of ten values are missing.
    mechanism = asked((Query("mean", ("lactate",)),), epsilon=100.0)
    few, many = rows(2000, 1, missing=0.9), rows(2000, 2, missing=0.0)
    few[:, 3] = np.where(np.isnan(few[:, 3]), np.nan, 10.0)
    many[:, 3] = 1.0
    from researcher.estimates import combine_statistics

    hospitals = {
        name: read_statistics(
            statistics.answer(mechanism, SCHEMA, table, NoiseSource.from_os()), mechanism, SCHEMA, patients=2000
        )
        for name, table in (("few", few), ("many", many))
    }
    joint = combine_statistics(hospitals, patients={"few": 2000, "many": 2000})["mean/lactate"]
    assert isinstance(joint, Estimate)
    assert joint.value == pytest.approx(np.nanmean(np.r_[few[:, 3], many[:, 3]]), abs=0.1)
    assert joint.records is not None
    assert joint.records.value == pytest.approx(2000 + np.isfinite(few[:, 3]).sum(), abs=10)


def test_groups_are_found_by_their_labels() -> None:
    found = result(asked(EVERYTHING, epsilon=20.0, group_by={"ward": [], "age": [65]}))
    counts = found["count"]
    assert isinstance(counts, Grouped)
    assert sum(part.value for _, part in counts if isinstance(part, Estimate)) == pytest.approx(4200, abs=60)
    assert counts["intensive", "from 65 years"] is counts.parts[5]
    with pytest.raises(InvalidRequest, match="no group 'surgery'"):
        counts["surgery"]
    assert "emergency, below 65 years: " in str(counts)
    frame = found.to_frame()
    assert set(frame["group"]) == {", ".join(name) for name in counts.names}
    assert (frame["from"].map(str) != "").all()


def test_a_date_is_shown_as_one() -> None:
    found = result(asked((Query("mean", ("admitted",)), Query("quantiles", ("admitted",), (0.5,))), epsilon=50.0))
    assert "2026-01-" in str(found["mean/admitted"])
    assert "days (95 % from 2026-01-" in str(found["mean/admitted"])
    assert "0.5: 2026-01-" in str(found["quantiles/admitted"])
    assert str(found.to_frame()["value"][0]).startswith("2026-01-")


def test_statistics_of_a_time_are_shown_as_times_with_its_unit() -> None:
    found = result(asked((Query("mean", ("seen",)), Query("quantiles", ("seen",), (0.5,))), epsilon=50.0))
    moment = r"202\d-\d\d-\d\d \d\d:00"
    assert re.fullmatch(rf"{moment} ± \d+ hours \(95 % from {moment} to {moment}\)", str(found["mean/seen"]))
    assert re.match(rf"0.5: {moment} \(95 % from {moment} to {moment}\)", str(found["quantiles/seen"]))
    assert re.fullmatch(moment, str(found.to_frame()["value"][0]))


def test_a_time_is_shown_as_a_time() -> None:
    column = Column(name="seen", kind="datetime", truncate="hour", minimum=0, maximum=100, origin="2025-10-01T00:00:00")
    shown = Described(column, Estimate(5.0, 1.0), None, Estimate(25.4, 1.0), None, (), ())
    assert shown.title == "seen (datetime)"
    assert shown.row()["mean"] == datetime.datetime(2025, 10, 2, 1)
