"""Rounds that do not wait for the slowest: what comes later enters a later aggregate, weighed by how late it is.

Buffered asynchronous aggregation, FedBuff (Nguyen et al. 2022, arXiv:2106.06639): a round closes when so many hospitals
have answered. One that is still running is not asked anew. Its release of the round that it was asked in is fetched in
a later one, at no further cost, and counts there as how far it moved from the weights that it was sent, divided by
√(1 + rounds that it is late).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from policies.errors import InvalidRequest
from policies.privacy.checks import check_range
from researcher.state import Tensors

STILL_RUNNING = "It is still running round {round}: its release enters a later aggregate."


def check_buffer(buffer: int | None, *, quorum: int, hospitals: int, in_sums: bool) -> None:
    """Raise `InvalidRequest`, naming value and bound, unless rounds may close with so many answers."""
    if buffer is None:
        return
    check_range("buffer", buffer, 1, max(1, hospitals), whole=True)
    if buffer < quorum:
        raise InvalidRequest(
            f"buffer={buffer} closes a round with fewer hospitals than the strategy's quorum of {quorum}. Give at least"
            f" {quorum}, or a smaller min_train_nodes."
        )
    if in_sums:
        raise InvalidRequest(
            "buffer and secure_aggregation do not go together: a sum under masks belongs to one round. Leave one of"
            " them out."
        )


def moved_late(release: Tensors, begun: Tensors, weights: Tensors, late: int) -> Tensors:
    """What a late release says of the weights of today.

    Args:
      release: weights that training gave, from `begun`.
      weights: that the others of this round began from.
      late: how many rounds later it comes, from 1.
    """
    share = np.float32(1 / math.sqrt(1 + late))
    return {name: weights[name] + share * (value - begun[name]) for name, value in release.items()}


@dataclass
class Late:
    """Hospitals that still run a round that is closed.

    Args:
      rounds: by hospital, the round that it was asked in.
      weights: by round, what was sent in it.
    """

    rounds: dict[str, int] = field(default_factory=dict)
    weights: dict[int, Tensors] = field(default_factory=dict)

    def close(self, number: int, sent: Tensors, running: Mapping[str, int]) -> None:
        """A round is closed, and `running` is who runs what from now on."""
        self.rounds = dict(running)
        self.weights[number] = sent
        self.weights = {round: kept for round, kept in self.weights.items() if round in self.rounds.values()}

    def among(self, hospitals: Iterable[str]) -> dict[int, list[str]]:
        """Of these hospitals, those that are late, by the round that they run."""
        found: dict[int, list[str]] = {}
        for name in hospitals:
            if name in self.rounds:
                found.setdefault(self.rounds[name], []).append(name)
        return found
