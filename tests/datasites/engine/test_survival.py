"""The survival table's engine: one cell a patient, whatever the records are, and exact noise in all."""

from __future__ import annotations

import time

import numpy as np
import pytest

from datasites.engine.matrix import in_groups
from datasites.engine.noise import NoiseSource
from datasites.engine.survival import one_of_each, survival_table
from policies.privacy.accountant import charge_for, pure_divergence, renyi_divergence
from policies.privacy.survival import KaplanMeier
from policies.schema.columns import Column
from policies.schema.schemas import Schema
from policies.schema.survival_cells import TENSOR, survival_shape

SCHEMA = Schema(
    name="t",
    population="p",
    patient="id",
    columns=(
        Column(name="week", kind="integer", minimum=0, maximum=52),
        Column(name="relapse", kind="boolean"),
        Column(name="ward", kind="category", categories=("a", "b", "c")),
        Column(name="unused", kind="real", minimum=0, maximum=1),
    ),
)


def declared(**changes: object) -> KaplanMeier:
    facts = {"time": "week", "event": "relapse", "by": "ward", "epsilon": 100.0, "bins": 10}
    return KaplanMeier(**{**facts, **changes})  # type: ignore[arg-type]


def rows(patients: int, each: int = 1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(patients), each)
    size = len(codes)
    values = rng.integers(0, 53, size), rng.integers(0, 2, size), rng.integers(0, 3, size), rng.uniform(size=size)
    return np.column_stack([codes, codes % 5 == 0, *values]).astype(np.float64)


def table(matrix: np.ndarray, key: int = 0, **changes: object) -> np.ndarray:
    noise = NoiseSource(bytes([key]) * 32)
    return survival_table(declared(**changes), SCHEMA, matrix, noise)[TENSOR]  # type: ignore[no-any-return]


def test_each_patient_is_in_exactly_one_cell_held_out_or_not() -> None:
    for each in (1, 20):
        counts = table(rows(200, each))
        assert counts.shape == survival_shape(declared(), SCHEMA) == (3, 21)
        assert counts.sum() == 200
        assert (counts >= 0).all()


def test_one_patient_more_or_less_moves_one_cell_by_one_whatever_the_patients_records() -> None:
    # The same key draws the same noise, and of the others there is no choice: what is left is the patient's own.
    others = rows(200)
    for records in (1, 20):
        one = rows(1, records, seed=3)
        one[:, 0] = 1000
        moved = np.abs(table(np.concatenate([others, one]), epsilon=1.0) - table(others, epsilon=1.0))
        assert moved.sum() == 1  # L1 sensitivity 1


def test_the_record_that_counts_is_uniform_among_those_that_are_whole() -> None:
    matrix = rows(1, each=4)
    matrix[:, 2] = [1, 11, 21, 31]
    matrix[0, 3] = np.nan
    source = NoiseSource(bytes(32))
    chosen = [one_of_each(SCHEMA, matrix, ("week", "relapse"), source)[0, 2] for _ in range(600)]
    counts = [chosen.count(week) for week in (1, 11, 21, 31)]
    assert counts[0] == 0  # its event is missing
    assert min(counts[1:]) > 150


def test_a_missing_value_elsewhere_leaves_a_record_in_and_one_of_its_own_leaves_it_out() -> None:
    matrix = rows(50)
    matrix[:, 5] = np.nan
    assert table(matrix).sum() == 50
    for column in (2, 3, 4):
        spoilt = rows(50)
        spoilt[:10, column] = np.nan
        assert table(spoilt).sum() == 40
    spoilt = rows(50)
    spoilt[:10, 4] = np.nan
    assert table(spoilt, by=None).sum() == 50


def test_nobody_and_rows_in_groups_have_the_same_shape() -> None:
    assert table(np.zeros((0, 6))).sum() == 0
    matrix = rows(300, each=3)
    grouped = in_groups(matrix, most=3)
    assert survival_table(declared(), SCHEMA, grouped, NoiseSource(bytes(32)))[TENSOR].sum() == 300


def test_noise_is_discrete_laplace_of_the_declared_epsilon() -> None:
    empty = np.zeros((0, 6))
    drawn = np.concatenate([table(empty, key, epsilon=1.0).ravel() for key in range(200)])
    p = np.exp(-1.0)
    assert drawn.var() == pytest.approx(2 * p / (1 - p) ** 2, rel=0.08)
    assert (drawn == 0).mean() == pytest.approx((1 - p) / (1 + p), abs=0.02)


def test_the_charge_is_that_of_discrete_laplace_noise_and_its_pure_epsilon() -> None:
    asked = declared(epsilon=0.5)
    # Of P[z] ∝ p^|z| against itself moved by one: (p^(1-α) + p^α) / (1 + p).
    p, order = np.exp(-0.5), 8
    assert renyi_divergence(asked, order) == pytest.approx(
        np.log((p ** (1 - order) + p**order) / (1 + p)) / (order - 1)
    )
    assert renyi_divergence(asked, order) >= pure_divergence(0.5, order)
    assert charge_for(asked, order).pure_epsilon_nano == 500_000_000


@pytest.mark.timeout(120)
def test_a_million_records_take_less_than_three_seconds() -> None:
    matrix = in_groups(rows(1_000_000), most=1)
    begin = time.process_time()
    counts = survival_table(declared(epsilon=1.0, bins=52), SCHEMA, matrix, NoiseSource(bytes(32)))[TENSOR]
    assert time.process_time() - begin < 3
    assert counts.sum() == pytest.approx(1_000_000, abs=300)


def test_a_condition_chooses_records_before_one_of_each_is_drawn() -> None:
    matrix = rows(200, each=3)
    wards = {patient for patient, ward in zip(matrix[:, 0], matrix[:, 4], strict=True) if ward == 1}
    assert table(matrix, where="ward == 'b'")[[0, 2]].sum() == 0
    assert table(matrix, where="ward == 'b'").sum() == len(wards)
