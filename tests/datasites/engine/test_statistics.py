"""Statistics on private records: what one patient can move, how much noise there is, and what never happens."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydp._pydp._mechanisms import LaplaceMechanism

from datasites.engine import statistics
from datasites.engine.matrix import GroupedRows, in_groups
from datasites.engine.noise import NoiseSource
from datasites.engine.quantile_trees import quantiles_of
from policies.errors import DatasiteError, IsolationMissing, UnsupportedMechanism
from policies.privacy.draws import parts_of
from policies.privacy.grouping import Grouping
from policies.privacy.mechanisms import Query, Statistics
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.schema.columns import Column
from policies.schema.noise_scales import laplace_scale, mean_error, standard_error, variance_error
from policies.schema.quantile_trees import NODES
from policies.schema.questions import answer_shape
from policies.schema.schemas import Schema
from policies.schema.summed_statistics import answers_from, summed_numbers
from tests.timing import unevenness

SCHEMA = Schema(
    name="visits",
    population="town",
    patient="patient_id",
    target="influenza",
    holdout=0.2,
    columns=(
        Column(name="temperature", kind="real", unit="°C", minimum=34.0, maximum=42.0, missing=37.0),
        Column(name="change", kind="real", minimum=-3.0, maximum=1.0, missing=0.0),
        Column(name="age", kind="integer", minimum=0, maximum=110, outside="clamp"),
        Column(name="ward", kind="category", categories=("emergency", "general", "intensive")),
        Column(name="influenza", kind="boolean"),
    ),
)
EVERY_QUERY = (
    Query("count"),
    Query("sum", ("temperature",)),
    Query("mean", ("temperature",)),
    Query("variance", ("temperature",)),
    Query("quantiles", ("age",), (0.25, 0.5, 0.75)),
    Query("histogram", ("age",)),
    Query("crosstab", ("ward", "influenza")),
)


class Seeded:
    """A source that repeats itself, for tests alone."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)

    def uniforms(self, count: int, /) -> np.ndarray:
        return self._random.random(count)


def records(patients: np.ndarray, seed: int = 0, **columns: Any) -> np.ndarray:
    random = np.random.default_rng(seed)
    n = len(patients)
    values = {
        "temperature": random.normal(37.5, 0.8, n).clip(34, 42),
        "change": random.uniform(-3, 1, n),
        "age": random.integers(0, 111, n),
        "ward": random.integers(0, 3, n),
        "influenza": random.integers(0, 2, n),
    } | columns
    return np.column_stack([patients, np.zeros(n), *(np.broadcast_to(values[c.name], n) for c in SCHEMA.columns)])


def asked(*queries: Query, **arguments: Any) -> Statistics:
    return Statistics(queries=queries, **({"epsilon": 100.0} | arguments))


def answer(mechanism: Statistics, matrix: np.ndarray | GroupedRows, seed: int = 0) -> dict[str, np.ndarray]:
    return statistics.answer(mechanism, SCHEMA, matrix, Seeded(seed))


# --- what one patient can move: at ε = 100 the noise is about a hundredth of a sensitivity


@pytest.mark.parametrize("most", [1, 2, 5])
def test_patient_with_1000_records_moves_sum_by_at_most_k_times_largest_value(most: int) -> None:
    crowd = records(np.arange(50))
    heavy = records(np.full(1000, 50), temperature=42.0)
    mechanism = asked(Query("sum", ("temperature",)), records_per_patient=most)
    moved = answer(mechanism, np.vstack([crowd, heavy]))["sum/temperature"]
    moved = moved - answer(mechanism, crowd)["sum/temperature"]
    # k records of 42 degrees and not 1000 of them; noise of two answers: 20 scales of 42 k / 100.
    assert moved[0] == pytest.approx(42.0 * most, abs=20 * 42.0 * most / 100)


def test_count_counts_patients_and_not_records() -> None:
    matrix = records(np.repeat(np.arange(40), 25))
    assert answer(asked(Query("count")), matrix)["count"] == pytest.approx([40], abs=1)
    assert answer(asked(Query("count"), records_per_patient=100), matrix)["count"] == pytest.approx([40], abs=1)


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("query", [Query("histogram", ("age",)), Query("crosstab", ("ward", "influenza"))])
def test_patient_with_1000_records_adds_at_most_k_to_all_cells_together(query: Query, most: int) -> None:
    heavy = records(np.zeros(1000))
    cells = answer(asked(query, records_per_patient=most), heavy)[query.key]
    # Noise of scale 3 / 100 rounds to zero but for a chance of exp(-0.5 * 100 / 3) = 6e-8 per cell.
    assert np.abs(cells).sum() == most


