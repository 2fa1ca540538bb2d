"""What an attacker who knows everything but one patient makes of all that left: numbers, then one likelihood ratio.

The attacker chose model, weights and plan, knows every other record and the patient's own, and asks only whether the
patient is there. The likelihood ratio is that of two Gaussians fitted to pilot trials, which are not used again, and
the event is the set of releases whose ratio is above the threshold that did best on the pilot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tests.proof.curves import Curve
from tests.proof.decisions import EACH, highest, lowest

FloatArray = npt.NDArray[np.float64]
Arrays = Mapping[str, npt.NDArray[np.float32]]

_TINY = 1e-12
_FAR = 1e9
_DRAWS = 1000


def flat(weights: Arrays) -> FloatArray:
    """All parameters as one float64 vector, by sorted names."""
    return np.concatenate([np.asarray(weights[name], dtype=np.float64).ravel() for name in sorted(weights)])


def seen_in_training(
    sent: Sequence[Arrays], released: Sequence[Arrays], direction: FloatArray, unit: float
) -> FloatArray:
    """What rounds of training show: how far each moved along the patient's gradient, and how far it moved at all.

    Args:
      sent: the weights that each round began with.
      direction: of the patient's gradient, length 1.
      unit: how far one clipped gradient moves the weights: learning rate · clipping norm / public batch size.

    Returns:
      The signed distances in clipped gradients, summed over rounds that began alike; then the logarithm of all rounds'
      squared rest. A weight that is not finite counts as one that moved very far, which no noise does.
    """
    moved = np.stack([flat(before) - flat(after) for before, after in zip(sent, released, strict=True)]) / unit
    moved = np.nan_to_num(moved, nan=_FAR, posinf=_FAR, neginf=-_FAR)
    along = moved @ direction
    rest = moved - np.outer(along, direction)
    alike: dict[bytes, float] = {}
    for before, distance in zip(sent, along, strict=True):
        key = flat(before).tobytes()
        alike[key] = alike.get(key, 0.0) + float(distance)
    return np.array([*alike.values(), np.log((rest**2).sum() + _TINY)])


@dataclass(frozen=True)
class Event:
    """The set of releases whose fitted likelihood ratio, with the patient over without, is above a threshold."""

    means: tuple[FloatArray, FloatArray]
    factors: tuple[FloatArray, FloatArray]
    offset: float
    threshold: float

    def contains(self, seen: FloatArray) -> npt.NDArray[np.bool_]:
        """Which of [trials, features] are in it."""
        return self.ratio(seen) > self.threshold

    def ratio(self, seen: FloatArray) -> FloatArray:
        """Logarithms of the likelihood ratio."""
        without, with_patient = (
            (((seen - mean) @ factor) ** 2).sum(1) for mean, factor in zip(self.means, self.factors, strict=True)
        )
        return np.asarray((without - with_patient) / 2 + self.offset)


def event_from(without: FloatArray, with_patient: FloatArray, curve: Curve, trials: int) -> Event:
    """The event that pilot runs [runs, features] promise most of, in `trials` trials that are still to come."""
    # One scale for both, so that features of any size, and features that never vary, can be inverted alike.
    scale = np.concatenate([without, with_patient]).std(0) + _TINY
    means, factors, volumes = [], [], []
    for seen in (without, with_patient):
        covariance = np.cov((seen / scale).T).reshape(len(scale), len(scale))
        values, vectors = np.linalg.eigh(covariance)
        values = np.maximum(values, 1e-8)
        means.append(seen.mean(0))
        factors.append(vectors / np.sqrt(values) / scale[:, None])
        volumes.append(np.log(values).sum() / 2)
    fitted = Event((means[0], means[1]), (factors[0], factors[1]), float(volumes[0] - volumes[1]), 0.0)
    sides = (without, with_patient), tuple(_drawn(fitted, number, len(scale)) for number in (0, 1))
    ratios = [[fitted.ratio(each) for each in side] for side in sides]
    ordered = np.unique(np.concatenate([each for side in ratios for each in side]))
    thresholds = np.r_[ordered[0] - 1.0, (ordered[1:] + ordered[:-1]) / 2]
    excess = sum(_excess(side, thresholds, curve, trials) for side in ratios)
    if excess.max() <= 0:  # nothing is promised: the event that tells most, and not one that never or always comes
        excess = sum(_chances(side, thresholds)[1] - _chances(side, thresholds)[0] for side in ratios)
    return Event(fitted.means, fitted.factors, fitted.offset, float(thresholds[np.argmax(excess)]))


def _drawn(fitted: Event, number: int, features: int) -> FloatArray:
    """Draws of a fitted Gaussian: they smooth what a few pilot trials say of a threshold."""
    standard = np.random.default_rng(number).standard_normal((_DRAWS, features))
    return np.asarray(fitted.means[number] + standard @ np.linalg.inv(fitted.factors[number]))


def _chances(ratios: list[FloatArray], thresholds: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Of each threshold's event, without the patient and with; a little off 0 and 1."""
    without, with_patient = (
        (len(each) - np.searchsorted(np.sort(each), thresholds, "right") + 1) / (len(each) + 2) for each in ratios
    )
    return without, with_patient


def _excess(ratios: list[FloatArray], thresholds: FloatArray, curve: Curve, trials: int) -> FloatArray:
    """How far beyond the curve each threshold's event would be in `trials` trials, by the direction that shows more."""
    false, true = _chances(ratios, thresholds)
    most_false, least_true = highest(false * trials, trials, EACH / 2), lowest(true * trials, trials, EACH / 2)
    return np.asarray(
        np.maximum(least_true - curve.most(most_false), 1 - most_false - curve.most_without(1 - least_true))
    )
