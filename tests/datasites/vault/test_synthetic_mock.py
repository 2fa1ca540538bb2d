"""Rows drawn from private tables: what is asked is public, what is drawn is a function of the release alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from datasites.engine.noise import NoiseSource
from datasites.engine.statistics import answer
from datasites.vault.synthetic_mock import BINS, check_mock_choice, middle_of, questions, shares, synthetic_rows
from policies.errors import InvalidRequest, UnsupportedMechanism
from policies.schema.questions import answer_shape, check_statistics
from policies.schema.schemas import FIRST_COLUMN, Schema

TOML = """
name = "flu"
population = "patients"
patient = "patient"
target = "sick"
holdout = 0.25
columns.age = { kind = "integer", minimum = 0, maximum = 100 }
columns.temperature = { kind = "real", minimum = 34.0, maximum = 42.0, missing = { constant = 37.0, indicator = true } }
columns.ward = { kind = "category", categories = ["a", "b", "c"] }
columns.visits = { kind = "integer", minimum = 1, maximum = 4 }
columns.seen = { kind = "date", minimum = 2025-01-01, maximum = 2025-12-31 }
columns.sick = { kind = "boolean" }
"""
SCHEMA = Schema.from_toml(TOML)


def private(patients: int = 4000, seed: int = 1) -> Any:
    """Records in which those who are sick are hotter, older and mostly in ward c; some temperatures are missing."""
    draw = np.random.default_rng(seed)
    sick = draw.random(patients) < 0.3
    temperature = np.where(draw.random(patients) < 0.1, np.nan, draw.normal(np.where(sick, 39, 37), 0.4).clip(34, 42))
    ward = np.where(sick, 2, draw.integers(0, 2, patients))
    age = draw.integers(0, 101, patients) // np.where(sick, 1, 2)
    columns = (age, temperature, ward, draw.integers(1, 5, patients), draw.integers(0, 365, patients), sick)
    return np.column_stack([np.arange(patients), draw.random(patients) < 0.25, *columns]).astype(np.float64)


def exact(matrix: Any, mechanism: Any) -> dict[str, Any]:
    """The release without its noise, to a table's own library's noise at a huge ε."""
    from dataclasses import replace

    return answer(replace(mechanism, epsilon=100.0), SCHEMA, matrix, NoiseSource(bytes(32)))


@pytest.fixture(scope="module")
def drawn() -> Any:
    mechanism = questions(SCHEMA, 1.0)
    release = exact(private(), mechanism)
    return SCHEMA.frame(synthetic_rows(release, mechanism, SCHEMA, 8000))


def test_the_target_is_crossed_with_every_other_column_and_what_may_be_missing_is_counted() -> None:
    mechanism = questions(SCHEMA, 0.5)
    assert [query.key for query in mechanism.queries] == [
        "crosstab/sick,age",
        "crosstab/sick,temperature",
        "describe/temperature",
        "crosstab/sick,ward",
        "crosstab/sick,visits",
        "crosstab/sick,seen",
    ]
    assert (mechanism.epsilon, mechanism.records_per_patient, mechanism.bins) == (0.5, 1, BINS)
    check_statistics(mechanism, SCHEMA)


def test_what_goes_with_the_target_goes_with_it_in_the_drawn_rows(drawn: Any) -> None:
    is_sick = drawn["sick"].astype(bool)
    sick, well = drawn[is_sick], drawn[~is_sick]
    assert len(sick) / len(drawn) == pytest.approx(0.3, abs=0.03)
    assert sick["temperature"].mean() == pytest.approx(39, abs=0.2)
    assert well["temperature"].mean() == pytest.approx(37, abs=0.2)
    assert (sick["ward"] == "c").mean() > 0.95
    assert (well["ward"] == "c").mean() < 0.05
    assert drawn["temperature"].isna().mean() == pytest.approx(0.1, abs=0.02)
    assert sick["age"].mean() - well["age"].mean() > 15


def test_every_cell_is_within_its_bounds_and_whole_where_it_must_be() -> None:
    mechanism = questions(SCHEMA, 1.0)
    noise = np.random.default_rng(3)
    release = {query.key: noise.laplace(0, 50, answer_shape(query, mechanism, SCHEMA)) for query in mechanism.queries}
    rows = synthetic_rows(release, mechanism, SCHEMA, 2000)
    for place, column in enumerate(SCHEMA.columns):
        values = rows[:, FIRST_COLUMN + place]
        known = values[~np.isnan(values)]
        assert ((known >= column.low) & (known <= column.high)).all()
        assert column.kind == "real" or (known == np.rint(known)).all()
        assert column.missing != "refuse" or len(known) == len(values)
    assert set(rows[:, 1]) == {0.0, 1.0}


def test_rows_are_a_function_of_the_release_and_of_public_facts_alone() -> None:
    """Post-processing: nothing but the release, the mechanism and the schema is given to what draws them."""
    mechanism = questions(SCHEMA, 1.0)
    release = exact(private(300), mechanism)
    first, again = (synthetic_rows(release, mechanism, SCHEMA, 100) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    moved = {name: table + 1e-3 for name, table in release.items()}
    assert not np.array_equal(first, synthetic_rows(moved, mechanism, SCHEMA, 100), equal_nan=True)


def test_a_table_of_noise_alone_still_gives_rows() -> None:
    mechanism = questions(SCHEMA, 1.0)
    nothing = {query.key: np.full(answer_shape(query, mechanism, SCHEMA), -1.0) for query in mechanism.queries}
    rows = synthetic_rows(nothing, mechanism, SCHEMA, 50)
    assert np.isfinite(rows[:, [0, 1, 2, 4, 5, 6, 7]]).all()


def test_shares_are_the_nearest_point_of_the_simplex() -> None:
    found = shares([6.0, 3.0, -1.0])
    # Total 8; of (6, 3, -1) the nearest with sum 8 and nothing below 0 is (5.5, 2.5, 0): 1 too much, from two cells.
    np.testing.assert_allclose(found, [5.5 / 8, 2.5 / 8, 0])
    np.testing.assert_allclose(shares([-1.0, -2.0]), [0.5, 0.5])


def test_columns_beyond_the_most_questions_and_large_tables_are_drawn_alone() -> None:
    many = "".join(f'columns.c{number} = {{ kind = "boolean" }}\n' for number in range(40))
    head = 'name = "wide"\npopulation = "p"\npatient = "id"\ntarget = "sick"\n'
    wide = Schema.from_toml(head + many + 'columns.sick = { kind = "boolean" }\n')
    asked = questions(wide, 1.0)
    assert sum(query.name == "crosstab" for query in asked.queries) == 32
    assert sum(query.name == "describe" for query in asked.queries) == 8
    labels = [f"l{number}" for number in range(600)]
    large = (
        head + f'columns.code = {{ kind = "category", categories = {labels} }}\ncolumns.sick = {{ kind = "boolean" }}\n'
    )
    assert [query.name for query in questions(Schema.from_toml(large), 1.0).queries] == ["describe", "describe"]


def test_without_a_target_every_column_is_drawn_alone() -> None:
    plain = Schema.from_toml(TOML.replace('target = "sick"\n', ""))
    assert middle_of(plain) is None
    mechanism = questions(plain, 1.0)
    assert {query.name for query in mechanism.queries} == {"describe"}
    release = {query.key: np.ones(answer_shape(query, mechanism, plain)) for query in mechanism.queries}
    assert synthetic_rows(release, mechanism, plain, 10).shape == (10, 2 + len(plain.columns))


def test_a_mock_is_chosen_in_one_way() -> None:
    check_mock_choice("public.csv", None, SCHEMA)
    with pytest.raises(InvalidRequest, match="Choose one mock"):
        check_mock_choice("public.csv", 0.5, SCHEMA)
    with pytest.raises(UnsupportedMechanism, match=r"epsilon=0\.0 is outside"):
        check_mock_choice(None, 0.0, SCHEMA)