def test_mean_weighs_a_patient_by_k_records_at_most() -> None:
    # 100 patients at 35 degrees and one with 5,000 records at 42: 35.07 with k = 1, 41.9 if all records counted.
    matrix = np.vstack([records(np.arange(100), temperature=35.0), records(np.full(5000, 100), temperature=42.0)])
    mean = answer(asked(Query("mean", ("temperature",))), matrix)["mean/temperature"][0]
    assert mean == pytest.approx((100 * 35 + 42) / 101, abs=0.05)


def test_quantiles_and_variance_weigh_a_patient_by_k_records_at_most() -> None:
    matrix = np.vstack([records(np.arange(200), age=30), records(np.full(5000, 200), age=90)])
    mechanism = asked(Query("quantiles", ("age",), (0.5,)), Query("variance", ("age",)))
    found = answer(mechanism, matrix)
    assert found["quantiles/age"][0] == pytest.approx(30, abs=1)
    share = 1 / 201
    assert found["variance/age"][0] == pytest.approx(share * (1 - share) * 60**2, abs=10)


@given(
    patients=st.lists(st.integers(0, 6), max_size=60),
    most=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_chosen_records_are_min_of_k_and_owned_per_patient(patients: list[int], most: int, seed: int) -> None:
    codes = np.asarray(patients, dtype=np.float64)
    chosen = statistics.choose_records(codes, most, Seeded(seed))
    assert len(set(chosen.tolist())) == len(chosen)
    for patient in set(patients):
        assert np.count_nonzero(codes[chosen] == patient) == min(most, patients.count(patient))


def test_every_record_of_a_patient_is_equally_likely_to_be_chosen() -> None:
    codes = np.repeat([3.0, 1.0], [5, 2])
    source = Seeded(1)
    hits = np.zeros(7)
    for _ in range(4000):
        hits[statistics.choose_records(codes, 2, source)] += 1
    # 2 of 5 records: sd of a share over 4000 draws is sqrt(.4 * .6 / 4000) = 0.0077.
    assert hits[:5] / 4000 == pytest.approx(0.4, abs=5 * 0.0077)
    assert (hits[5:] == 4000).all()


def test_every_set_of_records_is_as_likely_whatever_their_order() -> None:
    """Ten pairs of five, of rows that lie together and of rows that do not."""
    source = Seeded(2)
    for codes in (np.array([3.0, 3, 3, 3, 3, 4]), np.array([3.0, 3, 4, 3, 3, 3])):
        counts: dict[tuple[int, ...], int] = {}
        for _ in range(4000):
            chosen = statistics.choose_records(codes, 2, source)
            pair = tuple(row for row in chosen.tolist() if codes[row] == 3)
            counts[pair] = counts.get(pair, 0) + 1
        assert len(counts) == 10
        assert max(abs(count - 400) for count in counts.values()) < 5 * 19  # deviation 19


class Counted(Seeded):
    """Counts how many numbers are drawn."""

    drawn = 0

    def uniforms(self, count: int, /) -> np.ndarray:
        self.drawn += count
        return super().uniforms(count)


def test_what_is_drawn_goes_with_patients_and_not_with_their_records() -> None:
    for heavy in (3, 1_000_000):
        source = Counted(1)
        codes = np.concatenate([np.repeat(np.arange(100.0), 4), np.full(heavy, 100.0)])
        assert len(statistics.choose_records(codes, 2, source)) == 202
        assert source.drawn == 202  # two for each of the 101, who all have more


@pytest.mark.parametrize("most", [1, 2, 5])
def test_of_rows_in_groups_as_many_of_each_patient_are_used(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = records(np.repeat(np.arange(30), np.arange(30) % 4 + 1))
    matrix[:, 1] = matrix[:, 0] % 3 == 0
    seen: list[np.ndarray] = []
    real = statistics._answer_one
    monkeypatch.setattr(statistics, "_answer_one", lambda *given: (seen.append(given[3].matrix), real(*given))[1])
    for rows in (matrix, in_groups(matrix, 10)):
        assert answer(asked(Query("count"), records_per_patient=most), rows)["count"] == pytest.approx(30, abs=1)
    for used in seen:
        assert sorted(used[:, 0]) == sorted(np.repeat(np.arange(30), np.minimum(np.arange(30) % 4 + 1, most)))


def test_choice_works_with_the_runners_own_source_and_differs_between_runs() -> None:
    codes = np.repeat(np.arange(200.0), 5)
    first, again = (statistics.choose_records(codes, 2, NoiseSource.from_os()) for _ in range(2))
    assert len(first) == len(again) == 400
    assert first.tolist() != again.tolist()


def test_choice_of_a_patient_does_not_depend_on_the_others() -> None:
    codes = np.array([7.0, 7.0, 7.0, 1.0, 9.0])
    for seed in range(30):
        alone = statistics.choose_records(codes[:3], 1, Seeded(seed))
        assert alone[0] in statistics.choose_records(codes, 1, Seeded(seed))


# --- how much noise there is


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize(
    "query",
    [
        Query("count"),
        Query("sum", ("temperature",)),
        Query("sum", ("change",)),
        Query("histogram", ("ward",)),
        Query("crosstab", ("ward", "influenza")),
    ],
    ids=lambda query: query.key,
)
def test_laplace_noise_has_the_stated_scale(query: Query, most: int) -> None:
    matrix = records(np.arange(20), temperature=37.0, change=-1.0, ward=1, influenza=0)
    mechanism = asked(query, epsilon=0.1, records_per_patient=most)
    draws = np.array([answer(mechanism, matrix)[query.key].ravel() for _ in range(600)])
    scale = laplace_scale(query, mechanism, SCHEMA)
    # E|Laplace| = scale, sd of |Laplace| = scale: 600 draws or more give it to 1/sqrt(600) = 4 %.
    assert np.abs(draws - np.median(draws, axis=0)).mean() == pytest.approx(scale, rel=0.18)
    assert standard_error(query, mechanism, SCHEMA) == pytest.approx(math.sqrt(2) * scale, rel=0.02)


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("temperature", [38.0, 41.5])
def test_mean_noise_is_what_noise_scales_says(temperature: float, most: int) -> None:
    matrix = records(np.arange(1000), temperature=temperature)
    mechanism = asked(Query("mean", ("temperature",)), epsilon=1.0, records_per_patient=most)
    draws = np.array([answer(mechanism, matrix)["mean/temperature"][0] for _ in range(500)])
    column = SCHEMA.column("temperature")
    stated = mean_error(column, epsilon=1.0, records=most, patients=1000, mean=temperature)
    assert draws.std() == pytest.approx(stated, rel=0.25)
    assert draws.mean() == pytest.approx(temperature, abs=5 * stated / math.sqrt(500))
    assert stated <= standard_error(Query("mean", ("temperature",)), mechanism, SCHEMA, patients=1000)


@pytest.mark.parametrize("most", [1, 3])
def test_variance_noise_is_what_noise_scales_says(most: int) -> None:
    temperature = np.where(np.arange(2000) % 2, 40.0, 37.0)
    matrix = records(np.arange(2000), temperature=temperature)
    mechanism = asked(Query("variance", ("temperature",)), epsilon=2.0, records_per_patient=most)
    draws = np.array([answer(mechanism, matrix)["variance/temperature"][0] for _ in range(400)])
    stated = variance_error(
        SCHEMA.column("temperature"), epsilon=2.0, records=most, patients=2000, mean=38.5, variance=2.25
    )
    assert draws.std() == pytest.approx(stated, rel=0.25)
    assert draws.mean() == pytest.approx(2.25, abs=5 * stated / math.sqrt(400))


@pytest.mark.parametrize("most", [1, 3])
def test_rank_noise_stays_near_its_upper_value(most: int) -> None:
    n = 3000
    query = Query("quantiles", ("temperature",), (0.1, 0.5, 0.9))
    temperature = np.random.default_rng(6).normal(37.5, 0.8, n).clip(34, 42)
    matrix = records(np.arange(n), temperature=temperature)
    mechanism = asked(query, epsilon=1.0, records_per_patient=most)
    found = np.array([answer(mechanism, matrix)[query.key][:3] for _ in range(120)])  # the number comes last
    ranks = np.searchsorted(np.sort(temperature), found) / n
    errors = np.sqrt(((ranks - np.array(query.ranks)) ** 2).mean(axis=0))
    stated = standard_error(query, mechanism, SCHEMA, patients=n)
    assert (errors < 1.15 * stated).all()
    assert (errors > 0.25 * stated).all()


def test_epsilon_is_shared_by_the_queries() -> None:
    alone, shared = asked(Query("count"), epsilon=1.0), asked(*EVERY_QUERY, epsilon=1.0)
    assert laplace_scale(Query("count"), alone, SCHEMA) == 1.0
    assert laplace_scale(Query("count"), shared, SCHEMA) == pytest.approx(7.0)


# --- accuracy where noise is small, and shapes whatever the data are


def test_answers_agree_with_the_data_when_noise_is_small() -> None:
    matrix = records(np.random.default_rng(2).permutation(4000))
    found = answer(asked(*EVERY_QUERY), matrix)
    temperature, age = matrix[:, 2], matrix[:, 4]
    assert found["count"][0] == pytest.approx(4000, abs=2)
    assert found["sum/temperature"][0] == pytest.approx(temperature.sum(), abs=50)
    assert found["mean/temperature"][0] == pytest.approx(temperature.mean(), abs=0.01)
    assert found["variance/temperature"][0] == pytest.approx(temperature.var(), abs=0.02)
    assert found["quantiles/age"] == pytest.approx(np.quantile(age, [0.25, 0.5, 0.75]), abs=1.1)
    assert found["histogram/age"] == pytest.approx(np.histogram(age, bins=10, range=(0, 110))[0], abs=2)
    crosstab = np.histogram2d(matrix[:, 5], matrix[:, 6], bins=[np.arange(4) - 0.5, np.arange(3) - 0.5])[0]
    assert found["crosstab/ward,influenza"] == pytest.approx(crosstab, abs=2)


AWKWARD = st.sampled_from([math.nan, math.inf, -math.inf, 1e308, -1e308, 0.0, 1.0, 37.0, -5e-324])


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), *[AWKWARD] * 5), max_size=12),
    epsilon=st.sampled_from([1e-6, 0.3, 100.0]),
    most=st.integers(1, 100),
    bins=st.integers(2, 130),
)
def test_answers_are_finite_and_of_public_shape_whatever_the_data(
    rows: list[tuple[float, ...]], epsilon: float, most: int, bins: int
) -> None:
    matrix = np.array([(row[0], 0.0, *row[1:]) for row in rows], dtype=np.float64).reshape(-1, 7)
    mechanism = asked(*EVERY_QUERY, epsilon=epsilon, records_per_patient=most, bins=bins)
    found = answer(mechanism, matrix)
    assert list(found) == [query.key for query in EVERY_QUERY]
    for query in EVERY_QUERY:
        assert found[query.key].shape == answer_shape(query, mechanism, SCHEMA)
        assert found[query.key].dtype == np.float64
        assert np.isfinite(found[query.key]).all()
    assert 34 <= found["mean/temperature"][0] <= 42
    assert 0 <= found["variance/temperature"][0] <= 16
    assert ((found["quantiles/age"] >= 0) & (found["quantiles/age"] <= 110)).all()


