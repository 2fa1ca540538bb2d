"""The roster of a study with secure aggregation: the hospitals of its cohort, by the keys that they publish."""

from __future__ import annotations

from policies.errors import InvalidRequest
from policies.numbers import counted
from policies.privacy.secure_aggregation import Party, SecureAggregation, secure_aggregation_from
from researcher.members import Hospitals
from researcher.state import StudyState

NAME = "secure_aggregation"


def in_a_sum(count: int) -> str:
    """What stands for a hospital's name where only a sum over `count` of them can be read."""
    return f"{counted(count, 'hospital')} in a sum"


def roster_of(cohort: Hospitals, wanted: bool | int, state: StudyState) -> SecureAggregation | None:
    """What a study declares: as it was submitted from its directory, else of the cohort as it is now; None for none.

    Args:
      wanted: True for a threshold of just more than half, or the threshold.

    Raises:
      InvalidRequest: the threshold is no more than half of the hospitals, or there are fewer than two.
    """
    if wanted is False:
        return None
    if not isinstance(wanted, int):
        raise InvalidRequest(f"secure_aggregation={wanted!r:.60} is neither True nor the fewest hospitals of a sum.")
    kept = secure_aggregation_from(state.read(NAME) or None)
    if kept is not None and (wanted is True or kept.threshold == wanted):
        return kept  # a hospital that is away now is in it all the same
    described = cohort.network.descriptions
    parties = [
        Party(described[name]["name"], described[name]["public_key"], member.published.training_patients)
        for name, member in cohort.members.items()
    ]
    threshold = len(parties) // 2 + 1 if wanted is True else wanted
    return SecureAggregation(threshold=threshold, hospitals=tuple(sorted(parties, key=lambda party: party.name)))
