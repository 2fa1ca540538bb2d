"""What ε and δ mean for a patient, in sentences that an owner can act on; one wording for every page and command.

Whoever wants to know begins at 50 %; the figures bound where they end, whatever else they know (Wood et al. 2018,
"Differential privacy: a primer for a non-technical audience"). Percentages are rounded up.
"""

from __future__ import annotations

import math

from policies.numbers import written
from policies.privacy.budget import PrivacyBudget

CAVEATS = (
    "A patient known at k hospitals bears the sum of what each of them releases.",
    "Where k relatives share what is to be hidden, as a family with one infection does, ε counts k times.",
)


def membership_belief(epsilon: float) -> float:
    """How sure, at most, somebody becomes who was 50 % sure that a patient is in the data: e^ε / (1 + e^ε).

    >>> f"{membership_belief(2.0):.0%}"
    '88%'
    """
    return 1 / (1 + math.exp(-epsilon))


def record_belief(epsilon: float) -> float:
    """How sure, at most, somebody becomes who was 50 % sure which of two records a known patient has.

    e^2ε / (1 + e^2ε): to swap one record for another is to remove and to add.

    >>> f"{record_belief(2.0):.0%}"
    '98%'
    """
    return membership_belief(2 * epsilon)


def risk_sentences(epsilon: float, delta: float, total: PrivacyBudget | None = None) -> list[str]:
    """What (ε, δ) means in plain words: both risks, and where `total` is given, the same of all releases together.

    Args:
      epsilon: of what is spoken of, 0 or more.
      delta: its δ; 0 for pure releases, which never fail.
      total: the budget of the population, within which all that is ever released stays.
    """
    present, which = _sure(membership_belief(epsilon)), _sure(record_belief(epsilon))
    sentences = [
        f"Somebody 50 % sure that a patient is in the data becomes {present} sure of it{_except(delta)}.",
        f"Somebody 50 % sure which of two records a known patient has becomes {which} sure of it{_except(delta)}.",
    ]
    if total is not None:
        sentences.append(
            "With all that is ever released of this population"
            f" (ε = {written(total.epsilon)}, δ = {written(total.delta)} in total), "
            f"the first becomes {_sure(membership_belief(total.epsilon))} sure, the second "
            f"{_sure(record_belief(total.epsilon))}."
        )
    return sentences


def rounded_up(epsilon: float) -> str:
    """ε as people read it, to four digits after the point and rounded up.

    >>> rounded_up(1.00001)
    '1.0001'
    """
    return f"{math.ceil(epsilon * 10_000 - 1e-6) / 10_000:.9g}" if math.isfinite(epsilon) else str(epsilon)


def _sure(belief: float) -> str:
    tenths = math.ceil(belief * 1000 - 1e-9)  # of a percent
    return "as good as completely" if tenths >= 1000 else f"at most {written(tenths / 10)} %"


def _except(delta: float) -> str:
    return f", except with a chance of about {written(delta)}" if delta > 0 else ""