def test_quantiles_keep_the_order_in_which_ranks_were_asked() -> None:
    matrix = records(np.arange(2000))
    query = Query("quantiles", ("temperature",), (0.9, 0.1, 0.5))
    high, low, middle, number = answer(asked(query), matrix)[query.key]
    assert number == pytest.approx(2000, abs=10)
    assert low < middle < high


def test_a_missing_value_is_left_out_and_never_counted_as_its_constant() -> None:
    temperature = np.where(np.arange(1000) % 4 == 0, math.nan, 39.0)  # the schema's constant is 37
    matrix = records(np.arange(1000), temperature=temperature)
    column = ("temperature",)
    queries = [Query(name, column) for name in ("sum", "mean", "variance", "missing", "histogram", "describe")]
    found = answer(asked(*queries, Query("quantiles", column, (0.5,)), bins=8), matrix)
    assert found["sum/temperature"][0] == pytest.approx(750 * 39, abs=60)
    assert found["mean/temperature"] == pytest.approx([39.0, 750], abs=2)
    assert found["mean/temperature"][0] == pytest.approx(39.0, abs=0.05)
    assert found["variance/temperature"][0] == pytest.approx(0.0, abs=0.1)
    assert found["quantiles/temperature"][0] == pytest.approx(39.0, abs=0.01)
    assert found["missing/temperature"] == pytest.approx([750, 250], abs=3)
    assert found["histogram/temperature"].sum() == pytest.approx(750, abs=8)
    assert found["describe/temperature"] == pytest.approx([0, 0, 0, 0, 0, 750, 0, 0, 250], abs=3)
    crosstab = answer(asked(Query("crosstab", ("ward", "temperature"))), matrix)
    assert crosstab["crosstab/ward,temperature"].sum() == pytest.approx(750, abs=12)


