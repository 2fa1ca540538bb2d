"""Regression: noisy sums, watched by an attacker who knows the crowd and works out all that it adds to them.

The one patient's row is as long as rows may be, in the score and in the information, so that both are moved by all that
their noise was made for: together they have three quarters of the budget, and what a release tells comes near to what
it is charged for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
from dp_accounting.pld import privacy_loss_distribution as distributions
from scipy.stats import norm

from datasites.engine import noisy_sums, regression
from datasites.engine.noisy_sums import Bounded
from datasites.jobs import child
from policies.privacy.mechanisms import Mechanism, Regression
from policies.privacy.regression import parts_of
from policies.schema.design import design_of
from tests.proof.attacker import FloatArray
from tests.proof.cases import release
from tests.proof.curves import INTERVAL
from tests.proof.neighbours import PUBLISHED, SCHEMA, Matrix
from tests.proof.registry import Case, Fault, Proof

LINEAR = Regression(outcome="x1", terms=("x0",), family="gaussian", noise_multiplier=1.0)
LOGISTIC = Regression(outcome="y", terms=("x0",), family="binomial", noise_multiplier=1.0)
ALONG, MANY = "a linear regression, 1007 or 1008", "a linear regression, 20 records"


def crowd(patients: int) -> Matrix:
    """Patients whose inputs and outcomes lie close together."""
    rng = np.random.default_rng(patients)
    x0, x1 = rng.normal(-0.2, 0.05, patients), rng.normal(0.1, 0.05, patients)
    return np.column_stack([np.arange(patients), np.zeros((patients, 1)), x0, x1, x0, rng.random(patients) < 0.5])


def pair(patients: int, *, records: int = 1, value: float = 1.0) -> tuple[Matrix, Matrix]:
    """The crowd without the one patient, who lies far from it in all, and with."""
    others, one = crowd(patients), np.tile([0.0, 0.0, value, 1.0, 0.0, 1.0], (records, 1))
    one[:, 0] = patients
    return others, np.concatenate([others, one])


@cache
def known(declared: Regression, patients: int) -> tuple[FloatArray, FloatArray]:
    """What the attacker knows of the crowd: inputs and outcomes."""
    design, others = design_of(declared, SCHEMA), crowd(patients)
    return design.inputs(others), design.outcomes(others)


def fitting(patients: int) -> Any:
    """Watch what is left of each sum, along the one patient, when the crowd's part is taken away."""

    def watch(declared: Mechanism, table: Matrix) -> FloatArray:
        assert isinstance(declared, Regression)
        inputs, outcomes = known(declared, patients)
        sums = release(declared, table, None, None, PUBLISHED, SCHEMA)
        score, information, squares = _of_crowd(declared, sums, inputs, outcomes)
        along = sums["turn"] @ np.array([1.0, 1.0])
        along /= np.linalg.norm(along)
        return np.asarray(
            [
                sums["patients"][0] - patients,
                along @ (sums["information"] - information) @ along,
                along @ (sums["score"] - score),
                sums["squares"][0] - squares,
            ]
        )

    return watch


def _of_crowd(
    declared: Regression, sums: dict[str, FloatArray], inputs: FloatArray, outcomes: FloatArray
) -> tuple[FloatArray, FloatArray, float]:
    """Score, information and sum of squares of the crowd, at what was released of coefficients and turn."""
    size, linear = inputs.shape[1], declared.family == "gaussian"
    bound = math.sqrt(regression.ROOM * size)
    squared = regression.SQUARED if linear else 0.0
    multiplier = 1.0 / math.sqrt(dict(parts_of(declared))["score 1" if linear else "score 2"])
    sensitivity = Bounded(size + 1, 1.0, multiplier).error
    far = sums["noise"][0] / sensitivity / bound / math.hypot(1.0, squared) if linear else 1.0
    link = regression._Link(
        sums["start"],
        (lambda linear: linear) if linear else regression._logistic,
        np.ones_like if linear else lambda mean: mean * (1 - mean),
        far,
        1.0 if linear else 0.25,
        squared,
    )
    told = regression._Known(1.0, np.eye(size)[0], sums["turn"], bound, np.zeros(size), 1.0)
    at, turned = regression._At(link, told, sums["start"]), inputs @ sums["turn"].T
    score, root = at.score(turned, inputs, outcomes), at.root(turned, inputs, outcomes)
    per_square = far / (squared * bound) if squared else 0.0
    return score[:, :size].sum(axis=0), root.T @ root, float(score[:, size].sum()) * per_square


def pairs() -> list[Case]:
    """Of regressions."""
    return [
        Case(ALONG, LINEAR, lambda: pair(1007), fitting(1007)),
        Case(MANY, LINEAR, lambda: pair(1024, records=20), fitting(1024)),
        Case("a linear regression, not finite", LINEAR, lambda: pair(1007, value=math.inf), fitting(1007)),
        Case("a linear regression of nobody", LINEAR, lambda: pair(0), fitting(0)),
        Case("a logistic regression", LOGISTIC, lambda: pair(1007), fitting(1007)),
    ]


def loss_of(mechanism: Regression) -> Any:
    """All of its sums together are one Gaussian mechanism (Dong, Roth and Su 2022, arXiv:1905.02383, corollary 3.3)."""
    assert mechanism.noise_multiplier is not None
    return distributions.from_gaussian_mechanism(mechanism.noise_multiplier, value_discretization_interval=INTERVAL)


@contextmanager
def noise_times(factor: float) -> Iterator[None]:
    """Noise of another size than the accountant was told."""
    told = Bounded.deviation.fget  # type: ignore[attr-defined]
    with mock.patch.object(Bounded, "deviation", property(lambda bounded: factor * told(bounded))):
        yield


@contextmanager
def rows_of_any_length() -> Iterator[None]:
    """Rows are neither weighed nor held to the norm that noise was made for."""

    def whole_units(rows: FloatArray, bounded: Bounded) -> FloatArray:
        return np.rint(rows / bounded.norm / bounded.grid)

    with (
        mock.patch.object(noisy_sums, "whole_units", whole_units),
        mock.patch.object(regression._At, "_weights", lambda at, turned, mean: np.ones(len(turned))),
    ):
        yield


def every_record() -> AbstractContextManager[Any]:
    """All records of a patient count, and noise is that of one."""
    return mock.patch.object(regression, "one_of_each", lambda schema, matrix, columns, source, where: matrix)


def fifth_of_noise() -> tuple[float, float]:
    """Two Gaussians five times half a deviation apart: the attacker's few features tell that much of the last step."""
    apart = 5 * 0.5
    return float(norm.sf(apart / 2)), float(norm.cdf(apart / 2))


FAULTS = (
    Fault("a regression without noise", lambda: noise_times(1e-6), ALONG, chances=lambda: (0.001, 0.999)),
    Fault("a regression with a fifth of its noise", lambda: noise_times(0.2), ALONG, chances=fifth_of_noise),
    # The one patient lies 24 of the crowd's deviations away, and information is moved by more than hundred times its
    # sensitivity; also where the turn, made of noise, is half of what it should be.
    Fault("rows of any length", rows_of_any_length, ALONG, chances=lambda: (0.01, 0.99)),
)
CONTROLS = (Fault("a regression of every record", every_record, MANY),)

PROOF = Proof(cases=pairs, faults=FAULTS, controls=CONTROLS, declared=Regression, job=child.analyse, loss=loss_of)
