"""The demonstration's survival curve and regression: what is asked, what is true, and what the report takes of both."""

from __future__ import annotations

import json

import numpy as np
import pytest

from compose.analyses import kaplan_meier, regression_report, survival_report
from compose.patients import FOLLOW_UP_DAYS, HOSPITALS, make_patients
from compose.study import REGRESSION, SURVIVAL
from compose.synthetic import true_survival
from compose.tables import schema_path
from policies.privacy.accountant import renyi_divergence, resolve
from policies.schema.design import design_of
from policies.schema.schemas import Schema
from policies.schema.survival_cells import survival_groups, time_grid
from tests.researcher.analysis_samples import regression, survival

lifelines = pytest.importorskip("lifelines", reason="lifelines is among what the tests install")
SCHEMA = Schema.from_toml(schema_path("general").read_text(encoding="utf-8"))


def test_what_is_asked_fits_the_hospitals_schema() -> None:
    assert time_grid(SURVIVAL, SCHEMA).exact
    assert len(time_grid(SURVIVAL, SCHEMA).ends) == FOLLOW_UP_DAYS + 1
    assert survival_groups(SURVIVAL, SCHEMA) == ("no", "yes")
    resolved = resolve(REGRESSION)
    assert design_of(resolved, SCHEMA).names == ("intercept", *REGRESSION.terms)  # type: ignore[arg-type]


def test_both_together_cost_a_twentieth_of_epsilon_at_most() -> None:
    order = 5  # the hospitals', at ε = 6 and δ = 1e-5
    assert sum(renyi_divergence(resolve(asked), order) for asked in (SURVIVAL, REGRESSION)) < 0.05


def test_the_true_curve_is_that_of_lifelines() -> None:
    table = make_patients(HOSPITALS[0], seed=3, patients=500)
    moments = range(FOLLOW_UP_DAYS + 1)
    fitted = lifelines.KaplanMeierFitter().fit(table["days_away"], table["returned"])
    ours = kaplan_meier(table["days_away"], table["returned"], moments)
    assert ours == pytest.approx(fitted.predict(list(moments)).to_numpy())


def test_patients_with_influenza_stay_away_longer_and_some_are_lost() -> None:
    tables = [make_patients(hospital, seed=3) for hospital in HOSPITALS]
    curves = true_survival(tables, SCHEMA)
    assert (curves["yes"] > curves["no"] + 0.02)[:10].all()
    lost = np.concatenate([table["returned"] == 0 for table in tables])
    assert 0.1 < lost.mean() < 0.4


def test_the_report_has_the_results_curves_and_ratios_as_plain_values() -> None:
    found = survival(by="arm")
    made = survival_report(found, "Until relapse", {"old": np.linspace(1, 0, 24)})
    assert json.loads(json.dumps(made)) == made
    old, new = made["groups"]
    assert old["share"][1:] == found.curve("old").survival.tolist()
    assert (old["share"][0], old["low"][0], len(old["true"])) == (1.0, 1.0, len(old["share"]))
    assert new["true"] is None
    fitted = regression(family="binomial", outcome="relapse")
    ratios = regression_report(fitted)
    assert [row["name"] for row in ratios["coefficients"]] == ["age", "arm=new"]
    assert tuple(ratios["coefficients"][0].values())[1:] == fitted["age"].exponent
    assert regression_report(regression(size=50))["coefficients"] == []
