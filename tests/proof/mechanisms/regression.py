"""Regression: noisy sums, watched by an attacker who knows the crowd and works out all that it adds to them.

Most pairs have a patient far from the crowd. Such a row weighs little in the score, so its pair shows half of what a
release is charged for. At `EDGE` the patient's inputs are just as long as rows may be, and the outcome is far off: then
score and information are both moved by all that their noise was made for. Together they have three quarters of the
budget, and what a release tells comes near to what it is charged for.
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
EDGE = "a linear regression, at the edge of its bound"
CLOSE, WIDE = 0.05, 0.4  # deviations of the crowd's inputs; wide ones are told from noise, so that rows turn as meant
AT_THE_EDGE = -0.2 + 1.2 * WIDE  # 1 + 1.2² is just below C² = 2.5


def crowd(patients: int, spread: float = CLOSE) -> Matrix:
    """Patients whose outcomes lie close together, and whose inputs are so far apart."""
    rng = np.random.default_rng(patients)
    x0, x1 = rng.normal(-0.2, spread, patients).clip(-1, 1), rng.normal(0.1, 0.05, patients)
    return np.column_stack([np.arange(patients), np.zeros((patients, 1)), x0, x1, x0, rng.random(patients) < 0.5])


def pair(patients: int, *, records: int = 1, value: float = 1.0, spread: float = CLOSE) -> tuple[Matrix, Matrix]:
    """The crowd without the one patient, who lies far from it in all, and with."""
    others, one = crowd(patients, spread), np.tile([0.0, 0.0, value, 1.0, 0.0, 1.0], (records, 1))
    one[:, 0] = patients
    return others, np.concatenate([others, one])


@cache
def known(declared: Regression, patients: int, spread: float) -> tuple[FloatArray, FloatArray]:
    """What the attacker knows of the crowd: inputs and outcomes."""
    design, others = design_of(declared, SCHEMA), crowd(patients, spread)
    return design.inputs(others), design.outcomes(others)


def fitting(patients: int, *, value: float = 1.0, spread: float = CLOSE) -> Any:
    """Watch what is left of each sum, along the one patient, when the crowd's part is taken away."""

    def watch(declared: Mechanism, table: Matrix) -> FloatArray:
        assert isinstance(declared, Regression)
        inputs, outcomes = known(declared, patients, spread)
        sums = release(declared, table, None, None, PUBLISHED, SCHEMA)
        score, information, squares = _of_crowd(declared, sums, inputs, outcomes)
        along = sums["turn"] @ np.array([1.0, value])
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
        Case(
            EDGE,
            LINEAR,
            lambda: pair(1007, value=AT_THE_EDGE, spread=WIDE),
            fitting(1007, value=AT_THE_EDGE, spread=WIDE),
            each_night=True,
        ),
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


def of_noise(share: float, seen: float) -> tuple[float, float]:
    """Two Gaussians so far apart: `seen` deviations of the noise that was declared, of which `share` is left."""
    apart = seen / share
    return float(norm.sf(apart / 2)), float(norm.cdf(apart / 2))


FAULTS = (
    Fault("a regression without noise", lambda: noise_times(1e-6), ALONG, chances=lambda: (0.001, 0.999)),
    # Of one deviation, which a release is charged for, the attacker's few features of the last step show a half of a
    # patient far away, and 0.7 of one whose row is as long as rows may be.
    Fault(
        "a regression with a fifth of its noise", lambda: noise_times(0.2), ALONG, chances=lambda: of_noise(0.2, 0.5)
    ),
    Fault("a regression with half its noise", lambda: noise_times(0.5), EDGE, chances=lambda: of_noise(0.5, 0.7)),
    # The one patient lies 24 of the crowd's deviations away, and information is moved by more than hundred times its
    # sensitivity; also where the turn, made of noise, is half of what it should be.
    Fault("rows of any length", rows_of_any_length, ALONG, chances=lambda: (0.01, 0.99)),
)
CONTROLS = (Fault("a regression of every record", every_record, MANY),)

PROOF = Proof(cases=pairs, faults=FAULTS, controls=CONTROLS, declared=Regression, job=child.analyse, loss=loss_of)
