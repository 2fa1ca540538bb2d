"""The average of a study's last aggregates: less noise than in the last one alone, at no cost.

Every aggregate is made of releases, so what is made of aggregates is post-processing. Each round's noise is its own;
near the end of training the weights wander around where they would be without noise, and an average of them wanders
less (Polyak & Juditsky 1992; for DP-SGD: De et al. 2022, arXiv:2204.13650, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from policies.errors import InvalidRequest
from policies.numbers import counted
from policies.release.tensors import digest
from researcher.state import Release, Tensors


def check_average_last(average_last: object, rounds: int) -> None:
    """Raise `InvalidRequest`, naming value and bound, unless so many aggregates can be averaged."""
    if not isinstance(average_last, int) or isinstance(average_last, bool) or not 1 <= average_last <= rounds:
        raise InvalidRequest(
            f"average_last={repr(average_last)[:40]} is not a whole number from 1, the last aggregate alone, to"
            f" {rounds}, as many rounds as there are."
        )


def average(aggregates: Sequence[Tensors]) -> Tensors:
    """The mean of aggregates, number by number: added in float64, in their order, then rounded to float32."""
    if len(aggregates) == 1:
        return aggregates[0]
    return {
        name: (np.sum([value[name] for value in aggregates], axis=0, dtype=np.float64) / len(aggregates)).astype(
            np.float32
        )
        for name in aggregates[0]
    }


def check_average(weights: Tensors, averaged: Mapping[int, Tensors], releases: Sequence[Release]) -> None:
    """Recompute a model from the aggregates that it is the average of, and hold those against certificates.

    Args:
      averaged: aggregates by the round that each came out of; nothing where the model is the last one.
      releases: of the study. The certificate of a round names the digest of the weights that it began with, which is
        the aggregate of the round before.

    Raises:
      ValueError: it is not their average, or an aggregate is not what the next round was begun with.
    """
    if not averaged:
        return
    if digest(average([averaged[number] for number in sorted(averaged)])) != digest(weights):
        raise ValueError(f"weights that are not the average of {counted(len(averaged), 'aggregate')}")
    for release in releases:
        aggregate = averaged.get(release.round - 1) if release.role == "training" else None
        if aggregate is not None and digest(aggregate) != release.weights_digest:
            raise ValueError(f"an aggregate of round {release.round - 1} that {release.hospital} was not sent")
