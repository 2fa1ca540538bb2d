"""Survival and regressions of made-up hospitals, by the hospitals' own engine, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from datasites.engine.noise import NoiseSource
from datasites.engine.regression import regression_sums
from datasites.engine.survival import survival_table
from policies.privacy.accountant import resolve
from policies.privacy.regression import Regression
from policies.privacy.survival import KaplanMeier
from policies.schema.columns import Column
from policies.schema.schemas import Schema
from policies.schema.survival_cells import TENSOR
from researcher.regression import RegressionResult
from researcher.survival import SurvivalResult

SCHEMA = Schema(
    name="trial",
    population="town",
    patient="id",
    columns=(
        Column(name="age", kind="integer", unit="years", minimum=0, maximum=110),
        Column(name="arm", kind="category", categories=("old", "new")),
        Column(name="months", kind="real", unit="months", minimum=0, maximum=60),
        Column(name="relapse", kind="boolean"),
        Column(name="pressure", kind="real", unit="mmHg", minimum=60, maximum=240),
    ),
)


def rows(patients: int, seed: int) -> np.ndarray:
    """A private matrix of a made-up trial, one record a patient: half of the new arm relapses a little later."""
    random = np.random.default_rng(seed)
    age = random.normal(62, 12, patients).round().clip(0, 110)
    arm = random.integers(0, 2, patients)
    until, seen = random.exponential(25 + 15 * arm, patients), random.uniform(10, 60, patients)
    pressure = np.clip(90 + 0.7 * age - 5 * arm + random.normal(0, 12, patients), 60, 240)
    months, relapse = np.minimum(until, seen).clip(0, 60), until <= seen
    return np.column_stack([np.arange(patients), np.zeros(patients), age, arm, months, relapse, pressure])


def survival(*, size: int = 2000, **changes: Any) -> SurvivalResult:
    """What two hospitals give, one of them of half the size."""
    mechanism = KaplanMeier(**{"time": "months", "event": "relapse", "epsilon": 2.0, **changes})
    tables = {
        name: survival_table(mechanism, SCHEMA, rows(patients, place), NoiseSource(bytes([place] * 32)))[TENSOR]
        for place, (name, patients) in enumerate({"general": size, "rural": size // 2}.items())
    }
    return SurvivalResult("trial-2026", mechanism, SCHEMA, tables, (), {})


def regression(*, size: int = 4000, **changes: Any) -> RegressionResult:
    """What two hospitals give, one of them of half the size."""
    facts = {"outcome": "pressure", "terms": ("age", "arm"), "family": "gaussian", "epsilon": 3.0}
    mechanism = resolve(Regression(**{**facts, **changes}))
    assert isinstance(mechanism, Regression)
    sums = {
        name: regression_sums(mechanism, SCHEMA, rows(patients, place), NoiseSource(bytes([place] * 32)))
        for place, (name, patients) in enumerate({"general": size, "rural": size // 2}.items())
    }
    return RegressionResult("trial-2026", mechanism, SCHEMA, sums, (), {})
