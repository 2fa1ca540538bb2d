"""What leaves in a sum over exactly `threshold` hospitals, of which the attacker knows all others.

Nobody is trusted for ε under masks that leave each hospital its whole noise. So the attacker is given the most: every
other hospital works with the researcher, adds numbers without noise that the attacker knows, and the sum is opened by
as few hospitals as open it. What is left of it is one hospital's release on the sum's grid, and no more than the curve
of its mechanism allows: of training the mean, of statistics the sums and counts that answers are made of, whole trees
of quantiles among them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np

from datasites.engine import statistics as statistics_engine
from policies.privacy import accountant
from policies.privacy.mechanisms import DPSGD, Mechanism, Query, Statistics
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.release.summed import steps_of
from policies.secure_sums import encoding
from tests.attacks.secure_relay import Relay, network
from tests.proof.attacker import FloatArray, seen_in_training
from tests.proof.cases import release
from tests.proof.mechanisms.dp_sgd import NARROW, NoNoise, _optimizer, sgd
from tests.proof.mechanisms.statistics import statistics
from tests.proof.neighbours import PUBLISHED, SCHEMA, Matrix, direction, loud, pair
from tests.proof.registry import Case, Fault, Proof

HOSPITALS, THRESHOLD = 3, 2
OPENED = "a sum that exactly threshold hospitals open"
COUNTED = "statistics in such a sum, 20 records"
TREE = "a whole tree in such a sum, 20 records"
MADE_OF = (Query("count"), Query("mean", ("x2",)), Query("variance", ("x2",)), Query("histogram", ("x2",)))
ROSTER = SecureAggregation(
    threshold=THRESHOLD,
    hospitals=tuple(Party(f"hospital {number}", f"{number:064x}", PUBLISHED) for number in range(HOSPITALS)),
)


def in_a_sum(declared: Mechanism, table: Matrix) -> FloatArray:
    """Watch one round as it is read from the sum of two hospitals, when the second's numbers are known."""
    assert isinstance(declared, DPSGD)
    mechanism, sent = accountant.resolve(declared), loud(NARROW)
    assert isinstance(mechanism, DPSGD)
    released = release(mechanism, table, sent, NARROW, PUBLISHED)
    relay = network(HOSPITALS, THRESHOLD, numbers=encoding.flat(sent).size)
    relay.hospitals[1].words = encoding.encoded(released, sent, relay.declared, 1)
    relay.hospitals[2].words = encoding.encoded(sent, sent, relay.declared, 2)  # has not moved
    mean = encoding.decoded(opened(relay, [1, 2]), sent, relay.declared, [1, 2])
    share = 1000 / 3000  # of patients, by which the mean weighs the first
    alone = {name: sent[name] + (mean[name] - sent[name]) / share for name in sent}
    unit = mechanism.learning_rate * mechanism.clipping_norm / (declared.sampling_rate * PUBLISHED)
    return seen_in_training([sent], [alone], direction(NARROW), unit)


def counted_in_a_sum(declared: Mechanism, table: Matrix) -> FloatArray:
    """Watch the numbers that the patient can move as they are read from such a sum: of each level of a tree and of each
    table the first cell, in which all of the patient's records are."""
    assert isinstance(declared, Statistics)
    released = release(declared, table, None, None, PUBLISHED)
    relay = network(HOSPITALS, THRESHOLD, numbers=encoding.flat(released).size)
    steps = steps_of(declared, SCHEMA, released)
    assert steps is not None
    relay.hospitals[1].words = encoding.counted(released, steps, relay.declared)
    relay.hospitals[2].words = np.zeros_like(relay.hospitals[1].words)
    sums = encoding.added(opened(relay, [1, 2]), released, steps)
    return np.concatenate([_first(name, np.ravel(sums[name])) for name in sorted(sums)])


def _first(name: str, numbers: FloatArray) -> FloatArray:
    return numbers[[0, 8, 72, 584]] if name.startswith("quantiles") else numbers[:1]


def opened(relay: Relay, survivors: list[int]) -> Any:
    """The sum of `survivors`, when all others dropped out after they shared their secrets."""
    relay.keys()
    relay.shares()
    relay.boxes_out()
    masked = relay.released(survivors)
    return relay.opened(masked, relay.revealed(relay.signatures(survivors), survivors))


def pairs() -> list[Case]:
    """Of sums."""
    every = replace(statistics(*MADE_OF, epsilon=2.0), secure_aggregation=ROSTER)
    tree = replace(statistics(Query("quantiles", ("x2",), (0.5,)), epsilon=2.0), secure_aggregation=ROSTER)
    return [
        Case(OPENED, sgd(), lambda: pair(1007), in_a_sum),
        Case(COUNTED, every, lambda: pair(1007, records=20), counted_in_a_sum),
        Case(TREE, tree, lambda: pair(1007, records=20), counted_in_a_sum),
    ]


def noise_left_to_the_masks() -> AbstractContextManager[Any]:
    """Counts and sums have a hundredth of their noise, as if masks hid the rest."""
    real = statistics_engine.noisy
    return mock.patch.object(
        statistics_engine,
        "noisy",
        lambda exact, *, epsilon, sensitivity: real(exact, epsilon=100 * epsilon, sensitivity=sensitivity),
    )


FAULTS = (Fault("no noise, as masks hide it", _optimizer(NoNoise), OPENED, chances=lambda: (0.0, 1.0)),)
CONTROLS = (
    Fault("a hundredth of a tree's noise, as masks hide it", noise_left_to_the_masks, TREE),
    Fault("a hundredth of the noise, as masks hide counts", noise_left_to_the_masks, COUNTED),
)

PROOF = Proof(cases=pairs, faults=FAULTS, controls=CONTROLS)
