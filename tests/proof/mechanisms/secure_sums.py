"""Training that leaves in a sum: the mean over exactly `threshold` hospitals, of which the attacker knows all others.

Nobody is trusted for ε under masks that leave each hospital its whole noise. So the attacker is given the most: every
other hospital works with the researcher, adds numbers without noise that the attacker knows, and the sum is opened by
as few hospitals as open it. What is left of it is one hospital's release on the sum's grid, and no more than the curve
of its training allows.
"""

from __future__ import annotations

from typing import Any

from policies.privacy import accountant
from policies.privacy.mechanisms import DPSGD, Mechanism
from policies.secure_sums import encoding
from tests.attacks.secure_relay import Relay, network
from tests.proof.attacker import FloatArray, seen_in_training
from tests.proof.cases import release
from tests.proof.mechanisms.dp_sgd import NARROW, NoNoise, _optimizer, sgd
from tests.proof.neighbours import PUBLISHED, Matrix, direction, loud, pair
from tests.proof.registry import Case, Fault, Proof

HOSPITALS, THRESHOLD = 3, 2
OPENED = "a sum that exactly threshold hospitals open"


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


def opened(relay: Relay, survivors: list[int]) -> Any:
    """The sum of `survivors`, when all others dropped out after they shared their secrets."""
    relay.keys()
    relay.shares()
    relay.boxes_out()
    masked = relay.released(survivors)
    return relay.opened(masked, relay.revealed(relay.signatures(survivors), survivors))


def pairs() -> list[Case]:
    """Of sums."""
    return [Case(OPENED, sgd(), lambda: pair(1007), in_a_sum)]


FAULTS = (Fault("no noise, as masks hide it", _optimizer(NoNoise), OPENED, chances=lambda: (0.0, 1.0)),)

PROOF = Proof(cases=pairs, faults=FAULTS)
