"""A regression of which the hospitals together alone can be read: its coefficients, its words, and sums that lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from policies.errors import WeightsRefused
from policies.privacy.regression import Regression
from researcher.regression import RegressionResult, RegressionStudy
from researcher.releases import Answers
from researcher.state import Release
from tests.policies.schema.test_summed_regression import in_sums, opened, released
from tests.researcher.test_coefficients import SCHEMA

NAMES = ("general", "rural", "town")


def told(mechanism: Regression, sums: dict[str, Any]) -> RegressionResult:
    """What a study makes of an opened sum of three hospitals."""
    study = SimpleNamespace(name="trial", mechanism=mechanism, cohort=SimpleNamespace(schema=SCHEMA))
    releases = {name: Release(name, "regression", 1, {}, "{}", "") for name in NAMES}
    return RegressionStudy.result_of(study, Answers(releases, mean=sums))  # type: ignore[arg-type]


def test_all_hospitals_together_are_read_and_nobody_else(tmp_path: Path) -> None:
    mechanism = in_sums("binomial")
    result = told(mechanism, opened(mechanism, [released(mechanism, size, size) for size in (60, 70, 90)]))
    assert not result.fit().told
    assert "Noise hides every coefficient" in str(result)
    result = told(mechanism, opened(mechanism, [released(mechanism, 6000, 1), released(mechanism, 60, 2)]))
    assert list(result.sums) == ["3 hospitals in a sum"]
    assert result.hidden == "2 of 3 hospitals in the sum"
    assert "Of 2 of 3 hospitals in the sum noise hides every coefficient" in str(result)
    age = result["age"]
    assert abs(age.value - 0.05) < 5 * age.error
    assert age.ratio == "odds ratio"
    assert result.coefficients("3 hospitals in a sum") == result.coefficients()
    with pytest.raises(Exception, match="No hospital 'rural' answered"):
        result.fit("rural")
    page = result.report(tmp_path / "page.html").read_text()
    assert "3 hospitals of t answered a logistic regression" in page
    assert "Of 2 of 3 hospitals in the sum noise hides every coefficient." in page
    assert "Of combined noise" not in page
    frame = result.to_frame()
    assert set(frame["hospital"]) == {"3 hospitals in a sum", "combined"}


@pytest.mark.parametrize("name", ["precision", "noise", "told"])
def test_a_hospital_that_sends_wrong_numbers_is_noticed_where_a_sum_is_none(name: str) -> None:
    """Random words instead of what it should add: no sums of squares, or more hospitals than there are."""
    mechanism = in_sums()
    sums = opened(mechanism, [released(mechanism, 4000, seed) for seed in (1, 2)])
    assert told(mechanism, sums).fit().told
    step, random = sums[name].max() + 1.0, np.random.default_rng(0)
    lying = {**sums, name: sums[name] + np.rint(random.normal(size=sums[name].shape) * 100 + 50) * step}
    with pytest.raises(WeightsRefused, match=rf"^{name}.* of the sum .*Tell the hospitals' owners"):
        told(mechanism, lying)
    with pytest.raises(WeightsRefused, match="wanted"):
        told(replace(mechanism, terms=("age",)), sums)