def test_nobody_with_a_value_is_finite_too() -> None:
    matrix = records(np.arange(50), temperature=math.nan)
    found = answer(asked(*EVERY_QUERY), matrix)
    assert 34 <= found["mean/temperature"][0] <= 42
    assert found["mean/temperature"][1] == pytest.approx(0, abs=2)


# --- conditions and groups


def test_a_condition_counts_patients_who_have_a_record_for_which_it_holds() -> None:
    # Patients 0 to 99 have ten records each, one of them old.
    age = np.where(np.arange(1000) % 10 == 3, 90, 20)
    matrix = records(np.repeat(np.arange(100), 10), age=age)
    for rows in (matrix, in_groups(matrix, 10)):
        for most, count in ((1, 100), (3, 100), (10, 100)):
            mechanism = asked(Query("count"), Query("mean", ("age",)), where="age >= 65", records_per_patient=most)
            found = answer(mechanism, rows)
            assert found["count"] == pytest.approx([count], abs=2)
            assert found["mean/age"] == pytest.approx([90, 100], abs=2)
            assert answer(replace(mechanism, where="age > 90"), rows)["count"] == pytest.approx([0], abs=2)


def test_a_condition_on_a_missing_value_holds_for_nobody() -> None:
    matrix = records(np.arange(400), temperature=math.nan)
    for text in ("temperature >= 37", "temperature < 37", "not temperature >= 37"):
        assert answer(asked(Query("count"), where=text), matrix)["count"] == pytest.approx([0], abs=1)
    assert answer(asked(Query("count"), where="temperature is missing"), matrix)["count"] == pytest.approx([400], abs=1)


