"""Which mechanisms hospitals may add up under one noise, as the counts that they are made of.

What one patient moves in a release is said here once: the charge, the parts that hospitals draw, the grid of the sum
and its standard errors are all read from the same `SharedDraws`. Whatever is no count is refused, in words.
"""

from __future__ import annotations

from functools import lru_cache

from policies.errors import UnsupportedMechanism
from policies.privacy.draws import parts_of
from policies.privacy.mechanisms import DPSGD, Evaluation, KaplanMeier, Mechanism, Statistics
from policies.privacy.outcomes import Outcome
from policies.privacy.secure_aggregation import SecureAggregation
from policies.privacy.shared_sums import SharedDraws

COUNTED = ("count", "histogram", "crosstab", "missing", "describe", "quantiles")
"""Statistics that are counts: one record of a patient's moves one number of each of their draws by 1."""
INSTEAD = (
    f"Shared noise is for counts: {', '.join(COUNTED)} of statistics, survival tables, and evaluations of classes,"
    " numbers and counts. Ask without it, or with masks, under which each hospital adds all of its own noise:"
    " secure_aggregation=True."
)


def shared_draws(mechanism: Mechanism) -> SharedDraws | None:
    """The counts that a mechanism adds up under one noise; None where hospitals add all of their own, and of training.

    A training has a grid of its own (`shared_steps`).

    Raises:
      UnsupportedMechanism: its numbers are no counts, or a draw's ε is outside [0.001, 100].
    """
    declared: SecureAggregation | None = getattr(mechanism, "secure_aggregation", None)
    if declared is None or not declared.shares_noise:
        return None
    match mechanism:
        case DPSGD():
            return None
        case Statistics():
            _check_counted(mechanism)
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
            raise UnsupportedMechanism(f"{mechanism.kind} cannot share one noise: its numbers are no counts. {INSTEAD}")
    return _counts(declared, draws, mechanism.rounds)


@lru_cache(maxsize=1024)
def _counts(roster: SecureAggregation, draws: tuple[float, ...], rounds: int) -> SharedDraws:
    """Made once: what each draw costs under one part alone is computed by sums of many terms."""
    return SharedDraws(roster=roster, draws=draws, rounds=rounds)


def _check_counted(mechanism: Statistics) -> None:
    for query in mechanism.queries:
        if query.name not in COUNTED:
            raise UnsupportedMechanism(f"{query.key} cannot share one noise: it is no count. {INSTEAD}")
    if mechanism.records_per_patient != 1:
        raise UnsupportedMechanism(
            f"records_per_patient={mechanism.records_per_patient} cannot share one noise: one record of each patient"
            " counts under it. Ask with records_per_patient=1, or with masks: secure_aggregation=True."
        )
