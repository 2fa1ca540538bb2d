"""A round's weights as whole numbers: what each moved by, in steps of a public grid of the round's noise.

The noise that a round adds to every weight has a public standard deviation s, which follows from the mechanism and the
published number of patients. Digits far below s say nothing, so they need not travel. `int8` rounds to a quarter of s,
which adds a half per cent to the noise's variance; `int4` rounds to s itself, which adds a twelfth. The whole numbers
are the release: digest and certificate are over them. They are computed from weights that have their noise already and
from what came in, so they tell nothing of a patient that the weights would not have told, and cost nothing.

A tensor that moved further than its whole numbers reach is rounded to a grid that is two, four or more times as
coarse; how often the step was doubled is released beside it. Arrays travel through zstd, with which small whole numbers
take few bits. float16 carries the weights to a hospital where that rounds them by less than an eighth of s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from policies.errors import UnsupportedMechanism, WeightsRefused
from policies.privacy.mechanisms import DPSGD
from policies.release.tensors import Array

STEPS: Mapping[str, float] = {"int8": 0.25, "int4": 1.0}
"""The grid's step, in standard deviations of the round's noise, by `DPSGD.compression`."""
REACH: Mapping[str, int] = {"int8": 127, "int4": 7}
"""The largest whole number of each."""
DOUBLINGS = "grid/doublings"
"""The release's tensor of how often each parameter's step was doubled, in order of names; no parameter has a slash."""
PACKED = "grid/packed"
"""What a release is called that travels as one array."""
_IN_HALF_A_BYTE = 7
NOT_FINITE, MOST_DOUBLINGS = -1, 256
HARMLESS = 0.125  # of the noise's standard deviation, that float16 may round a weight by
_LEAST_STEP = 2.0**-140
_LARGEST = float(np.finfo(np.float32).max)

Shape = tuple[tuple[int, ...], str]


def noise_of_round(mechanism: DPSGD, training_patients: int, round: int = 1) -> float:
    """Standard deviation of the noise in one weight after a round, from public figures alone.

    Of sgd it is exact: the steps are linear in the noise, momentum, weight decay and FedProx's pull included. Adam
    divides each step by its own size, so it is that of as many unit steps.

    Raises `UnsupportedMechanism` where the noise multiplier was not found yet.
    """
    if mechanism.noise_multiplier is None:
        raise UnsupportedMechanism("No noise multiplier was found for this epsilon yet. Resolve the mechanism first.")
    rates = _rates(mechanism, round)
    if mechanism.optimizer == "adam":
        return math.sqrt(math.fsum(rate * rate for rate in rates))
    expected = mechanism.sampling_rate * training_patients
    of_gradient = mechanism.noise_multiplier * mechanism.clipping_norm / expected
    return of_gradient * math.sqrt(_squared_responses(mechanism, rates))


def _rates(mechanism: DPSGD, round: int) -> Sequence[float]:
    """The learning rate of each step of a round."""
    return [mechanism.rate(round, step) for step in range(1, mechanism.steps + 1)]


def _squared_responses(mechanism: DPSGD, rates: Sequence[float]) -> float:
    """Sum over the steps of the square of what a unit of gradient there does to the last weight.

    v ← μ v + g + k w and w ← w - r v, followed backwards: `by_weight` and `by_velocity` are what w and v do to the end.
    """
    pull, total = mechanism.weight_decay + mechanism.proximal_mu, 0.0
    by_weight, by_velocity = 1.0, 0.0
    for rate in reversed(rates):
        by_gradient = by_velocity - rate * by_weight
        total += by_gradient * by_gradient
        by_weight, by_velocity = by_weight + pull * by_gradient, mechanism.momentum * by_gradient
    return total


def grid_step(mechanism: DPSGD, training_patients: int, round: int = 1) -> float:
    """The step of a round's grid before any doubling: never 0."""
    noise = noise_of_round(mechanism, training_patients, round)
    return max(STEPS[mechanism.compression] * noise, _LEAST_STEP)


def compressed_shapes(parameters: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, Shape]:
    """Shape and dtype of every tensor of a compressed release."""
    shapes: dict[str, Shape] = {name: (shape, "int8") for name, shape in parameters}
    return shapes | {DOUBLINGS: ((len(shapes),), "int64")}


def compress(
    weights: Mapping[str, Array], start: Mapping[str, Array], mechanism: DPSGD, training_patients: int, round: int = 1
) -> dict[str, Array]:
    """The release for a round's `weights`, float32 with their noise, that began from `start`.

    A function of these and of public figures alone. Raises nothing because of their values: a tensor with values that
    are not finite becomes zeros, and `DOUBLINGS` says so.
    """
    step, reach = grid_step(mechanism, training_patients, round), REACH[mechanism.compression]
    made: dict[str, Array] = {}
    doublings = []
    with np.errstate(all="ignore"):  # a warning would tell that a value is not finite before the release does
        for name in sorted(weights):
            moved = weights[name].astype(np.float64) - start[name].astype(np.float64)
            finite = bool(np.isfinite(moved).all())
            units = moved / step if finite else np.zeros_like(moved)
            doubled = _doublings(units, reach) if finite else NOT_FINITE
            whole = np.rint(np.ldexp(units, -max(doubled, 0)))
            made[name] = np.clip(whole, -reach, reach).astype(np.int8)
            doublings.append(doubled)
    return made | {DOUBLINGS: np.array(doublings, dtype=np.int64)}


