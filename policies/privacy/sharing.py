"""What a mechanism shares with other hospitals, whichever it is: both of its ε, and the words that an owner accepts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache

from policies.canonical import canonical
from policies.privacy import accountant
from policies.privacy.mechanisms import DPSGD, Mechanism, as_dict
from policies.privacy.secure_aggregation import SecureAggregation
from policies.privacy.shared_mechanisms import shared_draws
from policies.privacy.shared_steps import SharedStep, shared_step
from policies.privacy.shared_sums import Sharing


@dataclass(frozen=True)
class SharedTraining(Sharing):
    """A training of one step a round under shared noise.

    Args:
      mechanism: resolved: with its noise multiplier.
      roster: its secure aggregation.
      delta: its own.
    """

    mechanism: DPSGD
    roster: SecureAggregation
    delta: float

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the whole mechanism, with roster, keys, threshold and k."""
        return hashlib.sha256(canonical(as_dict(self.mechanism))).hexdigest()

    @cached_property
    def epsilons_in_all(self) -> tuple[float, float]:
        """ε of all rounds together at `delta`, as assumed and if not."""
        assumed, if_not = (
            accountant.epsilon_of(self.mechanism, self.delta, accepted=accepted) for accepted in (True, False)
        )
        return assumed, if_not

    @property
    def step(self) -> SharedStep:
        """The noise of each step."""
        where = self.mechanism.step_grid
        assert where is not None
        assert self.mechanism.noise_multiplier is not None
        return shared_step(where, self.mechanism.noise_multiplier)


def shared_of(mechanism: Mechanism) -> Sharing | None:
    """What hospitals share of a resolved mechanism's noise; None where each adds all of its own.

    Raises:
      UnsupportedMechanism: as `shared_draws`; or a training has no noise multiplier, or one that cannot be shared.
    """
    return shared_training(mechanism) if isinstance(mechanism, DPSGD) else shared_draws(mechanism)


@lru_cache(maxsize=1024)
def shared_training(mechanism: DPSGD) -> SharedTraining | None:
    """The same of training."""
    if mechanism.step_grid is None or mechanism.secure_aggregation is None:
        return None
    resolved = accountant.resolve(mechanism)
    assert isinstance(resolved, DPSGD)
    return SharedTraining(resolved, mechanism.secure_aggregation, mechanism.delta)
