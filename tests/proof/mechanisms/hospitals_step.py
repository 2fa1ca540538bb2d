"""A step of training that hospitals take under one noise, when just enough of them are honest, and one too few.

As `hospitals_noise` has it of counts: the attacker knows all but the first hospital's one patient and, of a sum over
`threshold` hospitals, all parts but those that the assumption leaves. Four secret parts make the whole noise; where all
others tell theirs, what is left is what the ledger charges unless an owner accepts the other.
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
from datasites.engine.noise import NoiseSource
from policies.privacy.mechanisms import DPSGD, Mechanism
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.privacy.shared_steps import SharedStep
from policies.privacy.sharing import SharedTraining, shared_training
from policies.release.summed_step import whole_words
from tests.proof.attacker import FloatArray
from tests.proof.cases import release
from tests.proof.curves import INTERVAL
from tests.proof.mechanisms.devices import DeviceCase
from tests.proof.mechanisms.dp_sgd import NARROW, sgd
from tests.proof.neighbours import PUBLISHED, Matrix, direction, loud, pair
from tests.proof.registry import Case, Fault, Proof

NOISE = 0.6
ROSTER = SecureAggregation(
    threshold=4,
    hospitals=tuple(Party(f"hospital {number}", f"{number:064x}", PUBLISHED) for number in range(5)),
    mode="shared-noise",
)
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
      told: whether the other hospitals tell the attacker their parts.
    """

    def watch(declared: Mechanism, table: Matrix) -> FloatArray:
        assert isinstance(declared, DPSGD)
        words = whole_words(release(declared, table, loud(NARROW), NARROW, PUBLISHED))
        nobodys = np.zeros(len(words), dtype=np.int64)
        for _ in range(0 if told else ROSTER.parts - 1):  # the other hospitals are of nobody: their parts alone
            words += shared_step.with_part(nobodys, declared, NoiseSource.from_os()).astype(np.uint32)
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
    listed = {MET: (False, ROSTER.parts, assumed), SHORT: (True, 1, if_not)}
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


def parts_forgotten() -> AbstractContextManager[Any]:
    """All hospitals of a sum but the first add nothing, so that half of the noise's deviation is missing."""
    calls = iter(range(10**9))

    def forgetful(count: int, variance: int, source: Any) -> IntArray:
        drawn = discrete_gaussians(count, variance, source)
        return drawn * (next(calls) % ROSTER.parts == 0)

    return mock.patch.object(shared_step, "discrete_gaussians", forgetful)


def half_way() -> tuple[float, float]:
    """The chances to be past half a clipping norm, without the patient and with, under one part alone."""
    deviation = NOISE / np.sqrt(ROSTER.parts)
    return float(norm.sf(0.5 / deviation)), float(norm.sf(-0.5 / deviation))


FAULTS = (Fault("hospitals' parts of a shared step forgotten", parts_forgotten, MET, chances=half_way),)
CONTROLS = (Fault("too few honest hospitals and no part of a step", no_part, SHORT),)

PROOF = Proof(cases=pairs, faults=FAULTS, controls=CONTROLS)
