"""Statistics in sums over hospitals: a public grid that every number fits, and the same answers as one table's."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from policies.errors import UnsupportedMechanism
from policies.privacy.grouping import groupings_from
from policies.privacy.mechanisms import Query, Statistics, as_dict, mechanism_from
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.release.summed import scale_of
from policies.schema.quantile_trees import NODES
from policies.schema.schemas import Column, Schema
from policies.schema.summed_statistics import (
    answers_from,
    grid_digest,
    rounding_of,
    summed_numbers,
    summed_steps,
)
from policies.secure_sums.encoding import added, counted
from tests.policies.plan_factories import SCHEMA, statistics, survival

EVERYTHING = (
    Query("count"),
    Query("sum", ("temperature",)),
    Query("mean", ("temperature",)),
    Query("variance", ("temperature",)),
    Query("quantiles", ("age",), (0.25, 0.5)),
    Query("histogram", ("cough",)),
    Query("describe", ("age",)),
    Query("missing", ("age",)),
    Query("crosstab", ("cough", "influenza")),
)


def roster(count: int = 3, patients: int = 1000, **changes: Any) -> SecureAggregation:
    parties = tuple(Party(f"Hospital {place}", f"{place:064x}", patients) for place in range(count))
    return SecureAggregation(threshold=count // 2 + 1, hospitals=parties, **changes)


def asked(*queries: Query, declared: SecureAggregation | None = None, **changes: Any) -> Statistics:
    return statistics(queries=queries or EVERYTHING, secure_aggregation=declared or roster(), **changes)


def test_every_number_of_a_hospital_fits_its_part_of_a_word() -> None:
    for count, patients in ((2, 10), (3, 1000), (100, 10_000_000)):
        declared = roster(count, patients)
        mechanism = asked(declared=declared, epsilon=0.1, records_per_patient=3)
        for name, part in summed_numbers(mechanism, SCHEMA).items():
            reach = 3 * patients * 2 + 64 * 3 * 4 * len(EVERYTHING) / 0.1 if "quantiles" in name else 3 * patients * 2
            assert reach / part.step <= declared.largest, name
            assert math.log2(part.step) == int(math.log2(part.step))


def test_counts_are_whole_and_sums_are_far_finer_than_their_noise() -> None:
    steps = summed_steps(asked(), SCHEMA)
    assert {name for name, step in steps.items() if step == 1.0} == {
        "count", "quantiles/age", "histogram/cough", "describe/age", "missing/age", "crosstab/cough,influenza",
        "mean/temperature/records", "variance/temperature/records",
    }  # fmt: skip
    assert max(step for step in steps.values() if step != 1.0) < 2**-10
    assert rounding_of(asked(), SCHEMA) == pytest.approx(1.0, abs=1e-6)
    vast = asked(declared=roster(100, 10**9))  # a step as large as noise is said to widen it
    assert rounding_of(vast, SCHEMA) > 1.0


def test_numbers_of_three_hospitals_add_up_to_what_one_table_says() -> None:
    mechanism, random = asked(), np.random.default_rng(7)
    numbers = summed_numbers(mechanism, SCHEMA)
    steps = summed_steps(mechanism, SCHEMA)
    assert mechanism.secure_aggregation is not None
    total, whole = np.zeros(sum(math.prod(part.shape) for part in numbers.values()), np.uint32), {}
    for _ in range(3):
        one = {
            name: random.integers(-900, 900, part.shape) * part.step + (part.step / 2**8 if part.step < 1 else 0)
            for name, part in numbers.items()
        }
        total += counted(one, steps, mechanism.secure_aggregation)
        whole = {name: whole.get(name, 0) + np.rint(cells / steps[name]) * steps[name] for name, cells in one.items()}
    found = added(total, {name: np.zeros(part.shape) for name, part in numbers.items()}, steps)
    for name, cells in found.items():
        np.testing.assert_array_equal(cells, whole[name])


def test_answers_of_sums_are_what_they_are_made_of() -> None:
    mechanism = asked(
        Query("mean", ("temperature",)), Query("variance", ("temperature",)), Query("quantiles", ("age",), (0.5,)),
        Query("sum", ("temperature",)),
    )  # fmt: skip
    tree = np.zeros((1, NODES))
    tree[0, [4, 8 + 4 * 8, 72 + 4 * 64, 584 + 4 * 512]] = 300  # everybody in the first leaf above the middle
    sums = {
        "mean/temperature": [150.0], "mean/temperature/records": [300.0],
        "variance/temperature": [0.0], "variance/temperature/squares": [-75.0], "variance/temperature/records": [300.0],
        "quantiles/age": tree, "sum/temperature": [2.0],
    }  # fmt: skip
    answers = answers_from(sums, mechanism, SCHEMA)
    assert answers["mean/temperature"] == pytest.approx([38 + 4 * 0.5])
    assert answers["variance/temperature"] == pytest.approx([16 * 0.25])  # Q/c + 1/2 = 1/4 of half the range squared
    assert answers["quantiles/age"] == pytest.approx([45.0], abs=90 / 4096)
    assert answers["sum/temperature"] == pytest.approx([84.0])  # in units of the larger bound


def test_groups_have_sums_of_their_own() -> None:
    mechanism = asked(Query("mean", ("temperature",)), Query("count"), group_by=groupings_from("cough"))
    assert {name: part.shape for name, part in summed_numbers(mechanism, SCHEMA).items()} == {
        "mean/temperature": (2,),
        "mean/temperature/records": (2,),
        "count": (2,),
    }
    answers = answers_from(
        {"mean/temperature": [0.0, -10.0], "mean/temperature/records": [10.0, 10.0], "count": [3.0, 4.0]},
        mechanism,
        SCHEMA,
    )
    np.testing.assert_array_equal(answers["mean/temperature"], [[38.0, 10.0], [34.0, 10.0]])


def test_too_many_numbers_for_a_sum_are_refused_before_anything_is_asked() -> None:
    """A tree for each of 300 groups is more than leaves in one release."""
    bands = groupings_from({"age": list(range(1, 50)), "temperature": [35, 36, 37, 38, 39]})
    mechanism = asked(Query("quantiles", ("temperature",), (0.5,)), group_by=bands)
    with pytest.raises(UnsupportedMechanism, match=r"quantiles/temperature has \d+ numbers in a sum .* without secure"):
        summed_numbers(mechanism, SCHEMA)


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("temperature", {"maximum": 43}),
        ("temperature", {"unit": "°F"}),
        ("temperature", {"missing": 37.0}),
        ("age", {"minimum": 1}),
        ("age", {"kind": "real"}),
    ],
)
def test_another_grid_has_another_digest(column: str, change: dict[str, Any]) -> None:
    columns = tuple(replace(one, **change) if one.name == column else one for one in SCHEMA.columns)
    assert grid_digest(asked(), replace(SCHEMA, columns=columns)) != grid_digest(asked(), SCHEMA)
    if column == "age":
        assert scale_of(survived(), replace(SCHEMA, columns=columns)) != scale_of(survived(), SCHEMA)


def survived() -> Any:
    return survival(secure_aggregation=roster())


def test_what_is_not_asked_and_descriptions_change_no_digest() -> None:
    columns = (*(replace(one, description="Words.") for one in SCHEMA.columns), Column(name="other", kind="boolean"))
    other: Schema = replace(SCHEMA, columns=columns, holdout=0.1)
    assert grid_digest(asked(), other) == grid_digest(asked(), SCHEMA)
    assert scale_of(survived(), other) == scale_of(survived(), SCHEMA)
    assert grid_digest(asked(where="age >= 65"), SCHEMA) != grid_digest(asked(), SCHEMA)


def test_a_declaration_is_read_back_as_it_was_and_plans_that_exist_stay_as_they_are() -> None:
    declared = roster(scale="ab" * 32)
    for mechanism in (asked(declared=declared), survival(secure_aggregation=declared)):
        assert mechanism_from(as_dict(mechanism)) == mechanism
    assert "secure_aggregation" not in as_dict(statistics()) | as_dict(survival())
    assert "scale" not in roster().as_dict()
    with pytest.raises(UnsupportedMechanism, match="scale='nonsense'"):
        roster(scale="nonsense")
