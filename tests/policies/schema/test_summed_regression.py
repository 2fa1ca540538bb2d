"""Regressions in a sum: hospitals' words add up to the fit that weighs each by its precision, and state its errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from datasites.engine.noise import NoiseSource
from datasites.engine.regression import regression_sums
from policies.errors import UnsupportedMechanism, WeightsRefused
from policies.privacy.mechanisms import as_dict, mechanism_from
from policies.privacy.regression import Regression
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.release.summed import scale_of, steps_of
from policies.schema.columns import Column
from policies.schema.design import design_of
from policies.schema.summed_regression import (
    check_sums,
    fit_of_sums,
    regression_digest,
    regression_numbers,
    told_in,
    weighed,
)
from policies.secure_sums.encoding import added, counted
from researcher.coefficients import fit_in_sum, fit_of, together
from tests.researcher.test_coefficients import OUTCOMES, SCHEMA, asked, patients

SIZES = (4000, 2000, 1500)
Sums = dict[str, np.ndarray]


def roster(count: int = 3, most: int = 4000, **changes: Any) -> SecureAggregation:
    parties = tuple(Party(f"Hospital {place}", f"{place:064x}", most) for place in range(count))
    return SecureAggregation(threshold=count // 2 + 1, hospitals=parties, **changes)


def in_sums(family: str = "gaussian", *, declared: SecureAggregation | None = None, **changes: Any) -> Regression:
    return replace(asked(family, **{"epsilon": 4.0, **changes}), secure_aggregation=declared or roster())


def released(mechanism: Regression, size: int, seed: int) -> Sums:
    alone = replace(mechanism, secure_aggregation=None)
    rows = patients(np.random.default_rng(seed), size)
    return regression_sums(alone, SCHEMA, rows, NoiseSource(bytes([seed]) * 32))


def opened(mechanism: Regression, hospitals: list[Sums]) -> Sums:
    """The sum as it is read from words modulo 2^32, of what each hospital adds."""
    assert mechanism.secure_aggregation is not None
    steps, parts = steps_of(mechanism, SCHEMA, {}), [weighed(mechanism, SCHEMA, one) for one in hospitals]
    assert steps is not None
    words = [counted(part, steps, mechanism.secure_aggregation) for part in parts]
    total = np.sum(words, axis=0, dtype=np.uint32)
    for part in parts:  # nothing is lost on the grid
        for name, value in part.items():
            np.testing.assert_array_equal(np.rint(value / steps[name]) * steps[name], value)
    return added(total, parts[0], steps)


@pytest.mark.parametrize("family", OUTCOMES)
def test_a_sum_says_what_hospitals_say_that_are_weighed_by_their_precision(family: str) -> None:
    mechanism = in_sums(family)
    hospitals = [released(mechanism, size, seed) for seed, size in enumerate(SIZES, start=1)]
    design = design_of(mechanism, SCHEMA)
    apart = together([fit_of(mechanism, design, one) for one in hospitals])
    sums = opened(mechanism, hospitals)
    check_sums(sums, mechanism, SCHEMA)
    summed = fit_in_sum(mechanism, SCHEMA, sums)
    assert apart.told
    assert told_in(sums) == 3
    errors = np.sqrt(np.diag(apart.noise + apart.sampling))
    assert np.abs(summed.values - apart.values).max() < 1e-3 * errors.min()
    np.testing.assert_allclose(np.sqrt(np.diag(summed.noise)), np.sqrt(np.diag(apart.noise)), rtol=1e-3)
    np.testing.assert_allclose(np.sqrt(np.diag(summed.sampling)), np.sqrt(np.diag(apart.sampling)), rtol=1e-3)
    assert summed.residual == (pytest.approx(apart.residual, rel=1e-3) if family == "gaussian" else None)


def test_a_hospital_that_noise_hides_adds_nothing_and_the_sum_says_how_many_are_in_it() -> None:
    mechanism = in_sums()
    hidden, clear = released(mechanism, 20, 1), released(mechanism, 4000, 2)
    assert not any(value.any() for value in weighed(mechanism, SCHEMA, hidden).values())
    sums = opened(mechanism, [hidden, clear])
    assert told_in(sums) == 1
    alone = fit_of(mechanism, design_of(mechanism, SCHEMA), clear)
    np.testing.assert_allclose(fit_in_sum(mechanism, SCHEMA, sums).values, alone.values, rtol=1e-3)
    nobody = fit_in_sum(mechanism, SCHEMA, opened(mechanism, [hidden, hidden]))
    assert not nobody.told


@pytest.mark.parametrize("family", OUTCOMES)
@pytest.mark.parametrize(("count", "most"), [(2, 10), (3, 1000), (100, 10**9)])
def test_every_number_of_a_hospital_fits_its_part_of_a_word(family: str, count: int, most: int) -> None:
    """Also where a hospital has far more patients than the roster says, and residuals that hardly deviate."""
    declared = roster(count, most)
    mechanism = in_sums(family, declared=declared)
    sharp = released(mechanism, 4000, 1)
    sharp = {**sharp, "squares": sharp["squares"] * 1e-12, "noise": sharp["noise"] * 1e-6}
    steps = steps_of(mechanism, SCHEMA, {})
    assert steps is not None
    for name, value in weighed(mechanism, SCHEMA, sharp).items():
        units = value / steps[name]
        assert np.abs(units).max() <= declared.largest, name
        if name.endswith("/fine"):
            assert units.min() >= 0
            assert count * 2**24 < 2**31


def test_a_hospital_beyond_the_grid_is_weighed_less_and_its_coefficients_stay_as_they_are() -> None:
    mechanism = in_sums(declared=roster(2, 1))
    one = released(mechanism, 4000, 3)
    many = {**one, "information": one["information"] * 1e9, "score": one["score"] * 1e9, "squares": one["squares"]}
    design = design_of(mechanism, SCHEMA)
    alone, summed = fit_of(mechanism, design, many), fit_in_sum(mechanism, SCHEMA, opened(mechanism, [many, many]))
    np.testing.assert_allclose(summed.values, alone.values, rtol=1e-5)
    error = np.sqrt(np.diag(summed.noise + summed.sampling) / np.diag(alone.noise + alone.sampling))
    assert (error > 1.0).all()  # of two that say the same it would be 0.7, were they not weighed less


def test_residuals_that_hardly_deviate_only_widen_errors() -> None:
    mechanism = in_sums()
    one = released(mechanism, 4000, 3)
    sharp = {**one, "squares": one["squares"] * 1e-12, "noise": one["noise"] * [1, 1, 0]}
    alone = fit_of(mechanism, design_of(mechanism, SCHEMA), sharp)
    summed = fit_in_sum(mechanism, SCHEMA, opened(mechanism, [sharp, one]))
    assert (np.diag(summed.sampling) > np.diag(alone.sampling)).all()


def test_rounding_is_stated_with_the_noise() -> None:
    """On a grid made for a hundred hospitals of ten million patients a small one's numbers are coarse."""
    fine, coarse = in_sums(), in_sums(declared=roster(100, 10**7))
    one = released(fine, 4000, 4)
    sharp, rounded = (fit_of_sums(opened(mechanism, [one]), mechanism, SCHEMA) for mechanism in (fine, coarse))
    assert sharp is not None
    assert rounded is not None
    steps = [regression_numbers(mechanism, SCHEMA)["precision/fine"].step for mechanism in (fine, coarse)]
    assert steps == [2.0**-12, 1.0]
    more = np.sqrt(np.diag(rounded.noise) - np.diag(sharp.noise))
    assert (more > 0).all()
    assert (np.abs(rounded.values - sharp.values) < 5 * more).all()


