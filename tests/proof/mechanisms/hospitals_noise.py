"""A table and a sum of values that hospitals add up under one noise, when enough of them are honest, and one too few.

The attacker knows every other hospital's numbers and works with all of them but those that the assumption leaves: of a
sum over `threshold` hospitals two parts are secret, which make the whole, and the pair's curve is that of the whole
discrete Laplace noise. Where the second hospital tells its part as well, what is left is one hospital's numbers under
its own part alone, and the curve is that of the ε that the ledger charges unless an owner accepts the other.

Masks cancel in a sum exactly, and are watched in `secure_sums`. Here the words of two hospitals are added as they are.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import numpy as np
from dp_accounting.pld import privacy_loss_distribution as distributions
from dp_accounting.pld.common import DifferentialPrivacyParameters
from scipy import stats

from datasites.engine import shared_parts
from policies.privacy.mechanisms import KaplanMeier, Mechanism, Query, Statistics
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.privacy.shared_mechanisms import shared_draws
from policies.privacy.shared_noise import rate_of
from policies.privacy.shared_sums import SharedDraws, grid_of
from policies.release.summed import steps_of
from policies.schema.survival_cells import TENSOR
from policies.secure_sums import encoding
from tests.proof import neighbours
from tests.proof.attacker import FloatArray
from tests.proof.cases import release
from tests.proof.curves import INTERVAL
from tests.proof.mechanisms.devices import DeviceCase
from tests.proof.mechanisms.kaplan_meier import FOLLOWED, pair
from tests.proof.neighbours import PUBLISHED, SCHEMA, Matrix
from tests.proof.registry import Case, Fault, Proof

CROWD = 1007
ROSTER = SecureAggregation(
    threshold=2,
    hospitals=tuple(Party(f"hospital {number}", f"{number:064x}", PUBLISHED) for number in range(3)),
    mode="shared-noise",
)
ASKED = KaplanMeier(time="week", event="relapse", epsilon=1.0, bins=2, secure_aggregation=ROSTER)
PLACE = 1  # of the cell in which the one patient is, and nobody else: the event in the second interval
MET, SHORT = "hospitals' shared noise, just enough honest", "hospitals' shared noise, one too few honest"
OF_VALUES = Statistics(queries=(Query("sum", ("x2",)),), epsilon=1.0, secure_aggregation=ROSTER)
SUMMED = "hospitals' shared noise on a sum of values, just enough honest"


def counts() -> SharedDraws:
    """What is asked, as it is charged."""
    shared = shared_draws(ASKED)
    assert shared is not None
    return shared


HALVINGS, STEPS = grid_of(counts().draws[0])


def watching(*, told: bool) -> Callable[[Mechanism, Matrix], FloatArray]:
    """Whether the patient's cell is past the middle, once what the attacker knows is taken from the sum.

    Args:
      told: whether the second hospital tells the attacker its part.
    """

    def watch(declared: Mechanism, table: Matrix) -> FloatArray:
        first = release(declared, table, None, None, PUBLISHED, FOLLOWED)
        second = release(declared, table[:0], None, None, PUBLISHED, FOLLOWED)  # of nobody: its part alone
        steps = steps_of(declared, FOLLOWED, first)
        assert steps is not None
        words = encoding.counted(first, steps, ROSTER)
        total = words + (0 * words if told else encoding.counted(second, steps, ROSTER))
        summed = encoding.added(total, first, steps)
        return np.array([float(summed[TENSOR].ravel()[PLACE] > 0.5)])

    return watch


def watching_values(declared: Mechanism, table: Matrix) -> FloatArray:
    """Whether a sum of values, of which all others' are 1 and known, is nearer to that with the patient's -1."""
    first, second = (release(declared, rows, None, None, PUBLISHED) for rows in (table, table[:0]))
    steps = steps_of(declared, SCHEMA, first)
    assert steps is not None
    words = encoding.counted(first, steps, ROSTER) + encoding.counted(second, steps, ROSTER)
    (summed,) = encoding.added(words, first, steps).values()
    return np.array([float(summed.ravel()[0] - CROWD < -0.5)])


def loss_of_the_whole() -> Any:
    """Of one draw of discrete Laplace noise that a cell, or a sum of values, moves in by `STEPS`."""
    return distributions.from_discrete_laplace_mechanism(
        rate_of(HALVINGS), sensitivity=STEPS, value_discretization_interval=INTERVAL / 20
    )


def loss_of_one_part() -> Any:
    """The pure ε that is charged unless the owner accepts the other."""
    return distributions.from_privacy_parameters(
        DifferentialPrivacyParameters(counts().epsilon_if_not, 0.0), value_discretization_interval=INTERVAL
    )


def pairs() -> list[Case]:
    """Of hospitals that share one noise."""
    listed = {
        MET: (False, loss_of_the_whole, counts().epsilon),
        SHORT: (True, loss_of_one_part, counts().epsilon_if_not),
    }
    of_values = shared_draws(OF_VALUES)
    assert of_values is not None
    assert of_values.draws == counts().draws  # of the same noise
    return [
        *(
            DeviceCase(name, ASKED, lambda: pair(CROWD), watching(told=told), loss=loss, epsilon=epsilon)
            for name, (told, loss, epsilon) in listed.items()
        ),
        DeviceCase(
            SUMMED,
            OF_VALUES,
            lambda: neighbours.pair(CROWD),
            watching_values,
            loss=loss_of_the_whole,
            epsilon=of_values.epsilon,
        ),
    ]


def no_part() -> AbstractContextManager[Any]:
    """Hospitals add nothing."""
    return mock.patch.object(shared_parts, "laplace_part", return_value=0)


def part_forgotten() -> AbstractContextManager[Any]:
    """The second hospital of a sum adds nothing, so that half of the noise is missing."""
    part, drawn, cells = shared_parts.laplace_part, iter(range(10**9)), 2 * ASKED.bins + 1

    def forgetful(halvings: int, parties: int, source: random.Random) -> int:
        return part(halvings, parties, source) if next(drawn) // cells % 2 == 0 else 0

    return mock.patch.object(shared_parts, "laplace_part", forgetful)


def half_way() -> tuple[float, float]:
    """The chances of more than half a patient too many, and of no more than half of one too few, under one part."""
    most = 40 << HALVINGS
    one = stats.nbinom.pmf(np.arange(most), 1 / 2, 2.0**-HALVINGS)
    spectrum = np.abs(np.fft.rfft(one, 2 * most)) ** 2
    chances = np.fft.irfft(spectrum, 2 * most)[:most]  # of Z = 0, 1, ...
    beyond = float(chances[STEPS // 2 + 1 :].sum())  # Z > STEPS / 2
    return beyond, 1 - float(chances[(STEPS + 1) // 2 :].sum())  # Z > -STEPS / 2


FAULTS = (Fault("a hospital's part of shared noise forgotten", part_forgotten, MET, chances=half_way),)
CONTROLS = (
    Fault("too few honest hospitals and no part", no_part, SHORT),
    Fault("no part on a sum of values", no_part, SUMMED),
)

PROOF = Proof(cases=pairs, faults=FAULTS, controls=CONTROLS)
