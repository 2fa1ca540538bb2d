"""The roster of a study with secure aggregation: the hospitals of its cohort, by the keys that they publish."""

from __future__ import annotations

from dataclasses import replace

from policies.errors import InvalidRequest
from policies.numbers import counted
from policies.privacy.secure_aggregation import (
    MASKS,
    SHARED_NOISE,
    Party,
    SecureAggregation,
    secure_aggregation_from,
)
from researcher.members import Hospitals
from researcher.shared_noise import SharedNoise
from researcher.state import StudyState

NAME = "secure_aggregation"


def in_a_sum(count: int) -> str:
    """What stands for a hospital's name where only a sum over `count` of them can be read."""
    return f"{counted(count, 'hospital')} in a sum"


Wanted = bool | int | SharedNoise
"""What studies take for `secure_aggregation`."""


def label_of(wanted: Wanted) -> str:
    """For a study's name; "" where it asks for no sum."""
    if isinstance(wanted, SharedNoise):
        return f"-{wanted.label}"
    return f"-sums-{int(wanted)}" if wanted else ""


def roster_of(cohort: Hospitals, wanted: Wanted, state: StudyState) -> SecureAggregation | None:
    """What a study declares: as it was submitted from its directory, else of the cohort as it is now; None for none.

    Args:
      wanted: True for a threshold of just more than half, or the threshold; or `SharedNoise`.

    Raises:
      InvalidRequest: the threshold is no more than half of the hospitals, or there are fewer than two.
    """
    if wanted is False:
        return None
    if not isinstance(wanted, int | SharedNoise):
        raise InvalidRequest(
            f"secure_aggregation={wanted!r:.60} is neither True, nor the fewest hospitals of a sum, nor a SharedNoise."
        )
    kept = secure_aggregation_from(state.read(NAME) or None)
    if kept is not None and _is_wanted(kept, wanted):
        return kept  # a hospital that is away now is in it all the same
    described = cohort.network.descriptions
    parties = [
        Party(described[name]["name"], described[name]["public_key"], member.published.training_patients)
        for name, member in cohort.members.items()
    ]
    shared = wanted if isinstance(wanted, SharedNoise) else None
    least = wanted.threshold if isinstance(wanted, SharedNoise) else None if wanted is True else wanted
    return SecureAggregation(
        threshold=len(parties) // 2 + 1 if least is None else int(least),
        hospitals=tuple(sorted(parties, key=lambda party: party.name)),
        mode=SHARED_NOISE if shared else MASKS,
        may_collude=shared.may_collude if shared else 0,
    )


def sharing(roster: SecureAggregation, wanted: SharedNoise) -> SecureAggregation:
    """A study's roster as an evaluation under shared noise has it: the same hospitals, with k and perhaps another t."""
    threshold = roster.threshold if wanted.threshold is None else wanted.threshold
    return replace(roster, threshold=threshold, mode=SHARED_NOISE, may_collude=wanted.may_collude)


def _is_wanted(kept: SecureAggregation, wanted: int | SharedNoise) -> bool:
    if isinstance(wanted, SharedNoise):
        return wanted.matches(kept)
    return kept.mode == MASKS and (wanted is True or kept.threshold == wanted)
