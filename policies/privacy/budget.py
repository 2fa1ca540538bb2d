"""What a privacy budget is and whose privacy it speaks of: frozen values, no arithmetic of mechanisms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from policies.errors import UnsupportedMechanism


class UnitOfPrivacy(StrEnum):
    """Whose data a guarantee covers. Everything here is per patient, with all of a patient's records."""

    PATIENT = "patient"


class NeighboringRelation(StrEnum):
    """How neighbouring datasets differ: by one unit of privacy, present or absent."""

    ADD_OR_REMOVE_ONE = "add-or-remove-one"


@dataclass(frozen=True)
class PrivacyBudget:
    """The (ε, δ) that one unit of privacy may lose.

    Args:
      epsilon: above 0, at most 100, in nats.
      delta: in (0, 0.01]; the chance with which ε may fail.

    Raises:
      UnsupportedMechanism: a value is outside its range.
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and 0 < self.epsilon <= 100):
            raise UnsupportedMechanism(f"epsilon={self.epsilon} is outside (0, 100]. Choose one between 0.1 and 10.")
        if not (math.isfinite(self.delta) and 0 < self.delta <= 0.01):
            raise UnsupportedMechanism(
                f"delta={self.delta} is outside (0, 0.01]. Choose one well below 1 in the number of patients, as 1e-5."
            )
