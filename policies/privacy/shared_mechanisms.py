"""Which mechanisms hospitals may add up under one noise, as the independent draws that they are made of.

What one patient moves in a release is said here once: the charge, the parts that hospitals draw, the grid of the sum
and its standard errors are all read from the same `SharedDraws`. One patient has to move one number of each draw, by
one unit at the most: 1 of a count, and of a sum what the column's public bounds allow. What else there is is refused,
in words.
"""

from __future__ import annotations

from functools import lru_cache

from policies.errors import UnsupportedMechanism
from policies.privacy.draws import parts_of
from policies.privacy.mechanisms import DPSGD, Evaluation, KaplanMeier, Mechanism, Statistics
from policies.privacy.outcomes import Outcome
from policies.privacy.secure_aggregation import SecureAggregation
from policies.privacy.shared_sums import SharedDraws

INSTEAD = (
    "Shared noise is for statistics of one record a patient, survival tables, evaluations of classes, numbers and"
    " counts, and training with one step a round. Ask without it, or with masks, under which each hospital adds all of"
    " its own noise: secure_aggregation=True."
)


def shared_draws(mechanism: Mechanism) -> SharedDraws | None:
    """The draws that a mechanism adds up under one noise; None where hospitals add all of their own, and of training.

    A training has a grid of its own (`shared_steps`).

    Raises:
      UnsupportedMechanism: a patient moves more of it, or a draw's ε is outside [0.001, 100].
    """
    declared: SecureAggregation | None = getattr(mechanism, "secure_aggregation", None)
    if declared is None or not declared.shares_noise:
        return None
    match mechanism:
        case DPSGD():
            return None
        case Statistics():
            _check_records(mechanism)
            draws = parts_of(mechanism)
        case KaplanMeier():
            draws = (mechanism.epsilon,)
        case Evaluation():
            if mechanism.outcome in (Outcome.TIME, Outcome.LABELS):
                raise UnsupportedMechanism(
                    f"An evaluation with loss={mechanism.loss!r} cannot share one noise: a patient moves more of it"
                    f" than one number by 1. {INSTEAD}"
                )
            draws = mechanism.draws
        case _:
            raise UnsupportedMechanism(f"{mechanism.kind} cannot share one noise. {INSTEAD}")
    return _draws(declared, draws, mechanism.rounds)


@lru_cache(maxsize=1024)
def _draws(roster: SecureAggregation, draws: tuple[float, ...], rounds: int) -> SharedDraws:
    """Made once: what each draw costs under one part alone is computed by sums of many terms."""
    return SharedDraws(roster=roster, draws=draws, rounds=rounds)


def _check_records(mechanism: Statistics) -> None:
    if mechanism.records_per_patient != 1:
        raise UnsupportedMechanism(
            f"records_per_patient={mechanism.records_per_patient} cannot share one noise: one record of each patient"
            " counts under it. Ask with records_per_patient=1, or with masks: secure_aggregation=True."
        )