@given(
    patients=st.lists(st.integers(0, 6), max_size=60),
    passing=st.lists(st.booleans(), min_size=60, max_size=60),
    most=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_of_records_that_pass_min_of_k_and_owned_are_used_and_others_fill_up(
    patients: list[int], passing: list[bool], most: int, seed: int
) -> None:
    codes, passes = np.asarray(patients, dtype=np.float64), np.asarray(passing[: len(patients)], dtype=np.bool_)
    rows = statistics.choose_passing(codes, passes, most, Seeded(seed))
    assert len(set(rows.tolist())) == len(rows)
    for patient in set(patients):
        own = codes[rows] == patient
        assert np.count_nonzero(own) == min(most, patients.count(patient))  # whatever passes
        assert np.count_nonzero(passes[rows] & own) == min(most, np.count_nonzero(passes & (codes == patient)))


def test_every_set_of_passing_records_is_as_likely_and_draws_do_not_tell_what_passes() -> None:
    codes = np.array([3.0, 3, 4, 3, 3, 3, 3])
    passes = np.array([True, True, True, False, True, True, True])
    source = Counted(2)
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(4000):
        rows = statistics.choose_passing(codes, passes, 2, source)
        pair = tuple(sorted(row for row in rows.tolist() if codes[row] == 3))
        counts[pair] = counts.get(pair, 0) + 1
    assert source.drawn == 4000 * 7
    assert len(counts) == 10
    assert max(abs(count - 400) for count in counts.values()) < 5 * 19


def test_how_long_a_cohort_takes_does_not_tell_whether_it_is_anybody() -> None:
    """Nobody, one, every second record or everybody."""
    patients, random = np.repeat(np.arange(50_000), 4), np.random.default_rng(1)
    rows = len(patients)
    ages = {
        "nobody": np.full(rows, 20),
        "one": np.where(np.arange(rows) == 7, 90, 20),
        "some": np.where(random.random(rows) < 0.5, 90, 20),
        "everybody": np.full(rows, 90),
    }
    tables = {name: in_groups(records(patients, age=age), 4) for name, age in ages.items()}
    usual = in_groups(records(patients, age=ages["nobody"]), 4)
    queries = Query("count"), Query("mean", ("age",)), Query("variance", ("age",)), Query("histogram", ("ward",))
    mechanism = asked(*queries, where="age >= 65", records_per_patient=2)
    ratio = unevenness(lambda table: answer(mechanism, table), tables, even=1.1, most_turns=90, usual=usual)
    assert ratio < 1.25  # 1.03 on a quiet machine; 5 where rows that fail are dropped


@pytest.mark.nightly
def test_a_million_records_are_described_in_three_seconds() -> None:
    """Twenty columns, half of them with missing values, as the median of three."""
    random, rows = np.random.default_rng(1), 1_000_000
    columns = [Column(name=f"x{place}", kind="real", minimum=0, maximum=100, missing=50.0) for place in range(10)]
    columns += [Column(name=f"c{place}", kind="category", categories=("a", "b", "c", "d")) for place in range(10)]
    schema = Schema(name="wide", population="town", patient="id", columns=tuple(columns))
    values = [np.where(random.random(rows) < 0.1, np.nan, random.uniform(0, 100, rows)) for _ in range(10)]
    values += [random.integers(0, 4, rows) for _ in range(10)]
    table = in_groups(np.column_stack([np.arange(rows), np.zeros(rows), *values]), 1)
    mechanism = asked(*(Query("describe", (column.name,)) for column in columns), epsilon=1.0, bins=50)
    for changes in ({}, {"where": "x0 >= 30 and c0 in ('a', 'b')"}, {"group_by": (Grouping("c1"),)}):
        spent = []
        for _ in range(3):
            begin = time.process_time()
            statistics.answer(replace(mechanism, **changes), schema, table, NoiseSource.from_os())  # type: ignore[arg-type]
            spent.append(time.process_time() - begin)
        assert sorted(spent)[1] < 3.0, changes


BY_WARD = (Grouping("ward"),)
BY_BAND = (Grouping("age", (18.0, 65.0)), Grouping("influenza"))


@pytest.mark.parametrize(("groups", "count"), [(BY_WARD, 3), (BY_BAND, 6)])
def test_answers_by_groups_agree_with_the_data_when_noise_is_small(groups: tuple[Grouping, ...], count: int) -> None:
    matrix = records(np.random.default_rng(2).permutation(6000))
    found = answer(asked(*EVERY_QUERY, Query("missing", ("age",)), group_by=groups), matrix)
    temperature, age = matrix[:, 2], matrix[:, 4]
    index = matrix[:, 5] if count == 3 else np.searchsorted([18, 65], age, side="right") * 2 + matrix[:, 6]
    for group in range(count):
        own = index == group
        assert found["count"][group] == pytest.approx(own.sum(), abs=3)
        assert found["sum/temperature"][group] == pytest.approx(temperature[own].sum(), abs=80)
        assert found["mean/temperature"][group] == pytest.approx([temperature[own].mean(), own.sum()], abs=2)
        assert found["mean/temperature"][group, 0] == pytest.approx(temperature[own].mean(), abs=0.1)
        assert found["variance/temperature"][group, 0] == pytest.approx(temperature[own].var(), abs=0.1)
        assert found["quantiles/age"][group, :3] == pytest.approx(np.quantile(age[own], [0.25, 0.5, 0.75]), abs=3)
        assert found["histogram/age"][group] == pytest.approx(np.histogram(age[own], bins=10, range=(0, 110))[0], abs=3)
        assert found["missing/age"][group] == pytest.approx([own.sum(), 0], abs=3)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_a_patient_in_several_groups_moves_all_of_them_by_k_at_most(most: int) -> None:
    crowd = records(np.arange(50), ward=0, temperature=37.0)
    heavy = records(np.full(900, 50), ward=np.arange(900) % 3, temperature=42.0)
    queries = Query("count"), Query("sum", ("temperature",)), Query("missing", ("ward",))
    mechanism = asked(*queries, records_per_patient=most, group_by=BY_WARD)
    both, alone = answer(mechanism, np.vstack([crowd, heavy])), answer(mechanism, crowd)
    moved = {key: both[key] - alone[key] for key in both}
    assert np.abs(moved["count"]).sum() <= min(most, 3) + 2  # noise of scale k/33 rounds to nothing, or nearly
    assert np.abs(moved["sum/temperature"]).sum() == pytest.approx(42 * most, abs=60 * 42 * most / 33)
    assert np.abs(moved["missing/ward"]).sum() <= most + 3


@pytest.mark.parametrize(("most", "largest"), [(1, 1), (2, 2), (5, 3)])
def test_counts_by_groups_have_noise_for_min_of_k_and_groups(most: int, largest: int) -> None:
    matrix = records(np.arange(20), ward=1)
    mechanism = asked(Query("count"), epsilon=0.1, records_per_patient=most, group_by=BY_WARD)
    draws = np.array([answer(mechanism, matrix)["count"] for _ in range(600)])
    assert laplace_scale(Query("count"), mechanism, SCHEMA) == pytest.approx(largest / 0.1)
    assert np.abs(draws - np.median(draws, axis=0)).mean() == pytest.approx(largest / 0.1, rel=0.18)


def test_records_whose_group_is_not_known_are_a_group() -> None:
    matrix = records(np.arange(300), temperature=np.where(np.arange(300) < 100, math.nan, 38.0))
    mechanism = asked(Query("count"), group_by=(Grouping("temperature", (37.5,)),))
    assert answer(mechanism, matrix)["count"] == pytest.approx([0, 200, 100], abs=1)


def test_sums_are_exact_in_any_order() -> None:
    # 1e5 values whose float sum depends on the order; on the grid it does not.
    values = np.random.default_rng(3).uniform(-1, 1, 100_000)
    on_grid = statistics._on_grid(values, statistics.SUM_GRID)
    forward, backward = float(np.cumsum(on_grid)[-1]), float(np.cumsum(on_grid[::-1])[-1])
    assert forward == backward == math.fsum(on_grid)
    squares = np.square(statistics._on_grid(values, statistics.SQUARE_GRID))
    assert float(np.cumsum(squares)[-1]) == float(np.cumsum(squares[::-1])[-1]) == math.fsum(squares)


# --- how the library is called


class Spy:
    """The library's mechanism, which notes how it is made and how often it is asked."""

    made: ClassVar[list[Spy]] = []

    def __init__(self, epsilon: float, sensitivity: float) -> None:
        self.epsilon, self.sensitivity = epsilon, sensitivity
        self.kinds: list[type] = []
        self.real = LaplaceMechanism(epsilon, sensitivity)
        self.made.append(self)

    def add_noise(self, value: float) -> float:
        assert type(value) in (int, float)
        self.kinds.append(type(value))
        return self.real.add_noise(value)


@pytest.mark.parametrize("most", [1, 4])
@pytest.mark.parametrize("groups", [(), BY_WARD])
def test_every_draw_states_its_epsilon_and_sensitivity(
    monkeypatch: pytest.MonkeyPatch, most: int, groups: tuple[Grouping, ...]
) -> None:
    monkeypatch.setattr(statistics, "LaplaceMechanism", Spy)
    count = 3 if groups else 1
    patients = min(most, count)
    parts: dict[str, list[tuple[float, float, type, int]]] = {
        "count": [(1, patients, int, 1)],
        "sum/temperature": [(1, most, float, 1)],
        "mean/temperature": [(1 / 2, most, float, 1), (1 / 2, most, int, 1)],
        "variance/temperature": [(1 / 3, most, float, 1), (1 / 3, most / 2, float, 1), (1 / 3, most, int, 1)],
        "histogram/age": [(1, most, int, 10)],
        "crosstab/ward,influenza": [(1, most, int, 6)],
        "missing/temperature": [(1, most, int, 2)],
        "describe/temperature": [(1, most, int, 11)],
    }
    cells = [Query("missing", ("temperature",)), Query("describe", ("temperature",))]
    for query in [*EVERY_QUERY, *cells]:
        Spy.made = []
        answer(asked(query, epsilon=1.0, records_per_patient=most, group_by=groups), records(np.arange(30)))
        stated = [(spy.epsilon, spy.sensitivity, *set(spy.kinds), len(spy.kinds)) for spy in Spy.made]
        if query.name == "quantiles":
            assert set(stated) == {(1 / 4, most, int, 8)}
        else:
            wanted = [(epsilon, by, kind, draws * count) for epsilon, by, kind, draws in parts[query.key]]
            assert stated == wanted
            # What is charged is what is drawn.
            assert parts_of(asked(query, epsilon=1.0)) == pytest.approx([epsilon for epsilon, *_ in stated])


def test_no_cell_of_a_quantile_tree_is_drawn_twice() -> None:
    leaves = np.random.default_rng(1).multinomial(10**6, np.full(4096, 1 / 4096))
    asked_for: list[bytes] = []

    def noise(counts: np.ndarray, epsilon: float) -> np.ndarray:
        assert epsilon == 1.0 / 4
        asked_for.append(counts.tobytes())
        return counts + 0.0

    ranks = tuple(np.linspace(0, 1, 101))
    answers, number = quantiles_of(leaves, ranks, epsilon=1.0, noise=noise)
    assert len(asked_for) == len(set(asked_for)) <= 1 + 8 + 64 + 101
    assert number == 10**6
    assert answers == sorted(answers)
    assert answers == pytest.approx((2 * np.clip(ranks, 0.005, 0.995) - 1).tolist(), abs=0.005)


def test_module_uses_no_algorithm_of_the_library_but_its_noise() -> None:
    code = Path(statistics.__file__).read_text().split('"""', 2)[2]
    assert re.findall(r"from pydp.* import .*", code) == ["from pydp._pydp._mechanisms import LaplaceMechanism"]


# --- errors and forks


def test_library_failure_says_nothing_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(values: np.ndarray, *_: Any, **__: Any) -> float:
        raise TypeError(f"Invoked with: {values.tolist()}")  # what the library's own errors look like

    monkeypatch.setattr(statistics, "_sum", fails)
    matrix = records(np.arange(5), temperature=41.123)
    with pytest.raises(DatasiteError) as caught:
        answer(asked(Query("sum", ("temperature",))), matrix)
    assert "41.1" not in str(caught.value)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_unsuitable_query_is_refused_before_records_are_read() -> None:
    class Unread:
        def __array__(self, *_: Any) -> np.ndarray:
            raise AssertionError("records were read")

    with pytest.raises(UnsupportedMechanism, match="ward"):
        statistics.answer(asked(Query("mean", ("ward",))), SCHEMA, Unread(), Seeded())  # type: ignore[arg-type]


FORKS = """
import os, sys
import numpy as np
from test_statistics import SCHEMA, Seeded, asked, records
from datasites.engine import statistics
from datasites.engine.matrix import GroupedRows, in_groups
from datasites.engine.noise import NoiseSource
from policies.privacy.mechanisms import Query

def answered():
    mechanism = asked(Query("sum", ("temperature",)), Query("histogram", ("age",)), epsilon=0.01)
    found = statistics.answer(mechanism, SCHEMA, records(np.arange(9)), Seeded())
    return repr([value.tolist() for value in found.values()])

if "asked" in sys.argv:
    answered()
if "unguarded" in sys.argv:
    statistics._refuse_repeated_noise = lambda: None
for _ in range(4):
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            text = answered()
        except BaseException as error:
            text = type(error).__name__
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    print(os.read(read, 65536).decode(), flush=True)
    os.wait()
"""


def _answers_of_children(*parent: str) -> list[str]:
    """What four real forks of a fresh process answer, one line each."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", FORKS, *parent], capture_output=True, text=True, check=True, env={"PYTHONPATH": path}
    )
    return done.stdout.splitlines()


@pytest.mark.process
def test_children_of_an_untouched_parent_draw_different_noise() -> None:
    # Eight children of two parents, whose sources and data are the same: all that differs is the library's noise.
    answers = _answers_of_children() + _answers_of_children()
    assert len(set(answers)) == 8


@pytest.mark.process
def test_children_of_a_parent_that_asked_are_refused() -> None:
    assert _answers_of_children("asked") == [IsolationMissing.__name__] * 4


@pytest.mark.process
def test_library_itself_repeats_its_noise_after_a_fork() -> None:
    # Why the refusal exists. If this fails, the library has learnt of forks and the refusal may go.
    answers = _answers_of_children("asked", "unguarded")
    assert len(answers) == 4
    assert len(set(answers)) == 1


def in_sums(mechanism: Statistics) -> Statistics:
    parties = tuple(Party(f"Hospital {place}", f"{place:064x}", 400) for place in range(3))
    return replace(mechanism, secure_aggregation=SecureAggregation(threshold=2, hospitals=parties))


@pytest.mark.parametrize("groups", [(), (Grouping("ward", ()),)])
def test_what_is_added_up_over_hospitals_is_what_answers_are_made_of(groups: tuple[Grouping, ...]) -> None:
    """With little noise three hospitals' sums say what all records in one table would have said."""
    mechanism = asked(*EVERY_QUERY, group_by=groups)
    tables = [records(np.arange(count) + 1000 * place, place) for place, count in enumerate((400, 300, 200))]
    summed: dict[str, Any] = {}
    for one in tables:
        sums = answer(in_sums(mechanism), one)
        shapes = {name: part.shape for name, part in summed_numbers(in_sums(mechanism), SCHEMA).items()}
        assert {name: cells.shape for name, cells in sums.items()} == shapes
        summed = {name: summed.get(name, 0) + cells for name, cells in sums.items()}
    found = answers_from(summed, in_sums(mechanism), SCHEMA)
    whole = answer(mechanism, np.concatenate(tables))
    for query in mechanism.queries:
        # Seven statistics share ε = 100: a count has noise of scale 0.07, a sum of 42 times that, a rank less than 1 %.
        far = {"sum": 42 * 3.0, "quantiles": 8.0, "mean": 0.1, "variance": 0.2}.get(query.name, 3.0)
        ours, theirs = (np.atleast_2d(each[query.key]) for each in (found, whole))
        if query.name in ("mean", "variance"):  # the number of records comes last
            np.testing.assert_allclose(ours[:, -1], theirs[:, -1], rtol=0, atol=3.0, err_msg=query.key)
            ours, theirs = ours[:, :-1], theirs[:, :-1]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=far, err_msg=query.key)


