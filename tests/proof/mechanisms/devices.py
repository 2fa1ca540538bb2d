"""Devices: one person's answer with its own noise, and the sum of a roster in which just enough are honest.

The attacker knows everybody else's numbers and, under shared noise, what every dishonest device added: what is left is
the one person's number and the honest parts. A pair's curve is that of its own discrete Laplace noise, tighter than the
ε of the question; where too few are honest it is the ε that `epsilon_if` says of so many.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from unittest import mock

import numpy as np
from dp_accounting.pld import privacy_loss_distribution as distributions
from dp_accounting.pld.common import DifferentialPrivacyParameters
from scipy import stats

from datasites.engine.noise import NoiseSource
from policies.privacy import device_reports
from policies.privacy.device_reports import Column, DeviceQuestion
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.privacy.shared_noise import rate_of
from tests.proof.attacker import FloatArray
from tests.proof.curves import INTERVAL, Curve
from tests.proof.neighbours import Matrix
from tests.proof.registry import Case, Fault, Proof

THRESHOLD = 2
ROSTER = SecureAggregation(
    threshold=THRESHOLD, hospitals=tuple(Party(f"device {number}", f"{number:064x}", 1) for number in range(3))
)
HEART = Column(name="heart_rate", low=40, high=200)
OWN = DeviceQuestion(name="proof", columns=(HEART,), epsilon=1.0)
SHARED = DeviceQuestion(name="proof", columns=(HEART,), epsilon=1.0, shared=ROSTER)
LOW, HIGH = 40.0, 160.0
"""Two heart rates of one person that move y and s together the most: by 3K/2 and 3K/4."""
NOISE, MET, SHORT = "a device's own noise", "shared noise, just enough honest", "shared noise, one too few honest"


@dataclass(frozen=True)
class DeviceCase(Case):
    """A pair of numbers of one person, with its own curve: a question to devices is no mechanism of a datasite's."""

    loss: Callable[[], Any] = lambda: None
    epsilon: float = math.inf  # that is charged
    delta: float = 0.0  # at which it is

    @cached_property
    def curve(self) -> Curve:
        """Of the pair."""
        return Curve.of(self.loss())


def watching(question: DeviceQuestion, honest: int) -> Callable[[Any, Matrix], FloatArray]:
    """Whether y is past the middle between both rates, once all that the attacker knows is taken from the sum.

    An event and not the number: the attacker fits Gaussians, and this noise is far from one.
    """
    middle = sum(question.exact({"heart_rate": rate})[0] for rate in (LOW, HIGH)) / 2

    def watch(_: Any, table: Matrix) -> FloatArray:
        source = random.Random(NoiseSource.from_os().words(4).tobytes())
        numbers = np.array(question.answered({"heart_rate": float(table[0, 0])}, source), dtype=np.float64)
        for _other in range(honest - 1):  # honest devices whose numbers the attacker knows, but not their parts
            values = {"heart_rate": 75.0}
            numbers += np.subtract(question.answered(values, source), question.exact(values))
        return np.array([float(numbers[0] > middle)])

    return watch


def loss_of_pair() -> Any:
    """Two independent draws of discrete Laplace noise, which y and s move in."""
    low, high = (np.array(OWN.exact({"heart_rate": rate})) for rate in (LOW, HIGH))
    one, other = (
        distributions.from_discrete_laplace_mechanism(
            rate_of(OWN.halvings), sensitivity=int(moved), value_discretization_interval=INTERVAL / 20
        )
        for moved in np.abs(high - low)
    )
    return one.compose(other)


def loss_of_too_few() -> Any:
    """The pure ε that a roster's page says of one honest device less than the threshold."""
    return distributions.from_privacy_parameters(
        DifferentialPrivacyParameters(SHARED.epsilon_if(THRESHOLD - 1), 0.0), value_discretization_interval=INTERVAL
    )


def pairs() -> list[Case]:
    """Of devices."""
    listed = {
        NOISE: (OWN, 1, loss_of_pair, OWN.epsilon),
        MET: (SHARED, THRESHOLD, loss_of_pair, SHARED.epsilon),
        SHORT: (SHARED, THRESHOLD - 1, loss_of_too_few, SHARED.epsilon_if(THRESHOLD - 1)),
    }
    return [
        DeviceCase(
            name,
            question,  # type: ignore[arg-type]
            lambda: (np.array([[LOW]]), np.array([[HIGH]])),
            watching(question, honest),
            loss=loss,
            epsilon=epsilon,
        )
        for name, (question, honest, loss, epsilon) in listed.items()
    ]


def no_noise() -> AbstractContextManager[Any]:
    """Numbers leave as they are."""
    return mock.patch.object(device_reports, "laplace_part", return_value=0)


def share_forgotten() -> AbstractContextManager[Any]:
    """Every second device adds nothing, so that half of the parts are missing."""
    part, drawn = device_reports.laplace_part, iter(range(10**9))

    def forgetful(halvings: int, parties: int, source: random.Random) -> int:
        # Two numbers of a device, then two of the next one.
        return part(halvings, parties, source) if next(drawn) // 2 % THRESHOLD == 0 else 0

    return mock.patch.object(device_reports, "laplace_part", forgetful)


def half_way() -> tuple[float, float]:
    """The chances that y is past the middle between the two numbers, where one of two parts is missing."""
    halvings, moved = SHARED.halvings, 3 * SHARED.steps // 2
    most = 40 << halvings
    one = stats.nbinom.pmf(np.arange(most), 1 / THRESHOLD, 2.0**-halvings)
    spectrum = np.abs(np.fft.rfft(one, 2 * most)) ** 2
    chances = np.fft.irfft(spectrum, 2 * most)[:most]  # of Z = 0, 1, ...
    beyond = float(chances[moved // 2 + 1 :].sum())
    return beyond, 1 - beyond


FAULTS = (
    Fault("noise share forgotten", share_forgotten, MET, chances=half_way),
    Fault("a device without noise", no_noise, NOISE, chances=lambda: (0.0, 1.0)),
)
CONTROLS = (Fault("too few honest and no noise", no_noise, SHORT),)

PROOF = Proof(cases=pairs, faults=FAULTS, controls=CONTROLS)
