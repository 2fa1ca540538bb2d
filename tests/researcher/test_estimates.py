"""Released statistics as a researcher reads them: closed forms, coverage of the intervals, combinations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.errors import WeightsRefused
from policies.privacy.mechanisms import Query, Statistics
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.schema import noise_scales
from policies.schema.columns import Column
from policies.schema.schemas import Schema
from researcher.estimates import (
    Cells,
    Estimate,
    Quantiles,
    combine_means,
    combine_statistics,
    design_effect,
    read_statistics,
    read_sums,
)
from researcher.figures import COUNTED

SCHEMA = Schema(
    name="visits",
    population="town",
    patient="id",
    target="influenza",
    columns=(
        Column(name="temperature", kind="real", unit="°C", minimum=34.0, maximum=42.0),
        Column(name="influenza", kind="boolean"),
    ),
)
COUNT, MEAN, VARIANCE = Query("count"), Query("mean", ("temperature",)), Query("variance", ("temperature",))
SUM, CELLS = Query("sum", ("temperature",)), Query("histogram", ("influenza",))
MEDIAN = Query("quantiles", ("temperature",), (0.25, 0.5, 0.75))
Release = dict[str, npt.NDArray[np.float64]]


def asked(*queries: Query, epsilon: float = 1.0, records: int = 1) -> Statistics:
    return Statistics(queries=queries, epsilon=epsilon, records_per_patient=records)


def released(values: npt.NDArray[np.float64], epsilon: float, random: np.random.Generator) -> Release:
    """Mean and variance with the noise that python-dp adds, each at `epsilon`; seeded, so that tests repeat."""
    x = (values - 38) / 4
    n = len(x)

    def laplace(scale: float) -> float:
        return float(random.laplace(0, scale))

    mean = (x.sum() + laplace(2 / epsilon)) / (n + laplace(2 / epsilon))
    count = n + laplace(3 / epsilon)
    squares, total = (x**2 - 0.5).sum() + laplace(1.5 / epsilon), x.sum() + laplace(3 / epsilon)
    variance = squares / count + 0.5 - (total / count) ** 2
    return {"mean/temperature": np.array([38 + 4 * mean]), "variance/temperature": np.array([16 * max(variance, 0)])}


def inside(estimate: Estimate, truth: float) -> bool:
    low, high = estimate.interval
    return low <= truth <= high


def number(statistics: Mapping[str, object], key: str) -> Estimate:
    found = statistics[key]
    assert isinstance(found, Estimate)
    return found


@given(value=st.floats(-1e3, 1e3), noise=st.floats(0, 1e3), sampling=st.floats(0, 1e3), true=st.floats(-10.0, 10.0))
def test_no_interval_leaves_the_possible_range_and_none_loses_what_it_held(
    value: float, noise: float, sampling: float, true: float
) -> None:
    free = Estimate(value, noise, sampling)
    bounded = replace(free, bounds=(-10.0, 10.0))
    low, high = bounded.interval
    assert -10.0 <= low <= high <= 10.0
    if free.interval[0] <= true <= free.interval[1]:
        assert low <= true <= high


def test_statistics_of_a_few_patients_have_intervals_within_their_bounds() -> None:
    mechanism = asked(COUNT, MEAN, VARIANCE, epsilon=0.03)
    release = {"count": [-40.0], "mean/temperature": [42.0], "variance/temperature": [0.0]}
    read = read_statistics(release, mechanism, SCHEMA, patients=8)
    assert number(read, "count").interval[0] == 0.0
    assert number(read, "mean/temperature").interval == (34.0, 42.0)
    assert number(read, "variance/temperature").interval == (0.0, 16.0)  # ((42 - 34) / 2)²


def test_interval_of_one_laplace_draw_covers_95_percent_exactly() -> None:
    # P(|Laplace(b)| <= b ln 20) = 1 - exp(-ln 20) = 0.95; the interval is built from the standard error √2 b.
    low, high = Estimate(0.0, math.sqrt(2) * 7).interval
    assert high == -low == pytest.approx(7 * math.log(20))


@pytest.mark.parametrize(("n", "epsilon"), [(4000, 0.5), (300, 2.0), (60, 5.0)])
def test_mean_intervals_cover_the_population_mean(n: int, epsilon: float) -> None:
    random = np.random.default_rng(n)
    mechanism = asked(MEAN, VARIANCE, epsilon=2 * epsilon)
    hits = 0
    for _ in range(800):
        values = random.normal(37.4, 0.7, n).clip(34, 42)
        read = read_statistics(released(values, epsilon, random), mechanism, SCHEMA, patients=n)
        hits += inside(number(read, "mean/temperature"), 37.4)
    # sd of a share of 95 % over 800 draws: 0.8 %. Among 60 patients a tail may be missing: wider than it had to be.
    assert 0.925 <= hits / 800 <= (0.995 if n > 60 else 1.0)


def test_mean_noise_error_matches_simulated_noise() -> None:
    random = np.random.default_rng(1)
    values = random.normal(37.4, 0.7, 2000).clip(34, 42)
    reads = [released(values, 1.0, random) for _ in range(2000)]
    stated = read_statistics(reads[0], asked(MEAN, VARIANCE, epsilon=2.0), SCHEMA, patients=2000)
    for key in ("mean/temperature", "variance/temperature"):
        spread = np.std([each[key][0] for each in reads])
        assert spread == pytest.approx(number(stated, key).noise_error, rel=0.12)


def test_unreleased_variance_is_taken_as_the_largest_that_bounds_allow() -> None:
    release = {"mean/temperature": np.array([37.0])}
    estimate = number(read_statistics(release, asked(MEAN), SCHEMA, patients=100), "mean/temperature")
    # (37 - 34) * (42 - 37) = 15 over 100 patients.
    assert estimate.sampling_error == pytest.approx(math.sqrt(15 / 100))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=30))
def test_design_effect_bounds_every_clustering(sizes: list[int]) -> None:
    m = np.array(sizes, dtype=np.float64)
    assert len(m) * (m**2).sum() / m.sum() ** 2 <= design_effect(6) + 1e-12
    assert design_effect(1) == 1


def test_counts_sums_and_cells_have_noise_and_no_sampling_error() -> None:
    release = {
        "count": np.array([99.0]),
        "sum/temperature": np.array([3700.0]),
        "histogram/influenza": np.array([70.0, -2.0]),
    }
    mechanism = asked(COUNT, SUM, CELLS, epsilon=3.0, records=2)
    read = read_statistics(release, mechanism, SCHEMA, patients=100)
    # Whole numbers: the scale of 1 (and of 2) and half a unit of rounding.
    assert number(read, "count") == Estimate(99.0, math.sqrt(2) * (1 + noise_scales.ROUNDING), 0.0, "patients", COUNTED)
    assert number(read, "sum/temperature") == Estimate(3700.0, math.sqrt(2) * 2 * 42, 0.0, "°C")
    cells = read["histogram/influenza"]
    assert isinstance(cells, Cells)
    assert cells.noise_error == pytest.approx(math.sqrt(2) * (2 + noise_scales.ROUNDING))
    assert cells.shares.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("n", "epsilon"), [(2000, 0.2), (200, 1.0)])
def test_share_errors_cover_the_population_shares(n: int, epsilon: float) -> None:
    random = np.random.default_rng(n)
    truth, hits = np.array([0.5, 0.3, 0.2]), 0
    for _ in range(600):
        counts = random.multinomial(n, truth) + random.laplace(0, 1 / epsilon, 3)
        cells = Cells(("a",), (("x", "y", "z"),), counts, math.sqrt(2) / epsilon)
        hits += np.count_nonzero(np.abs(cells.shares - truth) <= 1.96 * cells.share_errors)
    assert 0.93 <= hits / 1800 <= 0.98


def test_share_error_is_the_closed_form() -> None:
    cells = Cells(("a",), (("x", "y"),), np.array([75.0, 25.0]), 2.0)
    # Noise: p = 3/4, its own cell weighs 1/4 and the other 3/4, over 100; sampling: 3/16 over 100 patients.
    noise, sampling = 4 * (0.25**2 + 0.75**2) / 100**2, 3 / 16 / 100
    assert cells.share_errors == pytest.approx(math.sqrt(noise + sampling))


def test_quantile_intervals_cover_the_population_quantiles() -> None:
    random = np.random.default_rng(4)
    n, epsilon, truth = 1500, 1.0, 37.5 + 0.8 * np.array([-0.67449, 0, 0.67449])
    hits, noise = np.zeros(3), noise_scales.rank_error(epsilon=epsilon, records=1, patients=n)
    for _ in range(400):
        values = np.sort(random.normal(37.5, 0.8, n).clip(34, 42))
        ranks = np.array(MEDIAN.ranks) + noise * random.normal(size=3)
        release = {MEDIAN.key: np.quantile(values, ranks.clip(0, 1))}
        found = read_statistics(release, asked(MEDIAN, epsilon=epsilon), SCHEMA, patients=n)[MEDIAN.key]
        assert isinstance(found, Quantiles)
        hits += [low <= true <= high for true, (low, high) in zip(truth, found.intervals, strict=True)]
    # The straight lines from the outer ranks to the bounds are too flat: those intervals are wide rather than narrow.
    assert (hits / 400 >= 0.93).all()


# --- combined over hospitals


def test_combined_answers_equal_those_of_the_pooled_table_without_noise() -> None:
    random = np.random.default_rng(0)
    tables = {name: random.normal(mean, 0.6, n).clip(34, 42) for name, mean, n in (("a", 36.8, 900), ("b", 38.5, 300))}
    mechanism = asked(COUNT, SUM, MEAN, VARIANCE, epsilon=100.0)
    reads = {}
    for name, values in tables.items():
        release = {
            "count": np.array([float(len(values))]),
            "sum/temperature": np.array([values.sum()]),
            "mean/temperature": np.array([values.mean()]),
            "variance/temperature": np.array([values.var()]),
        }
        reads[name] = read_statistics(release, mechanism, SCHEMA, patients=len(values))
    sizes = {name: float(len(values)) for name, values in tables.items()}
    combined, pooled = combine_statistics(reads, patients=sizes), np.concatenate(list(tables.values()))
    assert number(combined, "count").value == 1200
    assert number(combined, "sum/temperature").value == pytest.approx(pooled.sum())
    assert number(combined, "mean/temperature").value == pytest.approx(pooled.mean())
    assert number(combined, "variance/temperature").value == pytest.approx(pooled.var(), rel=1e-3)


def test_combined_mean_covers_and_is_surer_than_hospitals_are_on_average() -> None:
    random = np.random.default_rng(9)
    sizes, centres, epsilon = {"a": 800, "b": 500, "c": 200}, {"a": 37.0, "b": 37.6, "c": 38.2}, 1.0
    truth = sum(sizes[name] * centres[name] for name in sizes) / 1500
    mechanism, hits = asked(MEAN, VARIANCE, epsilon=2 * epsilon), 0
    for _ in range(500):
        reads = {}
        for name, n in sizes.items():
            release = released(random.normal(centres[name], 0.5, n).clip(34, 42), epsilon, random)
            reads[name] = read_statistics(release, mechanism, SCHEMA, patients=n)
        combined = number(combine_statistics(reads, patients=sizes), "mean/temperature")
        hits += inside(combined, truth)
        # Not surer than each: noise has one scale everywhere, so the largest hospital alone may have the least.
        assert combined.error < np.mean([number(each, "mean/temperature").error for each in reads.values()])
    assert 0.93 <= hits / 500 <= 0.995


def test_spread_between_hospitals_adds_the_means_errors_to_a_variance() -> None:
    reads = {
        name: {"mean/temperature": Estimate(mean, 0.3), "variance/temperature": Estimate(1.0, 0.0)}
        for name, mean in (("a", 36.0), ("b", 40.0))
    }
    found = number(combine_statistics(reads, patients={"a": 50, "b": 50}), "variance/temperature")
    # Means 2 to either side: between 4, less 2 * 0.25 * 0.09 of noise; slopes 2 * 0.5 * 2 on errors of 0.3 each.
    assert found.value == pytest.approx(1 + 4 - 0.045)
    assert found.noise_error == pytest.approx(2 * 0.3 * math.sqrt(2))


def test_uncertain_sizes_enter_a_combined_mean() -> None:
    parts = [Estimate(10.0, 0.0), Estimate(20.0, 0.0)]
    # b's share is 100 / 400: mean 12.5. A size error of 4 moves it by (10 - 12.5) * 4 / 400 at a, 7.5 * 4 / 400 at b.
    combined = combine_means(parts, [300.0, 100.0], [4.0, 4.0])
    assert combined.value == 12.5
    assert combined.noise_error == pytest.approx(math.hypot(0.025, 0.075))


def test_quantiles_combine_as_a_mixture_and_not_as_an_average() -> None:
    ranks = tuple(np.linspace(0.05, 0.95, 19).tolist())
    query = Query("quantiles", ("temperature",), ranks)
    random = np.random.default_rng(0)
    tables = {"a": random.normal(36.5, 0.3, 20_000), "b": random.normal(39.5, 0.3, 5_000)}
    reads = {
        name: read_statistics({query.key: np.quantile(values, ranks)}, asked(query), SCHEMA, patients=len(values))
        for name, values in tables.items()
    }
    combined = combine_statistics(reads, patients={name: float(len(values)) for name, values in tables.items()})
    found, pooled = combined[query.key], np.quantile(np.concatenate(list(tables.values())), ranks)
    assert isinstance(found, Quantiles)
    # Rank 0.8 lies in the gap between the hospitals; beyond it straight lines between ranks are a little off.
    assert np.array(found.values)[:15] == pytest.approx(pooled[:15], abs=0.08)
    assert np.array(found.values)[17:] == pytest.approx(pooled[17:], abs=0.3)


def test_cells_are_added_with_their_noise() -> None:
    reads = {
        name: read_statistics({CELLS.key: np.array(cells)}, asked(CELLS), SCHEMA, patients=10)
        for name, cells in (("a", [5.0, -1.0]), ("b", [7.0, 4.0]))
    }
    found = combine_statistics(reads, patients={"a": 10, "b": 10})[CELLS.key]
    assert isinstance(found, Cells)
    assert found.counts.tolist() == [12.0, 3.0]
    assert found.noise_error == pytest.approx(math.sqrt(2) * reads["a"][CELLS.key].noise_error)
    assert found.estimate(1) == Estimate(3.0, found.noise_error, bounds=COUNTED)


def test_statistic_that_one_hospital_lacks_is_left_out() -> None:
    whole = read_statistics({"count": np.array([5.0]), **_mean(37.0)}, asked(COUNT, MEAN), SCHEMA, patients=5)
    part = read_statistics({"count": np.array([6.0])}, asked(COUNT), SCHEMA, patients=6)
    assert list(combine_statistics({"a": whole, "b": part}, patients={"a": 5, "b": 6})) == ["count"]
    assert combine_statistics({}, patients={}) == {}


def _mean(value: float) -> Release:
    return {"mean/temperature": np.array([value])}


@pytest.mark.parametrize("release", [{}, {"mean/temperature": np.zeros(2)}, {"mean/temperature": np.array([math.nan])}])
def test_release_that_is_not_what_was_asked_is_refused(release: Release) -> None:
    with pytest.raises(WeightsRefused, match="mean/temperature"):
        read_statistics(release, asked(MEAN), SCHEMA, patients=10)


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3),
    patients=st.floats(0, 1e6),
    cells=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2),
)
def test_every_release_reads_to_finite_errors_and_text(
    values: list[float], patients: float, cells: list[float]
) -> None:
    mechanism = asked(COUNT, MEAN, VARIANCE, MEDIAN, CELLS)
    release = {
        "count": np.array(values[:1]),
        "mean/temperature": np.array(values[1:2]),
        "variance/temperature": np.array(values[2:]),
        MEDIAN.key: np.array(values),
        CELLS.key: np.array(cells),
    }
    reads = read_statistics(release, mechanism, SCHEMA, patients=patients)
    for found in (reads, combine_statistics({"a": reads, "b": reads}, patients={"a": patients, "b": 7.0})):
        for statistic in found.values():
            assert "nan" not in str(statistic)
            assert "inf" not in str(statistic).replace("influenza", "")
        table = found[CELLS.key]
        assert isinstance(table, Cells)
        assert table.shares.sum() == pytest.approx(1)
        assert (table.share_errors <= 1).all()
        quantiles = found[MEDIAN.key]
        assert isinstance(quantiles, Quantiles)
        assert all(34 <= low <= high <= 42 for low, high in quantiles.intervals)


def test_estimate_reads_with_unit_error_and_interval() -> None:
    # The error is 0.05 and two places are shown; an interval is rounded outwards, so that it holds what it held.
    assert str(Estimate(37.5, 0.03, 0.04, "°C")) == "37.50 °C ± 0.05 (95 % from 37.39 to 37.61)"
    assert str(Estimate(8031.6, 42.0, unit="patients", bounds=COUNTED)) == (
        "8,030 patients ± 40 (95 % from 7,940 to 8,130)"
    )


def summed(values: list[npt.NDArray[np.float64]], epsilon: float, random: np.random.Generator) -> Release:
    """Sums of hospitals' parts of a count, a mean and a variance, each at a third of `epsilon`."""
    share = epsilon / 3
    names = ("mean/temperature", "mean/temperature/records", "variance/temperature", "variance/temperature/squares")
    total = dict.fromkeys((*names, "variance/temperature/records", "count"), 0.0)
    for one in values:
        x, n = (one - 38) / 4, len(one)
        total["count"] += n + random.laplace(0, 1 / share)
        total[names[0]] += x.sum() + random.laplace(0, 2 / share)
        total[names[1]] += n + random.laplace(0, 2 / share)
        total[names[2]] += x.sum() + random.laplace(0, 3 / share)
        total[names[3]] += (x**2 - 0.5).sum() + random.laplace(0, 1.5 / share)
        total["variance/temperature/records"] += n + random.laplace(0, 3 / share)
    return {name: np.array([value]) for name, value in total.items()}


