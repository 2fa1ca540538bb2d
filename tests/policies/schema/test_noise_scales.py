"""The stated noise of statistics: closed forms, monotone in what they should be, never without a bound."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.errors import UnsupportedMechanism
from policies.privacy.mechanisms import Query, Statistics
from policies.schema import noise_scales
from policies.schema.columns import Column
from policies.schema.schemas import Schema

HEART_RATE = Column(name="heart_rate", kind="real", unit="bpm", minimum=40.0, maximum=200.0)
SCHEMA = Schema(
    name="stays",
    population="town",
    patient="id",
    columns=(HEART_RATE, Column(name="change", kind="real", minimum=-5.0, maximum=2.0)),
)


def scale(query: Query, *, epsilon: float = 1.0, records: int = 1) -> float:
    mechanism = Statistics(queries=(query,), epsilon=epsilon, records_per_patient=records)
    return noise_scales.laplace_scale(query, mechanism, SCHEMA)


def test_laplace_scales_are_sensitivity_over_epsilon() -> None:
    assert scale(Query("count"), epsilon=0.5, records=9) == 2.0  # a count counts patients: k plays no part
    assert scale(Query("sum", ("heart_rate",)), epsilon=2.0, records=3) == 3 * 200 / 2
    assert scale(Query("sum", ("change",)), records=2) == 2 * 5  # the larger of |-5| and |2|
    assert scale(Query("histogram", ("change",)), epsilon=0.1, records=4) == pytest.approx(40)
    assert scale(Query("crosstab", ("change", "heart_rate")), records=4) == 4


def test_interval_of_a_count_is_half_a_unit_wider_than_its_laplace_draw() -> None:
    mechanism = Statistics(queries=(Query("count"),), epsilon=0.5)
    reach = noise_scales.LAPLACE_95 * noise_scales.standard_error(Query("count"), mechanism, SCHEMA)
    assert reach == pytest.approx(2 * math.log(20) + 0.5)


def test_mean_error_is_the_closed_form() -> None:
    # Mean in the middle (120): only the sum's noise counts, sd √2 * k * 80 / (ε/2) / patients.
    error = noise_scales.mean_error(HEART_RATE, epsilon=1.0, records=2, patients=1000, mean=120.0)
    assert error == pytest.approx(math.sqrt(2) * 2 * 80 * 2 / 1000)
    # Mean at a bound: the count's noise adds as much again.
    worst = noise_scales.mean_error(HEART_RATE, epsilon=1.0, records=2, patients=1000)
    assert worst == pytest.approx(error * math.sqrt(2))


def test_variance_error_is_the_closed_form() -> None:
    # x = ±1 around the middle: m = 0, v = 1, slopes ½, 0 and -½ on scales k / (ε/3).
    error = noise_scales.variance_error(HEART_RATE, epsilon=3.0, records=1, patients=500, mean=120.0, variance=80.0**2)
    assert error == pytest.approx(80**2 * math.sqrt(2) * math.sqrt(0.5) / 500)


@given(
    name=st.sampled_from(["count", "sum", "mean", "variance", "quantiles", "histogram"]),
    epsilon=st.floats(1e-6, 50),
    records=st.integers(1, 99),
    patients=st.floats(0, 1e7),
)
def test_more_budget_and_fewer_records_never_mean_more_noise(
    name: str, epsilon: float, records: int, patients: float
) -> None:
    query = Query(name, () if name == "count" else ("heart_rate",), (0.5,) if name == "quantiles" else ())

    def error(epsilon: float, records: int) -> float:
        mechanism = Statistics(queries=(query,), epsilon=epsilon, records_per_patient=records)
        return noise_scales.standard_error(query, mechanism, SCHEMA, patients=patients)

    assert 0 < error(epsilon * 2, records) <= error(epsilon, records) <= error(epsilon, records + 1)
    assert math.isfinite(error(epsilon, records))


@given(mean=st.floats(-1e4, 1e4), variance=st.floats(-1e6, 1e6), patients=st.floats(0, 1e5))
def test_error_with_released_figures_never_exceeds_the_error_without(
    mean: float, variance: float, patients: float
) -> None:
    given_figures = {"epsilon": 0.7, "records": 3, "patients": patients}
    assert noise_scales.mean_error(HEART_RATE, mean=mean, **given_figures) <= noise_scales.mean_error(
        HEART_RATE, **given_figures
    )
    assert noise_scales.variance_error(
        HEART_RATE, mean=mean, variance=variance, **given_figures
    ) <= noise_scales.variance_error(HEART_RATE, **given_figures)


def test_error_of_a_clamped_answer_stays_within_its_range() -> None:
    hopeless = {"epsilon": 1e-9, "records": 100, "patients": 1.0}
    assert noise_scales.mean_error(HEART_RATE, **hopeless) == 160
    assert noise_scales.variance_error(HEART_RATE, **hopeless) == 80**2
    assert noise_scales.rank_error(**hopeless) == 0.5


def test_mean_without_a_size_is_refused_with_the_next_step() -> None:
    query = Query("mean", ("heart_rate",))
    with pytest.raises(UnsupportedMechanism, match="patients="):
        noise_scales.standard_error(query, Statistics(queries=(query,), epsilon=1.0), SCHEMA)
    with pytest.raises(UnsupportedMechanism, match="standard_error"):
        scale(query)
