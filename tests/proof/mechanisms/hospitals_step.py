"""A step of training that hospitals take under one noise, when just enough of them are honest, and one too few.

As `hospitals_noise` has it of counts: the attacker knows all but the first hospital's one patient and, of a sum over
`threshold` hospitals, all parts but those that the assumption leaves. Two secret parts make the whole noise; where the
second hospital tells its own, what is left is what the ledger charges unless an owner accepts the other.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import numpy as np
from dp_accounting.pld import privacy_loss_distribution as distributions
from scipy.stats import norm

from datasites.engine import shared_step
from datasites.engine.discrete_gaussians import IntArray, discrete_gaussians
from policies.privacy.mechanisms import DPSGD, Mechanism
from policies.privacy.shared_steps import SharedStep
from policies.privacy.sharing import SharedTraining, shared_training
from policies.release.summed_step import whole_words
from tests.proof.attacker import FloatArray
from tests.proof.cases import release
from tests.proof.curves import INTERVAL
from tests.proof.mechanisms.devices import DeviceCase
from tests.proof.mechanisms.dp_sgd import NARROW, sgd
from tests.proof.mechanisms.hospitals_noise import ROSTER
from tests.proof.neighbours import PUBLISHED, Matrix, direction, loud, pair
from tests.proof.registry import Case, Fault, Proof

NOISE = 0.6
ASKED = sgd(noise_multiplier=NOISE, secure_aggregation=ROSTER)
MET, SHORT = "hospitals' shared step, just enough honest", "hospitals' shared step, one too few honest"


def shared() -> SharedTraining:
    """What is asked, as it is charged."""
    found = shared_training(ASKED)
    assert found is not None
    return found


def step() -> SharedStep:
    """Its noise."""
    return shared().step


def watching(*, told: bool) -> Callable[[Mechanism, Matrix], FloatArray]:
    """How far the sum goes along the patient's gradient, in clipping norms, and at all.

    Args:
      told: whether the second hospital tells the attacker its part.
    """

    def watch(declared: Mechanism, table: Matrix) -> FloatArray:
        assert isinstance(declared, DPSGD)
        first = release(declared, table, loud(NARROW), NARROW, PUBLISHED)
        second = release(declared, table[:0], loud(NARROW), NARROW, PUBLISHED)  # of nobody: its part alone
        words = whole_words(first) + (0 if told else 1) * whole_words(second)
        total = words.astype(np.int32).astype(np.float64) / float(step().where.units)
        along = float(total @ direction(NARROW))
        return np.array([along, np.log(float(total @ total) - along**2 + 1e-12)])

    return watch


def loss_of(honest: int) -> Callable[[], Any]:
    """Of a Gaussian of as much noise as so many parts have, over what a patient moves and rounding adds."""
    return lambda: distributions.from_gaussian_mechanism(
        step().multiplier(honest), value_discretization_interval=INTERVAL
    )


def pairs() -> list[Case]:
    """Of hospitals that share one noise."""
    assumed, if_not = shared().epsilons_in_all
    listed = {MET: (False, 2, assumed), SHORT: (True, 1, if_not)}
    return [
        DeviceCase(
            name,
            ASKED,
            lambda: pair(1007),
            watching(told=told),
            loss=loss_of(honest),
            epsilon=epsilon,
            delta=ASKED.delta,
        )
        for name, (told, honest, epsilon) in listed.items()
    ]


def no_part() -> AbstractContextManager[Any]:
    """Hospitals add nothing."""
    return mock.patch.object(shared_step, "discrete_gaussians", lambda count, *_: np.zeros(count, dtype=np.int64))


def part_forgotten() -> AbstractContextManager[Any]:
    """The second hospital of a sum adds nothing, so that half of the noise is missing."""
    calls = iter(range(10**9))

    def forgetful(count: int, variance: int, source: Any) -> IntArray:
        drawn = discrete_gaussians(count, variance, source)
        return drawn * (next(calls) % 2 == 0)

    return mock.patch.object(shared_step, "discrete_gaussians", forgetful)


def half_way() -> tuple[float, float]:
    """The chances to be past half a clipping norm, without the patient and with, under one part alone."""
    deviation = NOISE / np.sqrt(2)
    return float(norm.sf(0.5 / deviation)), float(norm.sf(-0.5 / deviation))


FAULTS = (Fault("a hospital's part of a shared step forgotten", part_forgotten, MET, chances=half_way),)
CONTROLS = (Fault("too few honest hospitals and no part of a step", no_part, SHORT),)

PROOF = Proof(cases=pairs, faults=FAULTS, controls=CONTROLS)
