"""Answers of two made-up hospitals, by the hospitals' own engine, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from datasites.engine import statistics
from datasites.engine.noise import NoiseSource
from policies.privacy.grouping import groupings_from
from policies.privacy.mechanisms import Query, Statistics
from policies.schema.columns import Column
from policies.schema.schemas import Schema
from researcher.estimates import combine_statistics, read_statistics
from researcher.statistics import StatisticsResult

SCHEMA = Schema(
    name="stays",
    population="town",
    patient="id",
    columns=(
        Column(name="age", kind="integer", unit="years", minimum=0, maximum=110),
        Column(name="lactate", kind="real", unit="mmol/l", minimum=0, maximum=20, missing=1.0),
        Column(name="ward", kind="category", categories=("emergency", "general", "intensive")),
        Column(name="admitted", kind="date", minimum=0, maximum=200, origin="2025-10-01", missing=0.0),
        Column(name="died", kind="boolean"),
        Column(name="seen", kind="datetime", truncate="hour", minimum=0, maximum=4800, origin="2025-10-01T00:00:00"),
    ),
)
DESCRIBED = tuple(Query("describe", (column.name,)) for column in SCHEMA.columns)
EVERYTHING = (
    Query("count"),
    Query("sum", ("age",)),
    Query("mean", ("lactate",)),
    Query("mean", ("admitted",)),
    Query("mean", ("seen",)),
    Query("quantiles", ("seen",), (0.5,)),
    Query("variance", ("age",)),
    Query("quantiles", ("lactate",), (0.25, 0.5, 0.75)),
    Query("histogram", ("ward",)),
    Query("crosstab", ("ward", "died")),
    Query("missing", ("lactate",)),
)


def rows(patients: int, seed: int, *, missing: float = 0.2) -> np.ndarray:
    """A private matrix of made-up stays, one a patient."""
    random = np.random.default_rng(seed)
    lactate = np.where(random.random(patients) < missing, np.nan, random.gamma(2.0, 1.2, patients).clip(0, 20))
    admitted = np.where(random.random(patients) < missing / 2, np.nan, random.integers(0, 201, patients))
    age = random.normal(62, 15, patients).round().clip(0, 110)
    ward = random.choice(3, patients, p=[0.5, 0.3, 0.2])
    died = random.random(patients) < 0.05 + 0.1 * (ward == 2)
    seen = random.integers(0, 4801, patients)
    return np.column_stack([np.arange(patients), np.zeros(patients), age, lactate, ward, admitted, died, seen])


def asked(queries: tuple[Query, ...] = DESCRIBED, *, group_by: Any = (), **changes: Any) -> Statistics:
    return Statistics(**{"queries": queries, "epsilon": 2.0, "group_by": groupings_from(group_by), **changes})


def result(mechanism: Statistics, sizes: tuple[int, ...] = (3000, 1200)) -> StatisticsResult:
    """What a study of hospitals of these sizes gives."""
    names = ("general", "rural", "coastal")[: len(sizes)]
    hospitals, patients = {}, {}
    for place, (name, size) in enumerate(zip(names, sizes, strict=True)):
        release = statistics.answer(mechanism, SCHEMA, rows(size, place), NoiseSource.from_os())
        patients[name] = float(size)
        hospitals[name] = read_statistics(release, mechanism, SCHEMA, patients=size)
    combined = combine_statistics(hospitals, patients=patients)
    return StatisticsResult(hospitals, combined, (), {}, mechanism.epsilon, "stays-2026", mechanism, SCHEMA)