def test_a_whole_tree_has_the_noise_of_its_levels_in_every_cell() -> None:
    """Each level has a fourth of the query's ε: Laplace noise of scale 4/ε, of deviation √2 · 4 / ε, in each cell."""
    mechanism = in_sums(asked(Query("quantiles", ("age",), (0.5,)), epsilon=2.0))
    tree = answer(mechanism, records(np.arange(0)))["quantiles/age"]
    assert tree.shape == (1, NODES)
    assert tree.std() == pytest.approx(math.sqrt(2) * 4 / 2.0, rel=0.1)
    for level in np.split(tree[0], [8, 72, 584])[1:]:
        assert level.std() == pytest.approx(math.sqrt(2) * 2, rel=0.5)
    assert (tree == np.rint(tree)).all()


def test_what_is_drawn_for_a_sum_is_the_same_whatever_the_records_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree alone draws what it looks at, which noisy counts decide; for a sum every cell is drawn."""
    drawn: list[int] = []
    real = statistics.noisy

    def counting(exact: Any, **arguments: Any) -> Any:
        drawn.append(np.size(exact))
        return real(exact, **arguments)

    monkeypatch.setattr(statistics, "noisy", counting)
    mechanism, seen = in_sums(asked(*EVERY_QUERY, records_per_patient=3)), []
    for matrix in (records(np.arange(0)), records(np.arange(50)), records(np.repeat(np.arange(51), 20), age=110)):
        drawn.clear()
        given = answer(mechanism, matrix)
        seen.append((list(drawn), {name: (cells.shape, cells.dtype, cells.nbytes) for name, cells in given.items()}))
    assert seen[0] == seen[1] == seen[2]
    assert NODES in seen[0][0]
