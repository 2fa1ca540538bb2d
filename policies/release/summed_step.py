"""One step of training that hospitals take together: a step of descent along the sum of their gradients.

Under shared noise a hospital does not send weights. It sends the sum of its patients' gradients in steps of a public
grid, its part of the noise included (`privacy.shared_steps`). With q the sampling rate and N the published patients of
those in the sum, the weights w become w - rate (sum · grid / (q N) + weight decay · w): the mean, weighed by patients,
of what each hospital's own step would give.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from policies.privacy.mechanisms import DPSGD
from policies.secure_sums.encoding import Tensors, Words, decoded, flat, shaped


def whole_words(release: Tensors) -> Words:
    """Whole numbers as words, modulo 2^32, in order of their tensors' names."""
    whole = np.concatenate([np.asarray(release[name], dtype=np.int64).reshape(-1) for name in sorted(release)])
    words: Words = whole.astype(np.uint32)
    return words


def after_round(
    total: Words, start: Tensors, mechanism: DPSGD, *, round: int, parties: Collection[int]
) -> dict[str, npt.NDArray[np.float32]]:
    """The weights after a round, from the opened sum of it: a step of gradients' mean, or the mean of weights."""
    declared = mechanism.secure_aggregation
    assert declared is not None
    if mechanism.step_grid is None:
        return decoded(total, start, declared, parties)
    return stepped(total, start, mechanism, round=round, parties=parties)


def stepped(
    total: Words, start: Tensors, mechanism: DPSGD, *, round: int, parties: Collection[int]
) -> dict[str, npt.NDArray[np.float32]]:
    """The weights after a round, from the opened sum over hospitals of the roster, by their numbers from 1."""
    declared = mechanism.secure_aggregation
    assert declared is not None
    patients = sum(declared.hospitals[party - 1].patients for party in parties)
    return step_of(total.astype(np.int32).astype(np.float64), start, mechanism, round=round, patients=patients)


def step_of(
    units: npt.NDArray[np.float64], start: Tensors, mechanism: DPSGD, *, round: int, patients: int
) -> dict[str, npt.NDArray[np.float32]]:
    """The weights after a step along a sum in grid steps, in order of names; float32, as `start` in names and shapes.

    Args:
      patients: published, of those whose gradients are in the sum.
    """
    where = mechanism.step_grid
    assert where is not None
    rate, begun = mechanism.rate(round, 1), flat(start)
    gradient = units * (where.grid / (mechanism.sampling_rate * patients)) + mechanism.weight_decay * begun
    with np.errstate(over="ignore"):  # weights that overflow are a release like any other
        return shaped((begun - rate * gradient).astype(np.float32), start)