@pytest.mark.parametrize(("hospitals", "patients", "epsilon"), [(3, 60, 1.0), (10, 300, 0.5)])
def test_intervals_of_a_sum_over_hospitals_hold_as_often_as_they_say(
    hospitals: int, patients: int, epsilon: float
) -> None:
    random, trials = np.random.default_rng(hospitals), 400
    parties = tuple(Party(f"Hospital {place}", f"{place:064x}", patients) for place in range(hospitals))
    declared = SecureAggregation(threshold=hospitals // 2 + 1, hospitals=parties)
    mechanism = replace(asked(COUNT, MEAN, VARIANCE, epsilon=epsilon), secure_aggregation=declared)
    held, errors, counts = np.zeros(3), [], []
    for _ in range(trials):
        values = [random.normal(37.5, 0.7, patients).clip(34, 42) for _ in range(hospitals)]
        sums = summed(values, epsilon, random)
        read = read_sums(sums, mechanism, SCHEMA, sizes=[patients] * hospitals)
        count, mean = number(read, "count"), number(read, "mean/temperature")
        held += [
            inside(count, patients * hospitals),
            inside(mean, 37.5),
            inside(number(read, "variance/temperature"), 0.49),
        ]
        errors.append(count.noise_error)
        counts.append(count.value)
    assert (held / trials > 0.93).all(), held / trials
    # Independent draws: √n times one hospital's √2 / (ε/3), and not n times it; rounding is said beside it.
    deviation = math.sqrt(2 * hospitals) * 3 / epsilon
    assert np.std(counts) == pytest.approx(deviation, rel=0.15)
    assert errors[0] == pytest.approx(deviation, rel=0.1)


def test_a_sum_is_more_exact_than_one_hospital_and_less_than_no_noise() -> None:
    parties = tuple(Party(f"Hospital {place}", f"{place:064x}", 100) for place in range(4))
    mechanism = replace(asked(MEDIAN), secure_aggregation=SecureAggregation(threshold=3, hospitals=parties))
    tree = np.zeros((1, 4680))
    tree[0, [4, 8 + 4 * 8, 72 + 4 * 64, 584 + 4 * 512]] = 400
    read = read_sums({MEDIAN.key: tree}, mechanism, SCHEMA, sizes=[100] * 4)[MEDIAN.key]
    assert isinstance(read, Quantiles)
    alone = noise_scales.rank_error(epsilon=1.0, records=1, patients=100)
    assert read.noise_error == pytest.approx(min(2 * alone * 100 / 400, 0.5))
    assert read.values == pytest.approx((38.0, 38.0, 38.0), abs=8 / 4096)
