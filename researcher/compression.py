"""What a study's rounds carry, each way: float16 to the hospitals and whole numbers back, where that was declared.

Each hospital's grid follows from the mechanism that it approved and the size that it publishes, so nothing about it has
to be believed: `policies.release.compression` has both halves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from policies.privacy.mechanisms import DPSGD
from policies.release.compression import DOUBLINGS, halved, noise_of_round, restore, widened
from researcher.state import Tensors


@dataclass(frozen=True)
class Carried:
    """How weights and releases of one study travel.

    Args:
      mechanisms: as each hospital approved it, its noise multiplier found.
      patients: the published number of training patients that each hospital's steps are divided by.
    """

    mechanisms: Mapping[str, DPSGD]
    patients: Mapping[str, int]

    def sent(self, weights: Tensors, round: int) -> tuple[Tensors, bool]:
        """The float32 weights that hospitals begin a round from, and whether they travel as float16.

        Where they do they are what float16 makes of them: digests, and what a release is compared with, are of these.
        """
        noises = [
            noise_of_round(mechanism, self.patients[name], round)
            for name, mechanism in self.mechanisms.items()
            if mechanism.compression != "none"
        ]
        halves = halved(weights, min(noises)) if noises else None
        return (weights, False) if halves is None else (widened(halves), True)

    def received(self, hospital: str, release: Tensors, weights: Tensors, round: int) -> Tensors:
        """The weights that a hospital's release stands for, which began from `weights`."""
        if DOUBLINGS not in release:
            return release
        return restore(release, weights, self.mechanisms[hospital], self.patients[hospital], round)