def test_a_declaration_is_read_back_as_it_was_and_plans_that_exist_stay_as_they_are() -> None:
    mechanism = in_sums(declared=roster(scale="ab" * 32))
    assert mechanism_from(as_dict(mechanism)) == mechanism
    assert "secure_aggregation" not in as_dict(asked("gaussian"))
    with pytest.raises(UnsupportedMechanism, match="secure_aggregation=True"):
        regression_numbers(asked("gaussian"), SCHEMA)


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("age", {"maximum": 110}),
        ("sbp", {"maximum": 250}),
        ("age", {"unit": "months"}),
        ("ward", {"categories": "abd"}),
    ],
)
def test_another_grid_has_another_digest(column: str, change: dict[str, Any]) -> None:
    change = {name: tuple(value) if name == "categories" else value for name, value in change.items()}
    columns = tuple(replace(one, **change) if one.name == column else one for one in SCHEMA.columns)
    mechanism = in_sums()
    assert scale_of(mechanism, replace(SCHEMA, columns=columns)) != scale_of(mechanism, SCHEMA)
    described = tuple(replace(one, description="Words.") for one in SCHEMA.columns)
    other = replace(SCHEMA, columns=(*described, Column(name="more", kind="boolean")))
    assert scale_of(mechanism, other) == scale_of(mechanism, SCHEMA)
    for changed in (
        replace(mechanism, where="age >= 65"),
        replace(mechanism, terms=("age", "bmi")),
        replace(mechanism, outcome_range=(80.0, 200.0)),
    ):
        assert regression_digest(changed, SCHEMA) != regression_digest(mechanism, SCHEMA)


def _turned(sums: Sums) -> None:
    sums["precision"][0, 1] += 2.0**30


def _negative(sums: Sums) -> None:
    sums["noise"][0, 0] = -(2.0**40)


def _crowded(sums: Sums) -> None:
    sums["told"][0] = 4.0


def _narrower(sums: Sums) -> None:
    sums["weighted"] = sums["weighted"][1:]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_turned, "precision of the sum is not symmetric"),
        (_negative, "noise of the sum is not symmetric with a diagonal of 0 or more"),
        (_crowded, r"told=4 of the sum is outside \[0, 3\]"),
        (_narrower, r"weighted of the sum has shape \(5,\), wanted \(6,\)"),
    ],
)
def test_a_sum_that_no_hospitals_regressions_come_to_is_refused(change: Any, words: str) -> None:
    mechanism = in_sums()
    sums = opened(mechanism, [released(mechanism, 4000, 5)] * 2)
    check_sums(sums, mechanism, SCHEMA)
    change(sums)
    with pytest.raises(WeightsRefused, match=words):
        check_sums(sums, mechanism, SCHEMA)
