"""What ε and δ mean for a patient, in sentences that an owner can act on; one wording for every page and command.

Whoever wants to know begins at 50 %; the figures bound where they end, whatever else they know (Wood et al. 2018,
"Differential privacy: a primer for a non-technical audience"). Percentages are rounded up.

Where there is a δ, certainty follows from the privacy loss that is exceeded with a chance of at most δ, which is
somewhat above ε: the loss exceeds ε itself more often than that (`accountant.tail_gap`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from policies.numbers import written
from policies.privacy import accountant
from policies.privacy.mechanisms import Gaussian, Mechanism

CAVEATS = (
    "A patient known at k hospitals bears the sum of what each of them releases.",
    "Where k relatives share what is to be hidden, as a family with one infection does, ε counts k times.",
)


@dataclass(frozen=True)
class PrivacyLoss:
    """What some releases may tell of one patient.

    Args:
      epsilon, delta: as the ledger states them; δ is 0 of pure releases.
      membership: the privacy loss on whether a patient is in the data, exceeded with a chance of at most `delta`.
      record: the same on which of two records a known patient has.
    """

    epsilon: float
    delta: float
    membership: float
    record: float


NO_LOSS = PrivacyLoss(0.0, 0.0, 0.0, 0.0)


def pure_loss(epsilon: float) -> PrivacyLoss:
    """Of releases with a pure ε, which never fail; to swap a record counts it twice."""
    return PrivacyLoss(epsilon, 0.0, epsilon, 2 * epsilon)


def loss_in_filter(epsilon: float, delta: float, order: int) -> PrivacyLoss:
    """Of all that a Rényi filter of this `order` lets out within a budget, or of what it let out so far."""
    membership = epsilon + accountant.tail_gap(order)
    return PrivacyLoss(epsilon, delta, membership, accountant.swapped(membership, order))


def loss_of(mechanism: Mechanism, delta: float, *, accepted: bool = False) -> PrivacyLoss:
    """Of all rounds of a mechanism by themselves, at its own δ or, without one of its own, with none.

    Args:
      delta: of the population; plays a part in no mechanism that exists, as training has its own.
      accepted: of shared noise, while the hospitals that it trusts keep their word; else whatever they do.
    """
    if isinstance(mechanism, Gaussian):
        delta = mechanism.delta
        epsilon = accountant.standalone_epsilon(mechanism, delta, accepted=accepted)
        return PrivacyLoss(epsilon, delta, *accountant.largest_losses(mechanism, delta, accepted=accepted))
    return pure_loss(accountant.epsilon_of(mechanism, delta, accepted=accepted))


def belief(loss: float) -> float:
    """How sure, at most, somebody becomes who was 50 % sure, at a privacy loss: e^loss / (1 + e^loss).

    >>> f"{belief(2.0):.0%}"
    '88%'
    """
    return 1 / (1 + math.exp(-loss))


def risk_sentences(loss: PrivacyLoss, total: PrivacyLoss | None = None) -> list[str]:
    """What a privacy loss means in plain words: both risks, and where `total` is given, the same of all releases.

    Args:
      total: of the population's budget, within which all that is ever released stays.
    """
    present, which, chance = _sure(loss.membership), _sure(loss.record), _except(loss)
    sentences = [
        f"Somebody 50 % sure that a patient is in the data becomes {present} sure of it{chance}.",
        f"Somebody 50 % sure which of two records a known patient has becomes {which} sure of it{chance}.",
    ]
    if total is not None:
        sentences.append(
            "With all that is ever released of this population"
            f" (ε = {written(total.epsilon)}, δ = {written(total.delta)} in total), "
            f"the first becomes {_sure(total.membership)} sure, the second {_sure(total.record)}{_except(total)}."
        )
    return sentences


def alone_and_together(alone: float, added: float) -> str:
    """The one ε that a request adds to its budget, and why it is another one than that of the request alone.

    >>> alone_and_together(2.0, 0.511570)[:54]
    'It adds ε = 0.5116. Taken alone it would be ε = 2: rel'
    """
    first, second = rounded_up(added), rounded_up(alone)
    if first == second:
        return f"It adds ε = {first}, as much as it would be if it were taken alone."
    why = "releases add up as divergences at one order, and δ is turned into ε once for all of them."
    return f"It adds ε = {first}. Taken alone it would be ε = {second}: {why}"


def rounded_up(epsilon: float) -> str:
    """ε as people read it, to four digits after the point and rounded up.

    >>> rounded_up(1.00001)
    '1.0001'
    """
    return f"{math.ceil(epsilon * 10_000 - 1e-6) / 10_000:.9g}" if math.isfinite(epsilon) else str(epsilon)


def _sure(loss: float) -> str:
    tenths = math.ceil(belief(loss) * 1000 - 1e-9)  # of a percent
    return "as good as completely" if tenths >= 1000 else f"at most {written(tenths / 10)} %"


def _except(loss: PrivacyLoss) -> str:
    return f", except with a chance of at most {written(loss.delta)}" if loss.delta > 0 else ""