def _doublings(units: npt.NDArray[np.float64], reach: int) -> int:
    largest = float(np.abs(units).max(initial=0.0))
    return math.ceil(math.log2(largest / reach)) if largest > reach else 0


def check_compressed(hospital: str, release: Mapping[str, Array]) -> None:
    """Raise `WeightsRefused` where a compressed release stands for values that are no numbers, or for none at all."""
    doublings = release[DOUBLINGS]
    if (doublings == NOT_FINITE).any():
        raise WeightsRefused(
            f"{hospital} sent weights with values that are not finite. Where training diverged, begin a study with a "
            "smaller learning_rate or clipping_norm."
        )
    if (doublings < 0).any() or (doublings > MOST_DOUBLINGS).any():
        raise WeightsRefused(
            f"{hospital} sent a grid that was doubled {int(np.abs(doublings).max())} times; at most {MOST_DOUBLINGS}. "
            "Tell its owner."
        )


def restore(
    release: Mapping[str, Array], start: Mapping[str, Array], mechanism: DPSGD, training_patients: int, round: int = 1
) -> dict[str, Array]:
    """The float32 weights that a compressed release stands for: `start` moved by its whole numbers. Always finite."""
    step = grid_step(mechanism, training_patients, round)
    names = sorted(name for name in release if name != DOUBLINGS)
    restored = {}
    for name, doubled in zip(names, release[DOUBLINGS].tolist(), strict=True):
        moved = release[name].astype(np.float64) * math.ldexp(step, min(doubled, MOST_DOUBLINGS))
        restored[name] = np.clip(start[name].astype(np.float64) + moved, -_LARGEST, _LARGEST).astype(np.float32)
    return restored


def packed(release: Mapping[str, Array]) -> dict[str, Array]:
    """A compressed release as one array of bytes, in order of names: each array by itself costs 600 bytes on the wire.

    A byte that is 1 where two whole numbers share a byte, as they may where none is beyond 7: zstd then does better.
    After it the doublings, two bytes each, and the whole numbers.
    """
    flat = np.concatenate([release[name].ravel() for name in sorted(release) if name != DOUBLINGS])
    paired = bool(np.abs(flat.astype(np.int16)).max(initial=0) <= _IN_HALF_A_BYTE)
    if paired:
        nibbles = np.append(flat, np.zeros(len(flat) % 2, np.int8)).view(np.uint8) & 15
        flat = (nibbles[::2] << 4 | nibbles[1::2]).view(np.int8)
    doublings = release[DOUBLINGS].astype("<i2").view(np.int8)
    return {PACKED: np.concatenate([np.array([paired], np.int8), doublings, flat])}


def unpacked(release: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """The release that `packed` has packed, for parameters of these shapes; any other as it is.

    Raises `WeightsRefused` where its bytes are not as many as these shapes take.
    """
    if set(release) != {PACKED}:
        return dict(release)
    carried, names = release[PACKED], sorted(shapes)
    sizes = [math.prod(shapes[name]) for name in names]
    count, head = sum(sizes), 1 + 2 * len(names)
    paired = carried.dtype == np.int8 and carried.size > 0 and bool(carried.ravel()[0])
    if carried.dtype != np.int8 or carried.shape != (head + ((count + 1) // 2 if paired else count),):
        raise WeightsRefused(f"A compressed release of {count:,} numbers is other bytes than these. Tell its owner.")
    flat = carried[head:]
    if paired:
        pairs = flat.view(np.uint8)
        nibbles = np.stack([pairs >> 4, pairs & 15], axis=1).ravel()[:count].astype(np.int8)
        flat = np.where(nibbles > _IN_HALF_A_BYTE, nibbles - 16, nibbles).astype(np.int8)
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    made = {name: part.reshape(shapes[name]).copy() for name, part in zip(names, parts, strict=True)}
    return made | {DOUBLINGS: carried[1:head].copy().view("<i2").astype(np.int64)}


def halved(weights: Mapping[str, Array], noise: float) -> dict[str, Array] | None:
    """Weights as float16, or None where that would round one by more than an eighth of the noise that a round adds."""
    halves = {}
    with np.errstate(over="ignore"):
        for name, value in weights.items():
            half = value.astype(np.float16)
            error = np.abs(half.astype(np.float64) - value.astype(np.float64)).max(initial=0.0)
            if not error <= HARMLESS * noise:
                return None
            halves[name] = half
    return halves


def widened(weights: Mapping[str, Array]) -> dict[str, Array]:
    """float16 arrays as float32, exactly; others as they are. What a digest of incoming weights is over."""
    return {name: value.astype(np.float32) if value.dtype == np.float16 else value for name, value in weights.items()}
